//! Single rules of the protocol (docs/spec/signalling.md 1.5 and 6).

use bytes::Bytes;
use parlor_live::{Answer, Command, Limits, NewPoll, ParticipantRef, Rate};
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

use crate::participants::{all, host, participant, participant_with, peer, user, viewer, waiting};
use crate::world::{World, join, meeting};

fn participants(numbers: &[u8]) -> AcceptWaitingRoomRequests {
    AcceptWaitingRoomRequests {
        user_ids: numbers.iter().map(|n| user(*n).to_string()).collect(),
    }
}

fn chat_request(text: &str) -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: text.to_owned(),
    }
}

#[test]
fn a_repeated_kick_removes_once_and_has_no_reply() {
    let mut world = World::new(Limits::default());
    let (boss, victim, third) = (
        join(&mut world, &host(0)),
        join(&mut world, &participant(1)),
        join(&mut world, &participant(2)),
    );
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![peer(1, 0).to_string()],
    };
    let first = world.request(boss, event::KICK, &kick);
    assert_eq!(first.effects.events(victim), [event::KICK]);
    assert_eq!(first.effects.events(third), [event::LEAVE_ROOM]);
    assert_eq!(first.effects.events(boss), [event::LEAVE_ROOM]);
    let second = world.request(boss, event::KICK, &kick);
    assert!(first.replies.is_empty() && second.replies.is_empty());
    assert!(second.effects.frames.is_empty() && second.effects.records.is_empty());
    // The room closes the connection if the client does not.
    assert_eq!(world.advance(5_000).closed[0].0, victim);
}

#[test]
fn kicking_all_includes_the_caller_and_ends_the_session() {
    let mut world = World::new(Limits::default());
    let (boss, other) = (
        join(&mut world, &host(0)),
        join(&mut world, &participant(1)),
    );
    let (waiting_peer, _) = world.connect(&waiting(2, WaitingRoomType::SkipOnAccept));
    world.request(waiting_peer, event::JOIN_ROOM, &());
    let request = KickAllPeersRequest {
        propagate_kick_across_rooms: true,
    };
    let effects = world.request(boss, event::KICK_ALL, &request).effects;
    for socket in [boss, other, waiting_peer] {
        assert_eq!(effects.events(socket), [event::KICK_ALL]);
    }
    assert_eq!(effects.delegated.len(), 1);
    assert!(world.records.live().is_none());
    let ended = world.records.sessions.values().next().expect("a session");
    assert_eq!((ended.ended_ms, ended.live), (Some(world.now_ms), 0));
    // The next join starts another session.
    join(&mut world, &host(0));
    assert_eq!(world.records.sessions.len(), 2);
}

#[test]
fn leaving_the_stage_replies_with_a_status_and_removing_another_with_its_own_event() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &participant_with(0, ViewType::Webinar, all()));
    let mine = join(&mut world, &participant_with(1, ViewType::Webinar, all()));
    let up: PeerStatusUpdate = world
        .request(mine, event::JOIN_STAGE, &())
        .reply(event::PEER_STAGE_STATUS_UPDATE);
    assert_eq!(up.stage_type(), StageType::OnStage);
    let down = |n| LeaveStageRequest {
        user_ids: vec![user(n).to_string()],
    };
    let kicked = world.request(boss, event::LEAVE_STAGE, &down(1));
    let _: LeaveStageRequest = kicked.reply(event::LEAVE_STAGE);
    let push: PeerStatusUpdate = kicked
        .effects
        .only_frame(mine, event::PEER_STAGE_STATUS_UPDATE);
    assert_eq!(
        (push.stage_type(), push.peer_id),
        (StageType::OffStage, peer(1, 0).to_string())
    );
    // The client of the removed participant leaves the stage itself then.
    let left: PeerStatusUpdate = world
        .request(mine, event::LEAVE_STAGE, &down(1))
        .reply(event::PEER_STAGE_STATUS_UPDATE);
    assert_eq!(left.stage_type(), StageType::OffStage);
}

