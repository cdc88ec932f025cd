//! Chat reads are done in slices: the results are complete, and other requests are served in
//! between.

use parlor_live::{ConnectionId, Limits};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    ChatMessage, GetChatMessagesResponse, GetPaginatedChatMessageFilters,
    GetPaginatedChatMessageRoomRequest, GetPaginatedChatMessageRoomResponse,
    SearchChatMessagesRequest, SendChatMessageToPeersRequest, SendChatMessageToRoomRequest,
};
use prost::Message;

use crate::participants::host;
use crate::slices::limits;
use crate::world::{World, join};

/// Fills the chat to the limit, with letters whose length changes with their case.
fn fill_chat(world: &mut World, from: ConnectionId) {
    let chat_request = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "İ".repeat(2_000),
    };
    for _ in 0..2_000 {
        let sent = world.send_raw(from, event::SEND_MESSAGE_TO_ROOM, None, &chat_request);
        assert!(!sent.frames[0].is_error());
    }
}

pub(crate) fn search() -> SearchChatMessagesRequest {
    SearchChatMessagesRequest {
        // Matches nowhere, but only fails late at each position.
        search_term: "i\u{307}".repeat(200) + "x",
        time_stamp: u64::MAX >> 1,
        size: 500,
        reversed: true,
        ..SearchChatMessagesRequest::default()
    }
}

#[test]
fn a_full_search_is_done_in_slices_and_others_are_served_in_between() {
    let limits = Limits {
        chat_held_bytes: 4 << 20,
        ..limits()
    };
    let mut world = World::new(limits.clone());
    let one = join(&mut world, &host(0));
    let two = join(&mut world, &host(1));
    fill_chat(&mut world, two);
    let number = event::SEARCH_CHANNEL_MESSAGES;
    let mut outcome = world.request(one, number, &search());
    assert!(outcome.replies.is_empty() && world.request(one, number, &search()).code() == 429);
    let mut slices = 1;
    while outcome.effects.frames_to(one, number).is_empty() {
        // The cost of a slice in units of 64 bytes, and of matching each message.
        assert!(
            world.room.cost() < limits.search_bytes / 64 + 1_000,
            "{}",
            world.room.cost()
        );
        let other = world.request(two, event::GET_ROOM_INFO, &());
        assert_eq!(other.replies.len(), 1);
        outcome.effects = world.advance(1);
        slices += 1;
        assert!(slices < 100, "the read never completes");
    }
    assert!(slices > 8, "{slices} slices of four megabytes");
    let found: GetChatMessagesResponse = outcome.effects.only_frame(one, number);
    assert_eq!(found.messages.len(), 0);
    assert!(!world.request(one, number, &search()).is_rejected());
}

#[test]
fn a_search_in_slices_finds_every_match() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        ..limits()
    });
    let socket = join(&mut world, &host(0));
    for text in ["one İ", "two", "three i\u{307}", "four"] {
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: text.to_owned(),
        };
        world.send_raw(socket, event::SEND_MESSAGE_TO_ROOM, None, &chat_request);
        world.advance(5);
    }
    let number = event::SEARCH_CHANNEL_MESSAGES;
    for (reversed, wanted) in [
        (true, ["three i\u{307}", "one İ"]),
        (false, ["one İ", "three i\u{307}"]),
    ] {
        let request = SearchChatMessagesRequest {
            search_term: "İ".to_owned(),
            time_stamp: if reversed { u64::MAX >> 1 } else { 0 },
            reversed,
            ..SearchChatMessagesRequest::default()
        };
        let mut effects = world.request(socket, number, &request).effects;
        while effects.frames_to(socket, number).is_empty() {
            assert!(world.room.next_deadline().is_some());
            effects = world.advance(1);
        }
        let found: GetChatMessagesResponse = effects.only_frame(socket, number);
        let texts: Vec<_> = found
            .messages
            .iter()
            .map(|it| it.payload.as_str())
            .collect();
        assert_eq!(texts, wanted);
    }
}

/// Requests messages and waits for all slices. Returns the number of slices.
fn read<M: Message + Default>(
    world: &mut World,
    from: ConnectionId,
    event: u32,
    request: &impl Message,
) -> (M, usize) {
    let (mut effects, mut slices) = (world.request(from, event, request).effects, 1);
    while effects.frames_to(from, event).is_empty() {
        assert!(slices < 100, "the read never completes");
        (effects, slices) = (world.advance(1), slices + 1);
    }
    (effects.only_frame(from, event), slices)
}

