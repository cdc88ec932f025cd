//! `/active-session` of meetings without a running room: validation and error messages.

use serde_json::{Value, json};

use crate::http::resource::UNKNOWN_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    an_empty_meeting_has_no_active_session,
    a_request_must_name_a_participant,
    an_invalid_poll_is_rejected,
];

async fn an_empty_meeting_has_no_active_session(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let by_id = json!({ "participant_ids": [UNKNOWN_ID], "custom_participant_ids": null });
    let by_custom_id = json!({ "custom_participant_ids": ["ada"] });
    let poll = json!({ "question": "Tea?", "options": ["Yes", "No"] });
    let posts: [(&str, &Value); 6] = [
        ("kick", &by_id),
        ("kick", &by_custom_id),
        ("kick-all", &Value::Null),
        ("mute", &by_id),
        ("mute-all", &json!({ "allow_unmute": true })),
        ("poll", &poll),
    ];
    let unknown = app.join(&format!("/meetings/{UNKNOWN_ID}"));
    for resource in [meeting, unknown] {
        let message = format!("No active session found for meeting_id {}", resource.id());
        let response = resource.get("/active-session").await;
        response.expect_error(404).assert_message(&message, None);
        for (action, body) in &posts {
            let path = format!("/active-session/{action}");
            let body = if body.is_null() { &json!({}) } else { *body };
            resource
                .post(&path, body)
                .await
                .expect_error(404)
                .assert_message(&message, None);
        }
        let no_body = resource
            .send(reqwest::Method::POST, "/active-session/kick-all", None)
            .await;
        no_body.expect_error(404).assert_message(&message, None);
    }
}

async fn a_request_must_name_a_participant(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for action in ["kick", "mute"] {
        let path = format!("/active-session/{action}");
        for body in [
            json!({}),
            json!({ "participant_ids": [] }),
            json!({ "participant_ids": [], "custom_participant_ids": [] }),
            json!({ "participant_ids": null }),
        ] {
            let error = meeting.post(&path, &body).await.expect_error(400);
            assert!(
                error.message.contains("must contain at least one id"),
                "{error:?}"
            );
        }
        let unknown = json!({ "participant_ids": ["ada"] });
        let error = meeting.post(&path, &unknown).await.expect_error(404);
        error.assert_message("No user found with id ada", None);
        for body in [
            json!({ "participant_ids": "ada" }),
            json!({ "participant_ids": [5] }),
            json!({ "custom_participant_ids": [""] }),
            json!({ "custom_participant_ids": vec!["x"; 1001] }),
        ] {
            meeting.post(&path, &body).await.expect_error(400);
        }
    }
    let response = meeting.post("/active-session/mute-all", &json!({})).await;
    let message = "BAD_REQUEST: \"allow_unmute\" is required";
    response
        .expect_error(400)
        .assert_message(message, Some("/allow_unmute"));
}

async fn an_invalid_poll_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for (body, pointer) in [
        (json!({ "options": ["a", "b"] }), "/question"),
        (json!({ "question": "?" }), "/options"),
        (
            json!({ "question": "", "options": ["a", "b"] }),
            "/question",
        ),
        (json!({ "question": "?", "options": [] }), "/options"),
        (json!({ "question": "?", "options": ["only"] }), "/options"),
        (
            json!({ "question": "?", "options": ["a", ""] }),
            "/options/1",
        ),
        (
            json!({ "question": "?", "options": vec!["a"; 51] }),
            "/options",
        ),
        (
            json!({ "question": "?".repeat(2001), "options": ["a", "b"] }),
            "/question",
        ),
        (
            json!({ "question": "?", "options": ["a", "b"], "anonymous": "no" }),
            "/anonymous",
        ),
    ] {
        let error = meeting
            .post("/active-session/poll", &body)
            .await
            .expect_error(400);
        assert_eq!(error.pointers, [Some(pointer.to_owned())], "{error:?}");
    }
}
