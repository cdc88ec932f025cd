//! Malformed and unusual request bodies.

use parlor_server::limits::Limits;
use reqwest::Method;
use serde_json::json;

use crate::http::participants::{new_participant, new_participant_with};
use crate::http::resource::Resource;
use crate::http::response::Response;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_duplicate_key_is_rejected,
    a_wrong_type_is_reported,
    invalid_json_is_rejected,
    deep_nesting_is_rejected,
    a_nul_character_is_rejected_in_every_field,
    an_unpaired_surrogate_is_rejected,
    unknown_fields_are_ignored,
    the_content_type_does_not_matter,
    a_body_over_the_limit_is_rejected,
    the_error_for_a_huge_body_reaches_the_client,
    a_large_body_within_the_limit_is_accepted,
];

async fn add(meeting: &Resource, body: impl Into<Vec<u8>>) -> Response {
    meeting
        .send_bytes(
            Method::POST,
            "/participants",
            Some(("application/json", body.into())),
        )
        .await
}

async fn is_empty(meeting: &Resource) -> bool {
    meeting.get("/participants").await.page().total == 0
}

async fn a_duplicate_key_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let twice =
        r#"{"custom_participant_id": "a", "preset_name": "x", "custom_participant_id": "b"}"#;
    let error = add(&meeting, twice).await.expect_error(400);
    let message = "BAD_REQUEST: \"custom_participant_id\" is listed more than once";
    error.assert_message(message, Some("/custom_participant_id"));
    let unknown =
        r#"{"custom_participant_id": "a", "preset_name": "group_call_host", "x": 1, "x": 2}"#;
    assert_eq!(
        add(&meeting, unknown).await.expect_error(400).pointers,
        [Some("/x".to_owned())]
    );
    let nested = r#"{"recording_config": {"video_config": {"width": 1, "width": 2}}}"#;
    let nested = meeting
        .send_bytes(Method::PATCH, "", Some(("application/json", nested.into())))
        .await;
    let pointer = "/recording_config/video_config/width".to_owned();
    assert_eq!(nested.expect_error(400).pointers, [Some(pointer)]);
    assert!(is_empty(&meeting).await);
}

async fn a_wrong_type_is_reported(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for wrong in [
        json!(5),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
        json!(["a"]),
        json!(1e300),
    ] {
        for field in ["custom_participant_id", "preset_name"] {
            let error = meeting
                .post(
                    "/participants",
                    &new_participant_with("a", field, wrong.clone()),
                )
                .await
                .expect_error(400);
            error.assert_message(
                &format!("BAD_REQUEST: \"{field}\" must be a string"),
                Some(&format!("/{field}")),
            );
        }
    }
    for wrong in [json!(5), json!([]), json!({})] {
        for field in ["name", "picture"] {
            let error = meeting
                .post(
                    "/participants",
                    &new_participant_with("a", field, wrong.clone()),
                )
                .await
                .expect_error(400);
            error.assert_message(
                &format!("BAD_REQUEST: \"{field}\" must be a string"),
                Some(&format!("/{field}")),
            );
        }
    }
    for body in [
        "[]",
        "5",
        "null",
        "\"text\"",
        "true",
        r#"["a", "group_call_host", null, null]"#,
    ] {
        add(&meeting, body)
            .await
            .expect_error(400)
            .assert_message("BAD_REQUEST: \"body\" must be an object", Some(""));
    }
    assert!(is_empty(&meeting).await);
}

async fn invalid_json_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let valid = new_participant("a").to_string();
    let bodies: [Vec<u8>; 9] = [
        b"{".to_vec(),
        b"nope".to_vec(),
        format!("{valid} x").into(),
        format!("{valid}{valid}").into(),
        format!("\u{feff}{valid}").into(),
        valid.replace('"', "'").into(),
        valid.replace('}', ",}").into(),
        valid.replace("\"a\"", "\"a\u{1}\"").into(),
        b"custom_participant_id=a&preset_name=group_call_host".to_vec(),
    ];
    for body in bodies {
        let error = add(&meeting, body.clone()).await.expect_error(400);
        let text = String::from_utf8_lossy(&body);
        assert!(
            error
                .message
                .starts_with("BAD_REQUEST: the body is not valid JSON"),
            "{text}: {error:?}"
        );
    }
    let mut latin1 = valid.into_bytes();
    let letter = latin1.iter().position(|byte| *byte == b'a').unwrap();
    latin1[letter] = 0xff;
    add(&meeting, latin1).await.expect_error(400);
    assert!(is_empty(&meeting).await);
}

