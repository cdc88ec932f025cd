//! `POST …/participants`.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{new_participant, new_participant_with};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    an_added_participant_has_the_documented_shape,
    a_participant_needs_neither_name_nor_picture,
    adding_a_participant_again_updates_it,
    fields_that_are_absent_the_second_time_are_kept,
    the_same_custom_id_is_another_participant_in_another_meeting,
    custom_ids_are_compared_exactly,
    racing_adds_of_one_custom_id_make_one_participant,
    an_existing_participant_is_rejected_on_request,
    racing_strict_adds_let_one_through,
    the_error_for_an_unknown_preset_suggests_similar_names,
    the_error_for_a_missing_field_has_the_documented_text,
    lengths_are_counted_in_characters,
    a_picture_must_be_an_absolute_web_url,
];

async fn an_added_participant_has_the_documented_shape(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body = json!({
        "custom_participant_id": "ada@example.com", "preset_name": "group_call_host",
        "name": "Ada", "picture": "https://example.com/ada.png",
    });
    let added = meeting.post("/participants", &body).await;
    let data = added.data(201);
    assert_shape("participant_added", &added.json());
    assert_eq!(data["created_at"], data["updated_at"]);
}

async fn a_participant_needs_neither_name_nor_picture(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let absent = meeting
        .post("/participants", &new_participant("one"))
        .await
        .data(201);
    let nulls = json!({
        "custom_participant_id": "two", "preset_name": "group_call_host", "name": null, "picture": null,
    });
    let null = meeting.post("/participants", &nulls).await.data(201);
    let empty = meeting
        .post("/participants", &new_participant_with("three", "name", ""))
        .await
        .data(201);
    for (added, name) in [
        (absent, Value::Null),
        (null, Value::Null),
        (empty, json!("")),
    ] {
        assert_eq!((&added["name"], &added["picture"]), (&name, &Value::Null));
    }
}

async fn adding_a_participant_again_updates_it(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let first = meeting
        .post("/participants", &new_participant_with("ada", "name", "Ada"))
        .await
        .data(201);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let body = json!({
        "custom_participant_id": "ada", "preset_name": "webinar_viewer",
        "name": "Countess", "picture": "https://example.com/ada.png",
    });
    let second = meeting.post("/participants", &body).await.data(201);
    assert_eq!(
        (&second["id"], &second["created_at"]),
        (&first["id"], &first["created_at"])
    );
    assert!(second["updated_at"].as_str() > first["updated_at"].as_str());
    assert_eq!(second["preset_name"], "webinar_viewer");
    assert_ne!(second["preset_id"], first["preset_id"]);
    assert_eq!(
        (&second["name"], &second["picture"]),
        (&body["name"], &body["picture"])
    );
    assert_ne!(second["token"], first["token"]);
    let mut kept = second;
    for secret in ["token", "expires_at"] {
        kept.as_object_mut().unwrap().remove(secret);
    }
    assert_eq!(meeting.get("/participants").await.page().items, [kept]);
}

async fn fields_that_are_absent_the_second_time_are_kept(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let picture = "https://example.com/ada.png";
    let mut body = new_participant_with("ada", "name", "Ada");
    body["picture"] = json!(picture);
    meeting.post("/participants", &body).await.data(201);
    let absent = meeting
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    assert_eq!(
        (&absent["name"], &absent["picture"]),
        (&json!("Ada"), &json!(picture))
    );
    let null = meeting
        .post(
            "/participants",
            &new_participant_with("ada", "name", Value::Null),
        )
        .await
        .data(201);
    assert_eq!(
        (&null["name"], &null["picture"]),
        (&Value::Null, &json!(picture))
    );
    let null = meeting
        .post(
            "/participants",
            &new_participant_with("ada", "picture", Value::Null),
        )
        .await
        .data(201);
    assert_eq!(null["picture"], Value::Null);
}

async fn the_same_custom_id_is_another_participant_in_another_meeting(server: &Server) {
    let app = server.app().await;
    let (first, second) = (app.meeting().await, app.meeting().await);
    let one = first
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    let other = second
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    assert_ne!(one["id"], other["id"]);
    let id = other["id"].as_str().unwrap();
    first
        .get(&format!("/participants/{id}"))
        .await
        .expect_error(404);
}

async fn custom_ids_are_compared_exactly(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let ids = [
        "ada",
        "Ada",
        "ada ",
        " ada",
        "a\u{301}da",
        "\u{e1}da",
        "custom:ada",
        "ada/1",
        "'; --",
        "🙂",
    ];
    for id in ids {
        let added = meeting
            .post("/participants", &new_participant(id))
            .await
            .data(201);
        assert_eq!(added["custom_participant_id"], id);
    }
    assert_eq!(
        meeting.get("/participants").await.page().total,
        ids.len() as u64
    );
}

async fn racing_adds_of_one_custom_id_make_one_participant(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body = new_participant("raced");
    let responses = join_all((0..32).map(|_| meeting.post("/participants", &body))).await;
    let first = responses[0].data(201);
    for response in &responses {
        let added = response.data(201);
        assert_eq!(
            (&added["id"], &added["created_at"]),
            (&first["id"], &first["created_at"])
        );
    }
    let page = meeting.get("/participants").await.page();
    assert_eq!((page.total, page.items.len()), (1, 1));
}

