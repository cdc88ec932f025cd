//! What one client can cost the room, the server and others: rates, frame sizes and numbers of
//! copies.

use std::collections::BTreeSet;

use bytes::Bytes;
use parlor_live::{ConnectionId, Input, Limits, Output, PeerProfile};
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

use crate::participants::{all, host, participant, participant_with, peer, user};
use crate::permissions::update;
use crate::world::{Effects, World, join};

/// The `n`th participant of a large meeting.
pub(crate) fn one_of_many(n: u32) -> PeerProfile {
    let mut profile = participant(0);
    profile.peer = PeerId::from_uuid(Uuid::from_u128(0xCCCC_0000_0000 + u128::from(n)));
    profile.participant =
        ParticipantId::from_uuid(Uuid::from_u128(0xDDDD_0000_0000 + u128::from(n)));
    profile.custom_id = format!("crowd-{n}");
    profile
}

/// Sends a number of requests. Returns how many are accepted.
fn count_accepted(
    world: &mut World,
    socket: ConnectionId,
    event: u32,
    request: &impl Message,
) -> usize {
    let accepted = (0..450).filter(|_| !world.request(socket, event, request).is_rejected());
    accepted.count()
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
fn moves_kicks_and_breakout_room_changes_are_rate_limited() {
    let kick = RemoveParticipantsRequest {
        peer_ids: vec!["unknown".to_owned()],
    };
    let make = CreateConnectedRoomsRequest {
        payloads: vec![CreateRoomRequestPayload { title: None }],
    };
    let remove = DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload { id: None }],
    };
    let mut results = Vec::new();
    let mut try_it = |event, request: &dyn Fn(&mut World, ConnectionId) -> usize| {
        let mut world = World::new(Limits::default());
        let boss = join(&mut world, &host(0));
        results.push((event, request(&mut world, boss)));
    };
    let event = event::MOVE_PEERS;
    try_it(event, &|world, boss| {
        count_accepted(world, boss, event, &moves(&[user(1).to_string()], &[None]))
    });
    let event = event::KICK;
    try_it(event, &|world, boss| {
        count_accepted(world, boss, event, &kick)
    });
    let event = event::CREATE_CONNECTED_ROOMS;
    try_it(event, &|world, boss| {
        count_accepted(world, boss, event, &make)
    });
    let event = event::DELETE_CONNECTED_ROOMS;
    try_it(event, &|world, boss| {
        count_accepted(world, boss, event, &remove)
    });
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    count_accepted(&mut world, boss, event::KICK, &kick);
    let counted: Vec<_> = world.room.take_refused().collect();
    assert_eq!(counted, [("KICK", 429, 250)]);
    let few: Vec<usize> = results.iter().map(|(_, accepted)| *accepted).collect();
    assert_eq!(few, [200, 200, 30, 30], "of 450 at once: {results:?}");
}

#[test]
fn moved_participants_are_counted_once_each_and_rate_limited() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let event = event::MOVE_PEERS;
    let delegated = |effects: &Effects| -> usize {
        let tasks = effects.delegated.iter();
        let requests = tasks.map(|task| task.request.message::<MovePeersBetweenRoomsRequest>());
        requests
            .map(|request| request.expect("the request decodes").participants.len())
            .sum()
    };
    let same = moves(&vec![user(1).to_string(); 1_000], &[None]);
    assert_eq!(delegated(&world.request(boss, event, &same).effects), 1);
    let conflicting = moves(&vec![user(1).to_string(); 2], &[None, Some("p")]);
    assert_eq!(world.request(boss, event, &conflicting).code(), 400);
    // The maximum that clients send: 1,000 participants in a frame.
    let all: Vec<String> = (0..1_000)
        .map(|n| one_of_many(n).participant.to_string())
        .collect();
    let all = moves(&all, &[None]);
    let moved: usize = (0..10)
        .map(|_| delegated(&world.request(boss, event, &all).effects))
        .sum();
    assert_eq!(moved, 4_000, "of 10,000");
    let more: Vec<String> = (0..1_001)
        .map(|n| one_of_many(n).participant.to_string())
        .collect();
    assert!(
        world
            .request(boss, event, &moves(&more, &[None]))
            .is_rejected()
    );
}

