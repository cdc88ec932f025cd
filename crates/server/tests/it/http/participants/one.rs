//! `…/participants/{participant_id}`: a participant by id or by custom id.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{new_participant, new_participant_with};
use crate::http::resource::{Resource, UNKNOWN_ID};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_participant_is_found_by_either_id,
    a_custom_id_may_contain_any_character,
    an_invalid_participant_path_is_rejected,
    a_patch_changes_only_the_given_fields,
    a_put_clears_the_absent_fields,
    the_custom_id_cannot_be_changed,
    an_unknown_preset_changes_nothing,
    racing_patches_of_different_fields_are_all_applied,
    a_deleted_participant_is_gone,
    racing_deletions_delete_once,
    an_unknown_participant_is_a_404_for_every_method,
];

async fn add(meeting: &Resource, body: &Value) -> Value {
    meeting.post("/participants", body).await.data(201)
}

/// Percent-encodes everything except letters and digits.
fn encoded(text: &str) -> String {
    let each = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(each).collect()
}

fn without_token(mut added: Value) -> Value {
    for secret in ["token", "expires_at"] {
        added.as_object_mut().unwrap().remove(secret).unwrap();
    }
    added
}

async fn a_participant_is_found_by_either_id(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let added = add(&meeting, &new_participant_with("ada", "name", "Ada")).await;
    let id = added["id"].as_str().unwrap().to_owned();
    let by_id = meeting.get(&format!("/participants/{id}")).await;
    assert_shape("participant", &by_id.json());
    assert_eq!(by_id.data(200), without_token(added));
    for path_id in [
        "custom:ada".to_owned(),
        "custom%3Aada".to_owned(),
        id.to_uppercase(),
    ] {
        let found = meeting
            .get(&format!("/participants/{path_id}"))
            .await
            .data(200);
        assert_eq!(found, by_id.data(200), "{path_id}");
    }
}

async fn a_custom_id_may_contain_any_character(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let ids = [
        "a/b", "/", "..", "a b", "50%", "%2F", "?#&=", "custom:x", "token", "bulk", "ü🙂", "a+b",
        UNKNOWN_ID,
    ];
    for custom_id in ids {
        let added = add(&meeting, &new_participant(custom_id)).await;
        let path = format!("/participants/custom:{}", encoded(custom_id));
        assert_eq!(
            meeting.get(&path).await.data(200),
            without_token(added.clone()),
            "{custom_id}"
        );
        let changed = meeting
            .patch(&path, &json!({ "name": custom_id }))
            .await
            .data(200);
        assert_eq!(
            (&changed["id"], &changed["name"]),
            (&added["id"], &json!(custom_id))
        );
        meeting
            .post(&format!("{path}/token"), &json!({}))
            .await
            .data(200);
        assert_eq!(meeting.delete(&path).await.data(200)["id"], added["id"]);
        meeting.get(&path).await.expect_error(404);
    }
}

async fn an_invalid_participant_path_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for malformed in ["ada", "Custom:ada", "0190f3c0a0b17c1d8e2f0123456789ab"] {
        let error = meeting
            .get(&format!("/participants/{malformed}"))
            .await
            .expect_error(400);
        error.assert_message(
            "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"participant_id\")",
            None,
        );
    }
    for invalid in ["custom:%FF", "custom:%00", "%FF"] {
        meeting
            .get(&format!("/participants/{invalid}"))
            .await
            .expect_error(400);
    }
    let long = format!("/participants/custom:{}", "x".repeat(257));
    assert_eq!(meeting.get(&long).await.status / 100, 4);
    assert_eq!(meeting.get("/participants/custom:").await.status / 100, 4);
}

async fn a_patch_changes_only_the_given_fields(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = new_participant_with("ada", "name", "Ada");
    body["picture"] = json!("https://example.com/ada.png");
    let before = add(&meeting, &body).await;
    let path = format!("/participants/{}", before["id"].as_str().unwrap());
    tokio::time::sleep(Duration::from_millis(2)).await;
    let named = meeting.patch(&path, &json!({ "name": "Countess" })).await;
    assert_shape("participant_changed", &named.json());
    let named = named.data(200);
    assert!(named["updated_at"].as_str() > before["updated_at"].as_str());
    let mut expected = without_token(before);
    expected["name"] = json!("Countess");
    expected["updated_at"] = named["updated_at"].clone();
    assert_eq!(without_token(named), expected);
    assert_eq!(meeting.get(&path).await.data(200), expected);
    let cleared = meeting
        .patch(&path, &json!({ "name": null, "picture": null }))
        .await
        .data(200);
    assert_eq!(
        (&cleared["name"], &cleared["picture"]),
        (&Value::Null, &Value::Null)
    );
    let moved = json!({ "preset_name": "webinar_viewer", "unknown": [1] });
    let moved = meeting.patch(&path, &moved).await.data(200);
    assert_eq!(moved["preset_name"], "webinar_viewer");
    assert_ne!(moved["preset_id"], expected["preset_id"]);
    let unchanged = meeting
        .patch(&path, &json!({ "preset_name": null }))
        .await
        .data(200);
    assert_eq!(unchanged["preset_name"], "webinar_viewer");
    for wrong in [json!({ "name": 5 }), json!({ "name": "x".repeat(257) })] {
        let error = meeting.patch(&path, &wrong).await.expect_error(400);
        assert_eq!(error.pointers, [Some("/name".to_owned())]);
    }
}

