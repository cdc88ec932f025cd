//! The settings of a meeting: everything a caller can set except its title and status.
//!
//! Defaults are filled in inside every object that is given; an omitted object stays absent. Where
//! an absent field is harmless, `null` means absent.

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
    strict,
};

/// Whether participants can join a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MeetingStatus")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeetingStatus {
    /// Participants can join. The default.
    #[default]
    Active,
    /// No participant can join, not even with a valid token. Those already in the meeting stay.
    Inactive,
}

impl MeetingStatus {
    /// The wire value, `ACTIVE` or `INACTIVE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// All settings of a meeting except its title and status.
///
/// Serialization includes the secrets, so that the settings can be stored. Callers see
/// [`MeetingSettings::public`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "each setting is a separate field on the wire"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct MeetingSettings {
    /// Whether to start recording when the first participant joins.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub record_on_start: bool,
    /// Whether to start a livestream when the first participant joins.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub live_stream_on_start: bool,
    /// Whether to keep the chat after the session has ended.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub persist_chat: bool,
    /// Whether to generate a summary when the session ends. Requires a transcript.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub summarize_on_end: bool,
    /// Whether to generate a transcript when the session ends.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<bool>")]
    pub transcribe_on_end: bool,
    /// How long the session stays open after the last participant has left, in seconds.
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
    /// Preferred region of the meeting. Stored and returned, but without effect on a single server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_region: Option<Region>,
}

impl MeetingSettings {
    /// The settings as returned to callers: without `access_key`, `secret`, `password` and
    /// `private_key`.
    #[must_use]
    pub fn public(&self) -> Self {
        let mut settings = self.clone();
        if let Some(recording) = &mut settings.recording_config {
            recording.storage_config = recording.storage_config.take().map(StorageConfig::public);
        }
        settings
    }

    /// The JSON that [`MeetingSettings::merge`] deserializes, for callers that report the path of
    /// an error.
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

    /// Applies `patch` (RFC 7396) to the settings. `null` resets a field to its default. Secrets
    /// that the patch does not name are kept. The caller must still validate the limits of the
    /// result.
    ///
    /// # Errors
    ///
    /// Fails if the result does not deserialize.
    pub fn merge(&self, patch: Value) -> Result<Self, serde_json::Error> {
        strict::deserialize(self.merged(patch)).map_err(|error| error.source)
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

/// Default keep-alive of a session, in seconds.
const KEEP_ALIVE_SECONDS: u32 = 60;

/// A region in which a meeting can be hosted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MeetingRegion")]
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

/// Replaces older field names in a patch, because a merge would otherwise produce the field twice.
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
