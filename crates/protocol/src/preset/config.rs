//! The `config` of a preset: what the call consists of.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::nullable::{null_is_default, nullable_in};

/// What the call consists of. By default a group call with up to 9 videos on a
/// desktop, 4 on a phone and one shared screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct PresetConfig {
    /// The kind of call.
    pub view_type: ViewType,
    /// How many videos are shown at once.
    #[garde(dive)]
    pub max_video_streams: StreamLimits,
    /// How many screens may be shared at once.
    #[garde(range(max = 100))]
    pub max_screenshare_count: u32,
    /// The heights, in lines, that a livestream's viewers may choose from. None leaves
    /// the choice to the server, and so does `null`.
    #[garde(length(max = 16))]
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(schema_with = "nullable_in::<Vec<Number>>")]
    pub livestream_viewer_qualities: Vec<Number>,
    /// What is sent.
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

/// The kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ViewType {
    /// Everybody sees and hears everybody.
    GroupCall,
    /// Presenters on a stage before an audience.
    Webinar,
    /// As a group call, without video.
    AudioRoom,
    /// Presenters before viewers who watch a stream.
    Livestream,
}

/// How many videos are shown at once, by the kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
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

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Media {
    /// The microphone.
    pub audio: AudioConfig,
    /// The camera.
    #[garde(dive)]
    pub video: VideoConfig,
    /// A shared screen.
    #[garde(dive)]
    pub screenshare: ScreenshareConfig,
}

/// How the microphone is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AudioConfig {
    /// Spend more bits, for music.
    pub enable_high_bitrate: bool,
    /// Two channels instead of one.
    pub enable_stereo: bool,
}

/// How the camera is sent: high definition at 30 frames a second by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct VideoConfig {
    /// The size of the picture.
    pub quality: Quality,
    /// Frames a second.
    #[garde(range(min = 1, max = 30))]
    pub frame_rate: u32,
    /// Send the picture in several sizes, so that each viewer gets what fits.
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

/// How a shared screen is sent: high definition at 5 frames a second by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct ScreenshareConfig {
    /// The size of the picture.
    pub quality: Quality,
    /// Frames a second.
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

/// The size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
