//! Clients that ask for more than their share: refused with 429, still connected, alone.

use std::time::{Duration, Instant};

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::{chat, plugin, polls, room};
use parlor_testkit::signal::{Peer, Refused};

use crate::meeting::{say, settle};
use crate::on_both_databases;
use crate::server::Server;

on_both_databases![
    too_many_messages_are_refused,
    too_many_files_are_refused,
    too_many_broadcasts_are_refused,
    too_many_writes_to_stores_are_refused,
    too_many_polls_are_refused,
    a_flood_of_frames_slows_nobody_else,
    whoever_does_not_read_is_let_go,
];

/// Sends `count` requests at once; answers how many were refused, all of them with 429.
async fn excess<M>(peer: &Peer, number: u32, count: usize, request: impl Fn(usize) -> M) -> usize
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
    let said = |index: usize| chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: format!("{index}"),
    };
    // In three goes, so that the limit on frames is not met first.
    let mut refused = 0;
    for _ in 0..4 {
        refused += excess(&mallory, event::SEND_MESSAGE_TO_ROOM, 60, said).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert!(
        (20..=60).contains(&refused),
        "180 a minute: {refused} of 240 refused"
    );
    settle(&[&ada]).await;
    let arrived = ada.untaken(&[event::SEND_MESSAGE_TO_ROOM]).len();
    assert_eq!(arrived, 240 - refused);
    say(&ada, "I may still speak").await;
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
    let refused = excess(&mallory, event::SEND_MESSAGE_TO_ROOM, 30, file).await;
    assert!(
        (8..=10).contains(&refused),
        "20 a minute: {refused} of 30 refused"
    );
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
    let refused = excess(&mallory, event::BROADCAST_MESSAGE, 20, message).await;
    assert!(
        (10..=15).contains(&refused),
        "5 a second: {refused} of 20 refused"
    );
    settle(&[&ada]).await;
    assert_eq!(ada.untaken(&[event::BROADCAST_MESSAGE]).len(), 20 - refused);
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
    let refused = excess(&mallory, event::STORE_INSERT_KEYS, 20, insert).await;
    assert!(
        (10..=15).contains(&refused),
        "5 a second: {refused} of 20 refused"
    );
}

async fn too_many_polls_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let mallory = meeting.host().await;
    let poll = |index: usize| polls::NewPollRequest {
        question: format!("{index}?"),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..polls::NewPollRequest::default()
    };
    let refused = excess(&mallory, event::CREATE_POLL, 40, poll).await;
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
    let began = Instant::now();
    ada.settle().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // The flood ebbs, and the client is still one of the room.
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

async fn whoever_does_not_read_is_let_go(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let sleeper = meeting.person("group_call_participant").await;
    // The bare socket: joined, and never read from again.
    let mut socket = parlor_testkit::signal::wire::open(&sleeper).await.unwrap();
    let join = parlor_testkit::signal::wire::frame(event::JOIN_ROOM, "j", &sleeper.join_request());
    parlor_testkit::signal::wire::send(&mut socket, join)
        .await
        .unwrap();
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let mut slowest = Duration::ZERO;
    let payload = vec![b' '; 60_000];
    for index in 0..40_u64 {
        let message = room::BroadcastMessage {
            r#type: "large".to_owned(),
            payload: payload.clone().into(),
            timestamp: index,
            ..room::BroadcastMessage::default()
        };
        let began = Instant::now();
        ada.tell(event::BROADCAST_MESSAGE, &message).await.unwrap();
        ada.settle().await.unwrap();
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(210)).await;
    }
    assert!(
        slowest < Duration::from_secs(1),
        "one who sleeps held up the room for {slowest:?}"
    );
}
