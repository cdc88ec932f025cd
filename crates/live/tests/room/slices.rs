//! What is too much for one input: it goes on in slices, and others are served between them.

use std::time::Instant;

use bytes::Bytes;
use parlor_live::{Answer, Command, ConnectionId, Input, Limits, Rate};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::media::edge::{ConsumePeerRequest, ConsumePeersRequest};
use parlor_protocol::signal::socket::chat::{
    GetChatMessagesResponse, GetPaginatedChatMessageRoomRequest, SearchChatMessagesRequest,
    SendChatMessageToPeersRequest, SendChatMessageToRoomRequest,
};
use parlor_protocol::signal::socket::livestreaming::GrantStageAccessRequest;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreGetKeysRequest, PluginStoreInsertKeysRequest, StoreKeys,
};
use parlor_protocol::signal::socket::polls::{NewPollRequest, UpdatePollResponse, VotePollRequest};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, BroadcastMessage, RemoveParticipantsRequest,
};
use parlor_protocol::signal::{Envelope, event};
use prost::Message;

use crate::costs::one_of_many;
use crate::people::{guest, host, viewer};
use crate::world::{Done, World, join};

const MEETING: u32 = 200;

/// Without the rates that have tests of their own.
fn limits() -> Limits {
    let none = Rate {
        count: 0,
        per_ms: 1,
    };
    Limits {
        frames: none,
        changes: none,
        reads: none,
        chat: none,
        chat_reads: none,
        polls: 500,
        poll_rate: none,
        stores: none,
        store_reads: none,
        permission_updates: none,
        kicks: none,
        ..Limits::default()
    }
}

/// A chat with as much text as a room holds, each letter of which changes when its case does.
fn fill_chat(world: &mut World, from: ConnectionId) {
    let say = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "İ".repeat(2_000),
    };
    for _ in 0..2_000 {
        let said = world.raw(from, event::SEND_MESSAGE_TO_ROOM, None, &say);
        assert!(!said.frames[0].is_error());
    }
}

fn search() -> SearchChatMessagesRequest {
    SearchChatMessagesRequest {
        // Found nowhere, and at each place only after a while.
        search_term: "i\u{307}".repeat(200) + "x",
        time_stamp: u64::MAX >> 1,
        size: 500,
        reversed: true,
        ..SearchChatMessagesRequest::default()
    }
}

#[test]
fn a_search_of_everything_is_done_in_slices_and_others_are_served_between() {
    let limits = Limits {
        chat_held_bytes: 4 << 20,
        ..limits()
    };
    let mut world = World::new(limits.clone());
    let one = join(&mut world, &host(0));
    let two = join(&mut world, &host(1));
    fill_chat(&mut world, two);
    let number = event::SEARCH_CHANNEL_MESSAGES;
    let mut asked = world.ask(one, number, &search());
    assert!(asked.replies.is_empty() && world.ask(one, number, &search()).code() == 429);
    let mut slices = 1;
    while asked.done.of(one, number).is_empty() {
        // Bytes of a slice, in 64s, and what finding each message costs.
        assert!(
            world.room.cost() < limits.search_bytes / 64 + 1_000,
            "{}",
            world.room.cost()
        );
        let other = world.ask(two, event::GET_ROOM_INFO, &());
        assert_eq!(other.replies.len(), 1);
        asked.done = world.pass(1);
        slices += 1;
        assert!(slices < 100, "it never ends");
    }
    assert!(slices > 8, "{slices} slices of four megabytes");
    let found: GetChatMessagesResponse = asked.done.one(one, number);
    assert_eq!(found.messages.len(), 0);
    assert!(!world.ask(one, number, &search()).refused());
}

#[test]
fn what_is_found_in_slices_is_what_is_there() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        ..limits()
    });
    let socket = join(&mut world, &host(0));
    for text in ["one İ", "two", "three i\u{307}", "four"] {
        let say = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: text.to_owned(),
        };
        world.raw(socket, event::SEND_MESSAGE_TO_ROOM, None, &say);
        world.pass(5);
    }
    let number = event::SEARCH_CHANNEL_MESSAGES;
    for (reversed, wanted) in [
        (true, ["three i\u{307}", "one İ"]),
        (false, ["one İ", "three i\u{307}"]),
    ] {
        let ask = SearchChatMessagesRequest {
            search_term: "İ".to_owned(),
            time_stamp: if reversed { u64::MAX >> 1 } else { 0 },
            reversed,
            ..SearchChatMessagesRequest::default()
        };
        let mut done = world.ask(socket, number, &ask).done;
        while done.of(socket, number).is_empty() {
            assert!(world.room.wake_at().is_some());
            done = world.pass(1);
        }
        let found: GetChatMessagesResponse = done.one(socket, number);
        let texts: Vec<_> = found
            .messages
            .iter()
            .map(|it| it.payload.as_str())
            .collect();
        assert_eq!(texts, wanted);
    }
}

