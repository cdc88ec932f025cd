//! Chat (docs/spec/signalling.md 6.6).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    ChatMessage, DeleteChatMessageRequest, DeleteChatMessageResponse, EditChatMessageRequest,
    EditChatMessageResponse, GetChatMessagesResponse, GetPaginatedChatMessageFilters,
    GetPaginatedChatMessageRoomRequest, GetPaginatedChatMessageRoomResponse, PinChatMessageRequest,
    PinChatMessageResponse, SearchChatMessagesRequest, SendChatMessageToRoomRequest,
};
use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{
    next_message, next_private_message, private_message, send_message, settle,
};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    a_message_reaches_everybody_once,
    a_private_message_reaches_only_its_recipients,
    the_sender_edits_and_deletes_a_message,
    the_message_of_another_sender_cannot_be_edited_or_deleted,
    a_message_is_pinned,
    a_private_message_cannot_be_changed_by_others,
    history_is_read_in_pages,
    a_long_history_is_read_in_parts,
    invalid_messages_are_refused,
    a_late_joiner_reads_the_history,
    chat_ends_with_its_session_unless_it_persists,
    messages_are_searched,
    a_recipient_without_permission_receives_nothing,
];

async fn a_message_reaches_everybody_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let mine = send_message(&ada, "h\u{e9}llo \u{1f44b}").await;
    let theirs = next_message(&bob).await;
    assert_eq!(mine, theirs);
    assert_eq!((&*mine.peer_id, &*mine.user_id), (ada.id(), ada.user()));
    assert_eq!(mine.display_name, ada.identity().name);
    assert_eq!(
        (mine.payload_type, &*mine.payload),
        (0, "h\u{e9}llo \u{1f44b}")
    );
    assert!(!mine.pinned && !mine.is_edited && mine.target_user_ids.is_empty());
    let at_ms = mine.created_at_ms.expect("the UI uses it as its cursor");
    assert_eq!(mine.created_at, at_ms / 1000, "the same time in seconds");
    settle(&[&ada, &bob]).await;
    assert!(
        ada.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).is_empty(),
        "a client shows a second copy as a second message"
    );
    assert!(bob.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
}

async fn a_private_message_reaches_only_its_recipients(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, eve) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    ada.tell(
        event::SEND_MESSAGE_TO_PEERS,
        &private_message(&ada, &[&bob], "psst"),
    )
    .await
    .unwrap();
    let (mine, theirs) = (
        next_private_message(&ada).await,
        next_private_message(&bob).await,
    );
    assert_eq!(mine, theirs);
    let mut targets = mine.target_user_ids.clone();
    targets.sort();
    let mut expected = vec![ada.user().to_owned(), bob.user().to_owned()];
    expected.sort();
    assert_eq!(
        targets, expected,
        "the user ids of the sender and the recipients"
    );
    settle(&[&ada, &bob, &eve]).await;
    let heard = eve.take_pushes(&[event::SEND_MESSAGE_TO_PEERS, event::SEND_MESSAGE_TO_ROOM]);
    assert!(heard.is_empty(), "{heard:?}");
    for peer in [&ada, &bob] {
        assert!(
            peer.take_pushes(&[event::SEND_MESSAGE_TO_PEERS]).is_empty(),
            "one copy"
        );
    }
    for (peer, allowed) in [(&ada, true), (&bob, true), (&eve, false)] {
        let found = history(peer)
            .await
            .iter()
            .any(|message| message.chat_id == mine.chat_id);
        assert!(
            found <= allowed,
            "the history contains the conversation of others"
        );
        let found = page(peer, u64::MAX >> 12, 50, true, None).await;
        assert!(found.iter().any(|message| message.chat_id == mine.chat_id) <= allowed);
    }
    // The private conversation with one participant (docs/spec/signalling.md 6.6, filters.user_id).
    let with_bob = page(
        &ada,
        u64::MAX >> 12,
        50,
        true,
        Some(Filters::UserId(bob.user().to_owned())),
    )
    .await;
    assert_eq!(with_bob.len(), 1);
    let with_eve = page(
        &ada,
        u64::MAX >> 12,
        50,
        true,
        Some(Filters::UserId(eve.user().to_owned())),
    )
    .await;
    assert!(with_eve.is_empty());
    // A message to unknown peers only is not sent to everybody.
    let mut unaddressed = private_message(&ada, &[], "anybody?");
    unaddressed.peer_ids = vec!["nobody".to_owned()];
    ada.tell(event::SEND_MESSAGE_TO_PEERS, &unaddressed)
        .await
        .unwrap();
    settle(&[&ada, &bob, &eve]).await;
    assert!(
        bob.take_pushes(&[event::SEND_MESSAGE_TO_PEERS, event::SEND_MESSAGE_TO_ROOM])
            .is_empty()
    );
}

