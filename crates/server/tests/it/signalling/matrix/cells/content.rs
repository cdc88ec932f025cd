//! Permissions of the content of a meeting: chat, polls, plugins.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    EditChatMessageRequest, SendChatMessageToPeersRequest, SendChatMessageToRoomRequest,
};
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreInsertKeysRequest, StoreKeys,
};
use parlor_protocol::signal::socket::polls::{NewPollRequest, VotePollRequest};
use parlor_protocol::signal::socket::preset::{
    ChatPermissionUpdate, PluginsPermissionsUpdate, PollsPermissionUpdate, PresetUpdates,
    PrivateChatPermission, PublicChatPermission,
};
use parlor_testkit::signal::PLUGINS;
use serde_json::json;

use super::{Cell, cell};
use crate::signalling::matrix::fixture::Fixture;
use crate::signalling::meeting::send_message;

fn public_message(payload_type: i32) -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type,
        payload: payload(payload_type),
    }
}

fn payload(payload_type: i32) -> String {
    match payload_type {
        1 => "https://example.org/a.png".to_owned(),
        2 => json!({ "link": "https://example.org/a.pdf", "name": "a.pdf", "size": 5 }).to_string(),
        _ => "hello".to_owned(),
    }
}

fn public(permission: PublicChatPermission) -> PresetUpdates {
    let chat = ChatPermissionUpdate {
        public: Some(permission),
        private: None,
    };
    PresetUpdates {
        chat: Some(chat),
        ..PresetUpdates::default()
    }
}

pub(super) fn chat() -> Vec<Cell> {
    let no_send = || {
        Some(public(PublicChatPermission {
            can_send: Some(false),
            ..PublicChatPermission::default()
        }))
    };
    let no_text = || {
        Some(public(PublicChatPermission {
            text: Some(false),
            ..PublicChatPermission::default()
        }))
    };
    let no_files = || {
        Some(public(PublicChatPermission {
            files: Some(false),
            ..PublicChatPermission::default()
        }))
    };
    let without = |name: &str| json!({ "chat": { "public": { name: false } } });
    vec![
        cell!(
            "chat.public.can_send",
            "text to all",
            without("can_send"),
            no_send(),
            |fixture| event::SEND_MESSAGE_TO_ROOM,
            public_message(0)
        ),
        cell!(
            "chat.public.can_send",
            "picture to all",
            without("can_send"),
            no_send(),
            |fixture| event::SEND_MESSAGE_TO_ROOM,
            public_message(1)
        ),
        cell!(
            "chat.public.can_send",
            "file to all",
            without("can_send"),
            no_send(),
            |fixture| event::SEND_MESSAGE_TO_ROOM,
            public_message(2)
        ),
        cell!(
            "chat.public.text",
            "text to all",
            without("text"),
            no_text(),
            |fixture| event::SEND_MESSAGE_TO_ROOM,
            public_message(0)
        ),
        cell!(
            "chat.public.files",
            "picture to all",
            without("files"),
            no_files(),
            |fixture| event::SEND_MESSAGE_TO_ROOM,
            public_message(1)
        ),
        cell!(
            "chat.public.files",
            "file to all",
            without("files"),
            no_files(),
            |fixture| event::SEND_MESSAGE_TO_ROOM,
            public_message(2)
        ),
        // Editing must not turn an allowed text into a file that is not allowed.
        Cell {
            send: Box::new(|fixture| {
                Box::pin(async move {
                    let mine = send_message(&fixture.actor, "just text").await;
                    // The message itself is deleted below, so that it does not count as a change.
                    let edit = EditChatMessageRequest {
                        chat_id: mine.chat_id.clone(),
                        payload_type: Some(1),
                        payload: Some(payload(1)),
                        ..EditChatMessageRequest::default()
                    };
                    let refused = fixture.send_as_actor(event::EDIT_MESSAGE, &edit).await;
                    let delete = parlor_protocol::signal::socket::chat::DeleteChatMessageRequest {
                        chat_id: mine.chat_id,
                        channel_id: None,
                    };
                    if refused.is_some() {
                        fixture.send_as_actor(event::DELETE_MESSAGE, &delete).await;
                    }
                    refused
                })
            }),
            ..cell!(
                "chat.public.files",
                "text edited to a picture",
                without("files"),
                no_files(),
                |fixture| event::EDIT_MESSAGE,
                public_message(1)
            )
        },
    ]
}

