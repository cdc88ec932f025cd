//! A preset: what a participant may do, and how the call looks to them.
//!
//! Lenient in, complete out. Every part may be left out and then takes the default
//! that its type states; fields nobody knows are ignored, among them the older
//! `ui.config_diff`. A wrong type or an unknown word of an enum is an error. What is
//! written is always whole: only a logo, a font, `stage_access` and what a plugin leaves
//! open can be missing.

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

use crate::{
    merge_patch,
    strict::{Strict, Track},
};

/// Everything of a preset but its id, name and times.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
pub struct PresetBody {
    /// What the call consists of.
    #[garde(dive)]
    pub config: PresetConfig,
    /// What the participant may do.
    #[garde(dive)]
    pub permissions: Permissions,
    /// How the call looks.
    #[garde(dive)]
    pub ui: Ui,
}

impl PresetBody {
    /// This preset changed by `patch` (RFC 7396); `null` puts a field back to its
    /// default. The limits still have to be checked on what comes back.
    ///
    /// # Errors
    ///
    /// When the result no longer has the types of a preset.
    pub fn merge(&self, patch: Value) -> Result<Self, serde_json::Error> {
        let mut body = serde_json::to_value(self)?;
        merge_patch(&mut body, patch);
        Self::deserialize(Strict::new(body, &Track::default()))
    }
}