/// Permissions of everybody, by which each of an audience comes to see all others.
fn everybody_decides() -> UpdatePeersPresetRequest {
    let patch = PresetUpdates {
        can_accept_production_requests: Some(true),
        ..PresetUpdates::default()
    };
    let update = |n| UpdatePeerPreset {
        user_ids: one_of_many(n).participant.to_string(),
        patch: Some(patch),
    };
    UpdatePeersPresetRequest {
        update_peers_presets: (1..MEETING).map(update).collect(),
    }
}

fn audience(world: &mut World) -> Vec<ConnectionId> {
    let who = (1..MEETING).map(|n| {
        let mut who = viewer(0, ViewType::Livestream);
        let one = one_of_many(n);
        (who.peer, who.participant) = (one.peer, one.participant);
        who
    });
    who.map(|who| join(world, &who)).collect()
}

#[test]
fn a_change_of_everybody_is_done_in_slices_and_then_answered() {
    let mut world = World::new(limits());
    let boss = join(&mut world, &host(0));
    let sockets = audience(&mut world);
    let number = event::UPDATE_USER_PRESET;
    let mut done = world.ask(boss, number, &everybody_decides()).done;
    let (mut told, mut slices) = (0, 0);
    loop {
        assert!(world.room.cost() <= world.room.most_cost());
        told += sockets
            .iter()
            .filter(|it| !done.of(**it, number).is_empty())
            .count();
        slices += 1;
        if !done.of(boss, number).is_empty() {
            break;
        }
        assert!(slices < 1_000, "it never ends");
        done = world.pass(1);
    }
    assert_eq!(told, sockets.len());
    assert!(slices > 1);
}

/// What one input may cost in these tests: a slice, and the thing with which it ends.
fn slice(limits: &Limits, peers: u32) -> usize {
    3 * limits.slice_steps + 40 * usize::try_from(peers).expect("few")
}

/// A host, and a crowd that is all inside.
fn crowd(limits: &Limits) -> (World, ConnectionId, Vec<ConnectionId>) {
    let mut world = World::new(limits.clone());
    let boss = join(&mut world, &host(0));
    let all = (1..MEETING).map(|n| join(&mut world, &one_of_many(n)));
    let all = all.collect();
    // What everybody was told of those who came is told.
    world.pass(5_000);
    (world, boss, all)
}

fn small_slices() -> Limits {
    Limits {
        slice_steps: 1_000,
        ..limits()
    }
}

/// Goes on until nothing is left to do at once; in how many slices, and all that came of it.
fn work_off(world: &mut World, mut done: Done, most: usize) -> (usize, Vec<Done>) {
    let mut all = Vec::new();
    loop {
        let cost = world.room.cost();
        assert!(cost <= most, "{cost} steps in slice {}", all.len());
        all.push(done);
        assert!(all.len() < 2_000, "it never ends");
        if world.wakes_in().is_none_or(|ms| ms > 1) {
            return (all.len(), all);
        }
        done = world.pass(1);
    }
}

fn count(all: &[Done], to: ConnectionId, event: u32) -> usize {
    all.iter().map(|done| done.of(to, event).len()).sum()
}

#[test]
fn many_are_removed_in_slices_and_told_at_once() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    let peer_ids = (1..MEETING).map(|n| one_of_many(n).peer.to_string());
    let kick = RemoveParticipantsRequest {
        peer_ids: peer_ids.collect(),
    };
    let done = world.raw(boss, event::KICK, None, &kick);
    for socket in &all {
        assert_eq!(done.of(*socket, event::KICK).len(), 1);
    }
    // Whoever was removed hears of nothing more and can do nothing more, though not all is done.
    let say = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "no".to_owned(),
    };
    let last = *all.last().expect("a crowd");
    assert!(
        world
            .raw(last, event::SEND_MESSAGE_TO_ROOM, None, &say)
            .frames
            .is_empty()
    );
    let (slices, done) = work_off(&mut world, done, slice(&limits, MEETING));
    assert!(slices > 3, "{slices}");
    assert_eq!(count(&done, boss, event::LEAVE_ROOM), all.len());
    let (Answer::Who(_, present), _) = world.command(Command::Who) else {
        panic!("a session")
    };
    assert_eq!(present.len(), 1);
}

