//! Joins, waiting room, removals, stage and permissions.

use parlor_live::PeerProfile;
use parlor_protocol::preset::{MediaPermission, ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::livestreaming::{
    DenyStageAccessRequest, GrantStageAccessRequest, LeaveStageRequest,
};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, ReadPeersPresetRequest, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, BroadcastMessage, BroadcastType, CreateConnectedRoomsRequest,
    CreateRoomRequestPayload, DenyWaitingRoomRequests, DisableConnectedRoomsRequest,
    DisableRoomPayload, GetPeerInfoRequest, JoinRoomRequest, MovePeerPayload,
    MovePeersBetweenRoomsRequest, Peer, RemoveParticipantsRequest,
};

use super::{Costs, LargeMeeting, MEETING, RUNS, ids, long};
use crate::costs::one_of_many;
use crate::participants::{all, participant_with};
use crate::slices::limits;
use crate::world::{World, join, meeting};

pub(super) fn send(costs: &mut Costs) {
    reads(costs);
    joins(costs);
    breakout(costs);
    stage(costs);
    lobby(costs);
    removals(costs);
    permissions(costs);
}

/// 40 participants with five clients each: a request for one of them reaches all its clients.
fn five_each(n: u32) -> PeerProfile {
    let mut profile = one_of_many(n);
    profile.participant = one_of_many(n % 40).participant;
    profile
}

fn reads(costs: &mut Costs) {
    let mut crowd = LargeMeeting::of(limits(), ViewType::GroupCall, long);
    let LargeMeeting {
        world,
        boss,
        others,
    } = &mut crowd;
    let one = GetPeerInfoRequest {
        peer_id: one_of_many(1).peer.to_string(),
    };
    costs.send_repeatedly("of one", world, *boss, event::GET_PEER_INFO, &one);
    costs.send_repeatedly(
        "200 long names",
        world,
        others[0],
        event::GET_ROOM_PEERS_INFO,
        &(),
    );
    costs.send_repeatedly("", world, *boss, event::GET_ROOM_INFO, &());
    costs.send_repeatedly("", world, *boss, event::AUDIO_ACTIVITY, &());
    let message = BroadcastMessage {
        r#type: "t".to_owned(),
        payload: vec![b'0'; (64 << 10) - 100].into(),
        ..BroadcastMessage::default()
    };
    costs.send_repeatedly("64 KiB", world, *boss, event::BROADCAST_MESSAGE, &message);
    let message = BroadcastMessage {
        ids: ids(|profile| profile.peer),
        payload: vec![b'0'; 56 << 10].into(),
        ..message
    };
    costs.send_repeatedly(
        "64 KiB to 199",
        world,
        *boss,
        event::BROADCAST_TO_ENTITY,
        &message,
    );
    let mut world = World::new(limits());
    let boss = join(&mut world, &participant_with(0, ViewType::GroupCall, all()));
    for n in 1..MEETING {
        join(&mut world, &five_each(n));
    }
    let user_ids = (0..40).map(|n| one_of_many(n).participant.to_string());
    let read = ReadPeersPresetRequest {
        user_ids: user_ids.collect(),
    };
    costs.send_repeatedly("of 199", &mut world, boss, event::GET_USER_PRESETS, &read);
}

fn joins(costs: &mut Costs) {
    let mut crowd = LargeMeeting::of(limits(), ViewType::Livestream, long);
    for n in 0..u32::try_from(RUNS).expect("few") {
        let mut profile = one_of_many(MEETING + n);
        long(&mut profile);
        profile.permissions.accept_waiting_requests = true;
        let (socket, _) = crowd.world.connect(&profile);
        let request = JoinRoomRequest {
            peer: Some(Peer {
                display_name: "\u{1D54F}".repeat(256),
                ..Peer::default()
            }),
            preset: Some(vec![b'0'; 14 << 10].into()),
            ..JoinRoomRequest::default()
        };
        costs.send(
            "200 receivers",
            &mut crowd.world,
            socket,
            event::JOIN_ROOM,
            &request,
        );
    }
}