#[test]
fn half_a_million_empty_fields_are_rejected_before_decoding() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &participant_with(0, ViewType::Webinar, all()));
    let inside = join(&mut world, &participant(1));
    let (outside, _) = world.connect(&participant(2));
    let mut accepted = Vec::new();
    let sockets = [boss, inside, outside];
    for ((number, name), sender) in event::ALL.iter().flat_map(|it| [(it, 0), (it, 1), (it, 2)]) {
        for tag in [0x0A, 0x12, 0x1A, 0x3A] {
            let payload = [tag, 0x00].repeat((1 << 19) - 100);
            let envelope = Envelope {
                event: *number,
                id: Some("id".to_owned()),
                payload: Some(payload.into()),
                metadata: None,
            };
            let bytes = envelope.encode_to_vec().into();
            let effects = world.handle(Input::Frame {
                connection: sockets[sender],
                bytes,
            });
            let [frame] = effects.frames.as_slice() else {
                panic!("{name}: {effects:?}")
            };
            // Media errors have their own frame, without a code.
            let is_expected = if frame.event == event::MEDIA_ERROR {
                let text = frame.decode::<ErrorResponse>().error_message;
                ["at most", "more than", "may not send"]
                    .iter()
                    .any(|it| text.contains(it))
            } else {
                let code = frame.decode::<ErrorMessage>().code();
                // The elements are not counted if the sender lacks the permission or has no stage.
                matches!(code, 413 | 501) || (sender > 0 && matches!(code, 400 | 403))
            };
            accepted.extend((!is_expected).then_some((*name, sender)));
            world.advance(200);
        }
    }
    assert!(accepted.is_empty(), "{accepted:?}");
    // The same in the envelope.
    let bytes: Bytes = [0x12, 0x00].repeat(1 << 19).into();
    let effects = world.handle(Input::Frame {
        connection: boss,
        bytes,
    });
    assert!(effects.frames[0].is_error());
}

#[test]
fn all_waiting_participants_are_admitted_with_one_frame() {
    const WAITING: u32 = 9_999;
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let mut sockets = BTreeSet::new();
    let mut ids = Vec::new();
    for n in 0..WAITING {
        let mut profile = one_of_many(n);
        profile.permissions.waiting_room_type = WaitingRoomType::SkipOnAccept;
        ids.push(profile.participant.to_string());
        let (socket, _) = world.connect(&profile);
        world.send_raw(socket, event::JOIN_ROOM, None, &());
        sockets.insert(socket);
    }
    let accept = AcceptWaitingRoomRequests { user_ids: ids };
    assert!(accept.encoded_len() > 370_000);
    let mut outcome = world.request(boss, event::ACCEPT_WAITING_ROOM_REQUESTS, &accept);
    assert!(!outcome.is_rejected());
    let mut admitted = BTreeSet::new();
    let mut slices = 0;
    loop {
        let frames = outcome.effects.frames.iter();
        let admissions = frames.filter(|it| it.event == event::WAITING_ROOM_REQUEST_ACCEPTED);
        admitted.extend(admissions.map(|frame| frame.to));
        if admitted.len() == sockets.len() || slices == 1_000 {
            break;
        }
        slices += 1;
        outcome.effects = world.advance(1);
    }
    assert_eq!(admitted, sockets, "after {slices} slices");
}

