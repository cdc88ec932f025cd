//! `…/participants/{participant_id}`: one person, by id or by custom id.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{person, person_with};
use crate::http::answer::assert_shape;
use crate::http::place::{NOBODYS_ID, Place};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_participant_is_read_by_either_id,
    a_custom_id_may_hold_anything,
    an_address_that_cannot_be_read_is_refused,
    a_change_touches_what_it_names,
    a_replacement_takes_away_what_is_absent,
    the_custom_id_cannot_be_changed,
    an_unknown_preset_changes_nothing,
    racing_changes_of_different_fields_are_all_kept,
    a_deleted_participant_is_gone,
    racing_deletions_delete_once,
    nobody_is_a_404_for_every_method,
];

async fn add(meeting: &Place, body: &Value) -> Value {
    meeting.post("/participants", body).await.data(201)
}

/// Percent-encodes everything that is not a letter or a digit.
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

async fn a_participant_is_read_by_either_id(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let added = add(&meeting, &person_with("ada", "name", "Ada")).await;
    let id = added["id"].as_str().unwrap().to_owned();
    let by_id = meeting.get(&format!("/participants/{id}")).await;
    assert_shape("participant", &by_id.json());
    assert_eq!(by_id.data(200), without_token(added));
    for address in [
        "custom:ada".to_owned(),
        "custom%3Aada".to_owned(),
        id.to_uppercase(),
    ] {
        let found = meeting
            .get(&format!("/participants/{address}"))
            .await
            .data(200);
        assert_eq!(found, by_id.data(200), "{address}");
    }
}

async fn a_custom_id_may_hold_anything(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let ids = [
        "a/b", "/", "..", "a b", "50%", "%2F", "?#&=", "custom:x", "token", "bulk", "ü🙂", "a+b",
        NOBODYS_ID,
    ];
    for custom_id in ids {
        let added = add(&meeting, &person(custom_id)).await;
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
        meeting.get(&path).await.refused(404);
    }
}

async fn an_address_that_cannot_be_read_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for malformed in ["ada", "Custom:ada", "0190f3c0a0b17c1d8e2f0123456789ab"] {
        let refusal = meeting
            .get(&format!("/participants/{malformed}"))
            .await
            .refused(400);
        refusal.is(
            "BAD_REQUEST \"id\" must be a valid GUID (path parameter \"participant_id\")",
            None,
        );
    }
    for unreadable in ["custom:%FF", "custom:%00", "%FF"] {
        meeting
            .get(&format!("/participants/{unreadable}"))
            .await
            .refused(400);
    }
    let long = format!("/participants/custom:{}", "x".repeat(257));
    assert_eq!(meeting.get(&long).await.status / 100, 4);
    assert_eq!(meeting.get("/participants/custom:").await.status / 100, 4);
}

async fn a_change_touches_what_it_names(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = person_with("ada", "name", "Ada");
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
    let nothing = meeting
        .patch(&path, &json!({ "preset_name": null }))
        .await
        .data(200);
    assert_eq!(nothing["preset_name"], "webinar_viewer");
    for wrong in [json!({ "name": 5 }), json!({ "name": "x".repeat(257) })] {
        let refusal = meeting.patch(&path, &wrong).await.refused(400);
        assert_eq!(refusal.pointers, [Some("/name".to_owned())]);
    }
}

async fn a_replacement_takes_away_what_is_absent(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut body = person_with("ada", "name", "Ada");
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
    let refusal = meeting
        .put(&path, &json!({ "name": "Ada" }))
        .await
        .refused(400);
    refusal.is(
        "BAD_REQUEST: \"preset_name\" is required",
        Some("/preset_name"),
    );
}

async fn the_custom_id_cannot_be_changed(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &person("ada")).await;
    let path = "/participants/custom:ada";
    meeting.put(path, &person("ada")).await.data(200);
    let refusal = meeting.put(path, &person("eve")).await.refused(400);
    refusal.is(
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
    add(&meeting, &person("ada")).await;
    let path = "/participants/custom:ada";
    let before = meeting.get(path).await.data(200);
    let body = json!({ "preset_name": "group-call-host", "name": "Other" });
    for answer in [
        meeting.patch(path, &body).await,
        meeting.put(path, &body).await,
    ] {
        let message =
            "No preset found with name group-call-host; did you mean \"group_call_host\"?";
        answer.refused(404).is(message, Some("/preset_name"));
    }
    assert_eq!(meeting.get(path).await.data(200), before);
}

async fn racing_changes_of_different_fields_are_all_kept(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &person("ada")).await;
    let changes = [
        json!({ "name": "Raced" }),
        json!({ "picture": "https://example.com/raced.png" }),
        json!({ "preset_name": "webinar_viewer" }),
    ];
    let path = "/participants/custom:ada";
    for turn in 0..8 {
        let answers = join_all(changes.iter().map(|change| meeting.patch(path, change))).await;
        assert!(
            answers.iter().all(|answer| answer.status == 200),
            "{answers:?}"
        );
        let found = meeting.get(path).await.data(200);
        for change in &changes {
            let (name, value) = change.as_object().unwrap().iter().next().unwrap();
            assert_eq!(found[name], *value, "turn {turn}");
        }
        let back = json!({ "name": null, "picture": null, "preset_name": "group_call_host" });
        meeting.patch(path, &back).await.data(200);
    }
}

async fn a_deleted_participant_is_gone(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let first = add(&meeting, &person("ada")).await;
    let path = format!("/participants/{}", first["id"].as_str().unwrap());
    let deleted = meeting.delete(&path).await;
    deleted.data(200);
    assert_shape("participant_deleted", &deleted.json());
    meeting
        .delete(&path)
        .await
        .refused(404)
        .is("Error: resource not found: no such participant", None);
    meeting.get("/participants/custom:ada").await.refused(404);
    assert_eq!(meeting.get("/participants").await.page().total, 0);
    let second = add(&meeting, &person("ada")).await;
    assert_ne!(second["id"], first["id"]);
    meeting.get(&path).await.refused(404);
}

async fn racing_deletions_delete_once(server: &Server) {
    let meeting = server.app().await.meeting().await;
    add(&meeting, &person("kept")).await;
    add(&meeting, &person("raced")).await;
    let answers = join_all((0..16).map(|_| meeting.delete("/participants/custom:raced"))).await;
    let (deleted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(deleted.len(), 1);
    for answer in refused {
        answer.refused(404);
    }
    let page = meeting.get("/participants").await.page();
    assert_eq!(
        (page.total, page.texts("custom_participant_id")),
        (1, vec!["kept"])
    );
}

async fn nobody_is_a_404_for_every_method(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for who in [NOBODYS_ID, "custom:nobody"] {
        let path = format!("/participants/{who}");
        let answers = [
            meeting.get(&path).await,
            meeting.patch(&path, &json!({})).await,
            meeting.put(&path, &person("nobody")).await,
            meeting.delete(&path).await,
            meeting.post(&format!("{path}/token"), &json!({})).await,
        ];
        for answer in answers {
            answer
                .refused(404)
                .is("Error: resource not found: no such participant", None);
        }
    }
}
