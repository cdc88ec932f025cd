//! What one client can make a room, the server and others bear: how often, how much in a frame, and
//! how many copies.

use std::collections::BTreeSet;

use bytes::Bytes;
use parlor_live::{ConnectionId, Input, Limits, Newcomer, Output};
use parlor_protocol::ids::{ParticipantId, PeerId};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::media::edge::ErrorResponse;
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
use parlor_protocol::signal::socket::polls::{
    GetPollsResponse, NewPollRequest, Poll, PollOption, UpdatePollResponse, VotePollRequest,
};
use parlor_protocol::signal::socket::preset::{PresetUpdates, UpdatePeersPresetRequest};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, BroadcastMessage, BroadcastType, CreateConnectedRoomsRequest,
    CreateRoomRequestPayload, DisableConnectedRoomsRequest, DisableRoomPayload, MovePeerPayload,
    MovePeersBetweenRoomsRequest, RemoveParticipantsRequest,
};
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use uuid::Uuid;

use crate::people::{all, guest, host, peer, somebody, user};
use crate::permissions::update;
use crate::world::{Done, World, join};

/// One of a crowd.
pub(crate) fn one_of_many(n: u32) -> Newcomer {
    let mut who = guest(0);
    who.peer = PeerId::from_uuid(Uuid::from_u128(0xCCCC_0000_0000 + u128::from(n)));
    who.participant = ParticipantId::from_uuid(Uuid::from_u128(0xDDDD_0000_0000 + u128::from(n)));
    who.custom_id = format!("crowd-{n}");
    who
}

/// How many of so many requests are not refused.
fn taken(world: &mut World, socket: ConnectionId, event: u32, request: &impl Message) -> usize {
    let asked = (0..450).filter(|_| !world.ask(socket, event, request).refused());
    asked.count()
}

fn moves(ids: &[String], presets: &[Option<&str>]) -> MovePeersBetweenRoomsRequest {
    let participants = ids.iter().zip(presets.iter().cycle());
    let participants = participants.map(|(id, preset)| MovePeerPayload {
        id: Some(id.clone()),
        preset_id: preset.map(str::to_owned),
    });
    MovePeersBetweenRoomsRequest {
        source_meeting_id: Some("a".to_owned()),
        destination_meeting_id: Some("b".to_owned()),
        participants: participants.collect(),
    }
}

#[test]
fn moves_kicks_and_changes_of_breakout_rooms_have_rates() {
    let kick = RemoveParticipantsRequest {
        peer_ids: vec!["nobody".to_owned()],
    };
    let make = CreateConnectedRoomsRequest {
        payloads: vec![CreateRoomRequestPayload { title: None }],
    };
    let remove = DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload { id: None }],
    };
    let mut found = Vec::new();
    let mut try_it = |event, request: &dyn Fn(&mut World, ConnectionId) -> usize| {
        let mut world = World::new(Limits::default());
        let boss = join(&mut world, &host(0));
        found.push((event, request(&mut world, boss)));
    };
    let event = event::MOVE_PEERS;
    try_it(event, &|world, boss| {
        taken(world, boss, event, &moves(&[user(1).to_string()], &[None]))
    });
    let event = event::KICK;
    try_it(event, &|world, boss| taken(world, boss, event, &kick));
    let event = event::CREATE_CONNECTED_ROOMS;
    try_it(event, &|world, boss| taken(world, boss, event, &make));
    let event = event::DELETE_CONNECTED_ROOMS;
    try_it(event, &|world, boss| taken(world, boss, event, &remove));
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    taken(&mut world, boss, event::KICK, &kick);
    let counted: Vec<_> = world.room.take_refused().collect();
    assert_eq!(counted, [("KICK", 429, 250)]);
    let few: Vec<usize> = found.iter().map(|(_, taken)| *taken).collect();
    assert_eq!(few, [200, 200, 30, 30], "of 450 at once: {found:?}");
}