#[test]
fn a_viewer_of_a_livestream_sees_only_the_stage() {
    let mut world = World::new(Limits::default());
    let watcher = join(&mut world, &viewer(1, ViewType::Livestream));
    let (boss, effects) = world.connect(&participant_with(0, ViewType::GroupCall, all()));
    assert!(effects.frames.is_empty());
    // A peer of a call without a stage is on stage from the start.
    let effects = world.request(boss, event::JOIN_ROOM, &()).effects;
    assert_eq!(effects.events(watcher), [event::JOIN_ROOM]);
    let star = join(&mut world, &participant_with(2, ViewType::Webinar, all()));
    let up = world.request(star, event::JOIN_STAGE, &()).effects;
    assert_eq!(up.events(watcher), [event::JOIN_ROOM]);
    assert_eq!(up.events(boss), [event::PEER_STAGE_STATUS_UPDATE]);
    let other = join(&mut world, &viewer(3, ViewType::Livestream));
    assert!(
        world
            .request(other, event::REQUEST_STAGE_ACCESS, &())
            .effects
            .frames_to(watcher, event::PEER_STAGE_STATUS_UPDATE)
            .is_empty()
    );
}

#[test]
fn a_privileged_join_admits_only_those_who_wait_for_it() {
    let mut world = World::new(Limits::default());
    let (one, _) = world.connect(&waiting(1, WaitingRoomType::OnPrivilegedUserEntry));
    let (two, _) = world.connect(&waiting(2, WaitingRoomType::SkipOnAccept));
    for socket in [one, two] {
        let me: PeerInfoResponse = world
            .request(socket, event::JOIN_ROOM, &())
            .reply(event::JOIN_ROOM);
        assert!(me.peer.expect("a peer").waitlisted);
    }
    let room: RoomInfoResponse = world
        .request(one, event::GET_ROOM_INFO, &())
        .reply(event::GET_ROOM_INFO);
    assert_eq!(
        room.room.expect("a room").created_at,
        0,
        "the session has not started"
    );
    let (boss, _) = world.connect(&host(0));
    let effects = world.request(boss, event::JOIN_ROOM, &()).effects;
    assert_eq!(effects.events(one), [event::WAITING_ROOM_REQUEST_ACCEPTED]);
    assert!(effects.events(two).is_empty());
    let me: PeerInfoResponse = world
        .request(one, event::JOIN_ROOM, &())
        .reply(event::JOIN_ROOM);
    assert!(!me.peer.expect("a peer").waitlisted);
}

#[test]
fn a_missed_admission_is_repeated() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let profile = waiting(1, WaitingRoomType::SkipOnAccept);
    let (socket, _) = world.connect(&profile);
    world.request(socket, event::JOIN_ROOM, &());
    world.close(socket, false);
    world.advance(10_000);
    assert!(
        !world
            .request(
                boss,
                event::ACCEPT_WAITING_ROOM_REQUESTS,
                &participants(&[1])
            )
            .is_rejected()
    );
    let (socket, effects) = world.connect(&profile);
    assert_eq!(
        effects.events(socket),
        [event::WAITING_ROOM_REQUEST_ACCEPTED]
    );
    assert!(!world.request(socket, event::JOIN_ROOM, &()).is_rejected());
}

#[test]
fn rejected_peers_are_notified_and_disconnected_later() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let (socket, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    world.request(socket, event::JOIN_ROOM, &());
    let effects = world
        .request(boss, event::DENY_WAITING_ROOM_REQUESTS, &participants(&[1]))
        .effects;
    assert_eq!(effects.events(socket), [event::WAITING_ROOM_REQUEST_DENIED]);
    assert!(world.advance(59_999).closed.is_empty());
    let closed = world.advance(1).closed;
    assert_eq!((closed[0].0, closed[0].1.code()), (socket, 1000));
}

#[test]
fn a_second_connection_replaces_the_first_without_a_departure() {
    let mut world = World::new(Limits::default());
    let watcher = join(&mut world, &host(0));
    let old = join(&mut world, &participant(1));
    let (new, effects) = world.connect(&participant(1));
    assert_eq!(
        (effects.closed[0].0, effects.closed[0].1.code()),
        (old, 1000)
    );
    assert!(world.close(old, true).frames.is_empty());
    let again = world.request(new, event::JOIN_ROOM, &());
    assert!(
        !again.is_rejected()
            && again.effects.records.is_empty()
            && again.effects.events(watcher).is_empty()
    );
    assert!(world.advance(100_000).frames.is_empty());
}

