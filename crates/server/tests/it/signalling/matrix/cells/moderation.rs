//! Permissions to moderate others: the waiting room, the stage, kicks, pins, mutes, breakout rooms.

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
use crate::signalling::matrix::fixture::Fixture;

pub(super) fn waiting_room() -> Vec<Cell> {
    let revokes = || {
        Some(PresetUpdates {
            accept_waiting_requests: Some(false),
            ..PresetUpdates::default()
        })
    };
    let without = || json!({ "accept_waiting_requests": false });
    let user = |fixture: &Fixture| vec![fixture.waiting.user().to_owned()];
    vec![
        cell!(
            "accept_waiting_requests",
            "admit",
            without(),
            revokes(),
            |fixture| event::ACCEPT_WAITING_ROOM_REQUESTS,
            AcceptWaitingRoomRequests {
                user_ids: user(fixture)
            }
        ),
        cell!(
            "accept_waiting_requests",
            "deny admission",
            without(),
            revokes(),
            |fixture| event::DENY_WAITING_ROOM_REQUESTS,
            DenyWaitingRoomRequests {
                user_ids: user(fixture)
            }
        ),
        cell!(
            "accept_waiting_requests",
            "list waiting peers",
            without(),
            revokes(),
            |fixture| event::GET_WAITING_ROOM_REQUESTS,
            GetConnectedRoomsDumpRequest {}
        )
        .without_visible_change(),
    ]
}

