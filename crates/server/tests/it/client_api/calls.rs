//! The other calls of a client, and the paths that it shares with the REST API.

use parlor_testkit::server::API_TOKEN;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client_api::server::{Answer, Server};
use crate::on_both_databases;

on_both_databases![
    everybody_is_told_of_the_turn_here,
    the_scheme_of_the_credentials_says_who_asks_for_a_livestream,
    what_is_not_built_says_so_after_looking_who_asks,
    there_is_no_transcript,
    reports_are_taken_from_everybody_and_dropped,
    a_wrong_method_is_told_the_right_ones,
];

async fn everybody_is_told_of_the_turn_here(server: &Server) {
    let ada = server.host().await;
    let answer = server.get("/iceservers", &ada.token).await.json();
    assert_eq!(answer["success"], json!(true));
    let servers = answer["iceServers"].as_array().unwrap();
    assert_eq!(servers.len(), 1);
    let urls = servers[0]["urls"].as_array().unwrap();
    // Over HTTP nobody says under which name TLS would be.
    assert_eq!(urls.len(), 1);
    let url = urls[0].as_str().unwrap();
    assert!(url.starts_with("turn:127.0.0.1:"), "{url}");
    assert!(url.ends_with("?transport=tcp"), "{url}");
    let username = servers[0]["username"].as_str().unwrap();
    assert!(username.ends_with(&format!(":{}", ada.id)), "{username}");
    assert!(servers[0]["credential"].as_str().unwrap().len() > 20);
    server.get("/iceservers", "eyJ.e30.x").await.refused(401);
}

#[tokio::test]
async fn set_ice_servers_are_told_as_browsers_take_them() {
    let folder = tempfile::tempdir().unwrap();
    let turn = r#"{"urls":["turn:turn.example"],"username":"u","credential":"c"}"#;
    let arguments = [
        "--ice-server",
        "stun:stun.example:3478",
        "--ice-server",
        turn,
    ];
    let server = Server::on(folder.path(), &arguments).await;
    let ada = server.host().await;
    let answer = server.get("/iceservers", &ada.token).await.json();
    let turn: Value = serde_json::from_str(turn).unwrap();
    let servers = answer["iceServers"].as_array().unwrap();
    let both = [json!({"urls": "stun:stun.example:3478"}), turn];
    assert_eq!(servers[..2], both);
    assert_eq!(servers.len(), 3, "and the one here");
}

async fn the_scheme_of_the_credentials_says_who_asks_for_a_livestream(server: &Server) {
    let ada = server.host().await;
    let path = format!("/v2/meetings/{}/active-livestream", ada.meeting);
    assert_eq!(server.get(&path, &ada.token).await.data(), json!({}));
    server.get(&path, "eyJ.e30.x").await.refused(401);
    let app = server.request(Method::GET, &path);
    let app = Answer::of(app.basic_auth(server.app(), Some(API_TOKEN))).await;
    let message = app.refused(501);
    assert!(message.contains("getMeetingActiveLivestream"), "{message}");
}

async fn what_is_not_built_says_so_after_looking_who_asks(server: &Server) {
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
            Answer::of(request.json(&json!({"manual_ingest": false})))
        };
        call(&ada.token).await.refused(501);
        call("eyJ.e30.x").await.refused(401);
        let app = server.request(method.clone(), &path);
        let app = app.basic_auth(server.app(), Some(API_TOKEN));
        Answer::of(app.json(&json!({}))).await.refused(501);
    }
}

async fn there_is_no_transcript(server: &Server) {
    let ada = server.host().await;
    let path = format!("/v2/meetings/{}/active-transcript", ada.meeting);
    let answer = server.get(&path, &ada.token).await.json();
    let url = answer["data"]["transcript_download_url"].as_str().unwrap();
    let path = &url[url.find("/v2/").unwrap()..];
    let transcript = server.get(path, &ada.token).await;
    assert_eq!((transcript.status, transcript.bytes.len()), (200, 0));
}

async fn reports_are_taken_from_everybody_and_dropped(server: &Server) {
    let ada = server.host().await;
    for path in ["/otel/logs", "/api/v1/message"] {
        let taken = server.post(path, &ada.token, &json!({"logs": []})).await;
        assert_eq!((taken.status, taken.json()), (200, json!({})));
        let packed = server.request(Method::POST, path);
        let packed = packed
            .header("content-type", "application/gzip")
            .header("content-encoding", "gzip")
            .body(vec![0x1f_u8; 200_000]);
        assert_eq!(Answer::of(packed).await.status, 200);
    }
    let metrics = server.parlor().metrics().await.unwrap();
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("parlor_client_telemetry_bytes_total "));
    assert!(counted.unwrap().parse::<u64>().unwrap() >= 400_000);
}

async fn a_wrong_method_is_told_the_right_ones(server: &Server) {
    let ada = server.host().await;
    for (method, path, allowed) in [
        (Method::DELETE, "/iceservers", "GET"),
        (Method::GET, "/otel/logs", "POST"),
        (Method::POST, "/v2/internals/participant-details", "GET"),
    ] {
        let request = server.request(method, path).bearer_auth(&ada.token);
        let answer = Answer::of(request).await;
        answer.refused(405);
        assert_eq!(answer.header("allow"), Some(allowed));
    }
}