#[test]
fn a_lost_peer_stays_for_the_grace_period_and_its_time_ends_at_the_loss() {
    let mut world = World::new(Limits::default());
    let watcher = join(&mut world, &host(0));
    let socket = join(&mut world, &participant(1));
    world.advance(1_000);
    world.close(socket, false);
    assert!(world.advance(44_999).frames.is_empty());
    assert_eq!(world.advance(1).events(watcher), [event::LEAVE_ROOM]);
    let record = world
        .records
        .peers
        .values()
        .find(|record| record.peer == peer(1, 0));
    assert_eq!(record.expect("a record").consumed_ms, 1_000);
    // It reconnects later as the same peer.
    join(&mut world, &participant(1));
    assert_eq!(world.records.live().expect("a session").total, 2);
}

#[test]
fn a_session_ends_after_being_empty_for_its_keep_alive() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &participant(1));
    world.close(socket, true);
    world.advance(59_999);
    assert!(world.records.live().is_some());
    let ended_ms = world.now_ms + 1;
    // The end time is exact even if the room is woken late.
    world.advance(500);
    let session = world.records.sessions.values().next().expect("a session");
    assert_eq!(session.ended_ms, Some(ended_ms));
    assert_eq!(world.room.next_deadline(), None);
    assert!(world.room.is_finished());
}

#[test]
fn an_anonymous_poll_of_the_rest_api_hides_its_voters() {
    let mut world = World::new(Limits::default());
    let (one, two) = (
        join(&mut world, &host(0)),
        join(&mut world, &participant(1)),
    );
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
    let voted = world.request(two, event::VOTE_POLL, &vote);
    let mine: UpdatePollResponse = voted.reply(event::VOTE_POLL);
    assert_eq!(voted.effects.frames.len(), 1);
    // Others are notified of several votes at once.
    let theirs: UpdatePollResponse = world.advance(300).only_frame(one, event::VOTE_POLL);
    for poll in [mine, theirs] {
        let poll = poll.poll.expect("a poll");
        assert_eq!(
            (poll.options[0].count, poll.options[1].count),
            (Some(0), Some(1))
        );
        assert!(poll.options.iter().all(|option| option.votes.is_empty()));
    }
    assert_eq!(world.request(two, event::VOTE_POLL, &vote).code(), 409);
}

#[test]
fn chat_pages_include_their_start_time_in_both_directions() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &participant(1));
    let mut times = Vec::new();
    for text in ["a", "b", "c", "d"] {
        let sent: SendChatMessageToRoomResponse = world
            .request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request(text))
            .reply(event::SEND_MESSAGE_TO_ROOM);
        times.push(sent.message.expect("a message").created_at_ms());
    }
    let mut page = |reversed, size| {
        let request = GetPaginatedChatMessageRoomRequest {
            time_stamp: times[1],
            size,
            reversed,
            ..Default::default()
        };
        let page: GetPaginatedChatMessageRoomResponse = world
            .request(socket, event::GET_PAGINATED_MESSAGES, &request)
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
fn a_store_deletion_is_announced_with_its_sender_and_without_content() {
    let mut world = World::new(Limits::default());
    let [one, two] = [1, 2].map(|n| join(&mut world, &participant(n)));
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
    assert!(
        !world
            .request(one, event::STORE_INSERT_KEYS, &set)
            .is_rejected()
    );
    let remove = PluginStoreDeleteKeysRequest {
        plugin_id,
        store_name,
        delete_keys: vec![key("a"), key("a"), key("nothing")],
    };
    let outcome = world.request(two, event::STORE_DELETE_KEYS, &remove);
    let push: PluginStoreResponse = outcome.effects.only_frame(one, event::STORE_DELETE_KEYS);
    let [item] = push.store_items.as_slice() else {
        panic!("{push:?}")
    };
    assert_eq!((&*item.store_key, item.payload.len()), ("a", 0));
    assert_eq!(item.peer_id, peer(2, 0).to_string());
    assert_eq!(
        outcome.reply::<PluginStoreResponse>(event::STORE_DELETE_KEYS),
        push
    );
    assert_eq!(outcome.effects.records.len(), 1);
}

#[test]
fn invalid_store_names_and_keys_are_rejected() {
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
                .request(socket, event::STORE_INSERT_KEYS, &insert(store, key))
                .code(),
            400
        );
    }
    assert!(
        !world
            .request(socket, event::STORE_INSERT_KEYS, &insert("a", "b"))
            .is_rejected()
    );
    assert_eq!(
        world
            .request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request("a\0"))
            .code(),
        400
    );
    let rename = parlor_protocol::signal::media::edge::PeerDisplayNameEditRequest {
        participant_id: String::new(),
        display_name: "a\0".to_owned(),
    };
    assert!(
        world
            .request(socket, event::CHANGE_DISPLAY_NAME, &rename)
            .is_rejected()
    );
}