pub(super) fn stage() -> Vec<Cell> {
    // The second permission is the older name of the first.
    let without =
        || json!({ "accept_stage_requests": false, "can_accept_production_requests": false });
    let no_access = |access: &str| json!({ "stage_access": access });
    let user = |fixture: &Fixture| vec![fixture.requesting.user().to_owned()];
    vec![
        cell!(
            "accept_stage_requests",
            "grant stage access",
            without(),
            None,
            |fixture| event::GRANT_STAGE_ACCESS,
            GrantStageAccessRequest {
                user_ids: user(fixture)
            }
        ),
        cell!(
            "accept_stage_requests",
            "deny stage access",
            without(),
            None,
            |fixture| event::DENY_STAGE_ACCESS,
            DenyStageAccessRequest {
                user_ids: user(fixture)
            }
        ),
        cell!(
            "accept_stage_requests",
            "list stage requests",
            without(),
            None,
            |fixture| event::GET_STAGE_REQUESTS,
            GetConnectedRoomsDumpRequest {}
        )
        .without_visible_change(),
        cell!(
            "accept_stage_requests",
            "remove from the stage",
            without(),
            None,
            |fixture| event::LEAVE_STAGE,
            LeaveStageRequest {
                user_ids: user(fixture)
            }
        )
        .after(|fixture| {
            Box::pin(async move {
                let grant = GrantStageAccessRequest {
                    user_ids: vec![fixture.requesting.user().to_owned()],
                };
                fixture
                    .host
                    .tell(event::GRANT_STAGE_ACCESS, &grant)
                    .await
                    .unwrap();
                fixture
                    .requesting
                    .push_frame(event::GRANT_STAGE_ACCESS)
                    .await
                    .unwrap();
                fixture
                    .requesting
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
            "join the stage, never allowed",
            no_access("NOT_ALLOWED"),
            None,
            |fixture| event::JOIN_STAGE,
            GetConnectedRoomsDumpRequest {}
        ),
        cell!(
            "stage_access",
            "join the stage without approval",
            no_access("CAN_REQUEST"),
            None,
            |fixture| event::JOIN_STAGE,
            GetConnectedRoomsDumpRequest {}
        ),
        cell!(
            "stage_access",
            "request stage access, never allowed",
            no_access("NOT_ALLOWED"),
            None,
            |fixture| event::REQUEST_STAGE_ACCESS,
            GetConnectedRoomsDumpRequest {}
        )
        .without_visible_change(),
    ]
}

/// Returns an update of one permission.
#[expect(clippy::unnecessary_wraps, reason = "the type of the field of a cell")]
fn flag(set: fn(&mut PresetUpdates)) -> Option<PresetUpdates> {
    let mut updates = PresetUpdates::default();
    set(&mut updates);
    Some(updates)
}

/// Returns preset permissions that deny one permission.
fn without(name: &str) -> Value {
    json!({ name: false })
}

pub(super) fn moderation() -> Vec<Cell> {
    let no_kick = || flag(|updates| updates.kick_participant = Some(false));
    let target = |fixture: &Fixture| fixture.target.id().to_owned();
    let give = |fixture: &Fixture| UpdatePeersPresetRequest {
        update_peers_presets: vec![
            UpdatePeerPreset {
                user_ids: fixture.target.user().to_owned(),
                patch: Some(PresetUpdates {
                    kick_participant: Some(true),
                    ..PresetUpdates::default()
                }),
            },
            // A change of the actor's own permissions must be refused, too.
            UpdatePeerPreset {
                user_ids: fixture.actor.user().to_owned(),
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
            |fixture| event::KICK,
            RemoveParticipantsRequest {
                peer_ids: vec![target(fixture)]
            }
        ),
        cell!(
            "kick_participant",
            "kick all",
            without("kick_participant"),
            no_kick(),
            |fixture| event::KICK_ALL,
            KickAllPeersRequest::default()
        ),
        cell!(
            "pin_participant",
            "pin",
            without("pin_participant"),
            flag(|updates| updates.pin_participant = Some(false)),
            |fixture| event::PIN_PEER,
            GlobalPeerPinningRequest {
                participant_id: target(fixture)
            }
        ),
        cell!(
            "can_change_participant_permissions",
            "change permissions",
            without("can_change_participant_permissions"),
            flag(|updates| updates.can_change_participant_permissions = Some(false)),
            |fixture| event::UPDATE_USER_PRESET,
            give(fixture)
        ),
        cell!(
            "can_edit_display_name",
            "change own name",
            without("can_edit_display_name"),
            flag(|updates| updates.can_edit_display_name = Some(false)),
            |fixture| event::CHANGE_DISPLAY_NAME,
            PeerDisplayNameEditRequest {
                participant_id: fixture.actor.id().to_owned(),
                display_name: "Other".to_owned()
            }
        ),
    ]
}

pub(super) fn muting() -> Vec<Cell> {
    let mute = |fixture: &Fixture, audio, video, screen| HostMediaControlForPeerRequest {
        participant_id: fixture.target.id().to_owned(),
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
            "mute one peer",
            without("disable_participant_audio"),
            no_audio(),
            |fixture| event::HOST_CONTROL_PEER,
            mute(fixture, true, false, false)
        )
        .without_visible_change(),
        cell!(
            "disable_participant_audio",
            "mute all peers",
            without("disable_participant_audio"),
            no_audio(),
            |fixture| event::HOST_CONTROL_ALL,
            mute_all(true, false, false)
        )
        .without_visible_change(),
        cell!(
            "disable_participant_video",
            "stop the camera of one peer",
            without("disable_participant_video"),
            no_video(),
            |fixture| event::HOST_CONTROL_PEER,
            mute(fixture, false, true, false)
        )
        .without_visible_change(),
        cell!(
            "disable_participant_video",
            "stop all cameras",
            without("disable_participant_video"),
            no_video(),
            |fixture| event::HOST_CONTROL_ALL,
            mute_all(false, true, false)
        )
        .without_visible_change(),
        cell!(
            "disable_participant_video",
            "stop camera and microphone",
            without("disable_participant_video"),
            no_video(),
            |fixture| event::HOST_CONTROL_PEER,
            mute(fixture, true, true, false)
        )
        .without_visible_change(),
        cell!(
            "disable_participant_screensharing",
            "stop the screen share of one peer",
            without("disable_participant_screensharing"),
            no_screen(),
            |fixture| event::HOST_CONTROL_PEER,
            mute(fixture, false, false, true)
        )
        .without_visible_change(),
        cell!(
            "disable_participant_screensharing",
            "stop all screen shares",
            without("disable_participant_screensharing"),
            no_screen(),
            |fixture| event::HOST_CONTROL_ALL,
            mute_all(false, false, true)
        )
        .without_visible_change(),
    ]
}

pub(super) fn breakout() -> Vec<Cell> {
    let revokes = |rooms: ConnectedMeetingPermissionUpdate| {
        Some(PresetUpdates {
            connected_meetings: Some(rooms),
            ..PresetUpdates::default()
        })
    };
    let no_alter = || {
        revokes(ConnectedMeetingPermissionUpdate {
            can_alter_connected_meetings: Some(false),
            ..ConnectedMeetingPermissionUpdate::default()
        })
    };
    let no_alter_or_switch = || {
        revokes(ConnectedMeetingPermissionUpdate {
            can_alter_connected_meetings: Some(false),
            can_switch_connected_meetings: Some(false),
            ..ConnectedMeetingPermissionUpdate::default()
        })
    };
    let without = || json!({ "connected_meetings": { "can_alter_connected_meetings": false } });
    let without_switch = || json!({ "connected_meetings": { "can_alter_connected_meetings": false, "can_switch_connected_meetings": false } });
    let to_room = |fixture: &Fixture, user: &str| MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(fixture.meeting.id.clone()),
        destination_meeting_id: Some(fixture.room.clone()),
        participants: vec![MovePeerPayload {
            id: Some(user.to_owned()),
            preset_id: None,
        }],
    };
    vec![
        cell!(
            "connected_meetings.can_alter",
            "create a room",
            without(),
            no_alter(),
            |fixture| event::CREATE_CONNECTED_ROOMS,
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
            |fixture| event::DELETE_CONNECTED_ROOMS,
            DisableConnectedRoomsRequest {
                payloads: vec![DisableRoomPayload {
                    id: Some(fixture.room.clone())
                }]
            }
        ),
        cell!(
            "connected_meetings.can_alter",
            "move another peer",
            without(),
            no_alter(),
            |fixture| event::MOVE_PEERS,
            to_room(fixture, fixture.target.user())
        ),
        cell!(
            "connected_meetings.can_switch",
            "move oneself",
            without_switch(),
            no_alter_or_switch(),
            |fixture| event::MOVE_PEERS,
            to_room(fixture, fixture.actor.user())
        )
        .without_visible_change(),
    ]
}
