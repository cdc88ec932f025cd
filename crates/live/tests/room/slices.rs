//! Work that is too much for one input is done in slices, and other requests are served in between.

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
use crate::participants::{all, host, participant, viewer};
use crate::world::{Effects, World, join};

const MEETING: u32 = 200;

/// Limits without the rates that are tested elsewhere.
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
        moved_participants: none,
        kicks: none,
        ..Limits::default()
    }
}

/// An update that lets each viewer see all other participants.
fn make_all_privileged() -> UpdatePeersPresetRequest {
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
    let profiles = (1..MEETING).map(|n| {
        let mut profile = viewer(0, ViewType::Livestream);
        let one = one_of_many(n);
        (profile.peer, profile.participant) = (one.peer, one.participant);
        profile
    });
    profiles.map(|profile| join(world, &profile)).collect()
}

#[test]
fn an_update_of_all_participants_is_done_in_slices_and_then_answered() {
    let mut world = World::new(limits());
    let boss = join(&mut world, &host(0));
    let sockets = audience(&mut world);
    let number = event::UPDATE_USER_PRESET;
    let mut effects = world.request(boss, number, &make_all_privileged()).effects;
    let (mut received, mut slices) = (0, 0);
    loop {
        assert!(world.room.cost() <= world.room.max_cost());
        received += sockets
            .iter()
            .filter(|it| !effects.frames_to(**it, number).is_empty())
            .count();
        slices += 1;
        if !effects.frames_to(boss, number).is_empty() {
            break;
        }
        assert!(slices < 1_000, "the work never completes");
        effects = world.advance(1);
    }
    assert_eq!(received, sockets.len());
    assert!(slices > 1);
}

/// The maximum cost of one input in these tests: a slice and its last unit of work.
fn max_cost(limits: &Limits, peers: u32) -> usize {
    3 * limits.slice_cost + 40 * usize::try_from(peers).expect("few")
}

/// A host and many participants, all joined.
fn crowd(limits: &Limits) -> (World, ConnectionId, Vec<ConnectionId>) {
    let mut world = World::new(limits.clone());
    let boss = join(&mut world, &host(0));
    let all = (1..MEETING).map(|n| join(&mut world, &one_of_many(n)));
    let all = all.collect();
    // Deliver the pending notifications about joins.
    world.advance(5_000);
    (world, boss, all)
}

fn small_slices() -> Limits {
    Limits {
        slice_cost: 1_000,
        ..limits()
    }
}

/// Runs slices until no work is due. Returns their number and all effects.
fn run_slices(world: &mut World, mut effects: Effects, max: usize) -> (usize, Vec<Effects>) {
    let mut all = Vec::new();
    loop {
        let cost = world.room.cost();
        assert!(cost <= max, "{cost} steps in slice {}", all.len());
        all.push(effects);
        assert!(all.len() < 2_000, "the work never completes");
        if world.next_wake_ms().is_none_or(|ms| ms > 1) {
            return (all.len(), all);
        }
        effects = world.advance(1);
    }
}

fn count(all: &[Effects], to: ConnectionId, event: u32) -> usize {
    all.iter()
        .map(|effects| effects.frames_to(to, event).len())
        .sum()
}

#[test]
fn many_removals_are_done_in_slices_and_announced_at_once() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    let peer_ids = (1..MEETING).map(|n| one_of_many(n).peer.to_string());
    let kick = RemoveParticipantsRequest {
        peer_ids: peer_ids.collect(),
    };
    let effects = world.send_raw(boss, event::KICK, None, &kick);
    for socket in &all {
        assert_eq!(effects.frames_to(*socket, event::KICK).len(), 1);
    }
    // Removed participants receive nothing more and can do nothing more, even before all are
    // removed.
    let chat_request = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "no".to_owned(),
    };
    let last = *all.last().expect("a participant");
    assert!(
        world
            .send_raw(last, event::SEND_MESSAGE_TO_ROOM, None, &chat_request)
            .frames
            .is_empty()
    );
    let (slices, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    assert!(slices > 3, "{slices}");
    assert_eq!(count(&effects, boss, event::LEAVE_ROOM), all.len());
    let (Answer::Peers(_, present), _) = world.command(Command::ListPeers) else {
        panic!("a session")
    };
    assert_eq!(present.len(), 1);
}