#[test]
fn whoever_was_removed_and_comes_back_before_all_is_done_is_somebody_new() {
    let limits = small_slices();
    let (mut world, boss, _) = crowd(&limits);
    let peer_ids = (1..MEETING).map(|n| one_of_many(n).peer.to_string());
    let kick = RemoveParticipantsRequest {
        peer_ids: peer_ids.collect(),
    };
    world.raw(boss, event::KICK, None, &kick);
    let back = join(&mut world, &one_of_many(MEETING - 1));
    let done = world.pass(1);
    let (_, done) = work_off(&mut world, done, slice(&limits, MEETING));
    assert_eq!(count(&done, back, event::KICK), 0);
    let (Answer::Who(_, present), _) = world.command(Command::Who) else {
        panic!("a session")
    };
    assert_eq!(present.len(), 2);
}

#[test]
fn everybody_is_removed_in_slices_and_then_the_session_ends() {
    let limits = small_slices();
    let (mut world, boss, mut all) = crowd(&limits);
    all.push(boss);
    // They look on from the lobby, and are told of nobody who leaves.
    let (lobby, _) = world.connect(&guest(5));
    let session = world.kept.live().expect("a session").id;
    let done = world.raw(boss, event::KICK_ALL, None, &());
    for socket in &all {
        assert_eq!(done.of(*socket, event::KICK_ALL).len(), 1);
    }
    // Whoever joins while it is under way is removed as well.
    let late = world.connect(&guest(6)).0;
    world.raw(late, event::JOIN_ROOM, None, &());
    let (_, done) = work_off(&mut world, done, slice(&limits, MEETING));
    assert_eq!(count(&done, lobby, event::KICK_ALL), 0);
    assert!(world.kept.sessions[&session].ended_ms.is_some());
    assert!(world.kept.live().is_none());
    let left = world
        .kept
        .peers
        .values()
        .filter(|peer| peer.left_ms.is_none());
    assert_eq!(left.count(), 0);
}

#[test]
fn many_whose_lines_broke_at_once_are_given_up_in_slices() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    for socket in &all {
        world.close(*socket, false);
    }
    let done = world.pass(45_000);
    let (slices, done) = work_off(&mut world, done, slice(&limits, MEETING));
    assert!(slices > 1, "{slices}");
    assert_eq!(count(&done, boss, event::LEAVE_ROOM), all.len());
}

#[test]
fn everybody_is_muted_in_slices() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    let (answer, done) = world.command(Command::MuteAll {
        allow_unmute: false,
    });
    assert_eq!(answer, Answer::Count(all.len() + 1));
    let (slices, done) = work_off(&mut world, done, slice(&limits, MEETING));
    assert!(slices > 5, "{slices}");
    for socket in all.iter().chain([&boss]) {
        assert_eq!(count(&done, *socket, event::UPDATE_USER_PRESET), 1);
    }
}

#[test]
fn those_who_wait_for_somebody_who_decides_are_let_in_once_however_many_come_to_decide() {
    let limits = small_slices();
    let mut world = World::new(limits.clone());
    let boss = {
        let mut boss = host(0);
        boss.permissions.accept_waiting_requests = false;
        boss.permissions.waiting_room_type = WaitingRoomType::Skip;
        join(&mut world, &boss)
    };
    for n in 1..50 {
        join(&mut world, &one_of_many(n));
    }
    let waits = (50..MEETING).map(|n| {
        let mut who = one_of_many(n);
        who.permissions.waiting_room_type = WaitingRoomType::OnPrivilegedUserEntry;
        let (socket, _) = world.connect(&who);
        world.raw(socket, event::JOIN_ROOM, None, &());
        socket
    });
    let waits: Vec<_> = waits.collect();
    let patch = PresetUpdates {
        accept_waiting_requests: Some(true),
        ..PresetUpdates::default()
    };
    let update = |n| UpdatePeerPreset {
        user_ids: one_of_many(n).participant.to_string(),
        patch: Some(patch),
    };
    let all = UpdatePeersPresetRequest {
        update_peers_presets: (1..50).map(update).collect(),
    };
    let done = world.ask(boss, event::UPDATE_USER_PRESET, &all).done;
    let (_, done) = work_off(&mut world, done, slice(&limits, MEETING));
    for socket in &waits {
        let told = count(&done, *socket, event::WAITING_ROOM_REQUEST_ACCEPTED);
        assert_eq!(told, 1);
    }
}

