//! Clock steps while a meeting runs, or between two runs of the server
//! (docs/adr/0014-two-times.md).

use parlor_live::{ChatMessage, ConnectionId, Limits, Rate, Record};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest;
use parlor_protocol::signal::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
use parlor_protocol::signal::socket::polls::NewPollRequest;

use crate::participants::{host, participant, peer};
use crate::world::{Effects, World, join, meeting};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The clock steps to test.
const STEPS_MS: [i64; 5] = [-120_000, HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS];

fn chat_request() -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "hello".to_owned(),
    }
}

/// The number of seconds until a participant who sends a message each second is accepted again.
fn seconds_until_accepted(world: &mut World, socket: ConnectionId, max: usize) -> usize {
    let mut seconds = 0;
    while seconds < max && send_message(world, socket).is_none() {
        world.advance(1_000);
        seconds += 1;
    }
    seconds
}

/// Sends a message and returns its record, or `None` if it is rejected.
fn send_message(world: &mut World, socket: ConnectionId) -> Option<ChatMessage> {
    let outcome = world.request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request());
    sent(&outcome.effects)
}

fn sent(effects: &Effects) -> Option<ChatMessage> {
    effects.records.iter().find_map(|record| match record {
        Record::Chat(message) => Some(message.clone()),
        _ => None,
    })
}

#[test]
fn a_clock_step_backwards_blocks_no_messages() {
    for step_ms in STEPS_MS {
        let limits = Limits {
            chat: Rate::per_second(3),
            ..Limits::default()
        };
        let mut world = World::new(limits);
        let socket = join(&mut world, &host(0));
        while send_message(&mut world, socket).is_some() {}
        world.step_clock(step_ms);
        // The step does not grant a higher rate.
        assert!(send_message(&mut world, socket).is_none(), "{step_ms}");
        assert_eq!(
            seconds_until_accepted(&mut world, socket, 300),
            1,
            "{step_ms}"
        );
    }
}

#[test]
fn a_clock_glitch_blocks_no_messages() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let socket = join(&mut world, &participant(0));
        world.step_clock(step_ms);
        assert!(send_message(&mut world, socket).is_some());
        world.step_clock(-step_ms);
        assert_eq!(
            seconds_until_accepted(&mut world, socket, 10_000),
            0,
            "{step_ms}"
        );
    }
}

#[test]
fn ids_and_times_of_messages_do_not_go_backwards() {
    for step_ms in STEPS_MS {
        let mut of_meeting = meeting();
        of_meeting.persist_chat = true;
        let mut world = World::of(of_meeting, Limits::default());
        let mut messages = Vec::new();
        let mut socket = join(&mut world, &host(0));
        for set_ms in [0, step_ms, -step_ms, step_ms] {
            world.step_clock(set_ms);
            messages
                .extend((0..5).map(|_| send_message(&mut world, socket).expect("not rejected")));
            world.advance(50);
        }
        // In another run of the server, both in the same session and in the next one.
        for (down_ms, set_ms) in [(1_000, -step_ms), (200_000, step_ms)] {
            world.crash_for(world.now_ms, down_ms, set_ms);
            world.advance(0);
            socket = join(&mut world, &host(0));
            messages
                .extend((0..5).map(|_| send_message(&mut world, socket).expect("not rejected")));
        }
        let later = |one: &ChatMessage, next: &ChatMessage| {
            one.id < next.id && one.at_ms < next.at_ms && one.session <= next.session
        };
        assert!(messages.is_sorted_by(later), "{step_ms}: {messages:?}");
        // With a clock that moves forward, the clock's times are used.
        world.step_clock(800 * DAY_MS);
        let message = send_message(&mut world, socket).expect("not rejected");
        assert_eq!(message.at_ms, world.now_ms);
    }
}

