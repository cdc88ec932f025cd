//! Single rules that would be costly to break (docs/spec/signalling.md 1.5 and 6).

use bytes::Bytes;
use parlor_live::{Answer, Command, Limits, NewPoll, Person, Rate};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::chat::{
    GetPaginatedChatMessageRoomRequest, GetPaginatedChatMessageRoomResponse,
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_protocol::signal::socket::livestreaming::LeaveStageRequest;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreInsertKeysRequest, PluginStoreResponse, StoreKeys,
};
use parlor_protocol::signal::socket::polls::{UpdatePollResponse, VotePollRequest};
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, PeerInfoResponse, PeerStatusUpdate, RemoveParticipantsRequest,
    RoomInfoResponse, StageType,
};

use crate::people::{all, guest, host, peer, somebody, user, viewer, waiting};
use crate::world::{World, join, meeting};

fn people(numbers: &[u8]) -> AcceptWaitingRoomRequests {
    AcceptWaitingRoomRequests {
        user_ids: numbers.iter().map(|n| user(*n).to_string()).collect(),
    }
}

fn say(text: &str) -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: text.to_owned(),
    }
}

#[test]
fn a_kick_that_comes_twice_removes_once_and_is_never_answered() {
    let mut world = World::new(Limits::default());
    let (boss, victim, third) = (
        join(&mut world, &host(0)),
        join(&mut world, &guest(1)),
        join(&mut world, &guest(2)),
    );
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![peer(1, 0).to_string()],
    };
    let first = world.ask(boss, event::KICK, &kick);
    assert_eq!(first.done.events(victim), [event::KICK]);
    assert_eq!(first.done.events(third), [event::LEAVE_ROOM]);
    assert_eq!(first.done.events(boss), [event::LEAVE_ROOM]);
    let second = world.ask(boss, event::KICK, &kick);
    assert!(first.replies.is_empty() && second.replies.is_empty());
    assert!(second.done.frames.is_empty() && second.done.kept.is_empty());
    // A client that does not close its socket by itself is helped.
    assert_eq!(world.pass(5_000).closed[0].0, victim);
}

#[test]
fn kicking_everybody_reaches_the_caller_and_ends_the_session() {
    let mut world = World::new(Limits::default());
    let (boss, other) = (join(&mut world, &host(0)), join(&mut world, &guest(1)));
    let (waits, _) = world.connect(&waiting(2, WaitingRoomType::SkipOnAccept));
    world.ask(waits, event::JOIN_ROOM, &());
    let request = KickAllPeersRequest {
        propagate_kick_across_rooms: true,
    };
    let done = world.ask(boss, event::KICK_ALL, &request).done;
    for socket in [boss, other, waits] {
        assert_eq!(done.events(socket), [event::KICK_ALL]);
    }
    assert_eq!(done.delegated.len(), 1);
    assert!(world.kept.live().is_none());
    let ended = world.kept.sessions.values().next().expect("a session");
    assert_eq!((ended.ended_ms, ended.live), (Some(world.now_ms), 0));
    // The next join begins another.
    join(&mut world, &host(0));
    assert_eq!(world.kept.sessions.len(), 2);
}

#[test]
fn leaving_the_stage_is_answered_as_a_status_and_sending_somebody_down_as_itself() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &somebody(0, ViewType::Webinar, all()));
    let mine = join(&mut world, &somebody(1, ViewType::Webinar, all()));
    let up: PeerStatusUpdate = world
        .ask(mine, event::JOIN_STAGE, &())
        .reply(event::PEER_STAGE_STATUS_UPDATE);
    assert_eq!(up.stage_type(), StageType::OnStage);
    let down = |n| LeaveStageRequest {
        user_ids: vec![user(n).to_string()],
    };
    let kicked = world.ask(boss, event::LEAVE_STAGE, &down(1));
    let _: LeaveStageRequest = kicked.reply(event::LEAVE_STAGE);
    let told: PeerStatusUpdate = kicked.done.one(mine, event::PEER_STAGE_STATUS_UPDATE);
    assert_eq!(
        (told.stage_type(), told.peer_id),
        (StageType::OffStage, peer(1, 0).to_string())
    );
    // The client of the victim leaves by itself then.
    let left: PeerStatusUpdate = world
        .ask(mine, event::LEAVE_STAGE, &down(1))
        .reply(event::PEER_STAGE_STATUS_UPDATE);
    assert_eq!(left.stage_type(), StageType::OffStage);
}