#[test]
fn the_people_of_a_move_are_counted_once_each_and_their_number_has_a_rate() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let event = event::MOVE_PEERS;
    let handed = |done: &Done| -> usize {
        let tasks = done.delegated.iter();
        let asked = tasks.map(|task| task.request.message::<MovePeersBetweenRoomsRequest>());
        asked
            .map(|asked| asked.expect("it can be read").participants.len())
            .sum()
    };
    let same = moves(&vec![user(1).to_string(); 1_000], &[None]);
    assert_eq!(handed(&world.ask(boss, event, &same).done), 1);
    let torn = moves(&vec![user(1).to_string(); 2], &[None, Some("p")]);
    assert_eq!(world.ask(boss, event, &torn).code(), 400);
    // What clients may send: 1,000 people in a frame.
    let all: Vec<String> = (0..1_000)
        .map(|n| one_of_many(n).participant.to_string())
        .collect();
    let all = moves(&all, &[None]);
    let moved: usize = (0..10)
        .map(|_| handed(&world.ask(boss, event, &all).done))
        .sum();
    assert_eq!(moved, 4_000, "of 10,000");
    let more: Vec<String> = (0..1_001)
        .map(|n| one_of_many(n).participant.to_string())
        .collect();
    assert!(world.ask(boss, event, &moves(&more, &[None])).refused());
}

