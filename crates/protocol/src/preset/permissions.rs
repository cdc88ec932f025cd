//! The `permissions` of a preset.

use std::collections::BTreeMap;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Permissions of a participant. The default is an ordinary participant of a group call, who may
/// publish audio, video and a screen, chat and vote, but has no control over others.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each permission is a separate field on the wire"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "PresetPermissions")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Permissions {
    /// Admit participants from the waiting room.
    pub accept_waiting_requests: bool,
    /// Grant access to the stage of a webinar (older name of `accept_stage_requests`).
    pub can_accept_production_requests: bool,
    /// Change the permissions of others during the call.
    pub can_change_participant_permissions: bool,
    /// Change one's own name before joining. True by default.
    pub can_edit_display_name: bool,
    /// Start and stop a livestream of the call.
    pub can_livestream: bool,
    /// Start and stop a recording.
    pub can_record: bool,
    /// Spotlight a participant for everyone.
    pub can_spotlight: bool,
    /// Mute the microphones of others.
    pub disable_participant_audio: bool,
    /// Turn off the cameras of others.
    pub disable_participant_video: bool,
    /// Stop the screen shares of others.
    pub disable_participant_screensharing: bool,
    /// Be hidden from the participant lists of others.
    pub hidden_participant: bool,
    /// Remove others from the call.
    pub kick_participant: bool,
    /// Pin a participant for everyone.
    pub pin_participant: bool,
    /// See the list of participants. True by default.
    pub show_participant_list: bool,
    /// Chat permissions.
    pub chat: ChatPermissions,
    /// Poll permissions.
    pub polls: PollPermissions,
    /// Plugin permissions.
    #[garde(dive)]
    pub plugins: PluginPermissions,
    /// Breakout room permissions.
    pub connected_meetings: ConnectedMeetingPermissions,
    /// Media permissions.
    pub media: MediaPermissions,
    /// Type of recorder, if the participant is one.
    pub recorder_type: RecorderType,
    /// How the participant passes the waiting room.
    pub waiting_room_type: WaitingRoomType,
    /// Whether the participant is a recorder.
    pub is_recorder: bool,
    /// Whether the call has a stage. `stage_access` determines who may be on it.
    pub stage_enabled: bool,
    /// Whether the participant may go on the stage. If absent, clients take the most permissive of
    /// the `media` permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_access: Option<MediaPermission>,
    /// Grant access to the stage.
    pub accept_stage_requests: bool,
    /// Include the participant's speech in the transcript of the meeting.
    pub transcription_enabled: bool,
}

impl Default for Permissions {
    fn default() -> Self {
        Self {
            accept_waiting_requests: false,
            can_accept_production_requests: false,
            can_change_participant_permissions: false,
            can_edit_display_name: true,
            can_livestream: false,
            can_record: false,
            can_spotlight: false,
            disable_participant_audio: false,
            disable_participant_video: false,
            disable_participant_screensharing: false,
            hidden_participant: false,
            kick_participant: false,
            pin_participant: false,
            show_participant_list: true,
            chat: ChatPermissions::default(),
            polls: PollPermissions::default(),
            plugins: PluginPermissions::default(),
            connected_meetings: ConnectedMeetingPermissions::default(),
            media: MediaPermissions::default(),
            recorder_type: RecorderType::None,
            waiting_room_type: WaitingRoomType::Skip,
            is_recorder: false,
            stage_enabled: false,
            stage_access: None,
            accept_stage_requests: false,
            transcription_enabled: false,
        }
    }
}

/// Whether something is allowed, forbidden or allowed on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MediaPermission")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MediaPermission {
    /// Allowed. The default.
    #[default]
    Allowed,
    /// Not allowed.
    NotAllowed,
    /// Allowed once a privileged participant has accepted a request.
    CanRequest,
}

/// Type of recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RecorderType")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecorderType {
    /// Records the meeting.
    Recorder,
    /// Feeds a livestream.
    Livestreamer,
    /// Not a recorder. The default.
    None,
}