#[test]
fn a_viewer_of_a_livestream_sees_only_the_stage() {
    let mut world = World::new(Limits::default());
    let watches = join(&mut world, &viewer(1, ViewType::Livestream));
    let (boss, done) = world.connect(&somebody(0, ViewType::GroupCall, all()));
    assert!(done.frames.is_empty());
    // A peer of a call without a stage is on it from the beginning.
    let done = world.ask(boss, event::JOIN_ROOM, &()).done;
    assert_eq!(done.events(watches), [event::JOIN_ROOM]);
    let star = join(&mut world, &somebody(2, ViewType::Webinar, all()));
    let up = world.ask(star, event::JOIN_STAGE, &()).done;
    assert_eq!(up.events(watches), [event::JOIN_ROOM]);
    assert_eq!(up.events(boss), [event::PEER_STAGE_STATUS_UPDATE]);
    let other = join(&mut world, &viewer(3, ViewType::Livestream));
    assert!(
        world
            .ask(other, event::REQUEST_STAGE_ACCESS, &())
            .done
            .of(watches, event::PEER_STAGE_STATUS_UPDATE)
            .is_empty()
    );
}

#[test]
fn a_privileged_entry_lets_in_only_those_who_wait_for_that() {
    let mut world = World::new(Limits::default());
    let (one, _) = world.connect(&waiting(1, WaitingRoomType::OnPrivilegedUserEntry));
    let (two, _) = world.connect(&waiting(2, WaitingRoomType::SkipOnAccept));
    for socket in [one, two] {
        let me: PeerInfoResponse = world
            .ask(socket, event::JOIN_ROOM, &())
            .reply(event::JOIN_ROOM);
        assert!(me.peer.expect("a peer").waitlisted);
    }
    let room: RoomInfoResponse = world
        .ask(one, event::GET_ROOM_INFO, &())
        .reply(event::GET_ROOM_INFO);
    assert_eq!(
        room.room.expect("a room").created_at,
        0,
        "nothing has started"
    );
    let (boss, _) = world.connect(&host(0));
    let done = world.ask(boss, event::JOIN_ROOM, &()).done;
    assert_eq!(done.events(one), [event::WAITING_ROOM_REQUEST_ACCEPTED]);
    assert!(done.events(two).is_empty());
    let me: PeerInfoResponse = world
        .ask(one, event::JOIN_ROOM, &())
        .reply(event::JOIN_ROOM);
    assert!(!me.peer.expect("a peer").waitlisted);
}

#[test]
fn an_invitation_that_was_missed_is_repeated() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let who = waiting(1, WaitingRoomType::SkipOnAccept);
    let (socket, _) = world.connect(&who);
    world.ask(socket, event::JOIN_ROOM, &());
    world.close(socket, false);
    world.pass(10_000);
    assert!(
        !world
            .ask(boss, event::ACCEPT_WAITING_ROOM_REQUESTS, &people(&[1]))
            .refused()
    );
    let (socket, done) = world.connect(&who);
    assert_eq!(done.events(socket), [event::WAITING_ROOM_REQUEST_ACCEPTED]);
    assert!(!world.ask(socket, event::JOIN_ROOM, &()).refused());
}