/// Creates a poll with the votes of two participants. Returns the effects of each step, with the
/// frames to a bystander, a voter and the creator.
fn poll_with_votes(
    world: &mut World,
    anonymous: bool,
    hide_votes: bool,
) -> (Vec<ConnectionId>, Vec<Effects>) {
    let sockets: Vec<_> = (0..4).map(|n| join(world, &host(n))).collect();
    let new = NewPollRequest {
        question: "Which?".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        anonymous,
        hide_votes,
        ..NewPollRequest::default()
    };
    let made: UpdatePollResponse = world
        .request(sockets[0], event::CREATE_POLL, &new)
        .reply(event::CREATE_POLL);
    let poll_id = made.poll.expect("a poll").poll_id;
    let mut steps = Vec::new();
    for (voter, index) in [(1, 1), (2, 0)] {
        let vote = VotePollRequest {
            poll_id: poll_id.clone(),
            index,
        };
        steps.push(
            world
                .request(sockets[voter], event::VOTE_POLL, &vote)
                .effects,
        );
        steps.push(world.advance(1_000));
    }
    for socket in &sockets {
        steps.push(world.request(*socket, event::GET_POLLS, &()).effects);
    }
    (sockets, steps)
}

/// The polls in the frames, with their receivers.
fn polls(steps: &[Effects]) -> Vec<(ConnectionId, Poll)> {
    let mut polls = Vec::new();
    for frame in steps.iter().flat_map(|effects| &effects.frames) {
        match frame.event {
            event::VOTE_POLL => {
                let poll = frame.decode::<UpdatePollResponse>().poll;
                polls.push((frame.to, poll.expect("a poll")));
            }
            event::GET_POLLS => {
                let all = frame.decode::<GetPollsResponse>().polls;
                polls.extend(all.into_iter().map(|poll| (frame.to, poll)));
            }
            _ => {}
        }
    }
    polls
}

#[test]
fn an_anonymous_poll_reveals_neither_voters_nor_choices() {
    let mut world = World::new(Limits::default());
    let (sockets, steps) = poll_with_votes(&mut world, true, false);
    let seen = polls(&steps);
    let mut names = 0;
    for (socket, poll) in &seen {
        let n = sockets
            .iter()
            .position(|it| it == socket)
            .expect("a participant");
        let me = user(u8::try_from(n).expect("few")).to_string();
        let of_options = poll.options.iter().flat_map(|option| &option.votes).count();
        let others = poll.votes.iter().filter(|id| !id.is_empty() && **id != me);
        names += of_options + others.count();
        // The UI shows the number of votes, and whether the user has voted.
        let votes: u64 = poll.options.iter().map(PollOption::count).sum();
        assert_eq!(poll.votes.len() as u64, votes);
    }
    assert_eq!(names, 0, "other voters are named in {} polls", seen.len());
    let last = |n: usize| seen.iter().rev().find(|(to, _)| *to == sockets[n]);
    let has_voted = |n: usize| {
        let (_, poll) = last(n).expect("the poll was sent");
        poll.votes
            .contains(&user(u8::try_from(n).expect("few")).to_string())
    };
    assert_eq!([0, 1, 2, 3].map(has_voted), [false, true, true, false]);
    // The records do not contain the voters either.
    let (_, stored) = world.records.entries.last_key_value().expect("the poll");
    let stored = Poll::decode(stored.as_slice()).expect("a poll");
    assert!(stored.options.iter().all(|option| option.votes.is_empty()));
    assert!(stored.votes.is_sorted() && stored.votes.len() == 2);
    // A voter cannot vote again, even after a crash.
    let vote = VotePollRequest {
        poll_id: stored.poll_id,
        index: 0,
    };
    world.crash(world.now_ms);
    let again = join(&mut world, &host(1));
    assert_eq!(world.request(again, event::VOTE_POLL, &vote).code(), 409);
}

#[test]
fn hidden_votes_are_not_shown_before_voting() {
    let mut world = World::new(Limits::default());
    let (sockets, steps) = poll_with_votes(&mut world, false, true);
    let seen = polls(&steps);
    let of = |n: usize| {
        let socket = sockets[n];
        let mine = seen.iter().filter(move |(to, _)| *to == socket);
        mine.map(|(_, poll)| poll)
    };
    // Other peers receive the number of votes, but neither the voters nor their choices.
    for poll in of(3) {
        assert!(poll.options.iter().all(|option| option.count == Some(0)));
        assert!(poll.options.iter().all(|option| option.votes.is_empty()));
        assert!(poll.votes.iter().all(String::is_empty), "{:?}", poll.votes);
    }
    // The later voter saw no more before voting.
    assert_eq!(of(2).next().expect("a poll").options[1].count, Some(0));
    for n in [0, 1, 2] {
        let poll = of(n).next_back().expect("a poll");
        let counts: Vec<_> = poll.options.iter().map(|option| option.count).collect();
        assert_eq!(counts, [Some(1), Some(1)], "{n}");
        assert_eq!(poll.options[0].votes[0].user_id, user(2).to_string());
    }
}

