//! What some decide about others: who comes in, is seen, stays, and where.

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    GlobalPeerPinningRequest, HostMediaControlForAllPeerRequest, HostMediaControlForPeerRequest,
    KickAllPeersRequest, PeerDisplayNameEditRequest,
};
use parlor_protocol::signal::socket::livestreaming::{
    DenyStageAccessRequest, GrantStageAccessRequest, LeaveStageRequest,
};
use parlor_protocol::signal::socket::preset::{
    ConnectedMeetingPermissionUpdate, PresetUpdates, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, CreateConnectedRoomsRequest, CreateRoomRequestPayload,
    DenyWaitingRoomRequests, DisableConnectedRoomsRequest, DisableRoomPayload,
    GetConnectedRoomsDumpRequest, MovePeerPayload, MovePeersBetweenRoomsRequest,
    RemoveParticipantsRequest,
};
use serde_json::{Value, json};

use super::{Cell, cell};
use crate::signalling::matrix::scene::Scene;

pub(super) fn waiting_room() -> Vec<Cell> {
    let takes = || {
        Some(PresetUpdates {
            accept_waiting_requests: Some(false),
            ..PresetUpdates::default()
        })
    };
    let without = || json!({ "accept_waiting_requests": false });
    let user = |scene: &Scene| vec![scene.waiting.user().to_owned()];
    vec![
        cell!(
            "accept_waiting_requests",
            "let in",
            without(),
            takes(),
            |scene| event::ACCEPT_WAITING_ROOM_REQUESTS,
            AcceptWaitingRoomRequests {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_waiting_requests",
            "turn away",
            without(),
            takes(),
            |scene| event::DENY_WAITING_ROOM_REQUESTS,
            DenyWaitingRoomRequests {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_waiting_requests",
            "who waits",
            without(),
            takes(),
            |scene| event::GET_WAITING_ROOM_REQUESTS,
            GetConnectedRoomsDumpRequest {}
        )
        .answers(),
    ]
}

pub(super) fn stage() -> Vec<Cell> {
    // The one is the older name of the other.
    let without =
        || json!({ "accept_stage_requests": false, "can_accept_production_requests": false });
    let no_access = |access: &str| json!({ "stage_access": access });
    let user = |scene: &Scene| vec![scene.asking.user().to_owned()];
    vec![
        cell!(
            "accept_stage_requests",
            "let on the stage",
            without(),
            None,
            |scene| event::GRANT_STAGE_ACCESS,
            GrantStageAccessRequest {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_stage_requests",
            "refuse the stage",
            without(),
            None,
            |scene| event::DENY_STAGE_ACCESS,
            DenyStageAccessRequest {
                user_ids: user(scene)
            }
        ),
        cell!(
            "accept_stage_requests",
            "who asks for the stage",
            without(),
            None,
            |scene| event::GET_STAGE_REQUESTS,
            GetConnectedRoomsDumpRequest {}
        )
        .answers(),
        cell!(
            "accept_stage_requests",
            "send off the stage",
            without(),
            None,
            |scene| event::LEAVE_STAGE,
            LeaveStageRequest {
                user_ids: user(scene)
            }
        )
        .after(|scene| {
            Box::pin(async move {
                let grant = GrantStageAccessRequest {
                    user_ids: vec![scene.asking.user().to_owned()],
                };
                scene
                    .host
                    .tell(event::GRANT_STAGE_ACCESS, &grant)
                    .await
                    .unwrap();
                scene
                    .asking
                    .push_frame(event::GRANT_STAGE_ACCESS)
                    .await
                    .unwrap();
                scene
                    .asking
                    .ask_on(
                        event::JOIN_STAGE,
                        event::PEER_STAGE_STATUS_UPDATE,
                        &GetConnectedRoomsDumpRequest {},
                    )
                    .await
                    .unwrap();
            })
        }),
        cell!(
            "stage_access",
            "come on the stage, never allowed",
            no_access("NOT_ALLOWED"),
            None,
            |scene| event::JOIN_STAGE,
            GetConnectedRoomsDumpRequest {}
        ),
        cell!(
            "stage_access",
            "come on the stage unasked",
            no_access("CAN_REQUEST"),
            None,
            |scene| event::JOIN_STAGE,
            GetConnectedRoomsDumpRequest {}
        ),
        cell!(
            "stage_access",
            "ask for the stage, never allowed",
            no_access("NOT_ALLOWED"),
            None,
            |scene| event::REQUEST_STAGE_ACCESS,
            GetConnectedRoomsDumpRequest {}
        )
        .answers(),
    ]
}

/// A change of one permission.
#[expect(clippy::unnecessary_wraps, reason = "what a cell holds")]
fn flag(set: fn(&mut PresetUpdates)) -> Option<PresetUpdates> {
    let mut updates = PresetUpdates::default();
    set(&mut updates);
    Some(updates)
}

/// Permissions without one of them.
fn without(name: &str) -> Value {
    json!({ name: false })
}

pub(super) fn moderation() -> Vec<Cell> {
    let no_kick = || flag(|updates| updates.kick_participant = Some(false));
    let target = |scene: &Scene| scene.target.id().to_owned();
    let give = |scene: &Scene| UpdatePeersPresetRequest {
        update_peers_presets: vec![
            UpdatePeerPreset {
                user_ids: scene.target.user().to_owned(),
                patch: Some(PresetUpdates {
                    kick_participant: Some(true),
                    ..PresetUpdates::default()
                }),
            },
            // Nor to oneself.
            UpdatePeerPreset {
                user_ids: scene.actor.user().to_owned(),
                patch: Some(PresetUpdates {
                    can_record: Some(false),
                    ..PresetUpdates::default()
                }),
            },
        ],
    };
    vec![
        cell!(
            "kick_participant",
            "kick",
            without("kick_participant"),
            no_kick(),
            |scene| event::KICK,
            RemoveParticipantsRequest {
                peer_ids: vec![target(scene)]
            }
        ),
        cell!(
            "kick_participant",
            "kick all",
            without("kick_participant"),
            no_kick(),
            |scene| event::KICK_ALL,
            KickAllPeersRequest::default()
        ),
        cell!(
            "pin_participant",
            "pin",
            without("pin_participant"),
            flag(|updates| updates.pin_participant = Some(false)),
            |scene| event::PIN_PEER,
            GlobalPeerPinningRequest {
                participant_id: target(scene)
            }
        ),
        cell!(
            "can_change_participant_permissions",
            "change permissions",
            without("can_change_participant_permissions"),
            flag(|updates| updates.can_change_participant_permissions = Some(false)),
            |scene| event::UPDATE_USER_PRESET,
            give(scene)
        ),
        cell!(
            "can_edit_display_name",
            "change the own name",
            without("can_edit_display_name"),
            flag(|updates| updates.can_edit_display_name = Some(false)),
            |scene| event::CHANGE_DISPLAY_NAME,
            PeerDisplayNameEditRequest {
                participant_id: scene.actor.id().to_owned(),
                display_name: "Other".to_owned()
            }
        ),
    ]
}

pub(super) fn muting() -> Vec<Cell> {
    let mute = |scene: &Scene, audio, video, screen| HostMediaControlForPeerRequest {
        participant_id: scene.target.id().to_owned(),
        audio,
        video,
        scree_share: screen,
    };
    let mute_all = |audio, video, screen| HostMediaControlForAllPeerRequest {
        audio,
        video,
        screen_share: screen,
    };
    let no_audio = || flag(|updates| updates.disable_participant_audio = Some(false));
    let no_video = || flag(|updates| updates.disable_participant_video = Some(false));
    let no_screen = || flag(|updates| updates.disable_participant_screensharing = Some(false));
    vec![
        cell!(
            "disable_participant_audio",
            "mute one",
            without("disable_participant_audio"),
            no_audio(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, true, false, false)
        )
        .answers(),
        cell!(
            "disable_participant_audio",
            "mute all",
            without("disable_participant_audio"),
            no_audio(),
            |scene| event::HOST_CONTROL_ALL,
            mute_all(true, false, false)
        )
        .answers(),
        cell!(
            "disable_participant_video",
            "camera of one",
            without("disable_participant_video"),
            no_video(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, false, true, false)
        )
        .answers(),
        cell!(
            "disable_participant_video",
            "camera of all",
            without("disable_participant_video"),
            no_video(),
            |scene| event::HOST_CONTROL_ALL,
            mute_all(false, true, false)
        )
        .answers(),
        cell!(
            "disable_participant_video",
            "camera beside the microphone",
            without("disable_participant_video"),
            no_video(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, true, true, false)
        )
        .answers(),
        cell!(
            "disable_participant_screensharing",
            "screen of one",
            without("disable_participant_screensharing"),
            no_screen(),
            |scene| event::HOST_CONTROL_PEER,
            mute(scene, false, false, true)
        )
        .answers(),
        cell!(
            "disable_participant_screensharing",
            "screen of all",
            without("disable_participant_screensharing"),
            no_screen(),
            |scene| event::HOST_CONTROL_ALL,
            mute_all(false, false, true)
        )
        .answers(),
    ]
}

pub(super) fn breakout() -> Vec<Cell> {
    let takes = |rooms: ConnectedMeetingPermissionUpdate| {
        Some(PresetUpdates {
            connected_meetings: Some(rooms),
            ..PresetUpdates::default()
        })
    };
    let no_alter = || {
        takes(ConnectedMeetingPermissionUpdate {
            can_alter_connected_meetings: Some(false),
            ..ConnectedMeetingPermissionUpdate::default()
        })
    };
    let no_alter_or_switch = || {
        takes(ConnectedMeetingPermissionUpdate {
            can_alter_connected_meetings: Some(false),
            can_switch_connected_meetings: Some(false),
            ..ConnectedMeetingPermissionUpdate::default()
        })
    };
    let without = || json!({ "connected_meetings": { "can_alter_connected_meetings": false } });
    let without_switch = || json!({ "connected_meetings": { "can_alter_connected_meetings": false, "can_switch_connected_meetings": false } });
    let to_room = |scene: &Scene, user: &str| MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(scene.meeting.id.clone()),
        destination_meeting_id: Some(scene.room.clone()),
        participants: vec![MovePeerPayload {
            id: Some(user.to_owned()),
            preset_id: None,
        }],
    };
    vec![
        cell!(
            "connected_meetings.can_alter",
            "make a room",
            without(),
            no_alter(),
            |scene| event::CREATE_CONNECTED_ROOMS,
            CreateConnectedRoomsRequest {
                payloads: vec![CreateRoomRequestPayload {
                    title: Some("Blue".to_owned())
                }]
            }
        ),
        cell!(
            "connected_meetings.can_alter",
            "remove a room",
            without(),
            no_alter(),
            |scene| event::DELETE_CONNECTED_ROOMS,
            DisableConnectedRoomsRequest {
                payloads: vec![DisableRoomPayload {
                    id: Some(scene.room.clone())
                }]
            }
        ),
        cell!(
            "connected_meetings.can_alter",
            "move somebody",
            without(),
            no_alter(),
            |scene| event::MOVE_PEERS,
            to_room(scene, scene.target.user())
        ),
        cell!(
            "connected_meetings.can_switch",
            "move oneself",
            without_switch(),
            no_alter_or_switch(),
            |scene| event::MOVE_PEERS,
            to_room(scene, scene.actor.user())
        )
        .answers(),
    ]
}
