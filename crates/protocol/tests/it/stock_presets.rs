//! Tests of the seven presets of a new app.

use garde::Validate;
use parlor_protocol::{
    PresetBody,
    preset::{MediaPermission, Quality, ViewType, WaitingRoomType, stock},
};

pub(crate) fn stock_preset(name: &str) -> PresetBody {
    let (_, body) = stock::presets()
        .into_iter()
        .find(|(stock, _)| *stock == name)
        .unwrap();
    body
}

#[test]
fn a_new_app_has_seven_presets_within_the_limits() {
    let presets = stock::presets();
    assert_eq!(
        presets
            .each_ref()
            .map(|(name, body)| (*name, body.config.view_type)),
        [
            ("group_call_host", ViewType::GroupCall),
            ("group_call_participant", ViewType::GroupCall),
            ("group_call_guest", ViewType::GroupCall),
            ("webinar_presenter", ViewType::Webinar),
            ("webinar_viewer", ViewType::Webinar),
            ("livestream_host", ViewType::Livestream),
            ("livestream_viewer", ViewType::Livestream),
        ]
    );
    for (name, body) in presets {
        body.validate()
            .unwrap_or_else(|report| panic!("{name}: {report}"));
        assert!(body.permissions.transcription_enabled, "{name}");
        assert!(body.permissions.can_edit_display_name, "{name}");
        assert!(!body.permissions.hidden_participant, "{name}");
        let video = &body.config.media.video;
        assert_eq!(
            (video.quality, video.frame_rate),
            (Quality::Hd, 30),
            "{name}"
        );
        assert_eq!(body.config.max_video_streams.desktop, 9, "{name}");
    }
}

#[test]
fn only_hosts_and_presenters_have_power_over_others() {
    for (name, body) in stock::presets() {
        let is_host = name.ends_with("_host") || name.ends_with("_presenter");
        let p = &body.permissions;
        for granted in [
            p.accept_waiting_requests,
            p.accept_stage_requests,
            p.can_accept_production_requests,
            p.can_change_participant_permissions,
            p.can_livestream,
            p.can_record,
            p.can_spotlight,
            p.disable_participant_audio,
            p.disable_participant_screensharing,
            p.disable_participant_video,
            p.kick_participant,
            p.pin_participant,
            p.polls.can_create,
            p.plugins.can_start,
            p.plugins.can_close,
            p.plugins.can_edit_config,
            p.connected_meetings.can_alter_connected_meetings,
            p.connected_meetings.can_switch_connected_meetings,
            p.connected_meetings.can_switch_to_parent_meeting,
        ] {
            assert_eq!(granted, is_host, "{name}: {p:?}");
        }
        assert_eq!((p.polls.can_view, p.polls.can_vote), (true, true), "{name}");
    }
}

#[test]
fn media_and_chat_permissions_differ_by_preset() {
    use MediaPermission::{Allowed, CanRequest, NotAllowed};
    for (name, audio, screenshare, stage, private_chat, files, list) in [
        (
            "group_call_host",
            Allowed,
            Allowed,
            Some(Allowed),
            true,
            true,
            true,
        ),
        (
            "group_call_participant",
            Allowed,
            Allowed,
            None,
            true,
            true,
            true,
        ),
        (
            "group_call_guest",
            Allowed,
            NotAllowed,
            None,
            false,
            false,
            true,
        ),
        (
            "webinar_presenter",
            Allowed,
            Allowed,
            Some(Allowed),
            true,
            true,
            true,
        ),
        (
            "webinar_viewer",
            CanRequest,
            CanRequest,
            Some(CanRequest),
            false,
            false,
            false,
        ),
        (
            "livestream_host",
            Allowed,
            Allowed,
            Some(Allowed),
            true,
            true,
            true,
        ),
        (
            "livestream_viewer",
            NotAllowed,
            NotAllowed,
            Some(NotAllowed),
            false,
            false,
            false,
        ),
    ] {
        let p = stock_preset(name).permissions;
        assert_eq!(p.media.audio.can_produce, audio, "{name}");
        assert_eq!(p.media.video.can_produce, audio, "{name}");
        assert_eq!(p.media.screenshare.can_produce, screenshare, "{name}");
        assert_eq!(p.stage_access, stage, "{name}");
        assert_eq!(p.stage_enabled, !name.starts_with("group_call"), "{name}");
        let private = &p.chat.private;
        for allowed in [
            private.can_send,
            private.can_receive,
            private.text,
            private.files,
        ] {
            assert_eq!(allowed, private_chat, "{name}");
        }
        assert_eq!(p.chat.public.files, files, "{name}");
        assert!(p.chat.public.can_send && p.chat.public.text, "{name}");
        assert_eq!(p.show_participant_list, list, "{name}");
        let waits = p.waiting_room_type == WaitingRoomType::OnPrivilegedUserEntry;
        assert_eq!(waits, name == "group_call_guest", "{name}");
    }
}