#[test]
fn a_receiver_listed_twice_gets_one_copy() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let other = join(&mut world, &participant(1));
    let mut message = BroadcastMessage {
        r#type: "hands".to_owned(),
        ids: vec![peer(1, 0).to_string(); 50],
        ..BroadcastMessage::default()
    };
    let effects = world
        .request(boss, event::BROADCAST_TO_ENTITY, &message)
        .effects;
    assert_eq!(
        effects.frames_to(other, event::BROADCAST_TO_ENTITY).len(),
        1
    );
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
    let effects = world
        .request(boss, event::UPDATE_USER_PRESET, &twice)
        .effects;
    assert_eq!(effects.frames_to(other, event::UPDATE_USER_PRESET).len(), 1);
    let too_often = UpdatePeersPresetRequest {
        update_peers_presets: vec![twice.update_peers_presets[0].clone(); 1_001],
    };
    let rejected = world.request(boss, event::UPDATE_USER_PRESET, &too_often);
    assert_eq!(rejected.code(), 400);
    message.ids = vec!["0197f3a0-0000-7000-8000-00000000000b".to_owned(); 50];
    message.set_broadcast_type(BroadcastType::Rooms);
    let effects = world
        .request(boss, event::BROADCAST_TO_ENTITY, &message)
        .effects;
    let delegated: BroadcastMessage = effects.delegated[0].request.message().expect("a message");
    assert_eq!(delegated.ids.len(), 1);
}

#[test]
fn the_departed_peers_of_a_participant_are_limited() {
    let mut world = World::new(Limits::default());
    let other = join(&mut world, &host(0));
    let mut rejected = 0;
    for n in 0..2_000_u32 {
        let mut profile = participant(1);
        profile.peer = one_of_many(n).peer;
        let (socket, effects) = world.connect(&profile);
        assert!(effects.closed.is_empty());
        // Most clients never join, and cost nothing.
        if n % 2 == 0 {
            let outcome = world.request(socket, event::JOIN_ROOM, &());
            rejected += usize::from(outcome.is_rejected());
        }
        world.close(socket, true);
        // At the maximum rate of new connections.
        world.advance(500);
    }
    let rows = world.records.peers.len() - 1;
    assert!(
        rows <= 510,
        "{rows} rows of one participant, {rejected} joins rejected"
    );
    assert_eq!(rows + rejected, 1_000);
    assert!(rows >= 500, "{rows}");
    // A known peer may reconnect, and other participants may join.
    let (_, effects) = world.connect(&{
        let mut profile = participant(1);
        profile.peer = one_of_many(0).peer;
        profile
    });
    assert!(effects.closed.is_empty());
    join(&mut world, &participant(2));
    world.close(other, true);
}

#[test]
fn the_sender_and_the_others_get_the_same_bytes() {
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
    let outputs = world.request_deferred(boss, event::STORE_INSERT_KEYS, &set);
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    let frames: Vec<_> = frames.collect();
    let buffers: BTreeSet<_> = frames.iter().map(|frame| frame.as_ptr()).collect();
    assert_eq!((frames.len(), buffers.len()), (2, 1));
    let effects = world.apply_outputs(outputs);
    assert_eq!(effects.frames[0].payload, effects.frames[1].payload);
    let ids: Vec<_> = effects
        .frames
        .iter()
        .map(|frame| frame.id.as_deref())
        .collect();
    assert_eq!(ids, [None, Some("id")]);
}
