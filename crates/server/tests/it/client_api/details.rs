//! The participant details: the first request of a client.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client_api::server::{Response, Server};
use crate::on_both_databases;

on_both_databases![
    every_field_that_clients_require_is_present,
    unknown_values_are_omitted_and_never_null,
    a_changed_preset_is_seen_at_once,
    an_inactive_meeting_is_refused,
    an_invalid_token_is_refused,
    a_deleted_participant_is_not_found,
    an_expired_token_is_refused,
];

const DETAILS: &str = "/v2/internals/participant-details";

async fn details(server: &Server, token: &str) -> Value {
    server.get(DETAILS, token).await.data()
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}

async fn every_field_that_clients_require_is_present(server: &Server) {
    let with = json!({"name": "Ada", "picture": "https://example.com/ada.png"});
    let ada = server.add_participant("group_call_host", with).await;
    let response = server.get(DETAILS, &ada.token).await;
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let data = response.data();
    assert_eq!(
        data["participant"],
        json!({
            "id": ada.id, "name": "Ada", "picture": "https://example.com/ada.png",
            "custom_participant_id": "ada", "organization_id": server.app(),
            "email": "", "logged_in": true, "scope": [],
        })
    );
    assert_eq!(data["meeting"], json!({"title": "Weekly"}));
    // Absent, so that the client keeps the host it was given.
    assert_eq!(data.get("socket"), None);
    let preset = &data["preset"];
    assert_eq!(preset["name"], "group_call_host");
    assert!(preset["id"].is_string() && preset["version"].is_string());
    for needed in [
        "/config/max_video_streams",
        "/permissions/media/audio",
        "/permissions/media/video",
        "/permissions/media/screenshare",
        "/permissions/plugins",
        "/ui/design_tokens/colors/brand/500",
        "/ui/design_tokens/colors/background/1000",
    ] {
        assert!(preset.pointer(needed).is_some(), "{needed} in {preset}");
    }
    assert_eq!(preset["config"]["view_type"], "GROUP_CALL");
}

async fn unknown_values_are_omitted_and_never_null(server: &Server) {
    let plugins = json!({"plugins": {"config": {"p": {"custom": {"a": null, "b": [null, 1]}}}}});
    let preset = server.preset("nulls", plugins).await;
    for (preset, with) in [
        ("group_call_guest", json!({})),
        ("webinar_viewer", json!({"name": "", "picture": null})),
        (preset.as_str(), json!({})),
    ] {
        let participant = server.add_participant(preset, with).await;
        let data = details(server, &participant.token).await;
        assert!(!has_null(&data), "{data}");
        assert_eq!(data["participant"]["name"], "Participant");
        assert_eq!(data["participant"].get("picture"), None);
    }
}

async fn a_changed_preset_is_seen_at_once(server: &Server) {
    let preset = server
        .preset("changing", json!({"can_record": false}))
        .await;
    let ada = server.add_participant(&preset, json!({})).await;
    let before = details(server, &ada.token).await;
    assert_eq!(before["preset"]["permissions"]["can_record"], false);
    let path = format!("/presets/{}", before["preset"]["id"].as_str().unwrap());
    let change = json!({"permissions": {"can_record": true}});
    server.rest(Method::PATCH, &path, &change).await;
    let after = details(server, &ada.token).await;
    assert_eq!(after["preset"]["permissions"]["can_record"], true);
    assert_ne!(after["preset"]["version"], before["preset"]["version"]);
}

async fn an_inactive_meeting_is_refused(server: &Server) {
    let ada = server.host().await;
    let path = format!("/meetings/{}", ada.meeting);
    let close = json!({"status": "INACTIVE"});
    server.rest(Method::PATCH, &path, &close).await;
    let message = server.get(DETAILS, &ada.token).await.expect_error(403);
    assert!(message.contains("inactive"), "{message}");
    let open = json!({"status": "ACTIVE"});
    server.rest(Method::PATCH, &path, &open).await;
    details(server, &ada.token).await;
}

async fn an_invalid_token_is_refused(server: &Server) {
    let ada = server.host().await;
    let bare = Response::fetch(server.request(Method::GET, DETAILS)).await;
    bare.expect_error(401);
    let middle = ada.token.len() / 2;
    let changed = format!("{}A{}", &ada.token[..middle], &ada.token[middle + 1..]);
    for token in [
        "",
        "eyJ",
        "eyJ.e30.x",
        parlor_testkit::server::API_TOKEN,
        &changed,
    ] {
        server.get(DETAILS, token).await.expect_error(401);
    }
    let basic = server.request(Method::GET, DETAILS);
    let basic = basic.basic_auth(server.app(), Some(parlor_testkit::server::API_TOKEN));
    Response::fetch(basic).await.expect_error(401);
}

async fn a_deleted_participant_is_not_found(server: &Server) {
    let ada = server.host().await;
    details(server, &ada.token).await;
    let path = format!("/meetings/{}/participants/{}", ada.meeting, ada.id);
    server.rest(Method::DELETE, &path, &json!({})).await;
    server.get(DETAILS, &ada.token).await.expect_error(404);
    let bob = server.host().await;
    let path = format!("/meetings/{}", bob.meeting);
    server.rest(Method::DELETE, &path, &json!({})).await;
    server.get(DETAILS, &bob.token).await.expect_error(404);
}

async fn an_expired_token_is_refused(server: &Server) {
    let ada = server
        .add_participant("group_call_host", json!({"expires_in": 1}))
        .await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let message = server.get(DETAILS, &ada.token).await.expect_error(401);
    assert!(message.contains("expired"), "{message}");
}
