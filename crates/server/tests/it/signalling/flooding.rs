//! Rate limits: clients that exceed them get code 429 and stay connected, and others are not
//! affected.

use std::time::{Duration, Instant};

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::{chat, plugin, polls, room};
use parlor_testkit::signal::{Peer, Refused, wire};

use crate::on_both_databases;
use crate::signalling::meeting::{send_message, settle};
use crate::signalling::server::Server;

on_both_databases![
    too_many_messages_are_refused,
    too_many_files_are_refused,
    too_many_reads_of_the_chat_are_refused,
    too_many_broadcasts_are_refused,
    too_many_writes_to_stores_are_refused,
    a_repeated_key_is_set_once,
    a_store_never_outgrows_one_reply,
    too_many_polls_are_refused,
    a_flood_of_frames_slows_nobody_else,
    a_client_that_does_not_read_is_disconnected,
];

/// Sends `count` requests at once and returns how many were refused, all of them with code 429.
async fn count_refused<M>(
    peer: &Peer,
    number: u32,
    count: usize,
    request: impl Fn(usize) -> M,
) -> usize
where
    M: parlor_testkit::signal::Encodable + Clone,
{
    let mut ids = Vec::new();
    for index in 0..count {
        ids.push(peer.tell(number, &request(index)).await.unwrap());
    }
    peer.settle().await.unwrap();
    let received = peer.received();
    let refusals: Vec<Refused> = received
        .iter()
        .filter(|frame| frame.id.as_ref().is_some_and(|id| ids.contains(id)))
        .filter_map(parlor_testkit::signal::Received::refusal)
        .collect();
    assert!(
        refusals.iter().all(|refused| refused.code == 429),
        "{refusals:?}"
    );
    assert!(peer.is_open());
    refusals.len()
}

async fn too_many_messages_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = (meeting.participant().await, meeting.host().await);
    let message = |index: usize| chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: format!("{index}"),
    };
    // Sent in batches, to stay below the limit on the frame rate.
    let mut refused = 0;
    for _ in 0..4 {
        refused += count_refused(&mallory, event::SEND_MESSAGE_TO_ROOM, 60, message).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert!(
        (20..=60).contains(&refused),
        "180 a minute: {refused} of 240 refused"
    );
    settle(&[&ada]).await;
    let arrived = ada.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).len();
    assert_eq!(arrived, 240 - refused);
    send_message(&ada, "I may still speak").await;
    mallory
        .push_frame(event::SEND_MESSAGE_TO_ROOM)
        .await
        .unwrap();
}

async fn too_many_files_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let mallory = meeting.participant().await;
    let file = |index: usize| chat::SendChatMessageToRoomRequest {
        payload_type: 1,
        payload: format!("https://example.org/{index}.png"),
    };
    let refused = count_refused(&mallory, event::SEND_MESSAGE_TO_ROOM, 30, file).await;
    assert!(
        (8..=10).contains(&refused),
        "20 a minute: {refused} of 30 refused"
    );
}

async fn too_many_reads_of_the_chat_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let mallory = meeting.participant().await;
    // Joining has read the chat once.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = |_| chat::GetPaginatedChatMessageRoomRequest {
        size: 50,
        ..chat::GetPaginatedChatMessageRoomRequest::default()
    };
    let refused = count_refused(&mallory, event::GET_PAGINATED_MESSAGES, 30, page).await;
    assert!(
        (10..=20).contains(&refused),
        "10 a second: {refused} of 30 refused"
    );
    // The history and the search share this limit.
    let search = |_| chat::SearchChatMessagesRequest::default();
    let refused = count_refused(&mallory, event::SEARCH_CHANNEL_MESSAGES, 15, search).await;
    assert!(refused >= 3, "{refused} of 15 refused");
    let history = |_| room::RoomPeersInfoRequest::default();
    let refused = count_refused(&mallory, event::GET_MESSAGES, 15, history).await;
    assert!(refused >= 3, "{refused} of 15 refused");
}

async fn too_many_broadcasts_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = (meeting.participant().await, meeting.host().await);
    let message = |index: usize| room::BroadcastMessage {
        r#type: format!("t{index}"),
        payload: "{}".into(),
        timestamp: 1,
        ..room::BroadcastMessage::default()
    };
    let refused = count_refused(&mallory, event::BROADCAST_MESSAGE, 20, message).await;
    assert!(
        (10..=15).contains(&refused),
        "5 a second: {refused} of 20 refused"
    );
    settle(&[&ada]).await;
    assert_eq!(
        ada.take_pushes(&[event::BROADCAST_MESSAGE]).len(),
        20 - refused
    );
}

async fn too_many_writes_to_stores_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let mallory = meeting.participant().await;
    let insert = |index: usize| plugin::PluginStoreInsertKeysRequest {
        plugin_id: meeting.id.clone(),
        store_name: "notes".to_owned(),
        insert_keys: vec![plugin::StoreKeys {
            store_key: format!("{index}"),
            payload: Some("1".into()),
        }],
    };
    let refused = count_refused(&mallory, event::STORE_INSERT_KEYS, 20, insert).await;
    assert!(
        (10..=15).contains(&refused),
        "5 a second: {refused} of 20 refused"
    );
}

/// Returns a request that inserts keys into the store `notes`.
fn insert_into_notes(
    meeting: &str,
    keys: Vec<plugin::StoreKeys>,
) -> plugin::PluginStoreInsertKeysRequest {
    plugin::PluginStoreInsertKeysRequest {
        plugin_id: meeting.to_owned(),
        store_name: "notes".to_owned(),
        insert_keys: keys,
    }
}