async fn an_existing_participant_is_rejected_on_request(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let strict = meeting.with_header("parlor-if-exists", "reject");
    let first = strict
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    let again = strict
        .post(
            "/participants",
            &new_participant_with("ada", "name", "Other"),
        )
        .await
        .expect_error(409);
    let message = "a participant with custom_participant_id ada already exists in this meeting";
    again.assert_message(message, Some("/custom_participant_id"));
    let found = meeting.get("/participants/custom:ada").await.data(200);
    assert_eq!((&found["id"], &found["name"]), (&first["id"], &Value::Null));
    assert_eq!(meeting.get("/participants").await.page().total, 1);
    let lenient = meeting.with_header("parlor-if-exists", "update");
    lenient
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    let other = meeting.with_header("parlor-if-exists", "maybe");
    other
        .post("/participants", &new_participant("ada"))
        .await
        .expect_error(400);
    strict
        .post(
            "/participants",
            &new_participant_with("ada", "preset_name", "none"),
        )
        .await
        .expect_error(404);
}

async fn racing_strict_adds_let_one_through(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let strict = meeting.with_header("parlor-if-exists", "reject");
    let body = new_participant("raced");
    let responses = join_all((0..16).map(|_| strict.post("/participants", &body))).await;
    let (added, rejected): (Vec<_>, Vec<_>) = responses
        .iter()
        .partition(|response| response.status == 201);
    assert_eq!(added.len(), 1, "{responses:?}");
    for response in rejected {
        response.expect_error(409);
    }
    assert_eq!(meeting.get("/participants").await.page().total, 1);
}

async fn the_error_for_an_unknown_preset_suggests_similar_names(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let cases = [
        ("grup_call_host", "; did you mean \"group_call_host\"?"),
        ("group-call-host", "; did you mean \"group_call_host\"?"),
        ("Group_Call_Host", "; did you mean \"group_call_host\"?"),
        ("group call guest", "; did you mean \"group_call_guest\"?"),
        ("meeting_admin", ""),
        ("x", ""),
    ];
    for (name, suggestion) in cases {
        let error = meeting
            .post(
                "/participants",
                &new_participant_with("ada", "preset_name", name),
            )
            .await
            .expect_error(404);
        error.assert_message(
            &format!("No preset found with name {name}{suggestion}"),
            Some("/preset_name"),
        );
    }
    assert_eq!(meeting.get("/participants").await.page().total, 0);
    let id = server.app().await.get("/presets").await.page().texts("id")[0].to_owned();
    meeting
        .post(
            "/participants",
            &new_participant_with("ada", "preset_name", id),
        )
        .await
        .expect_error(404);
}

async fn the_error_for_a_missing_field_has_the_documented_text(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let cases = [
        (
            json!({ "preset_name": "x" }),
            "\"custom_participant_id\" is required",
            "/custom_participant_id",
        ),
        (
            json!({ "custom_participant_id": "x" }),
            "\"preset_name\" is required",
            "/preset_name",
        ),
        (
            new_participant(""),
            "\"custom_participant_id\" is not allowed to be empty",
            "/custom_participant_id",
        ),
        (
            new_participant_with("x", "preset_name", ""),
            "\"preset_name\" is not allowed to be empty",
            "/preset_name",
        ),
    ];
    for (body, message, pointer) in cases {
        let error = meeting.post("/participants", &body).await.expect_error(400);
        error.assert_message(&format!("BAD_REQUEST: {message}"), Some(pointer));
    }
    let no_body = meeting
        .send(reqwest::Method::POST, "/participants", None)
        .await
        .expect_error(400);
    assert!(no_body.message.ends_with("is required"), "{no_body:?}");
}

async fn lengths_are_counted_in_characters(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let picture = |length: usize| format!("https://example.com/{}", "é".repeat(length - 20));
    let cases = [
        ("name", "🙂".repeat(256), "🙂".repeat(257)),
        ("custom_participant_id", "🙂".repeat(256), "🙂".repeat(257)),
        ("picture", picture(2048), picture(2049)),
    ];
    for (field, longest, too_long) in cases {
        let added = meeting
            .post(
                "/participants",
                &new_participant_with("ada", field, longest.as_str()),
            )
            .await;
        assert_eq!(added.data(201)[field], longest);
        let error = meeting
            .post(
                "/participants",
                &new_participant_with("ada", field, too_long),
            )
            .await
            .expect_error(400);
        assert_eq!(error.pointers, [Some(format!("/{field}"))]);
        assert!(error.message.contains(field), "{error:?}");
    }
    let too_long = new_participant_with("ada", "preset_name", "x".repeat(257));
    assert_eq!(
        meeting
            .post("/participants", &too_long)
            .await
            .expect_error(400)
            .pointers[0]
            .as_deref(),
        Some("/preset_name")
    );
}

async fn a_picture_must_be_an_absolute_web_url(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for good in [
        "http://a",
        "HTTPS://example.com/a.png?size=2#x",
        "https://例え.jp/ロゴ",
    ] {
        let added = meeting
            .post(
                "/participants",
                &new_participant_with("ada", "picture", good),
            )
            .await;
        assert_eq!(added.data(201)["picture"], good);
    }
    for bad in [
        "",
        "ada.png",
        "//example.com/a",
        "javascript:alert(1)",
        "data:image/png;base64,AA==",
        "https://a b",
    ] {
        let error = meeting
            .post(
                "/participants",
                &new_participant_with("ada", "picture", bad),
            )
            .await
            .expect_error(400);
        assert_eq!(error.pointers, [Some("/picture".to_owned())], "{bad}");
    }
}