#[test]
fn those_who_were_turned_away_learn_it_and_lose_their_socket_later() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let (socket, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    world.ask(socket, event::JOIN_ROOM, &());
    let done = world
        .ask(boss, event::DENY_WAITING_ROOM_REQUESTS, &people(&[1]))
        .done;
    assert_eq!(done.events(socket), [event::WAITING_ROOM_REQUEST_DENIED]);
    assert!(world.pass(59_999).closed.is_empty());
    let closed = world.pass(1).closed;
    assert_eq!((closed[0].0, closed[0].1.code()), (socket, 1000));
}

#[test]
fn a_second_socket_replaces_the_first_and_nobody_leaves() {
    let mut world = World::new(Limits::default());
    let watches = join(&mut world, &host(0));
    let old = join(&mut world, &guest(1));
    let (new, done) = world.connect(&guest(1));
    assert_eq!((done.closed[0].0, done.closed[0].1.code()), (old, 1000));
    assert!(world.close(old, true).frames.is_empty());
    let again = world.ask(new, event::JOIN_ROOM, &());
    assert!(
        !again.refused() && again.done.kept.is_empty() && again.done.events(watches).is_empty()
    );
    assert!(world.pass(100_000).frames.is_empty());
}

#[test]
fn a_peer_that_is_lost_stays_for_the_grace_and_its_time_ends_when_it_was_lost() {
    let mut world = World::new(Limits::default());
    let watches = join(&mut world, &host(0));
    let socket = join(&mut world, &guest(1));
    world.pass(1_000);
    world.close(socket, false);
    assert!(world.pass(44_999).frames.is_empty());
    assert_eq!(world.pass(1).events(watches), [event::LEAVE_ROOM]);
    let record = world
        .kept
        .peers
        .values()
        .find(|record| record.peer == peer(1, 0));
    assert_eq!(record.expect("a record").consumed_ms, 1_000);
    // It comes back later, as the peer that it was.
    join(&mut world, &guest(1));
    assert_eq!(world.kept.live().expect("a session").total, 2);
}

#[test]
fn a_session_ends_when_it_was_empty_for_its_keep_alive() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &guest(1));
    world.close(socket, true);
    world.pass(59_999);
    assert!(world.kept.live().is_some());
    let ended_ms = world.now_ms + 1;
    // Also when the room is woken too late.
    world.pass(500);
    let session = world.kept.sessions.values().next().expect("a session");
    assert_eq!(session.ended_ms, Some(ended_ms));
    assert_eq!(world.room.wake_at(), None);
    assert!(world.room.is_over());
}

#[test]
fn nobody_learns_who_voted_in_an_anonymous_poll_of_the_rest_api() {
    let mut world = World::new(Limits::default());
    let (one, two) = (join(&mut world, &host(0)), join(&mut world, &guest(1)));
    let poll = NewPoll {
        question: "Which?".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        anonymous: true,
        hide_votes: false,
    };
    let (Answer::Poll(poll), _) = world.command(Command::Poll(poll)) else {
        panic!("a poll")
    };
    let vote = VotePollRequest {
        poll_id: poll.poll_id,
        index: 1,
    };
    let voted = world.ask(two, event::VOTE_POLL, &vote);
    let mine: UpdatePollResponse = voted.reply(event::VOTE_POLL);
    assert_eq!(voted.done.frames.len(), 1);
    // Others learn of all the votes of a moment at once.
    let theirs: UpdatePollResponse = world.pass(300).one(one, event::VOTE_POLL);
    for poll in [mine, theirs] {
        let poll = poll.poll.expect("a poll");
        assert_eq!(
            (poll.options[0].count, poll.options[1].count),
            (Some(0), Some(1))
        );
        assert!(poll.options.iter().all(|option| option.votes.is_empty()));
    }
    assert_eq!(world.ask(two, event::VOTE_POLL, &vote).code(), 409);
}

