//! Chat.

use parlor_live::{ConnectionId, Limits};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, EditChatMessageRequest, GetPaginatedChatMessageFilters,
    GetPaginatedChatMessageRoomRequest, PinChatMessageRequest, SendChatMessageToPeersRequest,
    SendChatMessageToPeersResponse, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};

use super::{Costs, LargeMeeting, RUNS, ids};
use crate::chat_reads::search;
use crate::costs::one_of_many;
use crate::participants::all;
use crate::slices::limits;
use crate::world::World;

pub(super) fn send(costs: &mut Costs) {
    long_messages(costs);
    many_messages(costs);
    private_messages(costs);
}

/// JSON of 64 KiB, with letters whose length changes with their case.
fn custom() -> String {
    format!("{{\"message\":\"{}\"}}", "\u{130}".repeat((32 << 10) - 8))
}

fn chat_request(world: &mut World, from: ConnectionId, payload_type: i32, payload: &str) -> String {
    let chat_request = SendChatMessageToRoomRequest {
        payload_type,
        payload: payload.to_owned(),
    };
    let outcome = world.request(from, event::SEND_MESSAGE_TO_ROOM, &chat_request);
    let sent: SendChatMessageToRoomResponse = outcome.reply(event::SEND_MESSAGE_TO_ROOM);
    sent.message.expect("a message").chat_id
}

fn page(filters: Option<Filters>) -> GetPaginatedChatMessageRoomRequest {
    GetPaginatedChatMessageRoomRequest {
        time_stamp: u64::MAX >> 1,
        reversed: true,
        filters: filters.map(|filters| GetPaginatedChatMessageFilters {
            filters: Some(filters),
        }),
        ..GetPaginatedChatMessageRoomRequest::default()
    }
}

/// As many bytes as a room stores.
fn long_messages(costs: &mut Costs) {
    let LargeMeeting {
        mut world,
        boss,
        others,
    } = LargeMeeting::call();
    let world = &mut world;
    for _ in 0..2_600 {
        chat_request(world, boss, 0, &"\u{130}".repeat(2_000));
    }
    costs.send_repeatedly(
        "2,000 characters each",
        world,
        others[0],
        event::GET_MESSAGES,
        &(),
    );
    let event = event::GET_PAGINATED_MESSAGES;
    costs.send_repeatedly(
        "2,000 characters each",
        world,
        others[0],
        event,
        &page(None),
    );
    let event = event::SEARCH_CHANNEL_MESSAGES;
    costs.send_repeatedly("2,000 characters each", world, others[0], event, &search());
    for _ in 0..RUNS {
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: 3,
            payload: custom(),
        };
        costs.send(
            "64 KiB",
            world,
            boss,
            event::SEND_MESSAGE_TO_ROOM,
            &chat_request,
        );
        let chat_request = SendChatMessageToPeersRequest {
            peer_ids: ids(|profile| profile.peer),
            payload_type: 3,
            payload: custom(),
        };
        costs.send(
            "64 KiB to 199",
            world,
            boss,
            event::SEND_MESSAGE_TO_PEERS,
            &chat_request,
        );
        let chat_id = self::chat_request(world, boss, 3, &custom());
        let edit = EditChatMessageRequest {
            chat_id: chat_id.clone(),
            payload: Some(custom().replacen("message", "html", 1)),
            ..EditChatMessageRequest::default()
        };
        costs.send("64 KiB", world, boss, event::EDIT_MESSAGE, &edit);
        let pin = PinChatMessageRequest {
            chat_id: chat_id.clone(),
            pinned: true,
            ..PinChatMessageRequest::default()
        };
        costs.send("64 KiB", world, boss, event::PIN_MESSAGE, &pin);
        let delete = DeleteChatMessageRequest {
            chat_id,
            ..DeleteChatMessageRequest::default()
        };
        costs.send("64 KiB", world, boss, event::DELETE_MESSAGE, &delete);
    }
}

/// As many messages as a room stores.
fn many_messages(costs: &mut Costs) {
    let limits = Limits {
        chat_held: 10_000,
        ..limits()
    };
    let LargeMeeting {
        mut world,
        boss,
        others,
    } = LargeMeeting::of(limits, ViewType::GroupCall, |_| {});
    let world = &mut world;
    let sent: Vec<String> = (0..10_000)
        .map(|_| chat_request(world, boss, 0, "x"))
        .collect();
    costs.send_repeatedly(
        "10,000 short ones",
        world,
        others[0],
        event::GET_MESSAGES,
        &(),
    );
    let event = event::GET_PAGINATED_MESSAGES;
    let pinned = page(Some(Filters::Pinned(true)));
    costs.send_repeatedly("none of 10,000", world, others[0], event, &pinned);
    let event = event::SEARCH_CHANNEL_MESSAGES;
    costs.send_repeatedly("10,000 short ones", world, others[0], event, &search());
    for n in 0..RUNS {
        let chat_id = sent[5_000 + n].clone();
        let delete = DeleteChatMessageRequest {
            chat_id,
            ..DeleteChatMessageRequest::default()
        };
        costs.send("one of 10,000", world, boss, event::DELETE_MESSAGE, &delete);
    }
}

/// Number of private messages to many: as many as a room stores, or fewer where times are
/// meaningless.
const PRIVATE: usize = if cfg!(debug_assertions) {
    2_500
} else {
    10_000
};

fn private_messages(costs: &mut Costs) {
    let LargeMeeting {
        mut world,
        boss,
        others,
    } = LargeMeeting::of(limits(), ViewType::GroupCall, |profile| {
        profile.permissions = all();
    });
    let world = &mut world;
    let mut peer_ids = ids(|profile| profile.peer);
    peer_ids.truncate(100);
    let chat_request = SendChatMessageToPeersRequest {
        peer_ids,
        payload_type: 0,
        payload: "x".to_owned(),
    };
    for _ in 0..PRIVATE {
        let outcome = world.request(boss, event::SEND_MESSAGE_TO_PEERS, &chat_request);
        let _: SendChatMessageToPeersResponse = outcome.reply(event::SEND_MESSAGE_TO_PEERS);
    }
    let what = "messages to 100 participants";
    costs.send_repeatedly(what, world, boss, event::GET_MESSAGES, &());
    let event = event::GET_PAGINATED_MESSAGES;
    costs.send_repeatedly(what, world, boss, event, &page(None));
    let other = one_of_many(150).participant.to_string();
    let with = page(Some(Filters::UserId(other)));
    costs.send_repeatedly("no conversation in those", world, others[0], event, &with);
    let event = event::SEARCH_CHANNEL_MESSAGES;
    costs.send_repeatedly(what, world, others[150], event, &search());
}
