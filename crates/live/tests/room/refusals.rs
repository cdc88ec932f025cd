//! What a refused request costs whoever sends it, and the room.

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
use crate::people::{guest, host};
use crate::world::{World, join};

fn crowd(count: u32) -> impl Iterator<Item = ParticipantId> {
    (0..count).map(|n| one_of_many(n).participant)
}

/// Asks every five seconds until it is taken; after how many milliseconds that was.
fn taken_after(
    world: &mut World,
    socket: ConnectionId,
    event: u32,
    request: &impl Message,
) -> Option<i64> {
    (0..30).map(|n| n * 5_000).find(|_| {
        let refused = world.ask(socket, event, request).refused();
        world.pass(5_000);
        !refused
    })
}

#[test]
fn whoever_retries_a_refused_move_is_heard_once_there_is_enough() {
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
        assert!(!world.ask(boss, event::MOVE_PEERS, &request).refused());
    }
    let after = taken_after(&mut world, boss, event::MOVE_PEERS, &request);
    assert!(after.is_some_and(|ms| ms <= 15_000), "{after:?}");
}

#[test]
fn whoever_retries_a_refused_change_of_permissions_is_heard_once_there_is_enough() {
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
        let asked = world.ask(boss, event::UPDATE_USER_PRESET, &request);
        assert!(!asked.refused());
    }
    let after = taken_after(&mut world, boss, event::UPDATE_USER_PRESET, &request);
    assert!(after.is_some_and(|ms| ms <= 20_000), "{after:?}");
}

#[test]
fn so_many_peoples_permissions_are_read_at_once_and_not_more() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    for n in 0..100 {
        join(&mut world, &one_of_many(n));
    }
    let mut ask = |count: u32| {
        let twice = crowd(count).chain(crowd(count));
        let request = ReadPeersPresetRequest {
            user_ids: twice.map(|id| id.to_string()).collect(),
        };
        world.ask(boss, event::GET_USER_PRESETS, &request)
    };
    assert_eq!(ask(65).code(), 413);
    let read: ReadPeersPresetResponse = ask(64).reply(event::GET_USER_PRESETS);
    assert_eq!(read.peer_presets.len(), 64);
}

/// What cannot be read, so that reading it first is seen.
fn garbage(world: &mut World, from: ConnectionId, event: u32) -> i32 {
    let envelope = Envelope {
        event,
        id: Some("id".to_owned()),
        payload: Some(vec![0x0A, 0x7F].into()),
        metadata: None,
    };
    let bytes = envelope.encode_to_vec().into();
    let done = world.take(parlor_live::Input::Frame {
        connection: from,
        bytes,
    });
    let [frame] = done.frames.as_slice() else {
        panic!("{done:?}")
    };
    assert_eq!(frame.event, event::ERROR);
    let error: parlor_protocol::signal::socket::api::ErrorMessage = frame.read();
    error.code()
}

/// What may hold much more than one thing, of those who may not.
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
fn nothing_is_read_of_those_who_may_not_ask() {
    let mut world = World::new(Limits::default());
    join(&mut world, &host(0));
    let (outside, _) = world.connect(&guest(1));
    let mut read_first = Vec::new();
    for number in LARGE {
        let code = garbage(&mut world, outside, *number);
        read_first.extend((code != 403).then_some((events::name(*number), code)));
    }
    assert!(read_first.is_empty(), "{read_first:?}");
    // Inside, and without the permission.
    world.raw(outside, event::JOIN_ROOM, None, &());
    let number = event::UPDATE_USER_PRESET;
    assert_eq!(garbage(&mut world, outside, number), 403);
}

#[test]
fn a_refused_request_spends_what_it_would_have_spent() {
    let few = Rate::per_minute(3);
    let limits = Limits {
        permission_updates: few,
        chat: few,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    join(&mut world, &host(0));
    let (outside, _) = world.connect(&guest(1));
    for number in [event::UPDATE_USER_PRESET, event::SEND_MESSAGE_TO_PEERS] {
        let codes: Vec<_> = (0..5)
            .map(|_| garbage(&mut world, outside, number))
            .collect();
        assert_eq!(codes, [403, 403, 403, 429, 429], "{number}");
    }
}
