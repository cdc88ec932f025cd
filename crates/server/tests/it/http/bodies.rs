//! Bodies that no client library would send, and some that only look odd.

use parlor_server::limits::Limits;
use reqwest::Method;
use serde_json::json;

use crate::http::answer::Answer;
use crate::http::participants::{person, person_with};
use crate::http::place::Place;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_key_that_stands_there_twice_is_refused,
    a_wrong_type_is_named,
    what_is_not_json_is_refused,
    deep_nesting_is_refused,
    a_zero_character_is_refused_wherever_it_stands,
    half_a_character_is_refused,
    unknown_fields_are_ignored,
    the_content_type_does_not_matter,
    a_body_over_the_limit_is_refused,
    the_refusal_of_a_huge_body_reaches_the_client,
    a_large_body_within_the_limit_is_taken,
];

async fn add(meeting: &Place, body: impl Into<Vec<u8>>) -> Answer {
    meeting
        .send_bytes(
            Method::POST,
            "/participants",
            Some(("application/json", body.into())),
        )
        .await
}

async fn is_empty(meeting: &Place) -> bool {
    meeting.get("/participants").await.page().total == 0
}

async fn a_key_that_stands_there_twice_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let twice =
        r#"{"custom_participant_id": "a", "preset_name": "x", "custom_participant_id": "b"}"#;
    let refusal = add(&meeting, twice).await.refused(400);
    let message = "BAD_REQUEST: \"custom_participant_id\" stands there more than once";
    refusal.is(message, Some("/custom_participant_id"));
    let unknown =
        r#"{"custom_participant_id": "a", "preset_name": "group_call_host", "x": 1, "x": 2}"#;
    assert_eq!(
        add(&meeting, unknown).await.refused(400).pointers,
        [Some("/x".to_owned())]
    );
    let nested = r#"{"recording_config": {"video_config": {"width": 1, "width": 2}}}"#;
    let nested = meeting
        .send_bytes(Method::PATCH, "", Some(("application/json", nested.into())))
        .await;
    let pointer = "/recording_config/video_config/width".to_owned();
    assert_eq!(nested.refused(400).pointers, [Some(pointer)]);
    assert!(is_empty(&meeting).await);
}

async fn a_wrong_type_is_named(server: &Server) {
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
            let refusal = meeting
                .post("/participants", &person_with("a", field, wrong.clone()))
                .await
                .refused(400);
            refusal.is(
                &format!("BAD_REQUEST: \"{field}\" must be a string"),
                Some(&format!("/{field}")),
            );
        }
    }
    for wrong in [json!(5), json!([]), json!({})] {
        for field in ["name", "picture"] {
            let refusal = meeting
                .post("/participants", &person_with("a", field, wrong.clone()))
                .await
                .refused(400);
            refusal.is(
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
            .refused(400)
            .is("BAD_REQUEST: \"body\" must be an object", Some(""));
    }
    assert!(is_empty(&meeting).await);
}

async fn what_is_not_json_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let good = person("a").to_string();
    let bodies: [Vec<u8>; 9] = [
        b"{".to_vec(),
        b"nope".to_vec(),
        format!("{good} x").into(),
        format!("{good}{good}").into(),
        format!("\u{feff}{good}").into(),
        good.replace('"', "'").into(),
        good.replace('}', ",}").into(),
        good.replace("\"a\"", "\"a\u{1}\"").into(),
        b"custom_participant_id=a&preset_name=group_call_host".to_vec(),
    ];
    for body in bodies {
        let refusal = add(&meeting, body.clone()).await.refused(400);
        let text = String::from_utf8_lossy(&body);
        assert!(
            refusal
                .message
                .starts_with("BAD_REQUEST: the body is not valid JSON"),
            "{text}: {refusal:?}"
        );
    }
    let mut latin = good.into_bytes();
    let letter = latin.iter().position(|byte| *byte == b'a').unwrap();
    latin[letter] = 0xff;
    add(&meeting, latin).await.refused(400);
    assert!(is_empty(&meeting).await);
}

async fn deep_nesting_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let body = format!(
            r#"{{"custom_participant_id": "a", "preset_name": "group_call_host", "x": {deep}}}"#
        );
        add(&meeting, body).await.refused(400);
        add(&meeting, deep).await.refused(400);
    }
    assert!(is_empty(&meeting).await);
}

async fn a_zero_character_is_refused_wherever_it_stands(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    for field in ["custom_participant_id", "preset_name", "name", "picture"] {
        let body = person_with("a", field, "https://a/\0");
        let answer = meeting.post("/participants", &body).await;
        assert_eq!(answer.status / 100, 4, "{field}: {}", answer.text());
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
        let answer = app.post(path, &body).await;
        assert!(answer.status < 500, "{path} {body}: {}", answer.text());
    }
    let named = server
        .account()
        .post("/apps", &json!({ "name": "a\0" }))
        .await;
    assert_eq!(named.status / 100, 4, "{}", named.text());
    assert!(is_empty(&meeting).await);
}

async fn half_a_character_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let half = r#"{"custom_participant_id": "\ud83d", "preset_name": "group_call_host"}"#;
    add(&meeting, half).await.refused(400);
    let whole = r#"{"custom_participant_id": "\ud83d\ude42", "preset_name": "group_call_host"}"#;
    assert_eq!(
        add(&meeting, whole).await.data(201)["custom_participant_id"],
        "🙂"
    );
}

async fn unknown_fields_are_ignored(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = person("a");
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
        let body = person(content_type).to_string().into_bytes();
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

async fn a_body_over_the_limit_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let limit = Limits::default().body_bytes;
    let mut body = person("a").to_string().into_bytes();
    body.resize(limit + 1, b' ');
    add(&meeting, body.clone()).await.refused(413);
    body.pop();
    add(&meeting, body).await.data(201);
}

async fn the_refusal_of_a_huge_body_reaches_the_client(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for _ in 0..4 {
        add(&meeting, vec![b' '; 4 * Limits::default().body_bytes])
            .await
            .refused(413);
    }
}

async fn a_large_body_within_the_limit_is_taken(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body = person_with("a", "unknown", "x".repeat(1_000_000));
    meeting.post("/participants", &body).await.data(201);
}
