//! How much a room takes: from a person, whatever the number of their clients, and of everything that
//! is sent at once.

use bytes::Bytes;
use parlor_live::{
    Answer, ChatFull, ChatMessage, Closing, Command, ConnectionId, Limits, NewPoll, Rate,
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

use crate::people::{all, guest, host, peer, somebody, user, viewer, waiting};
use crate::permissions::update;
use crate::world::{Done, World, join};

fn question() -> NewPollRequest {
    NewPollRequest {
        question: "Which?".repeat(80),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..NewPollRequest::default()
    }
}

#[test]
fn new_polls_leave_room_for_votes_and_all_together_fit_in_one_reply() {
    let most = 6_200;
    let limits = Limits {
        poll_bytes: most,
        poll_rate: Rate::per_minute(0),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let sockets: Vec<_> = (0..2).map(|n| join(&mut world, &host(n))).collect();
    let one = sockets[0];
    let mut polls = Vec::new();
    let refused = loop {
        let made = world.ask(one, event::CREATE_POLL, &question());
        if made.refused() {
            break made;
        }
        let made: UpdatePollResponse = made.reply(event::CREATE_POLL);
        polls.push(made.poll.expect("a poll").poll_id);
        assert!(polls.len() < 10, "there is no bound");
    };
    assert_eq!((refused.code(), refused.done.kept.len()), (409, 0));
    assert_eq!(polls.len(), 7);
    let outside = NewPoll {
        question: question().question,
        options: vec!["a".repeat(100), "b".to_owned()],
        anonymous: false,
        hide_votes: false,
    };
    let (answer, _) = world.command(Command::Poll(outside));
    assert!(matches!(answer, Answer::Refused(no) if no.code == 409));
    // Everybody can vote on each of them.
    for poll in &polls {
        let vote = VotePollRequest {
            poll_id: poll.clone(),
            index: 0,
        };
        for socket in &sockets {
            assert!(!world.ask(*socket, event::VOTE_POLL, &vote).refused());
        }
    }
    let listed = |world: &mut World, socket| {
        let asked = world.ask(socket, event::GET_POLLS, &());
        asked.reply::<GetPollsResponse>(event::GET_POLLS)
    };
    assert!(listed(&mut world, one).encoded_len() > most / 2);
    // Nor do votes make more of it than one reply.
    let mut who = host(0);
    let refused = (10..200).find_map(|n| {
        (who.peer, who.participant) = (peer(n, 0), user(n));
        let socket = join(&mut world, &who);
        let vote = VotePollRequest {
            poll_id: polls[0].clone(),
            index: 0,
        };
        let before = listed(&mut world, one);
        let asked = world.ask(socket, event::VOTE_POLL, &vote);
        asked.refused().then_some((asked, before))
    });
    let (refused, before) = refused.expect("there is a bound");
    assert_eq!((refused.code(), refused.done.kept.len()), (409, 0));
    assert_eq!(listed(&mut world, one), before);
    assert!(before.encoded_len() <= most + 3 * polls.len());
    // Polls that are read again after a crash count as well.
    world.crash(world.now_ms);
    let one = join(&mut world, &host(0));
    assert_eq!(world.ask(one, event::CREATE_POLL, &question()).code(), 409);
}

#[test]
fn the_votes_of_a_moment_are_told_at_once() {
    let mut world = World::new(Limits::default());
    let sockets: Vec<_> = (0..5).map(|n| join(&mut world, &host(n))).collect();
    let made: UpdatePollResponse = world
        .ask(sockets[0], event::CREATE_POLL, &question())
        .reply(event::CREATE_POLL);
    let vote = VotePollRequest {
        poll_id: made.poll.expect("a poll").poll_id,
        index: 1,
    };
    for socket in &sockets {
        let done = world.ask(*socket, event::VOTE_POLL, &vote).done;
        assert_eq!(done.frames.len(), 1, "only the voter knows: {done:?}");
        assert_eq!(done.kept.len(), 1);
    }
    let done = world.pass(300);
    assert_eq!(done.frames.len(), sockets.len());
    for socket in sockets {
        let poll: UpdatePollResponse = done.one(socket, event::VOTE_POLL);
        assert_eq!(poll.poll.expect("a poll").votes.len(), 5);
    }
    assert!(world.pass(300).frames.is_empty());
}

/// Asks until it is refused; how often it was not.
fn taken(world: &mut World, socket: ConnectionId, event: u32, request: &impl Message) -> usize {
    let mut taken = 0;
    while !world.ask(socket, event, request).refused() {
        taken += 1;
        assert!(taken < 100, "{event} has no bound");
    }
    taken
}

#[test]
fn what_reaches_others_or_reads_much_is_bounded_for_each_person() {
    let few = Rate::per_second(10);
    let limits = Limits {
        changes: few,
        reads: few,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let [socket, other] = [0, 1].map(|n| join(&mut world, &somebody(n, ViewType::Webinar, all())));
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
        assert_eq!(taken(&mut world, socket, event, &()), 10, "{event}");
        world.pass(1_000);
    }
    let event = event::CREATE_TRANSPORT;
    assert_eq!(taken(&mut world, socket, event, &offer), 10);
    for event in [
        event::GET_ROOM_PEERS_INFO,
        event::GET_POLLS,
        event::GET_STAGE_REQUESTS,
        event::GET_ROOM_STAGE_STATE,
        event::GET_WAITING_ROOM_REQUESTS,
        event::GET_USER_PRESETS,
    ] {
        assert_eq!(taken(&mut world, socket, event, &()), 10, "{event}");
        // It is one bucket, and everybody has their own.
        assert!(world.ask(socket, event::GET_POLLS, &()).refused());
        assert!(!world.ask(other, event, &()).refused());
        world.pass(1_000);
    }
}

#[test]
fn rates_are_those_of_a_person_and_outlast_their_clients() {
    let limits = Limits {
        chat: Rate::per_minute(3),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    // Somebody else, so that the session goes on.
    join(&mut world, &host(9));
    let say = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "buy".to_owned(),
    };
    let mut said = 0;
    for client in 0..5 {
        let mut who = guest(1);
        who.peer = peer(1, client);
        let socket = join(&mut world, &who);
        said += usize::from(
            !world
                .ask(socket, event::SEND_MESSAGE_TO_ROOM, &say)
                .refused(),
        );
        if client % 2 == 0 {
            world.close(socket, true);
        }
    }
    assert_eq!(said, 3);
    let other = join(&mut world, &guest(2));
    assert!(
        !world
            .ask(other, event::SEND_MESSAGE_TO_ROOM, &say)
            .refused()
    );
}

#[test]
fn whoever_opens_sockets_all_the_time_has_to_wait() {
    let limits = Limits {
        openings: Rate::per_minute(4),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    for client in 0..4 {
        let mut who = guest(1);
        who.peer = peer(1, client % 2);
        join(&mut world, &who);
    }
    let (socket, done) = world.connect(&guest(1));
    // Its client tries again, and the peer that it is stays.
    let later = Closing::Again("this person connects too often");
    assert_eq!(done.closed, [(socket, later)]);
    let (Answer::Who(_, present), _) = world.command(Command::Who) else {
        panic!("a session")
    };
    assert_eq!(present.len(), 2);
    join(&mut world, &guest(2));
    world.pass(15_000);
    join(&mut world, &guest(1));
}

#[test]
fn a_broadcast_is_measured_as_a_whole_and_tells_nobody_of_ids_that_mean_nothing() {
    let limits = Limits {
        broadcast_bytes: 1_000,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let (one, two) = (join(&mut world, &guest(0)), join(&mut world, &guest(1)));
    let message = BroadcastMessage {
        r#type: "hands".to_owned(),
        payload: Bytes::from_static(b"{}"),
        ids: vec![peer(1, 0).to_string()],
        ..BroadcastMessage::default()
    };
    let done = world.ask(one, event::BROADCAST_MESSAGE, &message).done;
    let told: BroadcastMessage = done.one(two, event::BROADCAST_MESSAGE);
    assert_eq!((told.ids.len(), told.payload), (0, message.payload.clone()));
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
            assert_eq!(world.ask(one, event, &large).code(), 413);
        }
    }
}

#[test]
fn whoever_comes_to_see_a_large_audience_asks_for_it_and_is_not_told_one_by_one() {
    let limits = Limits {
        one_by_one: 3,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let boss = join(&mut world, &host(9));
    let watches = join(&mut world, &viewer(0, ViewType::Livestream));
    for n in 1..=3 {
        join(&mut world, &viewer(n, ViewType::Livestream));
    }
    let decides = |world: &mut World, on| {
        let patch = PresetUpdates {
            can_accept_production_requests: Some(on),
            ..PresetUpdates::default()
        };
        let update = update(0, patch);
        world.ask(boss, event::UPDATE_USER_PRESET, &update).done
    };
    let on = decides(&mut world, true);
    assert_eq!(on.of(watches, event::JOIN_ROOM).len(), 3);
    let off = decides(&mut world, false);
    assert_eq!(off.of(watches, event::LEAVE_ROOM).len(), 3);
    join(&mut world, &viewer(4, ViewType::Livestream));
    let on = decides(&mut world, true);
    assert_eq!(on.events(watches), [event::UPDATE_USER_PRESET]);
    let roster: RoomPeersInfoResponse = world
        .ask(watches, event::GET_ROOM_PEERS_INFO, &())
        .reply(event::GET_ROOM_PEERS_INFO);
    assert_eq!(roster.peers.len(), 5);
    let off = decides(&mut world, false);
    assert_eq!(off.events(watches), [event::UPDATE_USER_PRESET]);
}

#[test]
fn the_list_of_those_who_wait_is_told_at_once_and_then_of_many_together() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let list = event::GET_WAITING_ROOM_REQUESTS;
    let told = |done: &Done| done.of(boss, list).iter().map(|list| list.read()).collect();
    let mut sizes = Vec::new();
    for n in 1..=20 {
        let (socket, _) = world.connect(&waiting(n, WaitingRoomType::SkipOnAccept));
        let lists: Vec<GetWaitingRoomRequests> =
            told(&world.ask(socket, event::JOIN_ROOM, &()).done);
        sizes.extend(lists.iter().map(|list| list.requests.len()));
    }
    assert_eq!(sizes, [1]);
    for (ms, requests) in [(199, None), (1, Some(20)), (200, None)] {
        let lists: Vec<GetWaitingRoomRequests> = told(&world.pass(ms));
        let sizes = lists.iter().map(|list| list.requests.len());
        assert!(sizes.eq(requests));
    }
}

#[test]
fn a_chat_takes_no_more_of_the_records_than_it_may() {
    let limits = Limits {
        chat: Rate::per_minute(0),
        chat_stored_bytes: 1 << 20,
        chat_person_bytes: 512 << 10,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let sockets: Vec<_> = (0..3).map(|who| join(&mut world, &host(who))).collect();
    let custom = |letter: &str| {
        let payload = format!("{{\"a\":\"{}\"}}", letter.repeat((64 << 10) - 8));
        SendChatMessageToRoomRequest {
            payload_type: 3,
            payload,
        }
    };
    let stored = |world: &World| {
        let kept = world.kept.chat.values().map(ChatMessage::stored_bytes);
        let kept = kept.sum::<u64>();
        assert_eq!(world.room.stored_chat_bytes(), kept);
        kept
    };
    // As many as the rate lets through in a minute: 11.8 MB.
    let say = |world: &mut World, who: usize| {
        let said = world.ask(sockets[who], event::SEND_MESSAGE_TO_ROOM, &custom("x"));
        if said.refused() {
            assert_eq!((said.code(), said.done.kept.len()), (507, 0));
        }
        !said.refused()
    };
    let accepted = |world: &mut World, who: usize| (0..180).filter(|_| say(world, who)).count();
    assert_eq!([0, 1, 2].map(|who| accepted(&mut world, who)), [7, 7, 1]);
    assert!(stored(&world) <= 1 << 20, "{}", stored(&world));
    assert_eq!(world.room.take_refused_messages().len(), 3 * 180 - 15);
    // What does not grow is taken, what is taken back makes room.
    let mine = |world: &World, who: u8| {
        let mut kept = world.kept.chat.values();
        kept.find(|message| message.participant == user(who))
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
    let message = mine(&world, 2).id.to_string();
    let edits = |world: &mut World, letter: &str, less: usize| {
        let edit = edit(message.clone(), letter, less);
        !world.ask(sockets[2], event::EDIT_MESSAGE, &edit).refused()
    };
    let deletes = |world: &mut World, who: u8, chat_id: String| {
        let delete = DeleteChatMessageRequest {
            chat_id,
            ..DeleteChatMessageRequest::default()
        };
        let socket = sockets[usize::from(who)];
        !world.ask(socket, event::DELETE_MESSAGE, &delete).refused()
    };
    assert!(edits(&mut world, "y", 0));
    assert!(!say(&mut world, 2));
    assert!(edits(&mut world, "y", 60_000));
    assert!(say(&mut world, 2));
    assert!(!edits(&mut world, "z", 0), "it would grow again");
    assert!(deletes(&mut world, 2, message.clone()));
    assert!(!say(&mut world, 2));
    stored(&world);
    // Whoever has had their share does not get another one by deleting what they wrote.
    let other = mine(&world, 0).id.to_string();
    assert!(deletes(&mut world, 0, other));
    assert!(!say(&mut world, 0));
    let refused = world.room.take_refused_messages();
    assert_eq!(refused.last(), Some(&ChatFull::Person));
    // When the server says so, nothing is taken.
    world.command(Command::ChatFull(Some(ChatFull::Disk)));
    assert!(!say(&mut world, 2));
    assert_eq!(world.room.take_refused_messages(), [ChatFull::Disk]);
    world.command(Command::ChatFull(None));
    assert!(say(&mut world, 2));
    stored(&world);
}