#[test]
fn pages_of_the_chat_hold_the_time_they_start_at_in_both_directions() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &guest(1));
    let mut times = Vec::new();
    for text in ["a", "b", "c", "d"] {
        let said: SendChatMessageToRoomResponse = world
            .ask(socket, event::SEND_MESSAGE_TO_ROOM, &say(text))
            .reply(event::SEND_MESSAGE_TO_ROOM);
        times.push(said.message.expect("a message").created_at_ms());
    }
    let mut page = |reversed, size| {
        let ask = GetPaginatedChatMessageRoomRequest {
            time_stamp: times[1],
            size,
            reversed,
            ..Default::default()
        };
        let page: GetPaginatedChatMessageRoomResponse = world
            .ask(socket, event::GET_PAGINATED_MESSAGES, &ask)
            .reply(event::GET_PAGINATED_MESSAGES);
        (
            page.messages
                .into_iter()
                .map(|message| message.payload)
                .collect::<String>(),
            page.next,
        )
    };
    assert_eq!(page(true, 9), ("ba".to_owned(), false));
    assert_eq!(page(false, 9), ("bcd".to_owned(), false));
    assert_eq!(page(false, 2), ("bc".to_owned(), true));
}

#[test]
fn what_is_removed_from_a_store_is_told_with_who_removed_it_and_without_its_content() {
    let mut world = World::new(Limits::default());
    let [one, two] = [1, 2].map(|n| join(&mut world, &guest(n)));
    let key = |key: &str| StoreKeys {
        store_key: key.to_owned(),
        payload: Some(Bytes::from_static(b"[1]")),
    };
    let (plugin_id, store_name) = ("p".to_owned(), "s".to_owned());
    let set = PluginStoreInsertKeysRequest {
        plugin_id: plugin_id.clone(),
        store_name: store_name.clone(),
        insert_keys: vec![key("b"), key("a")],
    };
    assert!(!world.ask(one, event::STORE_INSERT_KEYS, &set).refused());
    let remove = PluginStoreDeleteKeysRequest {
        plugin_id,
        store_name,
        delete_keys: vec![key("a"), key("a"), key("nothing")],
    };
    let asked = world.ask(two, event::STORE_DELETE_KEYS, &remove);
    let told: PluginStoreResponse = asked.done.one(one, event::STORE_DELETE_KEYS);
    let [item] = told.store_items.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((&*item.store_key, item.payload.len()), ("a", 0));
    assert_eq!(item.peer_id, peer(2, 0).to_string());
    assert_eq!(
        asked.reply::<PluginStoreResponse>(event::STORE_DELETE_KEYS),
        told
    );
    assert_eq!(asked.done.kept.len(), 1);
}

#[test]
fn names_that_would_break_the_records_are_refused() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &host(1));
    let insert = |store: &str, key: &str| PluginStoreInsertKeysRequest {
        plugin_id: "meeting".to_owned(),
        store_name: store.to_owned(),
        insert_keys: vec![StoreKeys {
            store_key: key.to_owned(),
            payload: Some(Bytes::from_static(b"1")),
        }],
    };
    for (store, key) in [("a\u{1F}b", "c"), ("a", "b\u{1F}c"), ("a", "\0")] {
        assert_eq!(
            world
                .ask(socket, event::STORE_INSERT_KEYS, &insert(store, key))
                .code(),
            400
        );
    }
    assert!(
        !world
            .ask(socket, event::STORE_INSERT_KEYS, &insert("a", "b"))
            .refused()
    );
    assert_eq!(
        world
            .ask(socket, event::SEND_MESSAGE_TO_ROOM, &say("a\0"))
            .code(),
        400
    );
    let rename = parlor_protocol::signal::media::edge::PeerDisplayNameEditRequest {
        participant_id: String::new(),
        display_name: "a\0".to_owned(),
    };
    assert!(
        world
            .ask(socket, event::CHANGE_DISPLAY_NAME, &rename)
            .refused()
    );
}

