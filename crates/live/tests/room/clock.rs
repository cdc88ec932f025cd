//! Clocks that are set while a meeting runs, or between two runs of the server
//! (docs/adr/0014-two-times.md).

use parlor_live::{ChatMessage, ConnectionId, Limits, Rate, Record};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest;
use parlor_protocol::signal::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
use parlor_protocol::signal::socket::polls::NewPollRequest;

use crate::people::{guest, host, peer};
use crate::world::{Done, World, join, meeting};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// By how much clocks are set here.
const STEPS_MS: [i64; 5] = [-120_000, HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS];

fn say() -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "hello".to_owned(),
    }
}

/// How many seconds pass before somebody is heard again who speaks once a second.
fn silence(world: &mut World, socket: ConnectionId, most: usize) -> usize {
    let mut seconds = 0;
    while seconds < most && spoken(world, socket).is_none() {
        world.pass(1_000);
        seconds += 1;
    }
    seconds
}

/// The record of what somebody says; nothing when it is refused.
fn spoken(world: &mut World, socket: ConnectionId) -> Option<ChatMessage> {
    let asked = world.ask(socket, event::SEND_MESSAGE_TO_ROOM, &say());
    said(&asked.done)
}

fn said(done: &Done) -> Option<ChatMessage> {
    done.kept.iter().find_map(|record| match record {
        Record::Chat(message) => Some(message.clone()),
        _ => None,
    })
}

#[test]
fn setting_the_clock_back_silences_nobody() {
    for step_ms in STEPS_MS {
        let limits = Limits {
            chat: Rate::per_second(3),
            ..Limits::default()
        };
        let mut world = World::new(limits);
        let socket = join(&mut world, &host(0));
        while spoken(&mut world, socket).is_some() {}
        world.step(step_ms);
        // Nor does it give anybody more.
        assert!(spoken(&mut world, socket).is_none(), "{step_ms}");
        assert_eq!(silence(&mut world, socket, 300), 1, "{step_ms}");
    }
}

#[test]
fn a_glitch_of_the_clock_silences_nobody() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let socket = join(&mut world, &guest(0));
        world.step(step_ms);
        assert!(spoken(&mut world, socket).is_some());
        world.step(-step_ms);
        assert_eq!(silence(&mut world, socket, 10_000), 0, "{step_ms}");
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
            world.step(set_ms);
            messages.extend((0..5).map(|_| spoken(&mut world, socket).expect("not refused")));
            world.pass(50);
        }
        // In another run of the server, with the session going on and in the next session.
        for (down_ms, set_ms) in [(1_000, -step_ms), (200_000, step_ms)] {
            world.crash_for(world.now_ms, down_ms, set_ms);
            world.pass(0);
            socket = join(&mut world, &host(0));
            messages.extend((0..5).map(|_| spoken(&mut world, socket).expect("not refused")));
        }
        let later = |one: &ChatMessage, next: &ChatMessage| {
            one.id < next.id && one.at_ms < next.at_ms && one.session <= next.session
        };
        assert!(messages.is_sorted_by(later), "{step_ms}: {messages:?}");
        // With a clock that goes forward, the times are its.
        world.step(800 * DAY_MS);
        let message = spoken(&mut world, socket).expect("not refused");
        assert_eq!(message.at_ms, world.now_ms);
    }
}

#[test]
fn what_is_made_after_a_restart_is_later_than_what_was_made_before() {
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
        // Each alone may be the latest of the records.
        for (n, poll) in [(1, true), (2, false)] {
            world.pass(1_000);
            let before_ms = world.room_ms;
            for _ in 0..3 {
                let asked = if poll {
                    world.ask(socket, event::CREATE_POLL, &new)
                } else {
                    world.ask(socket, event::STORE_INSERT_KEYS, &set)
                };
                assert!(!asked.refused());
            }
            world.crash_for(world.now_ms, 1_000, step_ms - 1_000);
            world.pass(0);
            socket = join(&mut world, &host(0));
            join(&mut world, &guest(n));
            let mut records = world.kept.peers.values();
            let record = records.find(|record| record.peer == peer(n, 0));
            let record = record.expect("a record");
            assert!(record.entered_ms > before_ms, "{step_ms}: {record:?}");
            assert!(!world.ask(socket, event::CREATE_POLL, &new).refused());
        }
    }
}

#[test]
fn grace_keep_alive_and_durations_are_what_passes_whatever_the_clock_shows() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let socket = join(&mut world, &guest(1));
        world.pass(10_000);
        world.step(step_ms);
        world.pass(10_000);
        world.close(socket, false);
        let left_ms = world.room_ms;
        world.step(-step_ms);
        // The grace is over after 45 s, and the session is empty for a minute since its last stay.
        assert!(world.pass(44_999).kept.is_empty(), "{step_ms}");
        let record = |world: &World| {
            let mut records = world.kept.peers.values();
            records.find(|record| record.peer == peer(1, 0)).cloned()
        };
        world.step(step_ms);
        assert!(!world.pass(1).kept.is_empty(), "{step_ms}");
        let left = record(&world).expect("a record");
        assert_eq!((left.consumed_ms, left.left_ms), (20_000, Some(left_ms)));
        assert!(world.pass(14_999).kept.is_empty(), "{step_ms}");
        world.pass(1);
        let session = world.kept.sessions.values().next().expect("a session");
        assert_eq!(session.ended_ms, Some(left_ms + 60_000), "{step_ms}");
        assert_eq!(session.consumed_ms, 20_000);
    }
}

#[test]
fn whoever_was_inside_has_their_grace_though_the_clock_was_set_while_the_server_was_down() {
    for step_ms in STEPS_MS {
        let mut world = World::new(Limits::default());
        let (mut returns, stays) = (guest(1), guest(2));
        join(&mut world, &returns);
        join(&mut world, &stays);
        world.pass(10_000);
        spoken(&mut world, ConnectionId(1)).expect("not refused");
        let (alive_ms, entered_ms) = (world.now_ms, world.now_ms - 10_000);
        world.crash_for(alive_ms, 5_000, step_ms);
        assert!(world.pass(44_999).kept.is_empty(), "{step_ms}");
        returns.name = Some("Bob".to_owned());
        let socket = join(&mut world, &returns);
        world.pass(1);
        let records: Vec<_> = world.kept.peers.values().cloned().collect();
        let gone = records.iter().find(|record| record.peer == stays.peer);
        let gone = gone.expect("a record");
        // The last sign of life was then, or the last record, if the clock is behind it.
        assert_eq!(gone.left_ms, Some(alive_ms), "{step_ms}");
        assert_eq!((gone.consumed_ms, gone.entered_ms), (10_000, entered_ms));
        world.pass(20_000);
        world.close(socket, true);
        let mut records = world.kept.peers.values();
        let back = records.find(|record| record.peer == returns.peer);
        let back = back.expect("a record").consumed_ms;
        // What the records say, what has passed since, and of the time between no more than a minute.
        let known_ms = 10_000 + 45_000 + 20_000;
        assert!(
            (known_ms..=known_ms + 60_000).contains(&back),
            "{step_ms}: {back}"
        );
        world.pass(60_000);
        assert!(world.kept.live().is_none(), "{step_ms}");
    }
}
