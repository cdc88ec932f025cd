//! The session that a meeting has now, where no room runs: what is refused, and in which words.

use serde_json::{Value, json};

use crate::http::place::NOBODYS_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_meeting_nobody_is_in_has_no_active_session,
    a_request_must_name_somebody,
    a_poll_must_be_one,
];

async fn a_meeting_nobody_is_in_has_no_active_session(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let somebody = json!({ "participant_ids": [NOBODYS_ID], "custom_participant_ids": null });
    let custom = json!({ "custom_participant_ids": ["ada"] });
    let poll = json!({ "question": "Tea?", "options": ["Yes", "No"] });
    let posts: [(&str, &Value); 6] = [
        ("kick", &somebody),
        ("kick", &custom),
        ("kick-all", &Value::Null),
        ("mute", &somebody),
        ("mute-all", &json!({ "allow_unmute": true })),
        ("poll", &poll),
    ];
    let nowhere = app.at(&format!("/meetings/{NOBODYS_ID}"));
    for place in [meeting, nowhere] {
        let message = format!("No active session found for meeting_id {}", place.id());
        let got = place.get("/active-session").await;
        got.refused(404).is(&message, None);
        for (action, body) in &posts {
            let path = format!("/active-session/{action}");
            let body = if body.is_null() { &json!({}) } else { *body };
            place
                .post(&path, body)
                .await
                .refused(404)
                .is(&message, None);
        }
        let bare = place
            .send(reqwest::Method::POST, "/active-session/kick-all", None)
            .await;
        bare.refused(404).is(&message, None);
    }
}

async fn a_request_must_name_somebody(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for action in ["kick", "mute"] {
        let path = format!("/active-session/{action}");
        for body in [
            json!({}),
            json!({ "participant_ids": [] }),
            json!({ "participant_ids": [], "custom_participant_ids": [] }),
            json!({ "participant_ids": null }),
        ] {
            let refusal = meeting.post(&path, &body).await.refused(400);
            assert!(
                refusal.message.contains("must name somebody"),
                "{refusal:?}"
            );
        }
        let strange = json!({ "participant_ids": ["ada"] });
        let refusal = meeting.post(&path, &strange).await.refused(404);
        refusal.is("No user found with id ada", None);
        for body in [
            json!({ "participant_ids": "ada" }),
            json!({ "participant_ids": [5] }),
            json!({ "custom_participant_ids": [""] }),
            json!({ "custom_participant_ids": vec!["x"; 1001] }),
        ] {
            meeting.post(&path, &body).await.refused(400);
        }
    }
    let refusal = meeting.post("/active-session/mute-all", &json!({})).await;
    let message = "BAD_REQUEST: \"allow_unmute\" is required";
    refusal.refused(400).is(message, Some("/allow_unmute"));
}

async fn a_poll_must_be_one(server: &Server) {
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
        let refusal = meeting
            .post("/active-session/poll", &body)
            .await
            .refused(400);
        assert_eq!(refusal.pointers, [Some(pointer.to_owned())], "{refusal:?}");
    }
}