#[test]
fn ids_and_times_after_a_restart_are_later_than_those_before() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let mut socket = join(&mut world, &host(0));
        let new = NewPollRequest {
            question: "Which?".to_owned(),
            options: vec!["a".to_owned(), "b".to_owned()],
            ..NewPollRequest::default()
        };
        let set = PluginStoreInsertKeysRequest {
            plugin_id: "p".to_owned(),
            store_name: "s".to_owned(),
            insert_keys: vec![StoreKeys {
                store_key: "k".to_owned(),
                payload: None,
            }],
        };
        // Each of these may be the latest record.
        for (n, poll) in [(1, true), (2, false)] {
            world.advance(1_000);
            let before_ms = world.room_ms;
            for _ in 0..3 {
                let outcome = if poll {
                    world.request(socket, event::CREATE_POLL, &new)
                } else {
                    world.request(socket, event::STORE_INSERT_KEYS, &set)
                };
                assert!(!outcome.is_rejected());
            }
            world.crash_for(world.now_ms, 1_000, step_ms - 1_000);
            world.advance(0);
            socket = join(&mut world, &host(0));
            join(&mut world, &participant(n));
            let mut records = world.records.peers.values();
            let record = records.find(|record| record.peer == peer(n, 0));
            let record = record.expect("a record");
            assert!(record.entered_ms > before_ms, "{step_ms}: {record:?}");
            assert!(
                !world
                    .request(socket, event::CREATE_POLL, &new)
                    .is_rejected()
            );
        }
    }
}

#[test]
fn grace_keep_alive_and_durations_are_independent_of_the_clock() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let socket = join(&mut world, &participant(1));
        world.advance(10_000);
        world.step_clock(step_ms);
        world.advance(10_000);
        world.close(socket, false);
        let left_ms = world.room_ms;
        world.step_clock(-step_ms);
        // The grace period ends after 45 s, and the session has been empty for a minute since the
        // last stay.
        assert!(world.advance(44_999).records.is_empty(), "{step_ms}");
        let record = |world: &World| {
            let mut records = world.records.peers.values();
            records.find(|record| record.peer == peer(1, 0)).cloned()
        };
        world.step_clock(step_ms);
        assert!(!world.advance(1).records.is_empty(), "{step_ms}");
        let left = record(&world).expect("a record");
        assert_eq!((left.consumed_ms, left.left_ms), (20_000, Some(left_ms)));
        assert!(world.advance(14_999).records.is_empty(), "{step_ms}");
        world.advance(1);
        let session = world.records.sessions.values().next().expect("a session");
        assert_eq!(session.ended_ms, Some(left_ms + 60_000), "{step_ms}");
        assert_eq!(session.consumed_ms, 20_000);
    }
}

#[test]
fn peers_keep_their_grace_period_after_a_clock_step_during_downtime() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let (mut returns, stays) = (participant(1), participant(2));
        join(&mut world, &returns);
        join(&mut world, &stays);
        world.advance(10_000);
        send_message(&mut world, ConnectionId(1)).expect("not rejected");
        let (alive_ms, entered_ms) = (world.now_ms, world.now_ms - 10_000);
        world.crash_for(alive_ms, 5_000, step_ms);
        assert!(world.advance(44_999).records.is_empty(), "{step_ms}");
        returns.name = Some("Bob".to_owned());
        let socket = join(&mut world, &returns);
        world.advance(1);
        let records: Vec<_> = world.records.peers.values().cloned().collect();
        let left = records.iter().find(|record| record.peer == stays.peer);
        let left = left.expect("a record");
        // The peer left at the last sign of life, or at the last record if the clock is behind it.
        assert_eq!(left.left_ms, Some(alive_ms), "{step_ms}");
        assert_eq!((left.consumed_ms, left.entered_ms), (10_000, entered_ms));
        world.advance(20_000);
        world.close(socket, true);
        let mut records = world.records.peers.values();
        let back = records.find(|record| record.peer == returns.peer);
        let back = back.expect("a record").consumed_ms;
        // The recorded time, the time since the restart, and at most a minute of the time between.
        let known_ms = 10_000 + 45_000 + 20_000;
        assert!(
            (known_ms..=known_ms + 60_000).contains(&back),
            "{step_ms}: {back}"
        );
        world.advance(60_000);
        assert!(world.records.live().is_none(), "{step_ms}");
    }
}
