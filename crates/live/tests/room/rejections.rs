//! What rejected requests cost their sender and the room.

use parlor_live::{ConnectionId, Limits, Rate};
use parlor_protocol::ids::ParticipantId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, ReadPeersPresetRequest, ReadPeersPresetResponse, UpdatePeerPreset,
    UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{MovePeerPayload, MovePeersBetweenRoomsRequest};
use parlor_protocol::signal::{Envelope, event as events};
use prost::Message;

use crate::costs::one_of_many;
use crate::participants::{host, participant};
use crate::world::{World, join};

fn crowd(count: u32) -> impl Iterator<Item = ParticipantId> {
    (0..count).map(|n| one_of_many(n).participant)
}

/// Repeats a request every five seconds until it is accepted. Returns the milliseconds that took.
fn accepted_after(
    world: &mut World,
    socket: ConnectionId,
    event: u32,
    request: &impl Message,
) -> Option<i64> {
    (0..30).map(|n| n * 5_000).find(|_| {
        let rejected = world.request(socket, event, request).is_rejected();
        world.advance(5_000);
        !rejected
    })
}

#[test]
fn a_rejected_move_succeeds_once_the_bucket_has_refilled() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let participants = crowd(1_000).map(|id| MovePeerPayload {
        id: Some(id.to_string()),
        preset_id: None,
    });
    let request = MovePeersBetweenRoomsRequest {
        source_meeting_id: Some("a".to_owned()),
        destination_meeting_id: Some("b".to_owned()),
        participants: participants.collect(),
    };
    for _ in 0..5 {
        assert!(
            !world
                .request(boss, event::MOVE_PEERS, &request)
                .is_rejected()
        );
    }
    let after = accepted_after(&mut world, boss, event::MOVE_PEERS, &request);
    assert!(after.is_some_and(|ms| ms <= 15_000), "{after:?}");
}

#[test]
fn a_rejected_permission_update_succeeds_once_the_bucket_has_refilled() {
    let limits = Limits {
        permission_updates: Rate {
            count: 100,
            per_ms: 30_000,
        },
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let boss = join(&mut world, &host(0));
    for n in 0..50 {
        join(&mut world, &one_of_many(n));
    }
    let update = |id: ParticipantId| UpdatePeerPreset {
        user_ids: id.to_string(),
        patch: Some(PresetUpdates {
            can_record: Some(true),
            ..PresetUpdates::default()
        }),
    };
    let request = UpdatePeersPresetRequest {
        update_peers_presets: crowd(50).map(update).collect(),
    };
    for _ in 0..2 {
        let outcome = world.request(boss, event::UPDATE_USER_PRESET, &request);
        assert!(!outcome.is_rejected());
    }
    let after = accepted_after(&mut world, boss, event::UPDATE_USER_PRESET, &request);
    assert!(after.is_some_and(|ms| ms <= 20_000), "{after:?}");
}

#[test]
fn reads_of_permissions_are_limited_in_participants() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    for n in 0..100 {
        join(&mut world, &one_of_many(n));
    }
    let mut send = |count: u32| {
        let twice = crowd(count).chain(crowd(count));
        let request = ReadPeersPresetRequest {
            user_ids: twice.map(|id| id.to_string()).collect(),
        };
        world.request(boss, event::GET_USER_PRESETS, &request)
    };
    assert_eq!(send(65).code(), 413);
    let read: ReadPeersPresetResponse = send(64).reply(event::GET_USER_PRESETS);
    assert_eq!(read.peer_presets.len(), 64);
}

/// Sends an undecodable payload, which shows whether it is decoded before the permission check.
fn send_undecodable(world: &mut World, from: ConnectionId, event: u32) -> i32 {
    let envelope = Envelope {
        event,
        id: Some("id".to_owned()),
        payload: Some(vec![0x0A, 0x7F].into()),
        metadata: None,
    };
    let bytes = envelope.encode_to_vec().into();
    let effects = world.handle(parlor_live::Input::Frame {
        connection: from,
        bytes,
    });
    let [frame] = effects.frames.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(frame.event, event::ERROR);
    let error: parlor_protocol::signal::socket::api::ErrorMessage = frame.decode();
    error.code()
}

/// Events with payloads of many entries, which senders without the permission must not make the
/// room decode.
const LARGE: &[u32] = &[
    events::GRANT_STAGE_ACCESS,
    events::DENY_STAGE_ACCESS,
    events::LEAVE_STAGE,
    events::CREATE_CONNECTED_ROOMS,
    events::DELETE_CONNECTED_ROOMS,
    events::MOVE_PEERS,
    events::BROADCAST_MESSAGE,
    events::BROADCAST_TO_ENTITY,
    events::KICK,
    events::ACCEPT_WAITING_ROOM_REQUESTS,
    events::DENY_WAITING_ROOM_REQUESTS,
    events::SEND_MESSAGE_TO_ROOM,
    events::SEND_MESSAGE_TO_PEERS,
    events::EDIT_MESSAGE,
    events::STORE_INSERT_KEYS,
    events::STORE_DELETE_KEYS,
    events::CREATE_POLL,
    events::VOTE_POLL,
    events::GET_USER_PRESETS,
    events::UPDATE_USER_PRESET,
];

#[test]
fn payloads_of_unauthorized_senders_are_not_decoded() {
    let mut world = World::new(Limits::default());
    join(&mut world, &host(0));
    let (outside, _) = world.connect(&participant(1));
    let mut decoded_first = Vec::new();
    for number in LARGE {
        let code = send_undecodable(&mut world, outside, *number);
        decoded_first.extend((code != 403).then_some((events::name(*number), code)));
    }
    assert!(decoded_first.is_empty(), "{decoded_first:?}");
    // Inside, but without the permission.
    world.send_raw(outside, event::JOIN_ROOM, None, &());
    let number = event::UPDATE_USER_PRESET;
    assert_eq!(send_undecodable(&mut world, outside, number), 403);
}

#[test]
fn a_rejected_request_spends_as_much_as_an_accepted_one() {
    let few = Rate::per_minute(3);
    let limits = Limits {
        permission_updates: few,
        chat: few,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    join(&mut world, &host(0));
    let (outside, _) = world.connect(&participant(1));
    for number in [event::UPDATE_USER_PRESET, event::SEND_MESSAGE_TO_PEERS] {
        let codes: Vec<_> = (0..5)
            .map(|_| send_undecodable(&mut world, outside, number))
            .collect();
        assert_eq!(codes, [403, 403, 403, 429, 429], "{number}");
    }
}