#[test]
fn half_a_million_empty_fields_are_refused_before_they_are_decoded() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &somebody(0, ViewType::Webinar, all()));
    let inside = join(&mut world, &guest(1));
    let (outside, _) = world.connect(&guest(2));
    let mut taken = Vec::new();
    let sockets = [boss, inside, outside];
    for ((number, name), who) in event::ALL.iter().flat_map(|it| [(it, 0), (it, 1), (it, 2)]) {
        for tag in [0x0A, 0x12, 0x1A, 0x3A] {
            let payload = [tag, 0x00].repeat((1 << 19) - 100);
            let envelope = Envelope {
                event: *number,
                id: Some("id".to_owned()),
                payload: Some(payload.into()),
                metadata: None,
            };
            let bytes = envelope.encode_to_vec().into();
            let done = world.take(Input::Frame {
                connection: sockets[who],
                bytes,
            });
            let [frame] = done.frames.as_slice() else {
                panic!("{name}: {done:?}")
            };
            // The media plane has an error of its own, without a code.
            let good = if frame.event == event::MEDIA_ERROR {
                let text = frame.read::<ErrorResponse>().error_message;
                ["at most", "more than", "does not take"]
                    .iter()
                    .any(|it| text.contains(it))
            } else {
                let code = frame.read::<ErrorMessage>().code();
                // Of those who may not ask, or have no stage, nothing is counted.
                matches!(code, 413 | 501) || (who > 0 && matches!(code, 400 | 403))
            };
            taken.extend((!good).then_some((*name, who)));
            world.pass(200);
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
    // Nor in the envelope.
    let bytes: Bytes = [0x12, 0x00].repeat(1 << 19).into();
    let done = world.take(Input::Frame {
        connection: boss,
        bytes,
    });
    assert!(done.frames[0].is_error());
}

#[test]
fn everybody_who_waits_is_let_in_with_one_frame() {
    const WAITING: u32 = 9_999;
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let mut sockets = BTreeSet::new();
    let mut ids = Vec::new();
    for n in 0..WAITING {
        let mut who = one_of_many(n);
        who.permissions.waiting_room_type = WaitingRoomType::SkipOnAccept;
        ids.push(who.participant.to_string());
        let (socket, _) = world.connect(&who);
        world.raw(socket, event::JOIN_ROOM, None, &());
        sockets.insert(socket);
    }
    let accept = AcceptWaitingRoomRequests { user_ids: ids };
    assert!(accept.encoded_len() > 370_000);
    let mut done = world.ask(boss, event::ACCEPT_WAITING_ROOM_REQUESTS, &accept);
    assert!(!done.refused());
    let mut let_in = BTreeSet::new();
    let mut slices = 0;
    loop {
        let frames = done.done.frames.iter();
        let told = frames.filter(|it| it.event == event::WAITING_ROOM_REQUEST_ACCEPTED);
        let_in.extend(told.map(|frame| frame.to));
        if let_in.len() == sockets.len() || slices == 1_000 {
            break;
        }
        slices += 1;
        done.done = world.pass(1);
    }
    assert_eq!(let_in, sockets, "after {slices} slices");
}

/// A poll with votes of two people, and every frame that a bystander, a voter and the creator got of
/// it: one line each.
fn voted(world: &mut World, anonymous: bool, hide_votes: bool) -> (Vec<ConnectionId>, Vec<Done>) {
    let sockets: Vec<_> = (0..4).map(|n| join(world, &host(n))).collect();
    let new = NewPollRequest {
        question: "Which?".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        anonymous,
        hide_votes,
        ..NewPollRequest::default()
    };
    let made: UpdatePollResponse = world
        .ask(sockets[0], event::CREATE_POLL, &new)
        .reply(event::CREATE_POLL);
    let poll_id = made.poll.expect("a poll").poll_id;
    let mut told = Vec::new();
    for (voter, index) in [(1, 1), (2, 0)] {
        let vote = VotePollRequest {
            poll_id: poll_id.clone(),
            index,
        };
        told.push(world.ask(sockets[voter], event::VOTE_POLL, &vote).done);
        told.push(world.pass(1_000));
    }
    for socket in &sockets {
        told.push(world.ask(*socket, event::GET_POLLS, &()).done);
    }
    (sockets, told)
}

/// The polls in some frames, with who got them.
fn polls(told: &[Done]) -> Vec<(ConnectionId, Poll)> {
    let mut polls = Vec::new();
    for frame in told.iter().flat_map(|done| &done.frames) {
        match frame.event {
            event::VOTE_POLL => {
                let poll = frame.read::<UpdatePollResponse>().poll;
                polls.push((frame.to, poll.expect("a poll")));
            }
            event::GET_POLLS => {
                let all = frame.read::<GetPollsResponse>().polls;
                polls.extend(all.into_iter().map(|poll| (frame.to, poll)));
            }
            _ => {}
        }
    }
    polls
}

#[test]
fn nobody_learns_from_an_anonymous_poll_who_voted_or_for_what() {
    let mut world = World::new(Limits::default());
    let (sockets, told) = voted(&mut world, true, false);
    let seen = polls(&told);
    let mut names = 0;
    for (socket, poll) in &seen {
        let n = sockets
            .iter()
            .position(|it| it == socket)
            .expect("a person");
        let me = user(u8::try_from(n).expect("few")).to_string();
        let of_options = poll.options.iter().flat_map(|option| &option.votes).count();
        let others = poll.votes.iter().filter(|id| !id.is_empty() && **id != me);
        names += of_options + others.count();
        // The UI shows how many have voted, and whether oneself has.
        let votes: u64 = poll.options.iter().map(PollOption::count).sum();
        assert_eq!(poll.votes.len() as u64, votes);
    }
    assert_eq!(names, 0, "others are named in {} polls", seen.len());
    let last = |n: usize| seen.iter().rev().find(|(to, _)| *to == sockets[n]);
    let has_voted = |n: usize| {
        let (_, poll) = last(n).expect("it was told");
        poll.votes
            .contains(&user(u8::try_from(n).expect("few")).to_string())
    };
    assert_eq!([0, 1, 2, 3].map(has_voted), [false, true, true, false]);
    // Nor do the records say it.
    let (_, kept) = world.kept.entries.last_key_value().expect("the poll");
    let kept = Poll::decode(kept.as_slice()).expect("a poll");
    assert!(kept.options.iter().all(|option| option.votes.is_empty()));
    assert!(kept.votes.is_sorted() && kept.votes.len() == 2);
    // Whoever has voted has, also after a crash.
    let vote = VotePollRequest {
        poll_id: kept.poll_id,
        index: 0,
    };
    world.crash(world.now_ms);
    let again = join(&mut world, &host(1));
    assert_eq!(world.ask(again, event::VOTE_POLL, &vote).code(), 409);
}

#[test]
fn whoever_has_not_voted_does_not_see_hidden_votes() {
    let mut world = World::new(Limits::default());
    let (sockets, told) = voted(&mut world, false, true);
    let seen = polls(&told);
    let of = |n: usize| {
        let socket = sockets[n];
        let mine = seen.iter().filter(move |(to, _)| *to == socket);
        mine.map(|(_, poll)| poll)
    };
    // A bystander learns how many have voted, and neither who nor for what.
    for poll in of(3) {
        assert!(poll.options.iter().all(|option| option.count == Some(0)));
        assert!(poll.options.iter().all(|option| option.votes.is_empty()));
        assert!(poll.votes.iter().all(String::is_empty), "{:?}", poll.votes);
    }
    // Whoever voted later saw as little before.
    assert_eq!(of(2).next().expect("told").options[1].count, Some(0));
    for n in [0, 1, 2] {
        let poll = of(n).next_back().expect("told");
        let counts: Vec<_> = poll.options.iter().map(|option| option.count).collect();
        assert_eq!(counts, [Some(1), Some(1)], "{n}");
        assert_eq!(poll.options[0].votes[0].user_id, user(2).to_string());
    }
}

#[test]
fn whoever_is_named_twice_is_told_once() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let other = join(&mut world, &guest(1));
    let mut message = BroadcastMessage {
        r#type: "hands".to_owned(),
        ids: vec![peer(1, 0).to_string(); 50],
        ..BroadcastMessage::default()
    };
    let done = world.ask(boss, event::BROADCAST_TO_ENTITY, &message).done;
    assert_eq!(done.of(other, event::BROADCAST_TO_ENTITY).len(), 1);
    let twice = update(
        1,
        PresetUpdates {
            can_record: Some(true),
            ..PresetUpdates::default()
        },
    );
    let twice = UpdatePeersPresetRequest {
        update_peers_presets: vec![twice.update_peers_presets[0].clone(); 50],
    };
    let done = world.ask(boss, event::UPDATE_USER_PRESET, &twice).done;
    assert_eq!(done.of(other, event::UPDATE_USER_PRESET).len(), 1);
    let too_often = UpdatePeersPresetRequest {
        update_peers_presets: vec![twice.update_peers_presets[0].clone(); 1_001],
    };
    let refused = world.ask(boss, event::UPDATE_USER_PRESET, &too_often);
    assert_eq!(refused.code(), 400);
    message.ids = vec!["0197f3a0-0000-7000-8000-00000000000b".to_owned(); 50];
    message.set_broadcast_type(BroadcastType::Rooms);
    let done = world.ask(boss, event::BROADCAST_TO_ENTITY, &message).done;
    let handed: BroadcastMessage = done.delegated[0].request.message().expect("a message");
    assert_eq!(handed.ids.len(), 1);
}