async fn deep_nesting_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let body = format!(
            r#"{{"custom_participant_id": "a", "preset_name": "group_call_host", "x": {deep}}}"#
        );
        add(&meeting, body).await.expect_error(400);
        add(&meeting, deep).await.expect_error(400);
    }
    assert!(is_empty(&meeting).await);
}

async fn a_nul_character_is_rejected_in_every_field(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    for field in ["custom_participant_id", "preset_name", "name", "picture"] {
        let body = new_participant_with("a", field, "https://a/\0");
        let response = meeting.post("/participants", &body).await;
        assert_eq!(response.status / 100, 4, "{field}: {}", response.text());
        let bulk = meeting
            .post("/participants/bulk", &json!({ "participants": [body] }))
            .await;
        assert_eq!(bulk.status / 100, 4, "{field}: {}", bulk.text());
    }
    for (path, body) in [
        ("/meetings", json!({ "title": "a\0" })),
        (
            "/meetings",
            json!({ "recording_config": { "file_name_prefix": "a\0" } }),
        ),
        ("/presets", json!({ "name": "a\0" })),
    ] {
        let response = app.post(path, &body).await;
        assert!(response.status < 500, "{path} {body}: {}", response.text());
    }
    let named = server
        .account()
        .post("/apps", &json!({ "name": "a\0" }))
        .await;
    assert_eq!(named.status / 100, 4, "{}", named.text());
    assert!(is_empty(&meeting).await);
}

async fn an_unpaired_surrogate_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let unpaired = r#"{"custom_participant_id": "\ud83d", "preset_name": "group_call_host"}"#;
    add(&meeting, unpaired).await.expect_error(400);
    let paired = r#"{"custom_participant_id": "\ud83d\ude42", "preset_name": "group_call_host"}"#;
    assert_eq!(
        add(&meeting, paired).await.data(201)["custom_participant_id"],
        "🙂"
    );
}

async fn unknown_fields_are_ignored(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = new_participant("a");
    for (name, value) in [
        ("id", json!("mine")),
        ("token", json!("mine")),
        ("sip_enabled", json!({ "deep": [[1]] })),
    ] {
        body[name] = value;
    }
    let added = meeting.post("/participants", &body).await.data(201);
    assert_ne!(added["id"], "mine");
    assert_eq!(added.get("sip_enabled"), None);
    meeting.patch("", &json!({ "unknown": 1 })).await.data(200);
}

async fn the_content_type_does_not_matter(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let types = [
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        "nonsense",
    ];
    for content_type in types {
        let body = new_participant(content_type).to_string().into_bytes();
        meeting
            .send_bytes(Method::POST, "/participants", Some((content_type, body)))
            .await
            .data(201);
    }
    assert_eq!(
        meeting.get("/participants").await.page().total,
        types.len() as u64
    );
}

async fn a_body_over_the_limit_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let limit = Limits::default().body_bytes;
    let mut body = new_participant("a").to_string().into_bytes();
    body.resize(limit + 1, b' ');
    add(&meeting, body.clone()).await.expect_error(413);
    body.pop();
    add(&meeting, body).await.data(201);
}

async fn the_error_for_a_huge_body_reaches_the_client(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for _ in 0..4 {
        add(&meeting, vec![b' '; 4 * Limits::default().body_bytes])
            .await
            .expect_error(413);
    }
}

async fn a_large_body_within_the_limit_is_accepted(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body = new_participant_with("a", "unknown", "x".repeat(1_000_000));
    meeting.post("/participants", &body).await.data(201);
}