async fn history(peer: &Peer) -> Vec<ChatMessage> {
    let reply: GetChatMessagesResponse = peer.ask_bare(event::GET_MESSAGES).await.unwrap();
    reply.messages
}

async fn page(
    peer: &Peer,
    at_ms: u64,
    size: i32,
    reversed: bool,
    filters: Option<Filters>,
) -> Vec<ChatMessage> {
    let request = GetPaginatedChatMessageRoomRequest {
        time_stamp: at_ms,
        size,
        reversed,
        filters: filters.map(|filters| GetPaginatedChatMessageFilters {
            filters: Some(filters),
        }),
        ..GetPaginatedChatMessageRoomRequest::default()
    };
    let reply: GetPaginatedChatMessageRoomResponse = peer
        .ask(event::GET_PAGINATED_MESSAGES, &request)
        .await
        .unwrap();
    reply.messages
}

fn edit(chat_id: &str, payload: &str) -> EditChatMessageRequest {
    EditChatMessageRequest {
        chat_id: chat_id.to_owned(),
        payload_type: Some(0),
        payload: Some(payload.to_owned()),
        ..EditChatMessageRequest::default()
    }
}

async fn the_sender_edits_and_deletes_a_message(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let sent = send_message(&bob, "helo").await;
    let reply: EditChatMessageResponse = bob
        .ask(event::EDIT_MESSAGE, &edit(&sent.chat_id, "hello"))
        .await
        .unwrap();
    let edited = reply.message.unwrap();
    assert_eq!((&*edited.payload, edited.is_edited), ("hello", true));
    assert_eq!(
        (&edited.chat_id, edited.created_at_ms),
        (&sent.chat_id, sent.created_at_ms)
    );
    let push: EditChatMessageResponse = ada.push(event::EDIT_MESSAGE).await.unwrap();
    assert_eq!(push.message.unwrap(), edited);
    assert_eq!(history(&ada).await, [edited]);

    let delete = DeleteChatMessageRequest {
        chat_id: sent.chat_id.clone(),
        channel_id: None,
    };
    let reply: DeleteChatMessageResponse = bob.ask(event::DELETE_MESSAGE, &delete).await.unwrap();
    assert_eq!(reply.chat_id, sent.chat_id);
    let push: DeleteChatMessageResponse = ada.push(event::DELETE_MESSAGE).await.unwrap();
    assert_eq!(push.chat_id, sent.chat_id);
    assert!(history(&ada).await.is_empty());
    settle(&[&bob]).await;
    assert!(
        bob.take_pushes(&[event::EDIT_MESSAGE, event::DELETE_MESSAGE])
            .is_empty(),
        "the sender gets its copy as the reply"
    );
    bob.refused(event::EDIT_MESSAGE, &edit(&sent.chat_id, "gone"))
        .await
        .unwrap();
    bob.refused(event::DELETE_MESSAGE, &delete).await.unwrap();
}