async fn a_repeated_key_is_set_once(server: &Server) {
    let meeting = server.meeting().await;
    let mallory = meeting.participant().await;
    let key = |value: String| plugin::StoreKeys {
        store_key: "k".to_owned(),
        payload: Some(value.into()),
    };
    for _ in 0..2 {
        let keys = (0..1000).map(|index| key(index.to_string()));
        let request = insert_into_notes(&meeting.id, keys.collect());
        let reply: plugin::PluginStoreResponse = mallory
            .ask(event::STORE_INSERT_KEYS, &request)
            .await
            .unwrap();
        assert_eq!(
            reply.store_items.len(),
            1,
            "a small request must not cause a large push"
        );
        assert_eq!(&*reply.store_items[0].payload, b"999");
    }
}

async fn a_store_never_outgrows_one_reply(server: &Server) {
    const REPLY_BYTES: usize = 2 << 20;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let value = vec![b'1'; 60_000];
    let keys_of = |number: usize| {
        let keys = (0..15).map(|index| plugin::StoreKeys {
            store_key: format!("{number} {index}"),
            payload: Some(value.clone().into()),
        });
        insert_into_notes(&meeting.id, keys.collect())
    };
    for number in 0..2 {
        let insert = keys_of(number);
        let _: plugin::PluginStoreResponse =
            ada.ask(event::STORE_INSERT_KEYS, &insert).await.unwrap();
    }
    let refused = ada.refused(event::STORE_INSERT_KEYS, &keys_of(2)).await;
    assert_eq!(refused.unwrap().code, 409);
    // Existing keys can be overwritten, and the whole store is read in one reply.
    let _: plugin::PluginStoreResponse = ada
        .ask(event::STORE_INSERT_KEYS, &keys_of(1))
        .await
        .unwrap();
    let all = plugin::PluginStoreGetKeysRequest {
        plugin_id: meeting.id.clone(),
        store_name: "notes".to_owned(),
        get_keys: Vec::new(),
    };
    let all: plugin::PluginStoreResponse = ada.ask(event::STORE_GET_KEYS, &all).await.unwrap();
    assert_eq!(all.store_items.len(), 30);
    assert!(prost::Message::encoded_len(&all) <= REPLY_BYTES);
}

async fn too_many_polls_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let mallory = meeting.host().await;
    let poll = |index: usize| polls::NewPollRequest {
        question: format!("{index}?"),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..polls::NewPollRequest::default()
    };
    let refused = count_refused(&mallory, event::CREATE_POLL, 40, poll).await;
    assert!(
        (8..=10).contains(&refused),
        "30 a minute: {refused} of 40 refused"
    );
}

async fn a_flood_of_frames_slows_nobody_else(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = (meeting.participant().await, meeting.host().await);
    let mut ids = Vec::new();
    for _ in 0..1000 {
        let request = room::RoomPeersInfoRequest::default();
        ids.push(
            mallory
                .tell(event::GET_ROOM_PEERS_INFO, &request)
                .await
                .unwrap(),
        );
    }
    ada.settle().await.unwrap();
    // After the flood the client is still in the room.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(mallory.is_open());
    mallory.settle().await.unwrap();
    let received = mallory.received();
    let refused = received
        .iter()
        .filter_map(parlor_testkit::signal::Received::refusal);
    let refused = refused.filter(|refused| refused.code == 429).count();
    assert!(refused >= 500, "100 a second: {refused} of 1000 refused");
    assert_eq!(mallory.roster().await.unwrap().len(), 2);
}

async fn a_client_that_does_not_read_is_disconnected(server: &Server) {
    // More than the queue of a socket and the socket buffers hold.
    const MESSAGES: usize = 1000;
    // A stalled socket is closed after 40 s. The grace period of its peer follows.
    const TIMEOUT: Duration = Duration::from_secs(60);
    let arguments = ["--reconnect-grace-secs", "1", "--chat-per-minute", "0"];
    let server = Server::dedicated(server, &arguments).await;
    let overflowed = async || {
        let metrics = server.metrics().await;
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("parlor_sockets_overflowed_total "));
        count.expect("the metric exists").to_owned()
    };
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let sleeper = meeting.add_with_preset("group_call_participant").await;
    // A raw socket that joins and is never read from again.
    let mut socket = wire::open(&sleeper).await.unwrap();
    let join = wire::frame(event::JOIN_ROOM, "j", &sleeper.join_request());
    wire::send(&mut socket, join).await.unwrap();
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let large = chat::SendChatMessageToRoomRequest {
        payload_type: 3,
        payload: serde_json::json!({ "message": "x".repeat(60_000) }).to_string(),
    };
    let mut said = 0;
    while overflowed().await == "0" {
        assert!(said < MESSAGES, "the queue of the sleeper is unbounded");
        for _ in 0..20 {
            ada.tell(event::SEND_MESSAGE_TO_ROOM, &large).await.unwrap();
        }
        ada.settle().await.unwrap();
        ada.forget();
        said += 20;
        tokio::time::sleep(Duration::from_millis(210)).await;
    }
    let began = Instant::now();
    let left = loop {
        if let Some(left) = ada.take_pushes(&[event::LEAVE_ROOM]).pop() {
            break left.message::<room::PeerInfoResponse>().unwrap();
        }
        assert!(began.elapsed() < TIMEOUT, "the sleeper has not left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(left.peer.unwrap().peer_id, sleeper.peer);
    assert_eq!(overflowed().await, "1", "only the sleeper was disconnected");
}