pub(super) fn private_chat() -> Vec<Cell> {
    let private = |permission: PrivateChatPermission| {
        let chat = ChatPermissionUpdate {
            public: None,
            private: Some(permission),
        };
        Some(PresetUpdates {
            chat: Some(chat),
            ..PresetUpdates::default()
        })
    };
    let no_send = || {
        private(PrivateChatPermission {
            can_send: Some(false),
            ..PrivateChatPermission::default()
        })
    };
    let no_text = || {
        private(PrivateChatPermission {
            text: Some(false),
            ..PrivateChatPermission::default()
        })
    };
    let no_files = || {
        private(PrivateChatPermission {
            files: Some(false),
            ..PrivateChatPermission::default()
        })
    };
    let without = |name: &str| json!({ "chat": { "private": { name: false } } });
    let to_target = |fixture: &Fixture, payload_type: i32| SendChatMessageToPeersRequest {
        peer_ids: vec![
            fixture.target.id().to_owned(),
            fixture.actor.id().to_owned(),
        ],
        payload_type,
        payload: payload(payload_type),
    };
    vec![
        cell!(
            "chat.private.can_send",
            "private text",
            without("can_send"),
            no_send(),
            |fixture| event::SEND_MESSAGE_TO_PEERS,
            to_target(fixture, 0)
        ),
        cell!(
            "chat.private.can_send",
            "private picture",
            without("can_send"),
            no_send(),
            |fixture| event::SEND_MESSAGE_TO_PEERS,
            to_target(fixture, 1)
        ),
        cell!(
            "chat.private.text",
            "private text",
            without("text"),
            no_text(),
            |fixture| event::SEND_MESSAGE_TO_PEERS,
            to_target(fixture, 0)
        ),
        cell!(
            "chat.private.files",
            "private picture",
            without("files"),
            no_files(),
            |fixture| event::SEND_MESSAGE_TO_PEERS,
            to_target(fixture, 1)
        ),
        cell!(
            "chat.private.files",
            "private file",
            without("files"),
            no_files(),
            |fixture| event::SEND_MESSAGE_TO_PEERS,
            to_target(fixture, 2)
        ),
    ]
}

pub(super) fn polls() -> Vec<Cell> {
    let revokes = |polls: PollsPermissionUpdate| {
        Some(PresetUpdates {
            polls: Some(polls),
            ..PresetUpdates::default()
        })
    };
    let without = |name: &str| json!({ "polls": { name: false } });
    let new = || NewPollRequest {
        question: "!".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..NewPollRequest::default()
    };
    vec![
        cell!(
            "polls.can_create",
            "new poll",
            without("can_create"),
            revokes(PollsPermissionUpdate {
                can_create: Some(false),
                ..PollsPermissionUpdate::default()
            }),
            |fixture| event::CREATE_POLL,
            new()
        ),
        cell!(
            "polls.can_vote",
            "vote",
            without("can_vote"),
            revokes(PollsPermissionUpdate {
                can_vote: Some(false),
                ..PollsPermissionUpdate::default()
            }),
            |fixture| event::VOTE_POLL,
            VotePollRequest {
                poll_id: fixture.poll.poll_id.clone(),
                index: 0
            }
        ),
        cell!(
            "polls.can_view",
            "vote",
            without("can_view"),
            revokes(PollsPermissionUpdate {
                can_view: Some(false),
                ..PollsPermissionUpdate::default()
            }),
            |fixture| event::VOTE_POLL,
            VotePollRequest {
                poll_id: fixture.poll.poll_id.clone(),
                index: 0
            }
        ),
    ]
}

fn store_key(name: &str, payload: Option<&'static str>) -> StoreKeys {
    StoreKeys {
        store_key: name.to_owned(),
        payload: payload.map(Into::into),
    }
}

pub(super) fn plugins() -> Vec<Cell> {
    let revokes = |plugins: PluginsPermissionsUpdate| {
        Some(PresetUpdates {
            plugins: Some(plugins),
            ..PresetUpdates::default()
        })
    };
    let no_start = || {
        revokes(PluginsPermissionsUpdate {
            can_start: Some(false),
            ..PluginsPermissionsUpdate::default()
        })
    };
    let no_close = || {
        revokes(PluginsPermissionsUpdate {
            can_close: Some(false),
            ..PluginsPermissionsUpdate::default()
        })
    };
    let without = |name: &str| json!({ "plugins": { name: false } });
    let insert = |fixture: &Fixture, key: StoreKeys| PluginStoreInsertKeysRequest {
        plugin_id: fixture.meeting.id.clone(),
        store_name: PLUGINS.to_owned(),
        insert_keys: vec![key],
    };
    let delete = |fixture: &Fixture| PluginStoreDeleteKeysRequest {
        plugin_id: fixture.meeting.id.clone(),
        store_name: PLUGINS.to_owned(),
        delete_keys: vec![store_key("board", None)],
    };
    vec![
        cell!(
            "plugins.can_start",
            "start a plugin",
            without("can_start"),
            no_start(),
            |fixture| event::STORE_INSERT_KEYS,
            insert(fixture, store_key("quiz", Some(r#"{"id":"quiz"}"#)))
        ),
        cell!(
            "plugins.can_close",
            "close a plugin",
            without("can_close"),
            no_close(),
            |fixture| event::STORE_INSERT_KEYS,
            insert(fixture, store_key("board", Some("null")))
        ),
        cell!(
            "plugins.can_close",
            "delete a plugin's key",
            without("can_close"),
            no_close(),
            |fixture| event::STORE_DELETE_KEYS,
            delete(fixture)
        ),
    ]
}