#[test]
fn rate_limits_reject_until_time_has_passed() {
    let limits = Limits {
        chat: Rate::per_minute(3),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let socket = join(&mut world, &participant(1));
    for _ in 0..3 {
        assert!(
            !world
                .request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request("a"))
                .is_rejected()
        );
    }
    assert_eq!(
        world
            .request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request("a"))
            .code(),
        429
    );
    world.advance(20_000);
    assert!(
        !world
            .request(socket, event::SEND_MESSAGE_TO_ROOM, &chat_request("a"))
            .is_rejected()
    );
    assert_eq!(world.records.chat.len(), 4);
}

#[test]
fn a_kick_by_the_rest_api_removes_every_client_of_a_participant() {
    let mut world = World::of(meeting(), Limits::default());
    let mut second = participant(1);
    second.peer = peer(1, 1);
    let (one, two) = (join(&mut world, &participant(1)), join(&mut world, &second));
    let unknown = ParticipantRef::CustomId("unknown".to_owned());
    let (answer, _) = world.command(Command::Kick(vec![unknown]));
    assert_eq!(answer, Answer::NotFound("unknown".to_owned()));
    let (answer, effects) = world.command(Command::Kick(vec![ParticipantRef::CustomId(
        "ext-1".to_owned(),
    )]));
    assert_eq!(answer, Answer::Participants(vec![user(1)]));
    assert_eq!(
        [effects.events(one), effects.events(two)],
        [[event::KICK], [event::KICK]]
    );
}

#[test]
fn a_hidden_participant_is_not_shown_after_a_crash_either() {
    let mut world = World::new(Limits::default());
    let mut hidden = participant(1);
    hidden.permissions.hidden_participant = true;
    join(&mut world, &hidden);
    join(&mut world, &host(0));
    world.crash(world.now_ms);
    let socket = join(&mut world, &host(0));
    let (_, effects) = world.command(Command::MuteAll {
        allow_unmute: false,
    });
    assert!(effects.frames_to(socket, event::JOIN_ROOM).is_empty());
    let (_, effects) = world.connect(&hidden);
    assert!(effects.events(socket).is_empty());
    let (Answer::Peers(Some(session), present), _) = world.command(Command::ListPeers) else {
        panic!("a session")
    };
    assert_eq!((session.live, present.len()), (2, 2));
}

#[test]
fn a_participant_listed_twice_is_kicked_once_and_found_by_either_id() {
    let mut world = World::of(meeting(), Limits::default());
    let (one, two) = (
        join(&mut world, &participant(1)),
        join(&mut world, &participant(2)),
    );
    let twice = vec![
        ParticipantRef::Id(user(1)),
        ParticipantRef::CustomId("ext-1".to_owned()),
        ParticipantRef::CustomId("unknown".to_owned()),
        ParticipantRef::Id(user(1)),
    ];
    let (answer, _) = world.command(Command::FindPeers(twice.clone()));
    let Answer::Peers(Some(_), present) = answer else {
        panic!("{answer:?}");
    };
    let present: Vec<_> = present
        .into_iter()
        .map(|peer| (peer.participant, peer.token_expires))
        .collect();
    assert_eq!(present, [(user(1), Some(participant(1).token_expires))]);
    // An absent participant does not prevent the others from being kicked.
    let (answer, effects) = world.command(Command::KickIfPresent(vec![user(1), user(1), user(7)]));
    assert_eq!(answer, Answer::Participants(vec![user(1)]));
    assert_eq!(effects.events(one), [event::KICK]);
    assert!(!effects.events(two).contains(&event::KICK));
}

#[test]
fn a_token_counts_while_its_peer_is_connected() {
    let mut world = World::of(meeting(), Limits::default());
    let socket = join(&mut world, &participant(1));
    let find_peers = || Command::FindPeers(vec![ParticipantRef::Id(user(1))]);
    let expiries = |world: &mut World| match world.command(find_peers()).0 {
        Answer::Peers(_, present) => present
            .into_iter()
            .map(|peer| peer.token_expires)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(expiries(&mut world), [Some(participant(1).token_expires)]);
    world.close(socket, false);
    assert_eq!(expiries(&mut world), [None]);
    let mut newer = participant(1);
    newer.token_expires += 500;
    world.connect(&newer);
    assert_eq!(expiries(&mut world), [Some(newer.token_expires)]);
}