#[test]
fn a_removed_peer_that_reconnects_during_the_removal_is_a_new_peer() {
    let limits = small_slices();
    let (mut world, boss, _) = crowd(&limits);
    let peer_ids = (1..MEETING).map(|n| one_of_many(n).peer.to_string());
    let kick = RemoveParticipantsRequest {
        peer_ids: peer_ids.collect(),
    };
    world.send_raw(boss, event::KICK, None, &kick);
    let back = join(&mut world, &one_of_many(MEETING - 1));
    let effects = world.advance(1);
    let (_, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    assert_eq!(count(&effects, back, event::KICK), 0);
    let (Answer::Peers(_, present), _) = world.command(Command::ListPeers) else {
        panic!("a session")
    };
    assert_eq!(present.len(), 2);
}

#[test]
fn all_participants_are_removed_in_slices_and_then_the_session_ends() {
    let limits = small_slices();
    let (mut world, boss, mut all) = crowd(&limits);
    all.push(boss);
    // They stay in the lobby and are not notified of departures.
    let (lobby, _) = world.connect(&participant(5));
    let session = world.records.live().expect("a session").id;
    let effects = world.send_raw(boss, event::KICK_ALL, None, &());
    for socket in &all {
        assert_eq!(effects.frames_to(*socket, event::KICK_ALL).len(), 1);
    }
    // A participant that joins meanwhile is removed too.
    let late = world.connect(&participant(6)).0;
    world.send_raw(late, event::JOIN_ROOM, None, &());
    let (_, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    assert_eq!(count(&effects, lobby, event::KICK_ALL), 0);
    assert!(world.records.sessions[&session].ended_ms.is_some());
    assert!(world.records.live().is_none());
    let left = world
        .records
        .peers
        .values()
        .filter(|peer| peer.left_ms.is_none());
    assert_eq!(left.count(), 0);
}

#[test]
fn many_lost_peers_are_removed_in_slices() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    for socket in &all {
        world.close(*socket, false);
    }
    let effects = world.advance(45_000);
    let (slices, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    assert!(slices > 1, "{slices}");
    assert_eq!(count(&effects, boss, event::LEAVE_ROOM), all.len());
}

#[test]
fn all_participants_are_muted_in_slices() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    let (answer, effects) = world.command(Command::MuteAll {
        allow_unmute: false,
    });
    assert_eq!(answer, Answer::Count(all.len() + 1));
    let (slices, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    assert!(slices > 5, "{slices}");
    for socket in all.iter().chain([&boss]) {
        assert_eq!(count(&effects, *socket, event::UPDATE_USER_PRESET), 1);
    }
}

#[test]
fn waiting_participants_are_admitted_once_however_many_privileged_ones_join() {
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
    let waiting = (50..MEETING).map(|n| {
        let mut profile = one_of_many(n);
        profile.permissions.waiting_room_type = WaitingRoomType::OnPrivilegedUserEntry;
        let (socket, _) = world.connect(&profile);
        world.send_raw(socket, event::JOIN_ROOM, None, &());
        socket
    });
    let waiting: Vec<_> = waiting.collect();
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
    let effects = world.request(boss, event::UPDATE_USER_PRESET, &all).effects;
    let (_, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    for socket in &waiting {
        let received = count(&effects, *socket, event::WAITING_ROOM_REQUEST_ACCEPTED);
        assert_eq!(received, 1);
    }
}

#[test]
fn the_work_of_one_participant_does_not_delay_others() {
    let limits = small_slices();
    let mut world = World::new(limits.clone());
    let boss = join(&mut world, &host(0));
    let other = join(&mut world, &host(1));
    let sockets = audience(&mut world);
    world.request(boss, event::UPDATE_USER_PRESET, &make_all_privileged());
    let one = UpdatePeersPresetRequest {
        update_peers_presets: vec![UpdatePeerPreset {
            user_ids: one_of_many(MEETING - 1).participant.to_string(),
            patch: Some(PresetUpdates {
                can_record: Some(true),
                ..PresetUpdates::default()
            }),
        }],
    };
    let mut effects = world
        .request(other, event::UPDATE_USER_PRESET, &one)
        .effects;
    let mut slices = 0;
    while effects
        .frames_to(other, event::UPDATE_USER_PRESET)
        .is_empty()
    {
        slices += 1;
        assert!(slices < 10, "other requests wait for the whole work");
        effects = world.advance(1);
    }
    drop(sockets);
}

#[test]
fn votes_in_an_anonymous_poll_are_sent_to_voters_in_slices_once_each() {
    let limits = small_slices();
    let mut world = World::new(limits.clone());
    let sockets: Vec<_> = (0..50)
        .map(|n| {
            let mut profile = one_of_many(n);
            profile.permissions = all();
            join(&mut world, &profile)
        })
        .collect();
    let new = NewPollRequest {
        question: "?".repeat(500),
        options: vec!["x".repeat(500); 50],
        anonymous: true,
        ..NewPollRequest::default()
    };
    let made = world.request(sockets[0], event::CREATE_POLL, &new);
    let made: UpdatePollResponse = made.reply(event::CREATE_POLL);
    let vote = VotePollRequest {
        poll_id: made.poll.expect("a poll").poll_id,
        index: 0,
    };
    for socket in &sockets[..49] {
        world.request(*socket, event::VOTE_POLL, &vote);
    }
    let mut effects = vec![world.advance(300)];
    // A voter that leaves meanwhile is not notified, and later votes are sent in the next round.
    world.close(sockets[1], true);
    let late = world.request(sockets[49], event::VOTE_POLL, &vote);
    assert!(!late.is_rejected());
    while effects
        .last()
        .is_some_and(|effects| !effects.frames.is_empty())
    {
        assert!(
            world.room.cost() <= max_cost(&limits, 50),
            "{}",
            world.room.cost()
        );
        effects.push(world.advance(1));
    }
    assert!(effects.len() > 5, "{} slices", effects.len());
    let received: Vec<usize> = sockets
        .iter()
        .map(|socket| count(&effects, *socket, event::VOTE_POLL))
        .collect();
    assert_eq!((received[1], received.iter().sum::<usize>()), (0, 49));
    for (n, socket) in sockets.iter().enumerate().filter(|(n, _)| *n != 1) {
        let frames = effects
            .iter()
            .flat_map(|effects| effects.frames_to(*socket, event::VOTE_POLL));
        for poll in frames.map(|frame| frame.decode::<UpdatePollResponse>().poll) {
            let poll = poll.expect("a poll");
            let me = one_of_many(u32::try_from(n).expect("few"))
                .participant
                .to_string();
            assert_eq!(poll.votes.contains(&me), n != 49, "{n}");
        }
    }
    // All votes, including the latest, are pushed; then no more frames are sent.
    let effects: Vec<Effects> = (0..400).map(|_| world.advance(1)).collect();
    let received = sockets
        .iter()
        .map(|socket| count(&effects, *socket, event::VOTE_POLL));
    assert_eq!(received.sum::<usize>(), 49);
}

#[test]
fn due_work_waits_while_a_frame_uses_the_slice() {
    let limits = small_slices();
    let (mut world, boss, all) = crowd(&limits);
    for _ in 0..2_000 {
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: "x".to_owned(),
        };
        world.send_raw(boss, event::SEND_MESSAGE_TO_ROOM, None, &chat_request);
    }
    for socket in &all {
        world.close(*socket, false);
    }
    // Their grace period has ended but was not processed yet.
    (world.now_ms, world.monotonic_ms) = (world.now_ms + 45_000, world.monotonic_ms + 45_000);
    let effects = world.request(boss, event::GET_MESSAGES, &()).effects;
    assert!(world.room.cost() > limits.slice_cost);
    assert_eq!(effects.events(boss), [event::GET_MESSAGES]);
    let effects = world.advance(1);
    let (_, effects) = run_slices(&mut world, effects, max_cost(&limits, MEETING));
    assert_eq!(count(&effects, boss, event::LEAVE_ROOM), all.len());
}
