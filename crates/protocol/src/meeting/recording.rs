//! The `recording_config` of a meeting: recordings and their storage.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::storage::{StorageConfig, storage_schema};
use crate::urls::{self, HTTP_URL, MAX_URL_CHARS, RTMP_URL, http_url};

/// How a meeting is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "RecordingConfig")]
#[garde(allow_unvalidated)]
pub struct RecordingConfig {
    /// Maximum length of a recording, in seconds.
    #[garde(range(min = 60, max = 86_400))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
    /// Prefix of the file names. Characters that are invalid in file names are replaced.
    #[garde(length(chars, max = 255))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name_prefix: Option<String>,
    /// Video settings.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_config: Option<RecordingVideo>,
    /// Audio settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_config: Option<RecordingAudio>,
    /// The caller's own storage for the files.
    #[garde(dive)]
    #[schemars(schema_with = "storage_schema")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_config: Option<StorageConfig>,
    /// Whether this server keeps the files as well. `dyte_bucket_config` is the older name.
    #[serde(alias = "dyte_bucket_config", skip_serializing_if = "Option::is_none")]
    pub realtimekit_bucket_config: Option<BucketConfig>,
    /// Where the recording is streamed to while it is made.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_streaming_config: Option<LiveStreamingConfig>,
}

/// Video settings of a recording: 1280 × 720 in H.264 by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "RecordingVideoConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct RecordingVideo {
    /// Video codec.
    pub codec: VideoCodec,
    /// Width, in pixels.
    #[garde(range(min = 1, max = 1920))]
    pub width: u32,
    /// Height, in pixels.
    #[garde(range(min = 1, max = 1920))]
    pub height: u32,
    /// Whether to write a file in addition to any stream.
    pub export_file: bool,
    /// Watermark over the video.
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

/// Video codec of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RecordingVideoCodec")]
pub enum VideoCodec {
    /// H.264. The default.
    #[default]
    H264,
    /// VP8. The audio codec is then Vorbis.
    #[serde(rename = "VP8")]
    Vp8,
    /// VP9. The audio codec is then Vorbis.
    #[serde(rename = "VP9")]
    Vp9,
}

/// A watermark image over a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "Watermark")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Watermark {
    /// An absolute http or https URL of the image.
    #[garde(length(chars, max = MAX_URL_CHARS), custom(http_url))]
    #[schemars(regex(pattern = HTTP_URL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Size of the watermark. The size of the image by default.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<WatermarkSize>,
    /// Corner in which the watermark appears.
    pub position: WatermarkPosition,
}

/// Size of a watermark, in pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "WatermarkSize")]
pub struct WatermarkSize {
    /// Width.
    #[garde(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height.
    #[garde(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// Corner in which a watermark appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "WatermarkPosition")]
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

/// Audio settings of a recording: AAC in stereo by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RecordingAudioConfig")]
#[serde(default)]
pub struct RecordingAudio {
    /// Audio codec.
    pub codec: AudioCodec,
    /// Mono or stereo.
    pub channel: AudioChannel,
    /// Whether to write a file in addition to any stream.
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

/// Audio codec of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RecordingAudioCodec")]
#[serde(rename_all = "UPPERCASE")]
pub enum AudioCodec {
    /// AAC. The default.
    #[default]
    Aac,
    /// MP3.
    Mp3,
}

/// Audio channels of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RecordingAudioChannel")]
#[serde(rename_all = "lowercase")]
pub enum AudioChannel {
    /// One channel.
    Mono,
    /// Two channels. The default.
    #[default]
    Stereo,
}

/// Whether this server keeps the files of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RealtimeKitBucketConfig")]
pub struct BucketConfig {
    /// Whether the server keeps the files. Without them there are no download URLs.
    pub enabled: bool,
}

/// Where a recording is streamed to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "LiveStreamingConfig")]
pub struct LiveStreamingConfig {
    /// An absolute rtmp or rtmps URL.
    #[garde(length(chars, max = MAX_URL_CHARS), custom(urls::rtmp_url))]
    #[schemars(regex(pattern = RTMP_URL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtmp_url: Option<String>,
}