async fn the_message_of_another_sender_cannot_be_edited_or_deleted(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, eve) = (meeting.host().await, meeting.participant().await);
    let sent = send_message(&ada, "mine").await;
    next_message(&eve).await;
    let refused = eve
        .refused(event::EDIT_MESSAGE, &edit(&sent.chat_id, "yours"))
        .await
        .unwrap();
    assert_eq!(refused.code, 403, "{refused}");
    let delete = DeleteChatMessageRequest {
        chat_id: sent.chat_id.clone(),
        channel_id: None,
    };
    eve.refused(event::DELETE_MESSAGE, &delete).await.unwrap();
    for id in ["", "nothing", "0190f3c0-a0b1-7c1d-8e2f-0123456789ab"] {
        eve.refused(event::EDIT_MESSAGE, &edit(id, "x"))
            .await
            .unwrap();
        let delete = DeleteChatMessageRequest {
            chat_id: id.to_owned(),
            channel_id: None,
        };
        eve.refused(event::DELETE_MESSAGE, &delete).await.unwrap();
    }
    settle(&[&ada]).await;
    assert!(
        ada.take_pushes(&[event::EDIT_MESSAGE, event::DELETE_MESSAGE])
            .is_empty()
    );
    assert_eq!(history(&ada).await, [sent]);
}

async fn a_message_is_pinned(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let sent = send_message(&ada, "the plan").await;
    for pinned in [true, false, true] {
        let request = PinChatMessageRequest {
            chat_id: sent.chat_id.clone(),
            pinned,
            channel_id: None,
        };
        let reply: PinChatMessageResponse = ada.ask(event::PIN_MESSAGE, &request).await.unwrap();
        assert_eq!((&reply.chat_id, reply.pinned), (&sent.chat_id, pinned));
        assert_eq!(reply.message.unwrap().pinned, pinned);
        let push: PinChatMessageResponse = bob.push(event::PIN_MESSAGE).await.unwrap();
        assert_eq!(
            push.message.expect("the SDK fails without it").pinned,
            pinned
        );
    }
    settle(&[&ada]).await;
    assert!(ada.take_pushes(&[event::PIN_MESSAGE]).is_empty());
    send_message(&ada, "not pinned").await;
    let pinned = page(&bob, u64::MAX >> 12, 10, true, Some(Filters::Pinned(true))).await;
    assert_eq!(
        pinned
            .iter()
            .map(|message| &*message.payload)
            .collect::<Vec<_>>(),
        ["the plan"]
    );
}

async fn a_private_message_cannot_be_changed_by_others(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, eve) = (
        meeting.participant().await,
        meeting.participant().await,
        meeting.host().await,
    );
    ada.tell(
        event::SEND_MESSAGE_TO_PEERS,
        &private_message(&ada, &[&bob], "psst"),
    )
    .await
    .unwrap();
    let sent = next_private_message(&ada).await;
    eve.refused(event::EDIT_MESSAGE, &edit(&sent.chat_id, "x"))
        .await
        .unwrap();
    let pin = PinChatMessageRequest {
        chat_id: sent.chat_id.clone(),
        pinned: true,
        channel_id: None,
    };
    eve.refused(event::PIN_MESSAGE, &pin).await.unwrap();
    let delete = DeleteChatMessageRequest {
        chat_id: sent.chat_id.clone(),
        channel_id: None,
    };
    eve.refused(event::DELETE_MESSAGE, &delete).await.unwrap();
    // Changes by the sender are pushed to the recipients only.
    ada.ask::<EditChatMessageResponse>(event::EDIT_MESSAGE, &edit(&sent.chat_id, "psst!"))
        .await
        .unwrap();
    bob.push_frame(event::EDIT_MESSAGE).await.unwrap();
    ada.ask::<DeleteChatMessageResponse>(event::DELETE_MESSAGE, &delete)
        .await
        .unwrap();
    bob.push_frame(event::DELETE_MESSAGE).await.unwrap();
    settle(&[&eve]).await;
    assert!(
        eve.take_pushes(&[
            event::EDIT_MESSAGE,
            event::DELETE_MESSAGE,
            event::PIN_MESSAGE
        ])
        .is_empty()
    );
}

