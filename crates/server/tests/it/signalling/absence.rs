//! Sockets that say nothing for long, and sessions that nobody is in.
//!
//! These tests wait longest, for times that no setting shortens. Tests start in the order of their
//! names, so the name of this module has them wait while the others run.

use std::time::Duration;

use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::server::{Server, until};
use crate::signalling::sessions::millis;

on_both_databases![
    a_session_outlives_its_last_peer_for_a_while,
    a_peer_that_answers_no_ping_is_let_go,
    the_server_asks_whether_one_is_there,
];

async fn a_session_outlives_its_last_peer_for_a_while(server: &Server) {
    let meeting = server
        .meeting_with(json!({ "title": "T", "session_keep_alive_time_in_secs": 60 }))
        .await;
    let ada = meeting.host().await;
    let person = ada.identity().clone();
    let id = meeting.active_session().await.unwrap()["id"].clone();
    ada.leave().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let same = Peer::enter(&person).await.unwrap();
    assert_eq!(
        meeting.active_session().await.unwrap()["id"],
        id,
        "somebody came back in time"
    );
    same.leave().await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(meeting.active_session().await.is_some());
    until("it ends a minute after the last leave", async || {
        meeting.active_session().await.is_none().then_some(())
    })
    .await;
    let session = meeting.sessions().await.remove(0);
    assert_eq!((&session["id"], &session["status"]), (&id, &json!("ENDED")));
    let left = millis(&meeting.peers_of(id.as_str().unwrap()).await[0]["left_at"]);
    let gap = millis(&session["ended_at"]) - left;
    assert!((0..=61_500).contains(&gap), "{gap} ms");
}

async fn a_peer_that_answers_no_ping_is_let_go(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    bob.fall_silent();
    let closed = bob.closed_within(Duration::from_secs(75)).await.unwrap();
    assert_ne!(
        closed.code,
        Some(1000),
        "a network may be slow, so it may come back: {closed:?}"
    );
    assert!(ada.is_open());
}

async fn the_server_asks_whether_one_is_there(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    // The client hangs up after 30 seconds without a frame (docs/spec/signalling.md 1.4).
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert!(ada.pings() >= 1, "at least one every 20 seconds");
    assert!(ada.is_open());
}
