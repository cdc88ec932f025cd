//! Quotas on the stored bytes of chats.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, DeleteChatMessageResponse, SendChatMessageToRoomRequest,
    SendChatMessageToRoomResponse,
};
use parlor_testkit::signal::{Peer, Received, Refused};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::Meeting;
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    a_full_chat_refuses_messages,
    the_chats_of_a_full_app_refuse_messages,
    a_full_disk_refuses_messages,
];

fn large_message() -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 3,
        payload: json!({ "message": "x".repeat(60_000) }).to_string(),
    }
}

async fn send_large(peer: &Peer) -> String {
    let reply: SendChatMessageToRoomResponse = peer
        .ask(event::SEND_MESSAGE_TO_ROOM, &large_message())
        .await
        .unwrap();
    reply.message.unwrap().chat_id
}

async fn send_refused_large(peer: &Peer) -> Refused {
    peer.refused(event::SEND_MESSAGE_TO_ROOM, &large_message())
        .await
        .unwrap()
}

async fn count_refusals(server: &Server, reason: &str) -> u64 {
    let metrics = server.metrics().await;
    let counter = format!("parlor_chat_refused_total{{reason=\"{reason}\"}} ");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(&counter));
    count.map_or(0, |count| count.parse().unwrap())
}

async fn a_full_chat_refuses_messages(shared: &Server) {
    let mut server = Server::dedicated(shared, &["--chat-per-meeting-bytes", "200000"]).await;
    let (meeting, other) = (server.meeting().await, server.meeting().await);
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let first = send_large(&ada).await;
    send_large(&ada).await;
    send_large(&bob).await;
    for peer in [&ada, &bob] {
        assert_eq!(send_refused_large(peer).await.code, 507);
    }
    assert_eq!(count_refusals(&server, "meeting_quota").await, 2);
    send_large(&other.host().await).await;
    // The server counts the stored messages when it starts.
    server.stop().await;
    server.start_again().await;
    let meeting = meeting.after_restart(&server);
    let ada = Peer::open(&meeting.at_current_address(ada.identity()))
        .await
        .unwrap();
    ada.rejoin().await.unwrap();
    assert_eq!(send_refused_large(&ada).await.code, 507);
    let delete = DeleteChatMessageRequest {
        chat_id: first,
        ..DeleteChatMessageRequest::default()
    };
    let _: DeleteChatMessageResponse = ada.ask(event::DELETE_MESSAGE, &delete).await.unwrap();
    send_large(&ada).await;
    assert_eq!(send_refused_large(&ada).await.code, 507);
}

async fn the_chats_of_a_full_app_refuse_messages(shared: &Server) {
    let arguments = ["--chat-per-app-bytes", "100000", "--chat-per-minute", "0"];
    let server = Server::dedicated(shared, &arguments).await;
    let meeting = server.meeting().await;
    let other = Meeting::create(&server, meeting.app.clone(), json!({"title": "Other"})).await;
    let ada = meeting.host().await;
    for _ in 0..2 {
        send_large(&ada).await;
    }
    // The server checks the quota of the app every few seconds.
    wait_until("the room enforces the quota of the app", async || {
        let id = ada
            .tell(event::SEND_MESSAGE_TO_ROOM, &large_message())
            .await
            .unwrap();
        ada.settle().await.unwrap();
        let received = ada.received();
        let mine = received.iter().find(|frame| frame.id.as_ref() == Some(&id));
        mine.and_then(Received::refusal)
            .filter(|refused| refused.code == 507)
    })
    .await;
    // A newly opened room learns of it at once.
    assert_eq!(send_refused_large(&other.host().await).await.code, 507);
    assert_eq!(count_refusals(&server, "app_quota").await, 2);
}

async fn a_full_disk_refuses_messages(shared: &Server) {
    let reserve = (1_u64 << 60).to_string();
    let server = Server::dedicated(shared, &["--disk-reserve-bytes", &reserve]).await;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    if shared.is_on_postgres() {
        // The database is not on the server's disk.
        send_large(&ada).await;
    } else {
        assert_eq!(send_refused_large(&ada).await.code, 507);
        assert_eq!(count_refusals(&server, "disk_reserve").await, 1);
    }
}
