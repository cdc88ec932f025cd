//! What a chat may take of the records.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, DeleteChatMessageResponse, SendChatMessageToRoomRequest,
    SendChatMessageToRoomResponse,
};
use parlor_testkit::signal::{Peer, Received, Refused};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::Meeting;
use crate::signalling::server::{Server, until};

on_both_databases![
    a_full_chat_takes_no_more_messages,
    the_chats_of_a_full_app_take_no_more_messages,
    a_full_disk_takes_no_more_messages,
];

fn large() -> SendChatMessageToRoomRequest {
    SendChatMessageToRoomRequest {
        payload_type: 3,
        payload: json!({ "message": "x".repeat(60_000) }).to_string(),
    }
}

async fn says(peer: &Peer) -> String {
    let said: SendChatMessageToRoomResponse = peer
        .ask(event::SEND_MESSAGE_TO_ROOM, &large())
        .await
        .unwrap();
    said.message.unwrap().chat_id
}

async fn refused(peer: &Peer) -> Refused {
    peer.refused(event::SEND_MESSAGE_TO_ROOM, &large())
        .await
        .unwrap()
}

async fn counted(server: &Server, reason: &str) -> u64 {
    let metrics = server.metrics().await;
    let counter = format!("parlor_chat_refused_total{{reason=\"{reason}\"}} ");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(&counter));
    count.map_or(0, |count| count.parse().unwrap())
}

async fn a_full_chat_takes_no_more_messages(like: &Server) {
    let mut server = Server::beside(like, &["--chat-per-meeting-bytes", "200000"]).await;
    let (meeting, other) = (server.meeting().await, server.meeting().await);
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let first = says(&ada).await;
    says(&ada).await;
    says(&bob).await;
    for peer in [&ada, &bob] {
        assert_eq!(refused(peer).await.code, 507);
    }
    assert_eq!(counted(&server, "meeting_quota").await, 2);
    says(&other.host().await).await;
    // A server that starts knows what there is.
    server.stop().await;
    server.start_again().await;
    let meeting = meeting.moved_to(&server);
    let ada = Peer::open(&meeting.found_again(ada.identity()))
        .await
        .unwrap();
    ada.rejoin().await.unwrap();
    assert_eq!(refused(&ada).await.code, 507);
    let delete = DeleteChatMessageRequest {
        chat_id: first,
        ..DeleteChatMessageRequest::default()
    };
    let _: DeleteChatMessageResponse = ada.ask(event::DELETE_MESSAGE, &delete).await.unwrap();
    says(&ada).await;
    assert_eq!(refused(&ada).await.code, 507);
}

async fn the_chats_of_a_full_app_take_no_more_messages(like: &Server) {
    let arguments = ["--chat-per-app-bytes", "100000", "--chat-per-minute", "0"];
    let server = Server::beside(like, &arguments).await;
    let meeting = server.meeting().await;
    let other = Meeting::make(&server, meeting.app.clone(), json!({"title": "Other"})).await;
    let ada = meeting.host().await;
    for _ in 0..2 {
        says(&ada).await;
    }
    // The server looks every few seconds.
    until("the room was told", async || {
        let id = ada
            .tell(event::SEND_MESSAGE_TO_ROOM, &large())
            .await
            .unwrap();
        ada.settle().await.unwrap();
        let received = ada.received();
        let mine = received.iter().find(|frame| frame.id.as_ref() == Some(&id));
        mine.and_then(Received::refusal)
            .filter(|refused| refused.code == 507)
    })
    .await;
    // One that is opened is told at once.
    assert_eq!(refused(&other.host().await).await.code, 507);
    assert_eq!(counted(&server, "app_quota").await, 2);
}

async fn a_full_disk_takes_no_more_messages(like: &Server) {
    let reserve = (1_u64 << 60).to_string();
    let server = Server::beside(like, &["--disk-reserve-bytes", &reserve]).await;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    if like.is_on_postgres() {
        // Its disk is not the server's.
        says(&ada).await;
    } else {
        assert_eq!(refused(&ada).await.code, 507);
        assert_eq!(counted(&server, "disk_reserve").await, 1);
    }
}