/// How a participant passes the waiting room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "WaitingRoomType")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WaitingRoomType {
    /// They enter at once. The default.
    Skip,
    /// They enter as soon as a participant who can admit others is present.
    OnPrivilegedUserEntry,
    /// They enter once they are admitted.
    SkipOnAccept,
}

/// Chat permissions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChatPermissions")]
#[serde(default)]
pub struct ChatPermissions {
    /// Public messages.
    pub public: PublicChatPermissions,
    /// Private messages.
    pub private: PrivateChatPermissions,
}

/// Permissions for public messages. All true by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PublicChatPermissions")]
#[serde(default)]
pub struct PublicChatPermissions {
    /// Send messages at all.
    pub can_send: bool,
    /// Send text.
    pub text: bool,
    /// Send files.
    pub files: bool,
}

impl Default for PublicChatPermissions {
    fn default() -> Self {
        Self {
            can_send: true,
            text: true,
            files: true,
        }
    }
}

/// Permissions for private messages. All true by default.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each permission is a separate field on the wire"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PrivateChatPermissions")]
#[serde(default)]
pub struct PrivateChatPermissions {
    /// Send messages at all.
    pub can_send: bool,
    /// Receive messages.
    pub can_receive: bool,
    /// Send text.
    pub text: bool,
    /// Send files.
    pub files: bool,
}

impl Default for PrivateChatPermissions {
    fn default() -> Self {
        Self {
            can_send: true,
            can_receive: true,
            text: true,
            files: true,
        }
    }
}

/// Poll permissions. By default a participant sees polls and votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PollPermissions")]
#[serde(default)]
pub struct PollPermissions {
    /// Create polls.
    pub can_create: bool,
    /// See polls and results.
    pub can_view: bool,
    /// Vote.
    pub can_vote: bool,
}

impl Default for PollPermissions {
    fn default() -> Self {
        Self {
            can_create: false,
            can_view: true,
            can_vote: true,
        }
    }
}

/// Plugin permissions. All false by default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "PluginPermissions")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct PluginPermissions {
    /// Start a plugin for everyone.
    pub can_start: bool,
    /// Close a plugin for everyone.
    pub can_close: bool,
    /// Change the configuration of plugins.
    pub can_edit_config: bool,
    /// Settings by plugin id, for at most 100 plugins.
    #[garde(length(max = 100))]
    #[schemars(extend("maxProperties" = 100))]
    pub config: BTreeMap<String, PluginConfig>,
}

/// Settings of a plugin. Unknown fields belong to the plugin and are kept unchanged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PluginConfig")]
pub struct PluginConfig {
    /// What the participant may do in the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_control: Option<AccessControl>,
    /// Whether the plugin itself enforces view-only access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles_view_only: Option<bool>,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a participant may do in a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PluginAccessControl")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessControl {
    /// Full access.
    FullAccess,
    /// View only.
    ViewOnly,
}

/// Breakout room permissions. All false by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ConnectedMeetingPermissions")]
#[serde(default)]
pub struct ConnectedMeetingPermissions {
    /// Create, change and delete breakout rooms.
    pub can_alter_connected_meetings: bool,
    /// Switch to another breakout room.
    pub can_switch_connected_meetings: bool,
    /// Return to the parent meeting.
    pub can_switch_to_parent_meeting: bool,
}

/// Media permissions. All allowed by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MediaPermissions")]
#[serde(default)]
pub struct MediaPermissions {
    /// Publish the microphone.
    pub audio: MediaKindPermission,
    /// Publish the camera.
    pub video: MediaKindPermission,
    /// Share a screen.
    pub screenshare: MediaKindPermission,
}

/// Permission for one kind of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MediaKindPermission")]
#[serde(default)]
pub struct MediaKindPermission {
    /// Whether the participant may publish it.
    pub can_produce: MediaPermission,
}

impl From<MediaPermission> for MediaKindPermission {
    fn from(can_produce: MediaPermission) -> Self {
        Self { can_produce }
    }
}