#[test]
fn what_one_person_asks_for_does_not_keep_others_waiting() {
    let limits = small_slices();
    let mut world = World::new(limits.clone());
    let boss = join(&mut world, &host(0));
    let other = join(&mut world, &host(1));
    let sockets = audience(&mut world);
    world.ask(boss, event::UPDATE_USER_PRESET, &everybody_decides());
    let one = UpdatePeersPresetRequest {
        update_peers_presets: vec![UpdatePeerPreset {
            user_ids: one_of_many(MEETING - 1).participant.to_string(),
            patch: Some(PresetUpdates {
                can_record: Some(true),
                ..PresetUpdates::default()
            }),
        }],
    };
    let mut done = world.ask(other, event::UPDATE_USER_PRESET, &one).done;
    let mut slices = 0;
    while done.of(other, event::UPDATE_USER_PRESET).is_empty() {
        slices += 1;
        assert!(slices < 10, "others wait until all is done");
        done = world.pass(1);
    }
    drop(sockets);
}

/// A frame, and how long the room takes for it and for the longest slice of what is left of it.
fn time(world: &mut World, from: ConnectionId, event: u32, request: &impl Message) -> (f64, usize) {
    let envelope = Envelope {
        event,
        id: Some("id".to_owned()),
        payload: Some(request.encode_to_vec().into()),
        metadata: None,
    };
    let bytes: Bytes = envelope.encode_to_vec().into();
    let (mut longest, mut cost) = (0.0_f64, 0);
    let mut input = Input::Frame {
        connection: from,
        bytes,
    };
    loop {
        let begun = Instant::now();
        let outputs = world.handle_untaken(input);
        longest = longest.max(begun.elapsed().as_secs_f64() * 1000.0);
        cost = cost.max(world.room.cost());
        world.see_all(outputs);
        (world.now_ms, world.monotonic_ms) = (world.now_ms + 1, world.monotonic_ms + 1);
        match world.room.wake_at() {
            Some(wake) if wake <= world.monotonic() => input = Input::Tick,
            _ => return (longest, cost),
        }
    }
}