fn breakout(costs: &mut Costs) {
    let mut meeting = meeting();
    meeting.has_rooms = true;
    let mut world = World::of(meeting, limits());
    let boss = join(&mut world, &participant_with(0, ViewType::GroupCall, all()));
    for n in 1..MEETING {
        join(&mut world, &one_of_many(n));
    }
    let world = &mut world;
    costs.send_repeatedly("", world, boss, event::GET_CONNECTED_ROOMS_DUMP, &());
    let title = CreateRoomRequestPayload {
        title: Some("\u{1D54F}".repeat(256)),
    };
    let make = CreateConnectedRoomsRequest {
        payloads: vec![title; 100],
    };
    costs.send_repeatedly(
        "100 rooms",
        world,
        boss,
        event::CREATE_CONNECTED_ROOMS,
        &make,
    );
    let room = |n: u32| one_of_many(n).peer.to_string();
    let remove = DisableConnectedRoomsRequest {
        payloads: (0..100)
            .map(|n| DisableRoomPayload { id: Some(room(n)) })
            .collect(),
    };
    costs.send_repeatedly(
        "100 rooms",
        world,
        boss,
        event::DELETE_CONNECTED_ROOMS,
        &remove,
    );
    let payload = |n| MovePeerPayload {
        id: Some(one_of_many(n).participant.to_string()),
        preset_id: Some(one_of_many(n).preset.to_string()),
    };
    let moves = MovePeersBetweenRoomsRequest {
        source_meeting_id: Some("a".to_owned()),
        destination_meeting_id: Some("b".to_owned()),
        participants: (0..1_000).map(payload).collect(),
    };
    costs.send_repeatedly("1,000 participants", world, boss, event::MOVE_PEERS, &moves);
    let moves = MovePeersBetweenRoomsRequest {
        participants: (0..1_480).map(|n| payload(n % 1_000)).collect(),
        ..moves
    };
    costs.send_repeatedly("some of them twice", world, boss, event::MOVE_PEERS, &moves);
    let mut message = BroadcastMessage {
        ids: (0..100).map(room).collect(),
        payload: vec![b'0'; 60 << 10].into(),
        ..BroadcastMessage::default()
    };
    message.set_broadcast_type(BroadcastType::Rooms);
    costs.send_repeatedly(
        "100 rooms",
        world,
        boss,
        event::BROADCAST_TO_ENTITY,
        &message,
    );
}

/// A webinar whose viewers may request the stage, with long names.
fn webinar(view: ViewType) -> LargeMeeting {
    LargeMeeting::of(limits(), view, |profile| {
        long(profile);
        profile.permissions.stage_access = Some(MediaPermission::CanRequest);
    })
}

fn stage(costs: &mut Costs) {
    for view in [ViewType::Webinar, ViewType::Livestream] {
        let what = if view == ViewType::Webinar {
            "webinar"
        } else {
            "livestream"
        };
        let user_ids = ids(|profile| profile.participant);
        for _ in 0..RUNS {
            let LargeMeeting {
                mut world,
                boss,
                others,
            } = webinar(view);
            let world = &mut world;
            costs.send(what, world, boss, event::REQUEST_STAGE_ACCESS, &());
            costs.send(what, world, boss, event::JOIN_STAGE, &());
            for socket in &others {
                costs.send(what, world, *socket, event::REQUEST_STAGE_ACCESS, &());
            }
            costs.send(what, world, boss, event::GET_STAGE_REQUESTS, &());
            costs.send(what, world, boss, event::GET_ROOM_STAGE_STATE, &());
            costs.send(what, world, others[0], event::CANCEL_STAGE_REQUEST, &());
            let deny = DenyStageAccessRequest {
                user_ids: user_ids.clone(),
            };
            costs.send(what, world, boss, event::DENY_STAGE_ACCESS, &deny);
            let grant = GrantStageAccessRequest {
                user_ids: user_ids.clone(),
            };
            costs.send(what, world, boss, event::GRANT_STAGE_ACCESS, &grant);
            for socket in &others {
                costs.send(what, world, *socket, event::JOIN_STAGE, &());
            }
            let leave = LeaveStageRequest {
                user_ids: user_ids.clone(),
            };
            costs.send(what, world, boss, event::LEAVE_STAGE, &leave);
        }
    }
}

