//! The `permissions` of a preset: what a participant may do.

use std::collections::BTreeMap;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a participant may do. The default is an ordinary participant of a group call:
/// they speak, show themselves, share their screen, chat and vote, and have no power
/// over others.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a permission of its own on the wire"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Permissions {
    /// Let people in from the waiting room.
    pub accept_waiting_requests: bool,
    /// Let people onto the stage of a webinar (`accept_stage_requests`, by its older name).
    pub can_accept_production_requests: bool,
    /// Change what others may do while the call runs.
    pub can_change_participant_permissions: bool,
    /// Change the own name before joining. True by default.
    pub can_edit_display_name: bool,
    /// Start and stop a livestream of the call.
    pub can_livestream: bool,
    /// Start and stop a recording.
    pub can_record: bool,
    /// Show one participant large to everybody.
    pub can_spotlight: bool,
    /// Mute others.
    pub disable_participant_audio: bool,
    /// Stop others' cameras.
    pub disable_participant_video: bool,
    /// Stop others' shared screens.
    pub disable_participant_screensharing: bool,
    /// Stay out of the lists that others see.
    pub hidden_participant: bool,
    /// Remove others from the call.
    pub kick_participant: bool,
    /// Keep one participant in view for everybody.
    pub pin_participant: bool,
    /// See who else is there. True by default.
    pub show_participant_list: bool,
    /// Writing to others.
    pub chat: ChatPermissions,
    /// Polls.
    pub polls: PollPermissions,
    /// Plugins.
    #[garde(dive)]
    pub plugins: PluginPermissions,
    /// Breakout rooms.
    pub connected_meetings: ConnectedMeetingPermissions,
    /// Sending sound and pictures.
    pub media: MediaPermissions,
    /// What kind of recorder this is, if any.
    pub recorder_type: RecorderType,
    /// How the participant gets past the waiting room.
    pub waiting_room_type: WaitingRoomType,
    /// This is a recorder, not a person.
    pub is_recorder: bool,
    /// The call has a stage. With `stage_access` this decides who may be on it.
    pub stage_enabled: bool,
    /// Whether the participant may go on the stage. When it is absent, clients take
    /// the best of what `media` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_access: Option<MediaPermission>,
    /// Let people onto the stage.
    pub accept_stage_requests: bool,
    /// What this participant says is written down when the meeting is transcribed.
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

/// Whether something may be done at will, not at all, or after asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MediaPermission {
    /// At will. The default.
    #[default]
    Allowed,
    /// Not at all.
    NotAllowed,
    /// After somebody who can accept has accepted.
    CanRequest,
}

/// What kind of recorder a participant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecorderType {
    /// It records.
    Recorder,
    /// It feeds a livestream.
    Livestreamer,
    /// It is no recorder. The default.
    None,
}

/// How a participant gets past the waiting room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WaitingRoomType {
    /// They enter at once. The default.
    Skip,
    /// They enter as soon as somebody who can accept is there.
    OnPrivilegedUserEntry,
    /// They enter when somebody accepts them.
    SkipOnAccept,
}

/// Writing to others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChatPermissions {
    /// Messages to everybody.
    pub public: PublicChatPermissions,
    /// Messages to one person.
    pub private: PrivateChatPermissions,
}

/// Messages to everybody. All true by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublicChatPermissions {
    /// Send anything at all.
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

/// Messages to one person. All true by default.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a permission of its own on the wire"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PrivateChatPermissions {
    /// Send anything at all.
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

/// Polls. By default a participant sees them and votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PollPermissions {
    /// Ask a question.
    pub can_create: bool,
    /// See questions and results.
    pub can_view: bool,
    /// Answer.
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

/// Plugins. None may be started, closed or set up by default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct PluginPermissions {
    /// Start a plugin for everybody.
    pub can_start: bool,
    /// Close a plugin for everybody.
    pub can_close: bool,
    /// Change how plugins are set up.
    pub can_edit_config: bool,
    /// Settings by plugin id, for at most 100 plugins.
    #[garde(length(max = 100))]
    #[schemars(extend("maxProperties" = 100))]
    pub config: BTreeMap<String, PluginConfig>,
}

/// The settings of one plugin. Fields that are not named here are the plugin's own and
/// are kept as they came.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PluginConfig {
    /// What the participant may do in the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_control: Option<AccessControl>,
    /// The plugin itself looks after those who may only watch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles_view_only: Option<bool>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a participant may do in a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessControl {
    /// Use it.
    FullAccess,
    /// Watch others use it.
    ViewOnly,
}

/// Breakout rooms. All false by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectedMeetingPermissions {
    /// Make, change and remove breakout rooms.
    pub can_alter_connected_meetings: bool,
    /// Go to another breakout room.
    pub can_switch_connected_meetings: bool,
    /// Go back to the meeting that the rooms belong to.
    pub can_switch_to_parent_meeting: bool,
}

/// Sending sound and pictures. All allowed by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MediaPermissions {
    /// The microphone.
    pub audio: MediaKindPermission,
    /// The camera.
    pub video: MediaKindPermission,
    /// A screen.
    pub screenshare: MediaKindPermission,
}

/// Sending one kind of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MediaKindPermission {
    /// Whether it may be sent.
    pub can_produce: MediaPermission,
}

impl From<MediaPermission> for MediaKindPermission {
    fn from(can_produce: MediaPermission) -> Self {
        Self { can_produce }
    }
}
