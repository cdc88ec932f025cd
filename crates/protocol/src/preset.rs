//! A preset: a participant's permissions and the look of the call.
//!
//! Input may be partial: omitted parts take the default documented on each type, and unknown fields
//! are ignored, including the older `ui.config_diff`. A wrong type or an unknown enum value is an
//! error. Output is complete: only a logo, a font, `stage_access` and unset plugin settings can be
//! missing.

mod config;
mod permissions;
pub mod stock;
mod ui;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use config::{
    AudioConfig, Media, PresetConfig, Quality, ScreenshareConfig, StreamLimits, VideoConfig,
    ViewType,
};
pub use permissions::{
    AccessControl, ChatPermissions, ConnectedMeetingPermissions, MediaKindPermission,
    MediaPermission, MediaPermissions, Permissions, PluginConfig, PluginPermissions,
    PollPermissions, PrivateChatPermissions, PublicChatPermissions, RecorderType, WaitingRoomType,
};
pub use ui::{
    BackgroundColours, BorderRadius, BorderWidth, BrandColours, Colour, Colours, DesignTokens,
    Theme, Ui,
};

use crate::{merge_patch, strict};

/// A preset without its id, name and timestamps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
pub struct PresetBody {
    /// Settings of the call.
    #[garde(dive)]
    pub config: PresetConfig,
    /// Permissions of the participant.
    #[garde(dive)]
    pub permissions: Permissions,
    /// Look of the call.
    #[garde(dive)]
    pub ui: Ui,
}

impl PresetBody {
    /// Applies `patch` (RFC 7396) to the preset. `null` resets a field to its default. The caller
    /// must still validate the limits of the result.
    ///
    /// # Errors
    ///
    /// Fails if the result does not deserialize.
    pub fn merge(&self, patch: Value) -> Result<Self, serde_json::Error> {
        let mut body = serde_json::to_value(self)?;
        merge_patch(&mut body, patch);
        strict::deserialize(body).map_err(|error| error.source)
    }
}
