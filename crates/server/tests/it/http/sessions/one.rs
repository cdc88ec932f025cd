//! `GET /sessions/{session_id}`.

use parlor_live::Record;
use serde_json::{Value, json};

use super::{SessionWriter, assert_near};
use crate::http::resource::UNKNOWN_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_session_is_returned_with_its_settings_and_a_nested_copy,
    minutes_of_connected_peers_count_up_to_now,
    an_unknown_session_is_not_found,
];

async fn a_session_is_returned_with_its_settings_and_a_nested_copy(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let meeting = json!({ "title": "Weekly", "transcribe_on_end": true, "persist_chat": true });
    let meeting = writer.app.post("/meetings", &meeting).await.data(201);
    let session = writer
        .ended_session(meeting["id"].as_str().unwrap(), 60, 15)
        .await;
    let path = format!("/sessions/{}", session.id());
    let shown = writer.app.get(&path).await.data(200);
    let mut outer = shown.clone();
    let nested = outer.as_object_mut().unwrap().remove("session").unwrap();
    assert_eq!(outer, nested);
    assert_eq!(
        shown["settings"],
        json!({
            "record_on_start": false, "live_stream_on_start": false, "persist_chat": true,
            "transcribe_on_end": true, "summarize_on_end": false,
        })
    );
    assert_eq!(shown["id"], session.id());
    assert_eq!(shown["meeting_display_name"], "Then");
    assert_eq!(shown["type"], "meeting");
    assert_eq!(shown["minutes_consumed"], 15.0);
    assert_eq!(shown["started_at"], shown["created_at"]);
    assert_eq!(shown.get("breakout_rooms"), None);
    let with = writer
        .app
        .get(&format!("{path}?include_breakout_rooms=true"))
        .await
        .data(200);
    assert_eq!(with["breakout_rooms"], json!([]));
    assert_eq!(with["session"]["breakout_rooms"], json!([]));
}

async fn minutes_of_connected_peers_count_up_to_now(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let session = writer.meeting_with_session("Weekly", 30).await;
    let mut record = session.record.clone();
    record.consumed_ms = 5 * super::MINUTE_MS;
    let records = [
        Record::Session(record),
        Record::Peer(writer.peer(&session, "departed", 0, Some(5))),
        Record::Peer(writer.peer(&session, "early", 10, None)),
        Record::Peer(writer.peer(&session, "late", 25, None)),
    ];
    writer.insert(&session, &records).await;
    let expected = 5.0 + 20.0 + 5.0;
    let shown = writer.app.get(&format!("/sessions/{}", session.id())).await;
    assert_near(&shown.data(200)["minutes_consumed"], expected);
    let active = format!("/meetings/{}/active-session", session.meeting);
    let active = writer.app.get(&active).await.data(200);
    assert_near(&active["minutes_consumed"], expected);
    assert_eq!(active["id"], session.id());
    assert_eq!(active["status"], "LIVE");
}

async fn an_unknown_session_is_not_found(server: &Server) {
    let (writer, other) = (
        SessionWriter::new(server).await,
        SessionWriter::new(server).await,
    );
    let session = writer.meeting_with_session("Weekly", 30).await;
    let message = "Error: resource not found: no such session";
    for rest in ["", "/participants", "/chat"] {
        for id in [UNKNOWN_ID, &session.id()] {
            let response = other.app.get(&format!("/sessions/{id}{rest}")).await;
            response.expect_error(404).assert_message(message, None);
        }
        let response = writer.app.get(&format!("/sessions/5{rest}")).await;
        assert!(
            response
                .expect_error(400)
                .message
                .contains("must be a valid GUID")
        );
    }
    let _: Value = writer
        .app
        .get(&format!("/sessions/{}", session.id()))
        .await
        .data(200);
}
