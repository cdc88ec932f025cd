//! Idle sockets and empty sessions.
//!
//! These are the longest tests, because they wait for timeouts that no setting shortens. Tests
//! start in the order of their names, so the name of this module makes them start first and wait
//! while the others run.

use std::time::Duration;

use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::server::{Server, wait_until};
use crate::signalling::sessions::millis;

on_both_databases![
    a_session_outlives_its_last_peer_for_a_while,
    a_peer_that_does_not_answer_pings_is_disconnected,
    the_server_pings_its_clients,
];

async fn a_session_outlives_its_last_peer_for_a_while(server: &Server) {
    let meeting = server
        .meeting_with(json!({ "title": "T", "session_keep_alive_time_in_secs": 60 }))
        .await;
    let ada = meeting.host().await;
    let identity = ada.identity().clone();
    let id = meeting.active_session().await.unwrap()["id"].clone();
    ada.leave().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = Peer::enter(&identity).await.unwrap();
    assert_eq!(
        meeting.active_session().await.unwrap()["id"],
        id,
        "a peer came back in time"
    );
    back.leave().await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(meeting.active_session().await.is_some());
    wait_until(
        "the session ends a minute after the last leave",
        async || meeting.active_session().await.is_none().then_some(()),
    )
    .await;
    let session = meeting.sessions().await.remove(0);
    assert_eq!((&session["id"], &session["status"]), (&id, &json!("ENDED")));
    let left = millis(&meeting.peers_of(id.as_str().unwrap()).await[0]["left_at"]);
    let gap = millis(&session["ended_at"]) - left;
    assert!((0..=61_500).contains(&gap), "{gap} ms");
}

async fn a_peer_that_does_not_answer_pings_is_disconnected(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    bob.stop_answering_pings();
    let closed = bob.closed_within(Duration::from_secs(75)).await.unwrap();
    assert_ne!(
        closed.code,
        Some(1000),
        "the network may be slow, so the client may reconnect: {closed:?}"
    );
    assert!(ada.is_open());
}

async fn the_server_pings_its_clients(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    // The client closes the socket after 30 seconds without a frame (docs/spec/signalling.md 1.4).
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert!(ada.pings() >= 1, "at least one ping every 20 seconds");
    assert!(ada.is_open());
}