fn lobby(costs: &mut Costs) {
    let user_ids = ids(|profile| profile.participant);
    for accepts in [true, false] {
        for _ in 0..RUNS {
            let mut world = World::new(limits());
            let boss = join(&mut world, &participant_with(0, ViewType::GroupCall, all()));
            for n in 1..MEETING {
                let mut profile = one_of_many(n);
                long(&mut profile);
                profile.permissions.waiting_room_type = WaitingRoomType::SkipOnAccept;
                let (socket, _) = world.connect(&profile);
                world.send_raw(socket, event::JOIN_ROOM, None, &());
            }
            world.advance(5_000);
            let world = &mut world;
            costs.send(
                "199 wait",
                world,
                boss,
                event::GET_WAITING_ROOM_REQUESTS,
                &(),
            );
            let user_ids = user_ids.clone();
            if accepts {
                let accept = AcceptWaitingRoomRequests { user_ids };
                costs.send(
                    "199 participants",
                    world,
                    boss,
                    event::ACCEPT_WAITING_ROOM_REQUESTS,
                    &accept,
                );
            } else {
                let deny = DenyWaitingRoomRequests { user_ids };
                costs.send(
                    "199 participants",
                    world,
                    boss,
                    event::DENY_WAITING_ROOM_REQUESTS,
                    &deny,
                );
            }
        }
    }
}

fn removals(costs: &mut Costs) {
    for _ in 0..RUNS {
        let mut crowd = webinar(ViewType::Webinar);
        let kick = RemoveParticipantsRequest {
            peer_ids: ids(|profile| profile.peer),
        };
        costs.send(
            "199 participants",
            &mut crowd.world,
            crowd.boss,
            event::KICK,
            &kick,
        );
        let mut crowd = webinar(ViewType::Webinar);
        let all = KickAllPeersRequest {
            propagate_kick_across_rooms: true,
        };
        costs.send(
            "200 participants",
            &mut crowd.world,
            crowd.boss,
            event::KICK_ALL,
            &all,
        );
    }
}

fn permissions(costs: &mut Costs) {
    let event = event::UPDATE_USER_PRESET;
    let update = |n: u32, patch| UpdatePeerPreset {
        user_ids: one_of_many(1 + n % (MEETING - 1)).participant.to_string(),
        patch: Some(patch),
    };
    let hide = |on| PresetUpdates {
        hidden_participant: Some(on),
        can_accept_production_requests: Some(on),
        can_record: Some(on),
        ..PresetUpdates::default()
    };
    let decide = PresetUpdates {
        can_accept_production_requests: Some(true),
        ..PresetUpdates::default()
    };
    for _ in 0..RUNS {
        let mut crowd = webinar(ViewType::Livestream);
        let everybody = UpdatePeersPresetRequest {
            update_peers_presets: (0..MEETING - 1).map(|n| update(n, decide)).collect(),
        };
        let world = &mut crowd.world;
        costs.send(
            "an audience that sees all",
            world,
            crowd.boss,
            event,
            &everybody,
        );
        let flips = (0..995).map(|n| update(n, hide(n / 199 % 2 == 0)));
        let flips = UpdatePeersPresetRequest {
            update_peers_presets: flips.collect(),
        };
        costs.send(
            "995 changes of visibility",
            &mut crowd.world,
            crowd.boss,
            event,
            &flips,
        );
        let whole = |n| PresetUpdates {
            can_edit_display_name: Some(true),
            can_record: Some(true),
            can_livestream: Some(true),
            can_spotlight: Some(true),
            kick_participant: Some(true),
            pin_participant: Some(true),
            transcription_enabled: Some(true),
            disable_participant_audio: Some(true),
            disable_participant_video: Some(n % 2 == 0),
            ..PresetUpdates::default()
        };
        let whole = (0..995).map(|n| update(n, whole(n / 199)));
        let whole = UpdatePeersPresetRequest {
            update_peers_presets: whole.collect(),
        };
        costs.send(
            "995 changes of 9 permissions",
            &mut crowd.world,
            crowd.boss,
            event,
            &whole,
        );
    }
}
