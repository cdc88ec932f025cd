//! The settings of a meeting: everything a caller can set but its title and status.
//!
//! Defaults are filled inside every object that is given; an object that is not given
//! stays absent. Where an absent field is harmless, `null` means absent.

mod ai;
mod recording;
mod storage;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use ai::{AiConfig, Summarization, SummaryFormat, SummaryType, Transcription};
pub use recording::{
    AudioChannel, AudioCodec, BucketConfig, LiveStreamingConfig, RecordingAudio, RecordingConfig,
    RecordingVideo, VideoCodec, Watermark, WatermarkPosition, WatermarkSize,
};
pub use storage::{AuthMethod, StorageConfig, StorageType};

use crate::{
    merge_patch,
    nullable::{null_is_default, nullable_in},
    strict::{Strict, Track},
};

/// Whether a meeting can be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeetingStatus {
    /// It can. The default.
    #[default]
    Active,
    /// Nobody can join, not even with a valid token. Those already in it stay.
    Inactive,
}

impl MeetingStatus {
    /// The word for it, `ACTIVE` or `INACTIVE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// Everything a caller can set on a meeting but its title and status.
///
/// It serialises with its secrets, so that it can be stored. What a caller sees is
/// [`MeetingSettings::public`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own on the wire"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct MeetingSettings {
    /// Start recording when the first participant joins.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub record_on_start: bool,
    /// Start a livestream when the first participant joins.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub live_stream_on_start: bool,
    /// Keep the chat after the call has ended.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub persist_chat: bool,
    /// Write a summary when the call ends. Needs a transcript.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub summarize_on_end: bool,
    /// Write a transcript when the call ends.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub transcribe_on_end: bool,
    /// How long a call stays open after the last participant left, in seconds.
    #[serde(deserialize_with = "null_is_keep_alive")]
    #[schemars(schema_with = "nullable_in::<u32>")]
    #[garde(range(min = 60, max = 600))]
    pub session_keep_alive_time_in_secs: u32,
    /// How the meeting is recorded.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording_config: Option<RecordingConfig>,
    /// How the meeting is transcribed and summarised.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ai_config: Option<AiConfig>,
    /// Where the meeting should be held. Kept and answered; a single server has no
    /// other place to go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_region: Option<Region>,
}

impl MeetingSettings {
    /// The settings as a caller sees them: without `access_key`, `secret`, `password`
    /// and `private_key`.
    #[must_use]
    pub fn public(&self) -> Self {
        let mut settings = self.clone();
        if let Some(recording) = &mut settings.recording_config {
            recording.storage_config = recording.storage_config.take().map(StorageConfig::public);
        }
        settings
    }

    /// The JSON of [`MeetingSettings::merge`], for callers that want to say where in it
    /// an error is.
    ///
    /// # Panics
    ///
    /// Never: settings are plain data.
    #[must_use]
    pub fn merged(&self, patch: Value) -> Value {
        let mut settings =
            serde_json::to_value(self).expect("settings are plain data with string keys");
        merge_patch(&mut settings, with_current_names(patch));
        settings
    }

    /// These settings changed by `patch` (RFC 7396); `null` puts a field back to its
    /// default. Secrets that the patch does not name stay. The limits still have to be
    /// checked on what comes back.
    ///
    /// # Errors
    ///
    /// When the result no longer has the types of the settings.
    pub fn merge(&self, patch: Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(Strict::new(self.merged(patch), &Track::default()))
    }
}

impl Default for MeetingSettings {
    fn default() -> Self {
        Self {
            record_on_start: false,
            live_stream_on_start: false,
            persist_chat: false,
            summarize_on_end: false,
            transcribe_on_end: false,
            session_keep_alive_time_in_secs: KEEP_ALIVE_SECONDS,
            recording_config: None,
            ai_config: None,
            preferred_region: None,
        }
    }
}

/// How long a call stays open after the last participant left, if nothing else is set.
const KEEP_ALIVE_SECONDS: u32 = 60;

/// Where a meeting can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// Mumbai.
    #[serde(rename = "ap-south-1")]
    ApSouth1,
    /// Singapore.
    #[serde(rename = "ap-southeast-1")]
    ApSoutheast1,
    /// Virginia.
    #[serde(rename = "us-east-1")]
    UsEast1,
    /// Frankfurt.
    #[serde(rename = "eu-central-1")]
    EuCentral1,
}

/// A merge must not put an older name of a field beside the stored newer one: the
/// reader would see the field twice.
fn with_current_names(mut patch: Value) -> Value {
    let recording = patch
        .get_mut("recording_config")
        .and_then(Value::as_object_mut);
    if let Some(recording) = recording
        && let Some(bucket) = recording.remove("dyte_bucket_config")
    {
        recording
            .entry("realtimekit_bucket_config")
            .or_insert(bucket);
    }
    patch
}

fn null_is_keep_alive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(KEEP_ALIVE_SECONDS))
}
