//! The `recording_config` of a meeting: how it is recorded and where the files go.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::storage::{StorageConfig, storage_schema};
use crate::address::{self, HTTP_URL, MAX_URL_CHARS, RTMP_URL, http_url};

/// How a meeting is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub struct RecordingConfig {
    /// The longest recording, in seconds.
    #[garde(range(min = 60, max = 86_400))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
    /// How the names of the files begin. Characters that do not belong in a file name
    /// are replaced when the file is made.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name_prefix: Option<String>,
    /// The picture.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_config: Option<RecordingVideo>,
    /// The sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_config: Option<RecordingAudio>,
    /// A place of the caller's own for the files.
    #[garde(dive)]
    #[schemars(schema_with = "storage_schema")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_config: Option<StorageConfig>,
    /// Whether this server keeps the files too. `dyte_bucket_config` is the older name.
    #[serde(alias = "dyte_bucket_config", skip_serializing_if = "Option::is_none")]
    pub realtimekit_bucket_config: Option<BucketConfig>,
    /// Where the picture is streamed to while it is recorded.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_streaming_config: Option<LiveStreamingConfig>,
}

/// The picture of a recording: 1280 × 720 in H.264 by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct RecordingVideo {
    /// How the picture is coded.
    pub codec: VideoCodec,
    /// The width in pixels.
    #[garde(range(min = 1, max = 1920))]
    pub width: u32,
    /// The height in pixels.
    #[garde(range(min = 1, max = 1920))]
    pub height: u32,
    /// Make a file, besides any stream.
    pub export_file: bool,
    /// A picture over the recording.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
}

impl Default for RecordingVideo {
    fn default() -> Self {
        Self {
            codec: VideoCodec::default(),
            width: 1280,
            height: 720,
            export_file: true,
            watermark: None,
        }
    }
}

/// How the picture of a recording is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum VideoCodec {
    /// H.264. The default.
    #[default]
    H264,
    /// VP8. The sound is then Vorbis.
    #[serde(rename = "VP8")]
    Vp8,
    /// VP9. The sound is then Vorbis.
    #[serde(rename = "VP9")]
    Vp9,
}

/// A picture over a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Watermark {
    /// An absolute http or https URL of the picture.
    #[garde(length(chars, max = MAX_URL_CHARS), custom(http_url))]
    #[schemars(regex(pattern = HTTP_URL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its size. Its own by default.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<WatermarkSize>,
    /// The corner it stands in.
    pub position: WatermarkPosition,
}

/// The size of a watermark in pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
pub struct WatermarkSize {
    /// The width.
    #[garde(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// The height.
    #[garde(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// The corner a watermark stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WatermarkPosition {
    /// The upper left corner. The default.
    #[default]
    #[serde(rename = "left top")]
    LeftTop,
    /// The upper right corner.
    #[serde(rename = "right top")]
    RightTop,
    /// The lower left corner.
    #[serde(rename = "left bottom")]
    LeftBottom,
    /// The lower right corner.
    #[serde(rename = "right bottom")]
    RightBottom,
}

/// The sound of a recording: AAC in stereo by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RecordingAudio {
    /// How the sound is coded.
    pub codec: AudioCodec,
    /// One channel or two.
    pub channel: AudioChannel,
    /// Make a file, besides any stream.
    pub export_file: bool,
}

impl Default for RecordingAudio {
    fn default() -> Self {
        Self {
            codec: AudioCodec::default(),
            channel: AudioChannel::default(),
            export_file: true,
        }
    }
}

/// How the sound of a recording is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AudioCodec {
    /// AAC. The default.
    #[default]
    Aac,
    /// MP3.
    Mp3,
}

/// The channels of a recording's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioChannel {
    /// One.
    Mono,
    /// Two. The default.
    #[default]
    Stereo,
}

/// Whether this server keeps the files of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BucketConfig {
    /// It does. Without it there are no download URLs.
    pub enabled: bool,
}

/// Where the picture of a recording is streamed to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
pub struct LiveStreamingConfig {
    /// An absolute rtmp or rtmps URL.
    #[garde(length(chars, max = MAX_URL_CHARS), custom(address::rtmp_url))]
    #[schemars(regex(pattern = RTMP_URL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtmp_url: Option<String>,
}
