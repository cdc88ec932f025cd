//! Limits per participant, whatever the number of their clients, and batching of what is sent to
//! many.

use bytes::Bytes;
use parlor_live::{
    Answer, ChatFull, ChatMessage, CloseReason, Command, ConnectionId, Limits, NewPoll, Rate,
};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{CreateTransportRequest, SessionDescription};
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, EditChatMessageRequest, SendChatMessageToRoomRequest,
};
use parlor_protocol::signal::socket::polls::{
    GetPollsResponse, NewPollRequest, UpdatePollResponse, VotePollRequest,
};
use parlor_protocol::signal::socket::preset::PresetUpdates;
use parlor_protocol::signal::socket::room::{
    BroadcastMessage, GetWaitingRoomRequests, RoomPeersInfoResponse,
};
use prost::Message;

use crate::participants::{all, host, participant, participant_with, peer, user, viewer, waiting};
use crate::permissions::update;
use crate::world::{Effects, World, join};

fn question() -> NewPollRequest {
    NewPollRequest {
        question: "Which?".repeat(80),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..NewPollRequest::default()
    }
}

#[test]
fn polls_reserve_space_for_votes_and_fit_in_one_reply() {
    let max = 6_200;
    let limits = Limits {
        poll_bytes: max,
        poll_rate: Rate::per_minute(0),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let sockets: Vec<_> = (0..2).map(|n| join(&mut world, &host(n))).collect();
    let one = sockets[0];
    let mut polls = Vec::new();
    let rejected = loop {
        let made = world.request(one, event::CREATE_POLL, &question());
        if made.is_rejected() {
            break made;
        }
        let made: UpdatePollResponse = made.reply(event::CREATE_POLL);
        polls.push(made.poll.expect("a poll").poll_id);
        assert!(polls.len() < 10, "polls are not limited");
    };
    assert_eq!((rejected.code(), rejected.effects.records.len()), (409, 0));
    assert_eq!(polls.len(), 7);
    let outside = NewPoll {
        question: question().question,
        options: vec!["a".repeat(100), "b".to_owned()],
        anonymous: false,
        hide_votes: false,
    };
    let (answer, _) = world.command(Command::Poll(outside));
    assert!(matches!(answer, Answer::Refused(no) if no.code == 409));
    // Every participant can vote in each poll.
    for poll in &polls {
        let vote = VotePollRequest {
            poll_id: poll.clone(),
            index: 0,
        };
        for socket in &sockets {
            assert!(
                !world
                    .request(*socket, event::VOTE_POLL, &vote)
                    .is_rejected()
            );
        }
    }
    let listed = |world: &mut World, socket| {
        let outcome = world.request(socket, event::GET_POLLS, &());
        outcome.reply::<GetPollsResponse>(event::GET_POLLS)
    };
    assert!(listed(&mut world, one).encoded_len() > max / 2);
    // Votes do not make the list exceed one reply either.
    let mut profile = host(0);
    let rejected = (10..200).find_map(|n| {
        (profile.peer, profile.participant) = (peer(n, 0), user(n));
        let socket = join(&mut world, &profile);
        let vote = VotePollRequest {
            poll_id: polls[0].clone(),
            index: 0,
        };
        let before = listed(&mut world, one);
        let outcome = world.request(socket, event::VOTE_POLL, &vote);
        outcome.is_rejected().then_some((outcome, before))
    });
    let (rejected, before) = rejected.expect("votes are limited");
    assert_eq!((rejected.code(), rejected.effects.records.len()), (409, 0));
    assert_eq!(listed(&mut world, one), before);
    assert!(before.encoded_len() <= max + 3 * polls.len());
    // Polls that are restored after a crash count too.
    world.crash(world.now_ms);
    let one = join(&mut world, &host(0));
    assert_eq!(
        world.request(one, event::CREATE_POLL, &question()).code(),
        409
    );
}

#[test]
fn concurrent_votes_are_batched() {
    let mut world = World::new(Limits::default());
    let sockets: Vec<_> = (0..5).map(|n| join(&mut world, &host(n))).collect();
    let made: UpdatePollResponse = world
        .request(sockets[0], event::CREATE_POLL, &question())
        .reply(event::CREATE_POLL);
    let vote = VotePollRequest {
        poll_id: made.poll.expect("a poll").poll_id,
        index: 1,
    };
    for socket in &sockets {
        let effects = world.request(*socket, event::VOTE_POLL, &vote).effects;
        assert_eq!(
            effects.frames.len(),
            1,
            "only the voter is notified: {effects:?}"
        );
        assert_eq!(effects.records.len(), 1);
    }
    let effects = world.advance(300);
    assert_eq!(effects.frames.len(), sockets.len());
    for socket in sockets {
        let poll: UpdatePollResponse = effects.only_frame(socket, event::VOTE_POLL);
        assert_eq!(poll.poll.expect("a poll").votes.len(), 5);
    }
    assert!(world.advance(300).frames.is_empty());
}

/// Repeats a request until it is rejected. Returns the number of accepted ones.
fn count_accepted(
    world: &mut World,
    socket: ConnectionId,
    event: u32,
    request: &impl Message,
) -> usize {
    let mut accepted = 0;
    while !world.request(socket, event, request).is_rejected() {
        accepted += 1;
        assert!(accepted < 100, "{event} is not limited");
    }
    accepted
}

#[test]
fn changes_and_large_reads_are_rate_limited_per_participant() {
    let few = Rate::per_second(10);
    let limits = Limits {
        changes: few,
        reads: few,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let [socket, other] =
        [0, 1].map(|n| join(&mut world, &participant_with(n, ViewType::Webinar, all())));
    let offer = CreateTransportRequest {
        description: Some(SessionDescription {
            sdp: "v=0".to_owned(),
            ..SessionDescription::default()
        }),
        ..CreateTransportRequest::default()
    };
    for event in [
        event::REQUEST_STAGE_ACCESS,
        event::CANCEL_STAGE_REQUEST,
        event::JOIN_STAGE,
        event::LEAVE_STAGE,
        event::MEDIA_JOIN,
        event::MEDIA_JOIN_COMPLETE,
        event::MEDIA_LEAVE,
        event::PIN_PEER,
    ] {
        assert_eq!(
            count_accepted(&mut world, socket, event, &()),
            10,
            "{event}"
        );
        world.advance(1_000);
    }
    let event = event::CREATE_TRANSPORT;
    assert_eq!(count_accepted(&mut world, socket, event, &offer), 10);
    for event in [
        event::GET_ROOM_PEERS_INFO,
        event::GET_POLLS,
        event::GET_STAGE_REQUESTS,
        event::GET_ROOM_STAGE_STATE,
        event::GET_WAITING_ROOM_REQUESTS,
        event::GET_USER_PRESETS,
    ] {
        assert_eq!(
            count_accepted(&mut world, socket, event, &()),
            10,
            "{event}"
        );
        // The bucket is shared by these events, and separate for each participant.
        assert!(world.request(socket, event::GET_POLLS, &()).is_rejected());
        assert!(!world.request(other, event, &()).is_rejected());
        world.advance(1_000);
    }
}

#[test]
fn rates_belong_to_a_participant_and_outlive_their_clients() {
    let limits = Limits {
        chat: Rate::per_minute(3),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    // Another participant, so that the session stays live.
    join(&mut world, &host(9));
    let chat_request = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "buy".to_owned(),
    };
    let mut sent = 0;
    for client in 0..5 {
        let mut profile = participant(1);
        profile.peer = peer(1, client);
        let socket = join(&mut world, &profile);
        sent += usize::from(
            !world
                .request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request)
                .is_rejected(),
        );
        if client % 2 == 0 {
            world.close(socket, true);
        }
    }
    assert_eq!(sent, 3);
    let other = join(&mut world, &participant(2));
    assert!(
        !world
            .request(other, event::SEND_MESSAGE_TO_ROOM, &chat_request)
            .is_rejected()
    );
}

#[test]
fn frequent_connections_are_rate_limited() {
    let limits = Limits {
        openings: Rate::per_minute(4),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    for client in 0..4 {
        let mut profile = participant(1);
        profile.peer = peer(1, client % 2);
        join(&mut world, &profile);
    }
    let (socket, effects) = world.connect(&participant(1));
    // The client will retry; the existing peer stays.
    let later = CloseReason::Reconnect("this participant connects too often");
    assert_eq!(effects.closed, [(socket, later)]);
    let (Answer::Peers(_, present), _) = world.command(Command::ListPeers) else {
        panic!("a session")
    };
    assert_eq!(present.len(), 2);
    join(&mut world, &participant(2));
    world.advance(15_000);
    join(&mut world, &participant(1));
}

#[test]
fn a_broadcast_is_limited_in_total_size_and_drops_its_ids() {
    let limits = Limits {
        broadcast_bytes: 1_000,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let (one, two) = (
        join(&mut world, &participant(0)),
        join(&mut world, &participant(1)),
    );
    let message = BroadcastMessage {
        r#type: "hands".to_owned(),
        payload: Bytes::from_static(b"{}"),
        ids: vec![peer(1, 0).to_string()],
        ..BroadcastMessage::default()
    };
    let effects = world
        .request(one, event::BROADCAST_MESSAGE, &message)
        .effects;
    let push: BroadcastMessage = effects.only_frame(two, event::BROADCAST_MESSAGE);
    assert_eq!((push.ids.len(), push.payload), (0, message.payload.clone()));
    for large in [
        BroadcastMessage {
            r#type: "x".repeat(1_001),
            ..message.clone()
        },
        BroadcastMessage {
            ids: vec![user(1).to_string(); 30],
            ..message.clone()
        },
    ] {
        for event in [event::BROADCAST_MESSAGE, event::BROADCAST_TO_ENTITY] {
            assert_eq!(world.request(one, event, &large).code(), 413);
        }
    }
}

#[test]
fn a_peer_that_starts_to_see_a_large_audience_fetches_it_as_a_list() {
    let limits = Limits {
        individual_pushes: 3,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let boss = join(&mut world, &host(9));
    let watcher = join(&mut world, &viewer(0, ViewType::Livestream));
    for n in 1..=3 {
        join(&mut world, &viewer(n, ViewType::Livestream));
    }
    let set_privileged = |world: &mut World, on| {
        let patch = PresetUpdates {
            can_accept_production_requests: Some(on),
            ..PresetUpdates::default()
        };
        let update = update(0, patch);
        world
            .request(boss, event::UPDATE_USER_PRESET, &update)
            .effects
    };
    let on = set_privileged(&mut world, true);
    assert_eq!(on.frames_to(watcher, event::JOIN_ROOM).len(), 3);
    let off = set_privileged(&mut world, false);
    assert_eq!(off.frames_to(watcher, event::LEAVE_ROOM).len(), 3);
    join(&mut world, &viewer(4, ViewType::Livestream));
    let on = set_privileged(&mut world, true);
    assert_eq!(on.events(watcher), [event::UPDATE_USER_PRESET]);
    let roster: RoomPeersInfoResponse = world
        .request(watcher, event::GET_ROOM_PEERS_INFO, &())
        .reply(event::GET_ROOM_PEERS_INFO);
    assert_eq!(roster.peers.len(), 5);
    let off = set_privileged(&mut world, false);
    assert_eq!(off.events(watcher), [event::UPDATE_USER_PRESET]);
}

#[test]
fn the_waiting_list_is_sent_at_once_and_later_changes_are_batched() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let list = event::GET_WAITING_ROOM_REQUESTS;
    let waiting_lists = |effects: &Effects| {
        effects
            .frames_to(boss, list)
            .iter()
            .map(|list| list.decode())
            .collect()
    };
    let mut sizes = Vec::new();
    for n in 1..=20 {
        let (socket, _) = world.connect(&waiting(n, WaitingRoomType::SkipOnAccept));
        let lists: Vec<GetWaitingRoomRequests> =
            waiting_lists(&world.request(socket, event::JOIN_ROOM, &()).effects);
        sizes.extend(lists.iter().map(|list| list.requests.len()));
    }
    assert_eq!(sizes, [1]);
    for (ms, requests) in [(199, None), (1, Some(20)), (200, None)] {
        let lists: Vec<GetWaitingRoomRequests> = waiting_lists(&world.advance(ms));
        let sizes = lists.iter().map(|list| list.requests.len());
        assert!(sizes.eq(requests));
    }
}

#[test]
fn the_stored_chat_is_limited() {
    let limits = Limits {
        chat: Rate::per_minute(0),
        chat_stored_bytes: 1 << 20,
        chat_participant_bytes: 512 << 10,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let sockets: Vec<_> = (0..3).map(|n| join(&mut world, &host(n))).collect();
    let message_of = |letter: &str| {
        let payload = format!("{{\"a\":\"{}\"}}", letter.repeat((64 << 10) - 8));
        SendChatMessageToRoomRequest {
            payload_type: 3,
            payload,
        }
    };
    let stored = |world: &World| {
        let stored = world.records.chat.values().map(ChatMessage::stored_bytes);
        let stored = stored.sum::<u64>();
        assert_eq!(world.room.stored_chat_bytes(), stored);
        stored
    };
    // As many as the rate limit accepts in a minute: 11.8 MB.
    let send = |world: &mut World, n: usize| {
        let sent = world.request(sockets[n], event::SEND_MESSAGE_TO_ROOM, &message_of("x"));
        if sent.is_rejected() {
            assert_eq!((sent.code(), sent.effects.records.len()), (507, 0));
        }
        !sent.is_rejected()
    };
    let accepted = |world: &mut World, n: usize| (0..180).filter(|_| send(world, n)).count();
    assert_eq!([0, 1, 2].map(|n| accepted(&mut world, n)), [7, 7, 1]);
    assert!(stored(&world) <= 1 << 20, "{}", stored(&world));
    assert_eq!(world.room.take_refused_messages().len(), 3 * 180 - 15);
    // Edits that do not grow the chat are accepted, and deletions free space.
    let message_by = |world: &World, n: u8| {
        let mut stored = world.records.chat.values();
        stored
            .find(|message| message.participant == user(n))
            .expect("a message")
            .clone()
    };
    let edit = |chat_id: String, letter: &str, more: usize| EditChatMessageRequest {
        chat_id,
        payload: Some(format!(
            "{{\"a\":\"{}\"}}",
            letter.repeat((64 << 10) - 8 - more)
        )),
        ..EditChatMessageRequest::default()
    };
    let message = message_by(&world, 2).id.to_string();
    let try_edit = |world: &mut World, letter: &str, less: usize| {
        let edit = edit(message.clone(), letter, less);
        !world
            .request(sockets[2], event::EDIT_MESSAGE, &edit)
            .is_rejected()
    };
    let try_delete = |world: &mut World, n: u8, chat_id: String| {
        let delete = DeleteChatMessageRequest {
            chat_id,
            ..DeleteChatMessageRequest::default()
        };
        let socket = sockets[usize::from(n)];
        !world
            .request(socket, event::DELETE_MESSAGE, &delete)
            .is_rejected()
    };
    assert!(try_edit(&mut world, "y", 0));
    assert!(!send(&mut world, 2));
    assert!(try_edit(&mut world, "y", 60_000));
    assert!(send(&mut world, 2));
    assert!(!try_edit(&mut world, "z", 0), "the chat would grow again");
    assert!(try_delete(&mut world, 2, message.clone()));
    assert!(!send(&mut world, 2));
    stored(&world);
    // A participant does not regain quota by deleting messages.
    let other = message_by(&world, 0).id.to_string();
    assert!(try_delete(&mut world, 0, other));
    assert!(!send(&mut world, 0));
    let rejected = world.room.take_refused_messages();
    assert_eq!(rejected.last(), Some(&ChatFull::Participant));
    // When the server reports that storage is full, nothing is accepted.
    world.command(Command::ChatFull(Some(ChatFull::Disk)));
    assert!(!send(&mut world, 2));
    assert_eq!(world.room.take_refused_messages(), [ChatFull::Disk]);
    world.command(Command::ChatFull(None));
    assert!(send(&mut world, 2));
    stored(&world);
}