async fn history_is_read_in_pages(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mut sent = Vec::new();
    for index in 0..12 {
        sent.push(send_message(&ada, &format!("{index}")).await);
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    assert_eq!(history(&ada).await, sent, "oldest first");
    let middle = sent[6].created_at_ms.unwrap();
    let texts = |messages: &[ChatMessage]| {
        messages
            .iter()
            .map(|message| message.payload.clone())
            .collect::<Vec<_>>()
    };
    let before = page(&ada, middle, 3, true, None).await;
    assert_eq!(
        texts(&before),
        ["6", "5", "4"],
        "newest first, including the bound"
    );
    let after = page(&ada, middle, 3, false, None).await;
    assert_eq!(
        texts(&after),
        ["6", "7", "8"],
        "oldest first, including the bound"
    );
    assert_eq!(page(&ada, middle - 1, 100, true, None).await.len(), 6);
    assert!(page(&ada, 0, 10, true, None).await.is_empty());
    assert_eq!(page(&ada, 0, 100, false, None).await.len(), 12);
    for (at_ms, size) in [
        (u64::MAX, 10),
        (0, -1),
        (0, i32::MAX),
        (u64::MAX, i32::MIN),
        (1, 0),
    ] {
        let request = GetPaginatedChatMessageRoomRequest {
            time_stamp: at_ms,
            size,
            from: -5,
            ..GetPaginatedChatMessageRoomRequest::default()
        };
        let _ = ada
            .ask::<GetPaginatedChatMessageRoomResponse>(event::GET_PAGINATED_MESSAGES, &request)
            .await;
        ada.settle().await.unwrap();
    }
}

async fn a_long_history_is_read_in_parts(server: &Server) {
    const MESSAGES: usize = 150;
    const REPLY_BYTES: usize = 2 << 20;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for index in 0..MESSAGES {
        let message = format!("{index} {}", "x".repeat(60_000));
        let request = SendChatMessageToRoomRequest {
            payload_type: 3,
            payload: json!({ "message": message }).to_string(),
        };
        ada.tell(event::SEND_MESSAGE_TO_ROOM, &request)
            .await
            .unwrap();
        // Sent in batches, to stay below the limit on the frame rate.
        if index % 50 == 49 {
            ada.settle().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        }
    }
    let fits = |messages: &[ChatMessage]| {
        let bytes = messages.iter().map(prost::Message::encoded_len);
        let bytes: usize = bytes.sum();
        assert!(
            (REPLY_BYTES - 64 * 1024..=REPLY_BYTES).contains(&bytes),
            "{bytes}"
        );
    };
    let carol = Peer::open(&meeting.add_with_preset("group_call_participant").await)
        .await
        .unwrap();
    let latest = carol.join().await.unwrap().chat;
    fits(&latest);
    let newest = latest.last().unwrap();
    assert!(newest.payload.starts_with("{\"message\":\"149 "));
    // The earlier pages contain the rest.
    let (mut seen, mut first) = (latest.len(), latest[0].created_at_ms.unwrap());
    loop {
        let request = GetPaginatedChatMessageRoomRequest {
            time_stamp: first - 1,
            size: 500,
            reversed: true,
            ..GetPaginatedChatMessageRoomRequest::default()
        };
        let page: GetPaginatedChatMessageRoomResponse = carol
            .ask(event::GET_PAGINATED_MESSAGES, &request)
            .await
            .unwrap();
        seen += page.messages.len();
        first = page.messages.last().unwrap().created_at_ms.unwrap();
        if !page.next {
            break;
        }
        fits(&page.messages);
    }
    assert_eq!(seen, MESSAGES);
    let request = SearchChatMessagesRequest {
        time_stamp: 0,
        size: 500,
        search_term: "xxx".to_owned(),
        ..SearchChatMessagesRequest::default()
    };
    let found: GetChatMessagesResponse = carol
        .ask(event::SEARCH_CHANNEL_MESSAGES, &request)
        .await
        .unwrap();
    fits(&found.messages);
}

async fn invalid_messages_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    for (payload_type, payload) in [
        (0, "x".repeat(2001)),
        (0, String::new()),
        (2, "not json".to_owned()),
        (2, "[]".to_owned()),
        (3, "{".to_owned()),
        (4, "what is this".to_owned()),
        (-1, "x".to_owned()),
        (i32::MAX, "x".to_owned()),
        (1, "javascript:alert(1)".to_owned()),
        (1, "not a url".to_owned()),
        (
            2,
            json!({ "link": "javascript:alert(1)", "name": "x", "size": 1 }).to_string(),
        ),
    ] {
        let request = SendChatMessageToRoomRequest {
            payload_type,
            payload,
        };
        let refused = bob.refused(event::SEND_MESSAGE_TO_ROOM, &request).await;
        let refused = refused
            .unwrap_or_else(|error| panic!("{payload_type} {:.40}: {error:#}", request.payload));
        assert!([400, 413].contains(&refused.code), "{refused}");
    }
    settle(&[&ada]).await;
    assert!(ada.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    for (payload_type, payload) in [
        (0, "\u{e9}".repeat(2000)),
        (1, "https://example.org/a.png".to_owned()),
        (
            2,
            json!({ "link": "https://example.org/a.pdf", "name": "a.pdf", "size": 5 }).to_string(),
        ),
        (
            3,
            json!({ "message": "m", "html": "<b>m</b>", "images": [], "videos": [], "files": [] })
                .to_string(),
        ),
    ] {
        let request = SendChatMessageToRoomRequest {
            payload_type,
            payload,
        };
        bob.tell(event::SEND_MESSAGE_TO_ROOM, &request)
            .await
            .unwrap();
        let message = next_message(&ada).await;
        assert_eq!(
            (message.payload_type, message.payload),
            (payload_type, request.payload)
        );
    }
}

async fn a_late_joiner_reads_the_history(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let first = send_message(&ada, "first").await;
    ada.tell(
        event::SEND_MESSAGE_TO_PEERS,
        &private_message(&ada, &[&bob], "psst"),
    )
    .await
    .unwrap();
    next_private_message(&bob).await;
    let second = send_message(&bob, "second").await;
    let carol = Peer::open(&meeting.add_with_preset("group_call_participant").await)
        .await
        .unwrap();
    assert_eq!(carol.join().await.unwrap().chat, [first, second]);
}

async fn chat_ends_with_its_session_unless_it_persists(server: &Server) {
    for persists in [false, true] {
        let meeting = server
            .meeting_with(json!({ "title": "T", "persist_chat": persists }))
            .await;
        let ada = meeting.host().await;
        let sent = send_message(&ada, "remember").await;
        ada.tell(
            event::KICK_ALL,
            &parlor_protocol::signal::media::edge::KickAllPeersRequest::default(),
        )
        .await
        .unwrap();
        ada.push_frame(event::KICK_ALL).await.unwrap();
        wait_until("the session has ended", async || {
            meeting.active_session().await.is_none().then_some(())
        })
        .await;
        let back = Peer::open(&ada.identity().in_another_tab()).await.unwrap();
        let expected: &[ChatMessage] = if persists { &[sent] } else { &[] };
        assert_eq!(
            back.join().await.unwrap().chat,
            expected,
            "persist_chat: {persists}"
        );
    }
}

async fn messages_are_searched(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for text in ["apples", "Pears", "pineapples"] {
        send_message(&ada, text).await;
    }
    let request = SearchChatMessagesRequest {
        time_stamp: u64::MAX >> 12,
        size: 10,
        reversed: true,
        search_term: "apple".to_owned(),
        ..SearchChatMessagesRequest::default()
    };
    let found: GetChatMessagesResponse = ada
        .ask(event::SEARCH_CHANNEL_MESSAGES, &request)
        .await
        .unwrap();
    assert_eq!(found.messages.len(), 2, "{found:?}");
}

async fn a_recipient_without_permission_receives_nothing(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let recipient = meeting
        .add_with_permissions(json!({ "chat": { "private": { "can_receive": false } } }))
        .await;
    let recipient = Peer::enter(&recipient).await.unwrap();
    ada.tell(
        event::SEND_MESSAGE_TO_PEERS,
        &private_message(&ada, &[&recipient], "psst"),
    )
    .await
    .unwrap();
    settle(&[&ada, &recipient]).await;
    assert!(
        recipient
            .take_pushes(&[event::SEND_MESSAGE_TO_PEERS])
            .is_empty()
    );
    assert!(history(&recipient).await.is_empty());
}
