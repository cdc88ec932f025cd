//! The `config` of a preset: settings of the call.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::nullable::{null_is_default, nullable_in};

/// Settings of the call. By default a group call with up to 9 videos on a desktop, 4 on a phone and
/// one shared screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "PresetConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct PresetConfig {
    /// Type of call.
    pub view_type: ViewType,
    /// Maximum number of videos shown at once.
    #[garde(dive)]
    pub max_video_streams: StreamLimits,
    /// Maximum number of screens shared at once.
    #[garde(range(max = 100))]
    pub max_screenshare_count: u32,
    /// Video heights, in lines, that viewers of a livestream may choose from. If empty or `null`,
    /// the server chooses.
    #[garde(length(max = 16))]
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<Vec<Number>>")]
    pub livestream_viewer_qualities: Vec<Number>,
    /// Media settings.
    #[garde(dive)]
    pub media: Media,
}

impl Default for PresetConfig {
    fn default() -> Self {
        Self {
            view_type: ViewType::GroupCall,
            max_video_streams: StreamLimits::default(),
            max_screenshare_count: 1,
            livestream_viewer_qualities: Vec::new(),
            media: Media::default(),
        }
    }
}

/// Type of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ViewType")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ViewType {
    /// All participants see and hear each other.
    GroupCall,
    /// Presenters on a stage with an audience.
    Webinar,
    /// A group call without video.
    AudioRoom,
    /// Presenters with viewers who watch a stream.
    Livestream,
}

/// Maximum number of videos shown at once, by type of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "VideoStreamLimits")]
#[serde(default)]
pub struct StreamLimits {
    /// On a desktop, 9 by default.
    #[garde(range(max = 1000))]
    pub desktop: u32,
    /// On a phone, 4 by default.
    #[garde(range(max = 1000))]
    pub mobile: u32,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            desktop: 9,
            mobile: 4,
        }
    }
}

/// Media settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "MediaConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Media {
    /// Microphone settings.
    pub audio: AudioConfig,
    /// Camera settings.
    #[garde(dive)]
    pub video: VideoConfig,
    /// Screen share settings.
    #[garde(dive)]
    pub screenshare: ScreenshareConfig,
}

/// Microphone settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AudioConfig")]
#[serde(default)]
pub struct AudioConfig {
    /// Whether to use a higher bitrate, for music.
    pub enable_high_bitrate: bool,
    /// Whether to send two channels instead of one.
    pub enable_stereo: bool,
}

/// Camera settings: high definition at 30 frames per second by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "VideoConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct VideoConfig {
    /// Resolution.
    pub quality: Quality,
    /// Frames per second.
    #[garde(range(min = 1, max = 30))]
    pub frame_rate: u32,
    /// Whether to send several resolutions, so that each viewer receives a suitable one.
    pub simulcast: bool,
}

impl Default for VideoConfig {
    fn default() -> Self {
        Self {
            quality: Quality::Hd,
            frame_rate: 30,
            simulcast: false,
        }
    }
}

/// Screen share settings: high definition at 5 frames per second by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "ScreenshareConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct ScreenshareConfig {
    /// Resolution.
    pub quality: Quality,
    /// Frames per second.
    #[garde(range(min = 1, max = 60))]
    pub frame_rate: u32,
}

impl Default for ScreenshareConfig {
    fn default() -> Self {
        Self {
            quality: Quality::Hd,
            frame_rate: 5,
        }
    }
}

/// Video resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VideoQuality")]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// 320 × 180.
    Qvga,
    /// 640 × 360.
    Vga,
    /// 1280 × 720.
    Hd,
    /// 1920 × 1080.
    Fhd,
    /// 3840 × 2160.
    Uhd,
}
