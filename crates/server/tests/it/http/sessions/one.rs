//! `GET /sessions/{session_id}`.

use parlor_live::Record;
use serde_json::{Value, json};

use super::{Rooms, assert_near};
use crate::http::place::NOBODYS_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_session_is_shown_with_its_settings_and_once_more,
    minutes_of_those_inside_count_up_to_now,
    a_session_that_is_not_there_is_missing,
];

async fn a_session_is_shown_with_its_settings_and_once_more(server: &Server) {
    let rooms = Rooms::of(server).await;
    let meeting = json!({ "title": "Weekly", "transcribe_on_end": true, "persist_chat": true });
    let meeting = rooms.app.post("/meetings", &meeting).await.data(201);
    let held = rooms.ended(meeting["id"].as_str().unwrap(), 60, 15).await;
    let path = format!("/sessions/{}", held.id());
    let shown = rooms.app.get(&path).await.data(200);
    let mut once = shown.clone();
    let copy = once.as_object_mut().unwrap().remove("session").unwrap();
    assert_eq!(once, copy);
    assert_eq!(
        shown["settings"],
        json!({
            "record_on_start": false, "live_stream_on_start": false, "persist_chat": true,
            "transcribe_on_end": true, "summarize_on_end": false,
        })
    );
    assert_eq!(shown["id"], held.id());
    assert_eq!(shown["meeting_display_name"], "Then");
    assert_eq!(shown["type"], "meeting");
    assert_eq!(shown["minutes_consumed"], 15.0);
    assert_eq!(shown["started_at"], shown["created_at"]);
    assert_eq!(shown.get("breakout_rooms"), None);
    let with = rooms
        .app
        .get(&format!("{path}?include_breakout_rooms=true"))
        .await
        .data(200);
    assert_eq!(with["breakout_rooms"], json!([]));
    assert_eq!(with["session"]["breakout_rooms"], json!([]));
}

async fn minutes_of_those_inside_count_up_to_now(server: &Server) {
    let rooms = Rooms::of(server).await;
    let held = rooms.held("Weekly", 30).await;
    let mut session = held.session.clone();
    session.consumed_ms = 5 * super::MINUTE_MS;
    let records = [
        Record::Session(session),
        Record::Peer(rooms.peer(&held, "gone", 0, Some(5))),
        Record::Peer(rooms.peer(&held, "early", 10, None)),
        Record::Peer(rooms.peer(&held, "late", 25, None)),
    ];
    rooms.keep(&held, &records).await;
    let wanted = 5.0 + 20.0 + 5.0;
    let shown = rooms.app.get(&format!("/sessions/{}", held.id())).await;
    assert_near(&shown.data(200)["minutes_consumed"], wanted);
    let active = format!("/meetings/{}/active-session", held.meeting);
    let active = rooms.app.get(&active).await.data(200);
    assert_near(&active["minutes_consumed"], wanted);
    assert_eq!(active["id"], held.id());
    assert_eq!(active["status"], "LIVE");
}

async fn a_session_that_is_not_there_is_missing(server: &Server) {
    let (rooms, other) = (Rooms::of(server).await, Rooms::of(server).await);
    let held = rooms.held("Weekly", 30).await;
    let message = "Error: resource not found: no such session";
    for rest in ["", "/participants", "/chat"] {
        for id in [NOBODYS_ID, &held.id()] {
            let answer = other.app.get(&format!("/sessions/{id}{rest}")).await;
            answer.refused(404).is(message, None);
        }
        let answer = rooms.app.get(&format!("/sessions/5{rest}")).await;
        assert!(answer.refused(400).message.contains("must be a valid GUID"));
    }
    let _: Value = rooms
        .app
        .get(&format!("/sessions/{}", held.id()))
        .await
        .data(200);
}
