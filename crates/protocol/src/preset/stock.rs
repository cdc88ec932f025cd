//! The seven presets of a new app.

use super::{
    ChatPermissions, ConnectedMeetingPermissions, MediaKindPermission, MediaPermission,
    MediaPermissions, Permissions, PluginPermissions, PollPermissions, PresetBody, PresetConfig,
    PrivateChatPermissions, PublicChatPermissions, Ui, ViewType, WaitingRoomType,
};

/// The presets of a new app with their names, in listing order.
///
/// All of them permit transcription; the meeting's settings determine whether it takes place.
pub fn presets() -> [(&'static str, PresetBody); 7] {
    use MediaPermission::{Allowed, CanRequest, NotAllowed};
    use ViewType::{GroupCall, Livestream, Webinar};
    [
        ("group_call_host", preset(GroupCall, host())),
        ("group_call_participant", preset(GroupCall, participant())),
        ("group_call_guest", preset(GroupCall, guest())),
        (
            "webinar_presenter",
            preset(Webinar, on_stage(host(), Allowed)),
        ),
        (
            "webinar_viewer",
            preset(Webinar, on_stage(viewer(), CanRequest)),
        ),
        (
            "livestream_host",
            preset(Livestream, on_stage(host(), Allowed)),
        ),
        (
            "livestream_viewer",
            preset(Livestream, on_stage(viewer(), NotAllowed)),
        ),
    ]
}

fn preset(view_type: ViewType, permissions: Permissions) -> PresetBody {
    PresetBody {
        config: PresetConfig {
            view_type,
            ..PresetConfig::default()
        },
        permissions,
        ui: Ui::default(),
    }
}

/// Full control over the call and its participants.
fn host() -> Permissions {
    Permissions {
        accept_waiting_requests: true,
        can_accept_production_requests: true,
        can_change_participant_permissions: true,
        can_livestream: true,
        can_record: true,
        can_spotlight: true,
        disable_participant_audio: true,
        disable_participant_video: true,
        disable_participant_screensharing: true,
        kick_participant: true,
        pin_participant: true,
        polls: PollPermissions {
            can_create: true,
            can_view: true,
            can_vote: true,
        },
        plugins: PluginPermissions {
            can_start: true,
            can_close: true,
            can_edit_config: true,
            ..PluginPermissions::default()
        },
        connected_meetings: ConnectedMeetingPermissions {
            can_alter_connected_meetings: true,
            can_switch_connected_meetings: true,
            can_switch_to_parent_meeting: true,
        },
        stage_access: Some(MediaPermission::Allowed),
        accept_stage_requests: true,
        ..participant()
    }
}

fn participant() -> Permissions {
    Permissions {
        transcription_enabled: true,
        ..Permissions::default()
    }
}

/// Waits until a privileged participant is present, and may neither share a screen nor send files.
fn guest() -> Permissions {
    Permissions {
        chat: text_to_everybody(),
        media: MediaPermissions {
            screenshare: MediaPermission::NotAllowed.into(),
            ..MediaPermissions::default()
        },
        waiting_room_type: WaitingRoomType::OnPrivilegedUserEntry,
        ..participant()
    }
}

/// A member of an audience whose members do not see each other.
fn viewer() -> Permissions {
    Permissions {
        chat: text_to_everybody(),
        show_participant_list: false,
        ..participant()
    }
}

/// Adds a stage. Access to the stage determines what the participant may publish.
fn on_stage(permissions: Permissions, access: MediaPermission) -> Permissions {
    let kind = MediaKindPermission::from(access);
    Permissions {
        stage_enabled: true,
        stage_access: Some(access),
        media: MediaPermissions {
            audio: kind,
            video: kind,
            screenshare: kind,
        },
        ..permissions
    }
}

fn text_to_everybody() -> ChatPermissions {
    ChatPermissions {
        public: PublicChatPermissions {
            files: false,
            ..PublicChatPermissions::default()
        },
        private: PrivateChatPermissions {
            can_send: false,
            can_receive: false,
            text: false,
            files: false,
        },
    }
}