/// By hand: `cargo test --release -p parlor-live --test room worst -- --ignored --nocapture`
#[test]
#[ignore = "it measures time"]
#[expect(clippy::too_many_lines, reason = "one list of frames")]
fn the_worst_frames_in_milliseconds() {
    let report =
        |name: &str, (ms, cost): (f64, usize)| println!("{ms:8.3} ms {cost:8} steps  {name}");
    let ids: Vec<String> = (0..1_390)
        .map(|n| one_of_many(n).participant.to_string())
        .collect();
    let fresh = || {
        let mut world = World::new(limits());
        let boss = join(&mut world, &host(0));
        let all: Vec<_> = (1..MEETING)
            .map(|n| join(&mut world, &one_of_many(n)))
            .collect();
        (world, boss, all)
    };
    let (mut world, boss, all) = fresh();
    for (number, name) in event::ALL {
        let payload = [0x0A, 0x00].repeat((1 << 19) - 100);
        let envelope = Envelope {
            event: *number,
            id: Some("id".to_owned()),
            payload: Some(payload.into()),
            metadata: None,
        };
        let bytes: Bytes = envelope.encode_to_vec().into();
        let begun = Instant::now();
        let outputs = world.handle_untaken(Input::Frame {
            connection: boss,
            bytes,
        });
        let ms = begun.elapsed().as_secs_f64() * 1000.0;
        let cost = world.room.cost();
        world.see_all(outputs);
        if ms > 0.1 {
            report(&format!("{name}, half a million empty fields"), (ms, cost));
        }
    }
    fill_chat(&mut world, boss);
    report(
        "a search",
        time(
            &mut world,
            all[0],
            event::SEARCH_CHANNEL_MESSAGES,
            &search(),
        ),
    );
    report(
        "the history",
        time(&mut world, all[0], event::GET_MESSAGES, &()),
    );
    let page = GetPaginatedChatMessageRoomRequest {
        time_stamp: u64::MAX >> 1,
        reversed: true,
        ..GetPaginatedChatMessageRoomRequest::default()
    };
    report(
        "a page",
        time(&mut world, all[0], event::GET_PAGINATED_MESSAGES, &page),
    );
    let peers: Vec<_> = (1..MEETING)
        .map(|n| one_of_many(n).peer.to_string())
        .collect();
    let private = SendChatMessageToPeersRequest {
        peer_ids: peers.clone(),
        payload_type: 3,
        payload: format!("{{\"a\":[{}0]}}", "0,".repeat(32_000)),
    };
    report(
        "a message to all",
        time(&mut world, boss, event::SEND_MESSAGE_TO_PEERS, &private),
    );
    let set = |n: usize, size: usize| PluginStoreInsertKeysRequest {
        plugin_id: "p".to_owned(),
        store_name: "s".to_owned(),
        insert_keys: (0..1_000)
            .map(|key| StoreKeys {
                store_key: format!("{n}-{key}"),
                payload: Some(vec![b'0'; size].into()),
            })
            .collect(),
    };
    for n in 0..3 {
        report(
            "a thousand keys",
            time(&mut world, boss, event::STORE_INSERT_KEYS, &set(n, 900)),
        );
    }
    for n in 3..9 {
        report(
            "a thousand keys",
            time(&mut world, boss, event::STORE_INSERT_KEYS, &set(n, 1)),
        );
    }
    let get = PluginStoreGetKeysRequest {
        plugin_id: "p".to_owned(),
        store_name: "s".to_owned(),
        get_keys: Vec::new(),
    };
    report(
        "a store",
        time(&mut world, boss, event::STORE_GET_KEYS, &get),
    );
    let mut polls = Vec::new();
    for n in 0..100 {
        let new = NewPollRequest {
            question: "?".repeat(500),
            options: (0..50).map(|_| "x".repeat(40)).collect(),
            anonymous: n % 2 == 0,
            hide_votes: n % 4 == 1,
            ..NewPollRequest::default()
        };
        let made = world.ask(boss, event::CREATE_POLL, &new);
        let made: UpdatePollResponse = made.reply(event::CREATE_POLL);
        polls.push(made.poll.expect("a poll").poll_id);
    }
    let mut worst = (0.0_f64, 0);
    for poll in &polls {
        for socket in &all {
            let vote = VotePollRequest {
                poll_id: poll.clone(),
                index: 1,
            };
            let (ms, cost) = time(&mut world, *socket, event::VOTE_POLL, &vote);
            worst = (worst.0.max(ms), worst.1.max(cost));
        }
        world.pass(2_000);
    }
    report("a vote", worst);
    report("the polls", time(&mut world, all[0], event::GET_POLLS, &()));
    report(
        "the roster",
        time(&mut world, all[0], event::GET_ROOM_PEERS_INFO, &()),
    );
    let broadcast = BroadcastMessage {
        ids: peers.clone(),
        ..BroadcastMessage::default()
    };
    report(
        "a broadcast",
        time(&mut world, boss, event::BROADCAST_TO_ENTITY, &broadcast),
    );
    let consume = ConsumePeersRequest {
        requests: (0..256).map(|_| ConsumePeerRequest::default()).collect(),
        ..ConsumePeersRequest::default()
    };
    report(
        "a wish for tracks",
        time(&mut world, boss, event::CONSUME, &consume),
    );
    let grant = GrantStageAccessRequest {
        user_ids: ids.clone(),
    };
    report(
        "ids of nobody",
        time(&mut world, boss, event::GRANT_STAGE_ACCESS, &grant),
    );
    let kick = RemoveParticipantsRequest { peer_ids: peers };
    report(
        "kick all but oneself",
        time(&mut world, boss, event::KICK, &kick),
    );
    let (mut world, boss, _) = fresh();
    report("kick all", time(&mut world, boss, event::KICK_ALL, &()));
    let mut world = World::new(limits());
    let boss = join(&mut world, &host(0));
    for n in 1..10_000 {
        let mut who = one_of_many(n);
        who.permissions.waiting_room_type = WaitingRoomType::SkipOnAccept;
        let (socket, _) = world.connect(&who);
        world.raw(socket, event::JOIN_ROOM, None, &());
    }
    let user_ids = (1..10_000)
        .map(|n| one_of_many(n).participant.to_string())
        .collect();
    let accept = AcceptWaitingRoomRequests { user_ids };
    report(
        "10,000 let in",
        time(
            &mut world,
            boss,
            event::ACCEPT_WAITING_ROOM_REQUESTS,
            &accept,
        ),
    );
    let mut world = World::new(limits());
    let boss = join(&mut world, &host(0));
    audience(&mut world);
    report(
        "a change of all in an audience",
        time(
            &mut world,
            boss,
            event::UPDATE_USER_PRESET,
            &everybody_decides(),
        ),
    );
    let _: Done = world.pass(1_000);
}