#[test]
fn what_is_too_much_is_refused_until_time_has_passed() {
    let limits = Limits {
        chat: Rate::per_minute(3),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let socket = join(&mut world, &guest(1));
    for _ in 0..3 {
        assert!(
            !world
                .ask(socket, event::SEND_MESSAGE_TO_ROOM, &say("a"))
                .refused()
        );
    }
    assert_eq!(
        world
            .ask(socket, event::SEND_MESSAGE_TO_ROOM, &say("a"))
            .code(),
        429
    );
    world.pass(20_000);
    assert!(
        !world
            .ask(socket, event::SEND_MESSAGE_TO_ROOM, &say("a"))
            .refused()
    );
    assert_eq!(world.kept.chat.len(), 4);
}

#[test]
fn a_kick_by_the_rest_api_takes_every_client_of_a_person() {
    let mut world = World::of(meeting(), Limits::default());
    let mut second = guest(1);
    second.peer = peer(1, 1);
    let (one, two) = (join(&mut world, &guest(1)), join(&mut world, &second));
    let nobody = Person::CustomId("nobody".to_owned());
    let (answer, _) = world.command(Command::Kick(vec![nobody]));
    assert_eq!(answer, Answer::Nobody("nobody".to_owned()));
    let (answer, done) = world.command(Command::Kick(vec![Person::CustomId("ext-1".to_owned())]));
    assert_eq!(answer, Answer::People(vec![user(1)]));
    assert_eq!(
        [done.events(one), done.events(two)],
        [[event::KICK], [event::KICK]]
    );
}

#[test]
fn a_hidden_participant_is_not_shown_after_a_crash_either() {
    let mut world = World::new(Limits::default());
    let mut hidden = guest(1);
    hidden.permissions.hidden_participant = true;
    join(&mut world, &hidden);
    join(&mut world, &host(0));
    world.crash(world.now_ms);
    let socket = join(&mut world, &host(0));
    let (_, done) = world.command(Command::MuteAll {
        allow_unmute: false,
    });
    assert!(done.of(socket, event::JOIN_ROOM).is_empty());
    let (_, done) = world.connect(&hidden);
    assert!(done.events(socket).is_empty());
    let (Answer::Who(Some(session), present), _) = world.command(Command::Who) else {
        panic!("a session")
    };
    assert_eq!((session.live, present.len()), (2, 2));
}

#[test]
fn whoever_is_named_twice_is_kicked_once_and_found_by_either_name() {
    let mut world = World::of(meeting(), Limits::default());
    let (one, two) = (join(&mut world, &guest(1)), join(&mut world, &guest(2)));
    let twice = vec![
        Person::Id(user(1)),
        Person::CustomId("ext-1".to_owned()),
        Person::CustomId("nobody".to_owned()),
        Person::Id(user(1)),
    ];
    let (answer, _) = world.command(Command::Present(twice.clone()));
    let Answer::Who(Some(_), present) = answer else {
        panic!("{answer:?}");
    };
    let present: Vec<_> = present
        .into_iter()
        .map(|peer| (peer.participant, peer.token_expires))
        .collect();
    assert_eq!(present, [(user(1), Some(guest(1).token_expires))]);
    // Whoever is not here is no reason to keep the others.
    let (answer, done) = world.command(Command::KickPresent(vec![user(1), user(1), user(7)]));
    assert_eq!(answer, Answer::People(vec![user(1)]));
    assert_eq!(done.events(one), [event::KICK]);
    assert!(!done.events(two).contains(&event::KICK));
}

#[test]
fn a_token_counts_while_its_peer_has_a_socket() {
    let mut world = World::of(meeting(), Limits::default());
    let socket = join(&mut world, &guest(1));
    let asked = || Command::Present(vec![Person::Id(user(1))]);
    let expiries = |world: &mut World| match world.command(asked()).0 {
        Answer::Who(_, present) => present
            .into_iter()
            .map(|peer| peer.token_expires)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(expiries(&mut world), [Some(guest(1).token_expires)]);
    world.close(socket, false);
    assert_eq!(expiries(&mut world), [None]);
    let mut newer = guest(1);
    newer.token_expires += 500;
    world.connect(&newer);
    assert_eq!(expiries(&mut world), [Some(newer.token_expires)]);
}
