//! What is too much for one input: it goes on in slices, and others are served between them.

use parlor_live::{Answer, Command, ConnectionId, Limits, Rate};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest;
use parlor_protocol::signal::socket::polls::{NewPollRequest, UpdatePollResponse, VotePollRequest};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::RemoveParticipantsRequest;

use crate::costs::one_of_many;
use crate::people::{all, guest, host, viewer};
use crate::world::{Done, World, join};

const MEETING: u32 = 200;

/// Without the rates that have tests of their own.
pub(crate) fn limits() -> Limits {
    let none = Rate {
        count: 0,
        per_ms: 1,
    };
    Limits {
        new_peers: none,
        openings: none,
        frames: none,
        changes: none,
        media: none,
        reads: none,
        chat: none,
        chat_files: none,
        chat_reads: none,
        broadcasts: none,
        stores: none,
        store_reads: none,
        poll_rate: none,
        permission_updates: none,
        breakout_reads: none,
        breakout_changes: none,
        moves: none,
        moved: none,
        kicks: none,
        ..Limits::default()
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

#[test]
fn those_who_have_voted_in_an_anonymous_poll_are_told_in_slices_each_once() {
    let limits = small_slices();
    let mut world = World::new(limits.clone());
    let sockets: Vec<_> = (0..50)
        .map(|n| {
            let mut who = one_of_many(n);
            who.permissions = all();
            join(&mut world, &who)
        })
        .collect();
    let new = NewPollRequest {
        question: "?".repeat(500),
        options: vec!["x".repeat(500); 50],
        anonymous: true,
        ..NewPollRequest::default()
    };
    let made = world.ask(sockets[0], event::CREATE_POLL, &new);
    let made: UpdatePollResponse = made.reply(event::CREATE_POLL);
    let vote = VotePollRequest {
        poll_id: made.poll.expect("a poll").poll_id,
        index: 0,
    };
    for socket in &sockets[..49] {
        world.ask(*socket, event::VOTE_POLL, &vote);
    }
    let mut done = vec![world.pass(300)];
    // Whoever leaves meanwhile is told nothing, and who votes meanwhile is told with the next ones.
    world.close(sockets[1], true);
    let late = world.ask(sockets[49], event::VOTE_POLL, &vote);
    assert!(!late.refused());
    while done.last().is_some_and(|done| !done.frames.is_empty()) {
        assert!(
            world.room.cost() <= slice(&limits, 50),
            "{}",
            world.room.cost()
        );
        done.push(world.pass(1));
    }
    assert!(done.len() > 5, "{} slices", done.len());
    let told: Vec<usize> = sockets
        .iter()
        .map(|socket| count(&done, *socket, event::VOTE_POLL))
        .collect();
    assert_eq!((told[1], told.iter().sum::<usize>()), (0, 49));
    for (n, socket) in sockets.iter().enumerate().filter(|(n, _)| *n != 1) {
        let frames = done
            .iter()
            .flat_map(|done| done.of(*socket, event::VOTE_POLL));
        for poll in frames.map(|frame| frame.read::<UpdatePollResponse>().poll) {
            let poll = poll.expect("a poll");
            let me = one_of_many(u32::try_from(n).expect("few"))
                .participant
                .to_string();
            assert_eq!(poll.votes.contains(&me), n != 49, "{n}");
        }
    }
    // All of them, those who voted last included, and then nobody.
    let done: Vec<Done> = (0..400).map(|_| world.pass(1)).collect();
    let told = sockets
        .iter()
        .map(|socket| count(&done, *socket, event::VOTE_POLL));
    assert_eq!(told.sum::<usize>(), 49);
}

#[test]
fn what_is_due_waits_while_a_frame_takes_the_slice() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    for _ in 0..2_000 {
        let say = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: "x".to_owned(),
        };
        world.raw(boss, event::SEND_MESSAGE_TO_ROOM, None, &say);
    }
    for socket in &all {
        world.close(*socket, false);
    }
    // Their time is over, and nobody has looked since.
    (world.now_ms, world.monotonic_ms) = (world.now_ms + 45_000, world.monotonic_ms + 45_000);
    let done = world.ask(boss, event::GET_MESSAGES, &()).done;
    assert!(world.room.cost() > limits.slice_steps);
    assert_eq!(done.events(boss), [event::GET_MESSAGES]);
    let done = world.pass(1);
    let (_, done) = work_off(&mut world, done, slice(&limits, MEETING));
    assert_eq!(count(&done, boss, event::LEAVE_ROOM), all.len());
}