#[test]
fn history_and_pages_read_in_slices_are_complete() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        chat_history: 3,
        ..limits()
    });
    let sockets = [0, 1, 2].map(|n| join(&mut world, &host(n)));
    let to = |n| SendChatMessageToPeersRequest {
        peer_ids: vec![host(n).peer.to_string()],
        payload_type: 0,
        payload: format!("to {n}"),
    };
    for n in 0..4 {
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: format!("all {n}"),
        };
        world.send_raw(sockets[0], event::SEND_MESSAGE_TO_ROOM, None, &chat_request);
        world.send_raw(sockets[0], event::SEND_MESSAGE_TO_PEERS, None, &to(1));
        world.send_raw(sockets[0], event::SEND_MESSAGE_TO_PEERS, None, &to(2));
    }
    let texts = |messages: Vec<ChatMessage>| {
        let texts = messages.into_iter().map(|message| message.payload);
        texts.collect::<Vec<_>>().join(", ")
    };
    let (history, slices) = read(&mut world, sockets[1], event::GET_MESSAGES, &());
    let history: GetChatMessagesResponse = history;
    assert_eq!(texts(history.messages), "to 1, all 3, to 1");
    assert!(slices > 3, "{slices}");
    let with = host(1).participant.to_string();
    for (reversed, size, wanted, next) in [
        (true, 3, "to 1, to 1, to 1", true),
        (false, 4, "to 1, to 1, to 1, to 1", false),
    ] {
        let page = GetPaginatedChatMessageRoomRequest {
            time_stamp: if reversed { u64::MAX >> 1 } else { 0 },
            size,
            reversed,
            filters: Some(GetPaginatedChatMessageFilters {
                filters: Some(Filters::UserId(with.clone())),
            }),
            ..GetPaginatedChatMessageRoomRequest::default()
        };
        let number = event::GET_PAGINATED_MESSAGES;
        let (found, slices) = read(&mut world, sockets[0], number, &page);
        let found: GetPaginatedChatMessageRoomResponse = found;
        assert_eq!((&*texts(found.messages), found.next), (wanted, next));
        assert!(slices > 3, "{slices}");
        // A bystander is not notified.
        let (found, _) = read(&mut world, sockets[2], number, &page);
        let found: GetPaginatedChatMessageRoomResponse = found;
        assert_eq!((found.messages.len(), found.next), (0, false));
    }
}

#[test]
fn concurrent_reads_of_a_participant_are_limited() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        ..limits()
    });
    let [one, two] = [0, 1].map(|n| join(&mut world, &host(n)));
    for _ in 0..10 {
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: "x".to_owned(),
        };
        world.send_raw(one, event::SEND_MESSAGE_TO_ROOM, None, &chat_request);
    }
    let send = |world: &mut World, from| world.request(from, event::GET_MESSAGES, &());
    let open = (0..10).take_while(|_| send(&mut world, one).replies.is_empty());
    assert_eq!(open.count(), 4);
    assert_eq!(send(&mut world, one).code(), 429);
    assert!(send(&mut world, two).replies.is_empty());
    let accepted: usize = (0..100)
        .map(|_| world.advance(1).frames_to(one, event::GET_MESSAGES).len())
        .sum();
    assert_eq!(accepted, 4);
    assert!(!send(&mut world, one).is_rejected());
}

#[test]
fn messages_sent_while_the_history_is_read_are_included() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        ..limits()
    });
    let one = join(&mut world, &host(0));
    let two = join(&mut world, &host(1));
    let chat_request = |world: &mut World, text: &str| {
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: text.to_owned(),
        };
        let sent = world.send_raw(two, event::SEND_MESSAGE_TO_ROOM, None, &chat_request);
        assert!(!sent.frames[0].is_error());
    };
    for text in ["one", "two", "three"] {
        chat_request(&mut world, text);
        world.advance(5);
    }
    let number = event::GET_MESSAGES;
    let mut outcome = world.request(one, number, &());
    assert!(outcome.replies.is_empty(), "the read takes only one slice");
    chat_request(&mut world, "four");
    let mut slices = 0;
    while outcome.effects.frames_to(one, number).is_empty() {
        outcome.effects = world.advance(1);
        slices += 1;
        assert!(slices < 100, "the read never completes");
    }
    let read: GetChatMessagesResponse = outcome.effects.only_frame(one, number);
    let texts: Vec<String> = read.messages.into_iter().map(|sent| sent.payload).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
}