async fn a_put_clears_the_absent_fields(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = new_participant_with("ada", "name", "Ada");
    body["picture"] = json!("https://example.com/ada.png");
    let before = add(&meeting, &body).await;
    let path = format!("/participants/{}", before["id"].as_str().unwrap());
    let replaced = meeting
        .put(&path, &json!({ "preset_name": "group_call_guest" }))
        .await
        .data(200);
    assert_eq!(
        (&replaced["name"], &replaced["picture"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&replaced["id"], &replaced["created_at"]),
        (&before["id"], &before["created_at"])
    );
    assert_eq!(replaced["preset_name"], "group_call_guest");
    assert_eq!(meeting.get(&path).await.data(200), without_token(replaced));
    let error = meeting
        .put(&path, &json!({ "name": "Ada" }))
        .await
        .expect_error(400);
    error.assert_message(
        "BAD_REQUEST: \"preset_name\" is required",
        Some("/preset_name"),
    );
}

async fn the_custom_id_cannot_be_changed(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &new_participant("ada")).await;
    let path = "/participants/custom:ada";
    meeting.put(path, &new_participant("ada")).await.data(200);
    let error = meeting
        .put(path, &new_participant("eve"))
        .await
        .expect_error(400);
    error.assert_message(
        "BAD_REQUEST: \"custom_participant_id\" cannot be changed",
        Some("/custom_participant_id"),
    );
    let patched = meeting
        .patch(path, &json!({ "custom_participant_id": "eve" }))
        .await
        .data(200);
    assert_eq!(patched["custom_participant_id"], "ada");
}

async fn an_unknown_preset_changes_nothing(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &new_participant("ada")).await;
    let path = "/participants/custom:ada";
    let before = meeting.get(path).await.data(200);
    let body = json!({ "preset_name": "group-call-host", "name": "Other" });
    for response in [
        meeting.patch(path, &body).await,
        meeting.put(path, &body).await,
    ] {
        let message =
            "No preset found with name group-call-host; did you mean \"group_call_host\"?";
        response
            .expect_error(404)
            .assert_message(message, Some("/preset_name"));
    }
    assert_eq!(meeting.get(path).await.data(200), before);
}

async fn racing_patches_of_different_fields_are_all_applied(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &new_participant("ada")).await;
    let changes = [
        json!({ "name": "Raced" }),
        json!({ "picture": "https://example.com/raced.png" }),
        json!({ "preset_name": "webinar_viewer" }),
    ];
    let path = "/participants/custom:ada";
    for round in 0..8 {
        let responses = join_all(changes.iter().map(|change| meeting.patch(path, change))).await;
        assert!(
            responses.iter().all(|response| response.status == 200),
            "{responses:?}"
        );
        let found = meeting.get(path).await.data(200);
        for change in &changes {
            let (name, value) = change.as_object().unwrap().iter().next().unwrap();
            assert_eq!(found[name], *value, "round {round}");
        }
        let back = json!({ "name": null, "picture": null, "preset_name": "group_call_host" });
        meeting.patch(path, &back).await.data(200);
    }
}

async fn a_deleted_participant_is_gone(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let first = add(&meeting, &new_participant("ada")).await;
    let path = format!("/participants/{}", first["id"].as_str().unwrap());
    let deleted = meeting.delete(&path).await;
    deleted.data(200);
    assert_shape("participant_deleted", &deleted.json());
    meeting
        .delete(&path)
        .await
        .expect_error(404)
        .assert_message("Error: resource not found: no such participant", None);
    meeting
        .get("/participants/custom:ada")
        .await
        .expect_error(404);
    assert_eq!(meeting.get("/participants").await.page().total, 0);
    let second = add(&meeting, &new_participant("ada")).await;
    assert_ne!(second["id"], first["id"]);
    meeting.get(&path).await.expect_error(404);
}

async fn racing_deletions_delete_once(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &new_participant("kept")).await;
    add(&meeting, &new_participant("raced")).await;
    let responses = join_all((0..16).map(|_| meeting.delete("/participants/custom:raced"))).await;
    let (deleted, rejected): (Vec<_>, Vec<_>) = responses
        .iter()
        .partition(|response| response.status == 200);
    assert_eq!(deleted.len(), 1);
    for response in rejected {
        response.expect_error(404);
    }
    let page = meeting.get("/participants").await.page();
    assert_eq!(
        (page.total, page.texts("custom_participant_id")),
        (1, vec!["kept"])
    );
}

async fn an_unknown_participant_is_a_404_for_every_method(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for id in [UNKNOWN_ID, "custom:unknown"] {
        let path = format!("/participants/{id}");
        let responses = [
            meeting.get(&path).await,
            meeting.patch(&path, &json!({})).await,
            meeting.put(&path, &new_participant("unknown")).await,
            meeting.delete(&path).await,
            meeting.post(&format!("{path}/token"), &json!({})).await,
        ];
        for response in responses {
            response
                .expect_error(404)
                .assert_message("Error: resource not found: no such participant", None);
        }
    }
}
