//! The records of a call: one session, one row per peer, exact times.

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_testkit::signal::Peer;
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::meeting::{send_message, settle};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    every_peer_has_one_row_with_its_times,
    events_come_in_pairs,
    a_waiting_peer_is_not_part_of_the_session,
    the_chat_is_downloaded,
];

/// Returns the Unix time of an RFC 3339 timestamp, in milliseconds.
pub(super) fn millis(time: &Value) -> i64 {
    let text = time
        .as_str()
        .unwrap_or_else(|| panic!("not a timestamp: {time}"));
    let time: jiff::Timestamp = text.parse().unwrap();
    time.as_millisecond()
}

async fn every_peer_has_one_row_with_its_times(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = meeting.participant().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    bob.leave().await.unwrap();
    let session = meeting.active_session().await.unwrap();
    let id = session["id"].as_str().unwrap();
    let rows = wait_until("bob has left", async || {
        let rows = meeting.peers_of(id).await;
        rows.iter()
            .any(|row| row["left_at"].is_string())
            .then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = |peer: &Peer| {
        rows.iter()
            .find(|row| row["id"] == peer.id())
            .unwrap()
            .clone()
    };
    let (first, second) = (row(&ada), row(&bob));
    assert_eq!(second["user_id"], bob.user());
    assert_eq!(second["custom_participant_id"], bob.identity().custom_id);
    assert_eq!(second["display_name"], bob.identity().name);
    assert_eq!(second["preset_name"], "group_call_participant");
    assert!(first["left_at"].is_null());
    let duration = millis(&second["left_at"]) - millis(&second["joined_at"]);
    assert!((1200..5000).contains(&duration), "{duration} ms");
    let minutes = second["duration"].as_f64().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let expected = duration as f64 / 60_000.0;
    assert!(
        (minutes - expected).abs() < 0.001,
        "{minutes} instead of {expected}"
    );
    assert!(millis(&session["started_at"]) <= millis(&first["joined_at"]));
    assert_eq!(session["max_concurrent_participants"], 2);
}

async fn events_come_in_pairs(server: &Server) {
    let meeting = server.meeting().await;
    let (_ada, bob) = (meeting.host().await, meeting.participant().await);
    let identity = bob.cut().await;
    let bob = Peer::open(&identity).await.unwrap();
    bob.rejoin().await.unwrap();
    bob.leave().await.unwrap();
    let session = meeting.active_session().await.unwrap();
    let path = format!(
        "{}/sessions/{}/participants?include_peer_events=true",
        meeting.app,
        session["id"].as_str().unwrap()
    );
    let events = wait_until("bob has left", async || {
        let listed = meeting.get(&path).await.expect(200).unwrap();
        let rows = listed["participants"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["id"] == *identity.peer)
            .unwrap()
            .clone();
        row["left_at"]
            .is_string()
            .then(|| row["peer_events"].clone())
    })
    .await;
    let names: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_name"].as_str().unwrap())
        .collect();
    for name in ["PEER_JOINING", "PEER_LEAVING"] {
        assert_eq!(
            names.iter().filter(|other| **other == name).count(),
            1,
            "{names:?}"
        );
    }
}

async fn a_waiting_peer_is_not_part_of_the_session(server: &Server) {
    let meeting = server.meeting().await;
    let identity = meeting
        .add_with_permissions(json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
        .await;
    let waiting = Peer::enter(&identity).await.unwrap();
    // Neither a waiting peer nor a socket that has not joined starts a session.
    let bare = Peer::open(&meeting.add_with_preset("group_call_participant").await)
        .await
        .unwrap();
    settle(&[&waiting, &bare]).await;
    assert_eq!(meeting.active_session().await, None);
    assert!(meeting.sessions().await.is_empty());
    let ada = meeting.host().await;
    let session = meeting.active_session().await.unwrap();
    let rows = meeting.peers_of(session["id"].as_str().unwrap()).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    drop((waiting, ada));
}

async fn the_chat_is_downloaded(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    send_message(&ada, "quote \" comma , and\nline").await;
    let id = meeting.active_session().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    ada.tell(event::KICK_ALL, &KickAllPeersRequest::default())
        .await
        .unwrap();
    wait_until("no session is live", async || {
        meeting.active_session().await.is_none().then_some(())
    })
    .await;
    let path = format!("{}/sessions/{id}/chat", meeting.app);
    let link = meeting.get(&path).await.expect(200).unwrap();
    let url = link["chat_download_url"].as_str().unwrap();
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(
        text.starts_with("id,participantId,sessionId,meetingId,displayName"),
        "{text}"
    );
    assert!(text.contains("\"quote \"\" comma , and\nline\""), "{text}");
    assert!(text.contains("TEXT_MESSAGE") && text.contains(&id));
}
