//! The chat is read in slices: what is found is what is there, and others are served between.

use parlor_live::{ConnectionId, Limits};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    ChatMessage, GetChatMessagesResponse, GetPaginatedChatMessageFilters,
    GetPaginatedChatMessageRoomRequest, GetPaginatedChatMessageRoomResponse,
    SearchChatMessagesRequest, SendChatMessageToPeersRequest, SendChatMessageToRoomRequest,
};
use prost::Message;

use crate::people::host;
use crate::slices::limits;
use crate::world::{World, join};

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

pub(crate) fn search() -> SearchChatMessagesRequest {
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

/// Asks for messages, and waits for all slices; in how many.
fn read<M: Message + Default>(
    world: &mut World,
    from: ConnectionId,
    event: u32,
    request: &impl Message,
) -> (M, usize) {
    let (mut done, mut slices) = (world.ask(from, event, request).done, 1);
    while done.of(from, event).is_empty() {
        assert!(slices < 100, "it never ends");
        (done, slices) = (world.pass(1), slices + 1);
    }
    (done.one(from, event), slices)
}

#[test]
fn history_and_pages_that_are_read_in_slices_are_those_of_the_chat() {
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
        let say = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: format!("all {n}"),
        };
        world.raw(sockets[0], event::SEND_MESSAGE_TO_ROOM, None, &say);
        world.raw(sockets[0], event::SEND_MESSAGE_TO_PEERS, None, &to(1));
        world.raw(sockets[0], event::SEND_MESSAGE_TO_PEERS, None, &to(2));
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
        // A bystander sees nothing of it.
        let (found, _) = read(&mut world, sockets[2], number, &page);
        let found: GetPaginatedChatMessageRoomResponse = found;
        assert_eq!((found.messages.len(), found.next), (0, false));
    }
}

#[test]
fn so_many_readings_of_a_person_are_under_way_at_once_and_not_more() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        ..limits()
    });
    let [one, two] = [0, 1].map(|n| join(&mut world, &host(n)));
    for _ in 0..10 {
        let say = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: "x".to_owned(),
        };
        world.raw(one, event::SEND_MESSAGE_TO_ROOM, None, &say);
    }
    let ask = |world: &mut World, from| world.ask(from, event::GET_MESSAGES, &());
    let open = (0..10).take_while(|_| ask(&mut world, one).replies.is_empty());
    assert_eq!(open.count(), 4);
    assert_eq!(ask(&mut world, one).code(), 429);
    assert!(ask(&mut world, two).replies.is_empty());
    let told: usize = (0..100)
        .map(|_| world.pass(1).of(one, event::GET_MESSAGES).len())
        .sum();
    assert_eq!(told, 4);
    assert!(!ask(&mut world, one).refused());
}

#[test]
fn what_is_said_while_the_history_is_read_is_in_it() {
    let mut world = World::new(Limits {
        search_bytes: 1,
        ..limits()
    });
    let one = join(&mut world, &host(0));
    let two = join(&mut world, &host(1));
    let say = |world: &mut World, text: &str| {
        let say = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: text.to_owned(),
        };
        let said = world.raw(two, event::SEND_MESSAGE_TO_ROOM, None, &say);
        assert!(!said.frames[0].is_error());
    };
    for text in ["one", "two", "three"] {
        say(&mut world, text);
        world.pass(5);
    }
    let number = event::GET_MESSAGES;
    let mut asked = world.ask(one, number, &());
    assert!(asked.replies.is_empty(), "it takes one slice only");
    say(&mut world, "four");
    let mut slices = 0;
    while asked.done.of(one, number).is_empty() {
        asked.done = world.pass(1);
        slices += 1;
        assert!(slices < 100, "it never ends");
    }
    let read: GetChatMessagesResponse = asked.done.one(one, number);
    let texts: Vec<String> = read.messages.into_iter().map(|said| said.payload).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
}