#[test]
fn a_person_leaves_so_many_peers_behind_and_not_more() {
    let mut world = World::new(Limits::default());
    let keeper = join(&mut world, &host(0));
    let mut refused = 0;
    for n in 0..2_000_u32 {
        let mut who = guest(1);
        who.peer = one_of_many(n).peer;
        let (socket, done) = world.connect(&who);
        assert!(done.closed.is_empty());
        // Most of the clients that come never join, and cost nothing.
        if n % 2 == 0 {
            let asked = world.ask(socket, event::JOIN_ROOM, &());
            refused += usize::from(asked.refused());
        }
        world.close(socket, true);
        // As fast as sockets may be opened.
        world.pass(500);
    }
    let rows = world.kept.peers.len() - 1;
    assert!(
        rows <= 510,
        "{rows} rows of one person, {refused} joins refused"
    );
    assert_eq!(rows + refused, 1_000);
    assert!(rows >= 500, "{rows}");
    // A peer that was there before may come back, and everybody else may come.
    let (_, done) = world.connect(&{
        let mut who = guest(1);
        who.peer = one_of_many(0).peer;
        who
    });
    assert!(done.closed.is_empty());
    join(&mut world, &guest(2));
    world.close(keeper, true);
}

#[test]
fn whoever_changes_something_and_the_others_get_the_same_bytes() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    join(&mut world, &host(1));
    let key = StoreKeys {
        store_key: "k".to_owned(),
        payload: Some(vec![b'0'; 1_000].into()),
    };
    let set = PluginStoreInsertKeysRequest {
        plugin_id: "p".to_owned(),
        store_name: "s".to_owned(),
        insert_keys: vec![key],
    };
    let outputs = world.untaken(boss, event::STORE_INSERT_KEYS, &set);
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    let frames: Vec<_> = frames.collect();
    let buffers: BTreeSet<_> = frames.iter().map(|frame| frame.as_ptr()).collect();
    assert_eq!((frames.len(), buffers.len()), (2, 1));
    let done = world.see_all(outputs);
    assert_eq!(done.frames[0].payload, done.frames[1].payload);
    let ids: Vec<_> = done
        .frames
        .iter()
        .map(|frame| frame.id.as_deref())
        .collect();
    assert_eq!(ids, [None, Some("id")]);
}
