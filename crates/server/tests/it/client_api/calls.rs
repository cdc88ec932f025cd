//! Miscellaneous client endpoints, and the paths that clients share with the REST API.

use parlor_testkit::server::API_TOKEN;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client_api::server::{Response, Server};
use crate::on_both_databases;

on_both_databases![
    the_built_in_turn_server_is_announced,
    the_authorization_scheme_tells_clients_from_apps,
    unimplemented_operations_authenticate_before_returning_501,
    the_transcript_is_empty,
    telemetry_is_accepted_and_discarded,
    a_wrong_method_returns_the_allowed_ones,
];

async fn the_built_in_turn_server_is_announced(server: &Server) {
    let ada = server.host().await;
    let response = server.get("/iceservers", &ada.token).await.json();
    assert_eq!(response["success"], json!(true));
    let servers = response["iceServers"].as_array().unwrap();
    assert_eq!(servers.len(), 1);
    let urls = servers[0]["urls"].as_array().unwrap();
    // A request over HTTP does not reveal the host name for TLS.
    assert_eq!(urls.len(), 1);
    let url = urls[0].as_str().unwrap();
    assert!(url.starts_with("turn:127.0.0.1:"), "{url}");
    assert!(url.ends_with("?transport=tcp"), "{url}");
    let username = servers[0]["username"].as_str().unwrap();
    assert!(username.ends_with(&format!(":{}", ada.id)), "{username}");
    assert!(servers[0]["credential"].as_str().unwrap().len() > 20);
    server
        .get("/iceservers", "eyJ.e30.x")
        .await
        .expect_error(401);
}

#[tokio::test]
async fn configured_ice_servers_are_returned_as_browsers_expect_them() {
    let folder = tempfile::tempdir().unwrap();
    let turn = r#"{"urls":["turn:turn.example"],"username":"u","credential":"c"}"#;
    let arguments = [
        "--ice-server",
        "stun:stun.example:3478",
        "--ice-server",
        turn,
    ];
    let server = Server::start_in(folder.path(), &arguments).await;
    let ada = server.host().await;
    let response = server.get("/iceservers", &ada.token).await.json();
    let turn: Value = serde_json::from_str(turn).unwrap();
    let servers = response["iceServers"].as_array().unwrap();
    let both = [json!({"urls": "stun:stun.example:3478"}), turn];
    assert_eq!(servers[..2], both);
    assert_eq!(
        servers.len(),
        3,
        "the configured servers and the built-in one"
    );
}

async fn the_authorization_scheme_tells_clients_from_apps(server: &Server) {
    let ada = server.host().await;
    let path = format!("/v2/meetings/{}/active-livestream", ada.meeting);
    assert_eq!(server.get(&path, &ada.token).await.data(), json!({}));
    server.get(&path, "eyJ.e30.x").await.expect_error(401);
    let app = server.request(Method::GET, &path);
    let app = Response::fetch(app.basic_auth(server.app(), Some(API_TOKEN))).await;
    let message = app.expect_error(501);
    assert!(message.contains("getMeetingActiveLivestream"), "{message}");
}

async fn unimplemented_operations_authenticate_before_returning_501(server: &Server) {
    let ada = server.host().await;
    let meeting = format!("/v2/meetings/{}", ada.meeting);
    for (method, path) in [
        (Method::POST, format!("{meeting}/livestreams")),
        (Method::POST, format!("{meeting}/active-livestream/stop")),
        (Method::POST, "/v2/recordings".to_owned()),
        (Method::PUT, format!("/v2/recordings/{}", ada.id)),
    ] {
        let call = |token: &str| {
            let request = server.request(method.clone(), &path).bearer_auth(token);
            Response::fetch(request.json(&json!({"manual_ingest": false})))
        };
        call(&ada.token).await.expect_error(501);
        call("eyJ.e30.x").await.expect_error(401);
        let app = server.request(method.clone(), &path);
        let app = app.basic_auth(server.app(), Some(API_TOKEN));
        Response::fetch(app.json(&json!({})))
            .await
            .expect_error(501);
    }
}

async fn the_transcript_is_empty(server: &Server) {
    let ada = server.host().await;
    let path = format!("/v2/meetings/{}/active-transcript", ada.meeting);
    let response = server.get(&path, &ada.token).await.json();
    let url = response["data"]["transcript_download_url"]
        .as_str()
        .unwrap();
    let path = &url[url.find("/v2/").unwrap()..];
    let transcript = server.get(path, &ada.token).await;
    assert_eq!((transcript.status, transcript.bytes.len()), (200, 0));
}

async fn telemetry_is_accepted_and_discarded(server: &Server) {
    let ada = server.host().await;
    for path in ["/otel/logs", "/api/v1/message"] {
        let response = server.post(path, &ada.token, &json!({"logs": []})).await;
        assert_eq!((response.status, response.json()), (200, json!({})));
        let compressed = server.request(Method::POST, path);
        let compressed = compressed
            .header("content-type", "application/gzip")
            .header("content-encoding", "gzip")
            .body(vec![0x1f_u8; 200_000]);
        assert_eq!(Response::fetch(compressed).await.status, 200);
    }
    let metrics = server.parlor().metrics().await.unwrap();
    let bytes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("parlor_client_telemetry_bytes_total "));
    assert!(bytes.unwrap().parse::<u64>().unwrap() >= 400_000);
}

async fn a_wrong_method_returns_the_allowed_ones(server: &Server) {
    let ada = server.host().await;
    for (method, path, allowed) in [
        (Method::DELETE, "/iceservers", "GET"),
        (Method::GET, "/otel/logs", "POST"),
        (Method::POST, "/v2/internals/participant-details", "GET"),
    ] {
        let request = server.request(method, path).bearer_auth(&ada.token);
        let response = Response::fetch(request).await;
        response.expect_error(405);
        assert_eq!(response.header("allow"), Some(allowed));
    }
}
