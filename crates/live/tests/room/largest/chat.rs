//! The chat.

use parlor_live::{ConnectionId, Limits};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, EditChatMessageRequest, GetPaginatedChatMessageFilters,
    GetPaginatedChatMessageRoomRequest, PinChatMessageRequest, SendChatMessageToPeersRequest,
    SendChatMessageToPeersResponse, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};

use super::{Costs, Crowd, RUNS, ids};
use crate::costs::one_of_many;
use crate::people::all;
use crate::readings::search;
use crate::slices::limits;
use crate::world::World;

pub(super) fn send(costs: &mut Costs) {
    long_messages(costs);
    many_messages(costs);
    private_messages(costs);
}

/// JSON of 64 KiB, each letter of which changes when its case does.
fn custom() -> String {
    format!("{{\"message\":\"{}\"}}", "\u{130}".repeat((32 << 10) - 8))
}

fn say(world: &mut World, from: ConnectionId, payload_type: i32, payload: &str) -> String {
    let say = SendChatMessageToRoomRequest {
        payload_type,
        payload: payload.to_owned(),
    };
    let asked = world.ask(from, event::SEND_MESSAGE_TO_ROOM, &say);
    let said: SendChatMessageToRoomResponse = asked.reply(event::SEND_MESSAGE_TO_ROOM);
    said.message.expect("a message").chat_id
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

/// As many bytes as a room holds.
fn long_messages(costs: &mut Costs) {
    let Crowd {
        mut world,
        boss,
        others,
    } = Crowd::call();
    let world = &mut world;
    for _ in 0..2_600 {
        say(world, boss, 0, &"\u{130}".repeat(2_000));
    }
    costs.send_often(
        "2,000 characters each",
        world,
        others[0],
        event::GET_MESSAGES,
        &(),
    );
    let event = event::GET_PAGINATED_MESSAGES;
    costs.send_often(
        "2,000 characters each",
        world,
        others[0],
        event,
        &page(None),
    );
    let event = event::SEARCH_CHANNEL_MESSAGES;
    costs.send_often("2,000 characters each", world, others[0], event, &search());
    for _ in 0..RUNS {
        let say = SendChatMessageToRoomRequest {
            payload_type: 3,
            payload: custom(),
        };
        costs.send("64 KiB", world, boss, event::SEND_MESSAGE_TO_ROOM, &say);
        let say = SendChatMessageToPeersRequest {
            peer_ids: ids(|who| who.peer),
            payload_type: 3,
            payload: custom(),
        };
        costs.send(
            "64 KiB to 199",
            world,
            boss,
            event::SEND_MESSAGE_TO_PEERS,
            &say,
        );
        let chat_id = self::say(world, boss, 3, &custom());
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

/// As many messages as a room holds.
fn many_messages(costs: &mut Costs) {
    let limits = Limits {
        chat_held: 10_000,
        ..limits()
    };
    let Crowd {
        mut world,
        boss,
        others,
    } = Crowd::of(limits, ViewType::GroupCall, |_| {});
    let world = &mut world;
    let said: Vec<String> = (0..10_000).map(|_| say(world, boss, 0, "x")).collect();
    costs.send_often(
        "10,000 short ones",
        world,
        others[0],
        event::GET_MESSAGES,
        &(),
    );
    let event = event::GET_PAGINATED_MESSAGES;
    let pinned = page(Some(Filters::Pinned(true)));
    costs.send_often("none of 10,000", world, others[0], event, &pinned);
    let event = event::SEARCH_CHANNEL_MESSAGES;
    costs.send_often("10,000 short ones", world, others[0], event, &search());
    for n in 0..RUNS {
        let chat_id = said[5_000 + n].clone();
        let delete = DeleteChatMessageRequest {
            chat_id,
            ..DeleteChatMessageRequest::default()
        };
        costs.send("one of 10,000", world, boss, event::DELETE_MESSAGE, &delete);
    }
}

/// Messages for many: as many as a room holds, or fewer where times say nothing.
const PRIVATE: usize = if cfg!(debug_assertions) {
    2_500
} else {
    10_000
};

fn private_messages(costs: &mut Costs) {
    let Crowd {
        mut world,
        boss,
        others,
    } = Crowd::of(limits(), ViewType::GroupCall, |who| who.permissions = all());
    let world = &mut world;
    let mut peer_ids = ids(|who| who.peer);
    peer_ids.truncate(100);
    let say = SendChatMessageToPeersRequest {
        peer_ids,
        payload_type: 0,
        payload: "x".to_owned(),
    };
    for _ in 0..PRIVATE {
        let asked = world.ask(boss, event::SEND_MESSAGE_TO_PEERS, &say);
        let _: SendChatMessageToPeersResponse = asked.reply(event::SEND_MESSAGE_TO_PEERS);
    }
    let what = "those to 100 people";
    costs.send_often(what, world, boss, event::GET_MESSAGES, &());
    let event = event::GET_PAGINATED_MESSAGES;
    costs.send_often(what, world, boss, event, &page(None));
    let nobody = one_of_many(150).participant.to_string();
    let with = page(Some(Filters::UserId(nobody)));
    costs.send_often("no conversation in those", world, others[0], event, &with);
    let event = event::SEARCH_CHANNEL_MESSAGES;
    costs.send_often(what, world, others[150], event, &search());
}
