//! Links to files: who gets them, what they sign, and when they expire.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client_api::server::{Participant, Response, Server};
use crate::on_both_databases;

on_both_databases![
    links_point_to_the_requested_host,
    a_participant_who_may_not_send_files_gets_no_link,
    a_link_is_for_the_meeting_of_the_token,
    an_inactive_meeting_accepts_no_files,
    requests_are_validated,
    a_link_is_valid_only_for_what_it_signs,
    a_link_expires,
    file_names_cannot_escape_their_folder,
    the_links_of_a_deleted_meeting_stop_working,
    the_links_of_a_deleted_participant_stop_working,
    the_owner_cannot_be_removed_from_a_link,
];

/// Requests links and returns the response.
pub(crate) async fn request_links(
    server: &Server,
    participant: &Participant,
    with: Value,
) -> Response {
    let mut body = json!({"roomUUID": participant.meeting, "filename": "photo.png"});
    let with: serde_json::Map<_, _> = serde_json::from_value(with).unwrap();
    body.as_object_mut().unwrap().extend(with);
    server
        .post("/v2/meetings/chat-upload", &participant.token, &body)
        .await
}

/// Requests links and returns their paths: for uploading a file and for downloading it.
pub(crate) async fn links(server: &Server, participant: &Participant, with: Value) -> [String; 2] {
    let data = request_links(server, participant, with).await.data();
    ["put_location", "get_location"].map(|name| {
        let link = data[name].as_str().unwrap();
        let path = link.strip_prefix(server.parlor().url()).unwrap();
        path.to_owned()
    })
}

/// Uploads bytes to a link without credentials, as the SDK does.
pub(crate) async fn put(server: &Server, path: &str, kind: &str, bytes: &[u8]) -> Response {
    let request = server.request(Method::PUT, path);
    Response::fetch(request.header("content-type", kind).body(bytes.to_vec())).await
}

pub(crate) async fn get(server: &Server, path: &str) -> Response {
    Response::fetch(server.request(Method::GET, path)).await
}

async fn links_point_to_the_requested_host(server: &Server) {
    let ada = server.host().await;
    let request = server
        .request(Method::POST, "/v2/meetings/chat-upload")
        .bearer_auth(&ada.token)
        .header("host", "api.calls.example:444")
        // No proxy is trusted, so these headers are ignored.
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.example");
    let body = json!({"roomUUID": ada.meeting, "filename": "a.txt"});
    let data = Response::fetch(request.json(&body)).await.data();
    for name in ["put_location", "get_location"] {
        let link = data[name].as_str().unwrap();
        assert!(
            link.starts_with("http://api.calls.example:444/uploads/"),
            "{link}"
        );
    }
}

#[tokio::test]
async fn a_trusted_proxy_sets_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--trust-forwarded"]).await;
    let ada = server.host().await;
    let request = server
        .request(Method::POST, "/v2/meetings/chat-upload")
        .bearer_auth(&ada.token)
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "api.calls.example");
    let body = json!({"roomUUID": ada.meeting, "filename": "a.txt"});
    let data = Response::fetch(request.json(&body)).await.data();
    let link = data["put_location"].as_str().unwrap();
    assert!(
        link.starts_with("https://api.calls.example/uploads/"),
        "{link}"
    );
}

async fn a_participant_who_may_not_send_files_gets_no_link(server: &Server) {
    let chat = |public: bool, private: bool| {
        json!({"chat": {
            "public": {"can_send": true, "text": true, "files": public},
            "private": {"can_send": true, "can_receive": true, "text": true, "files": private},
        }})
    };
    for (public, private) in [(true, false), (false, true)] {
        let preset = server.preset("files", chat(public, private)).await;
        let ada = server.add_participant(&preset, json!({})).await;
        request_links(server, &ada, json!({})).await.data();
    }
    let preset = server.preset("no files", chat(false, false)).await;
    let ada = server.add_participant(&preset, json!({})).await;
    let message = request_links(server, &ada, json!({}))
        .await
        .expect_error(403);
    assert!(message.contains("files"), "{message}");
}

#[tokio::test]
async fn links_are_rate_limited_per_participant() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--uploads-per-minute", "3"]).await;
    let (ada, bob) = (server.host().await, server.host().await);
    for _ in 0..3 {
        request_links(&server, &ada, json!({})).await.data();
    }
    request_links(&server, &ada, json!({}))
        .await
        .expect_error(429);
    request_links(&server, &bob, json!({})).await.data();
}

async fn an_inactive_meeting_accepts_no_files(server: &Server) {
    let ada = server.host().await;
    let path = format!("/meetings/{}", ada.meeting);
    for (status, expected) in [("INACTIVE", 403), ("ACTIVE", 200)] {
        let change = json!({ "status": status });
        server.rest(Method::PATCH, &path, &change).await;
        assert_eq!(
            request_links(server, &ada, json!({})).await.status,
            expected
        );
    }
}

async fn a_link_is_for_the_meeting_of_the_token(server: &Server) {
    let (ada, bob) = (server.host().await, server.host().await);
    request_links(server, &ada, json!({"roomUUID": bob.meeting}))
        .await
        .expect_error(403);
    let path = "/v2/meetings/chat-upload";
    let body = json!({"roomUUID": ada.meeting, "filename": "a"});
    server
        .post(path, "eyJ.e30.x", &body)
        .await
        .expect_error(401);
}

async fn requests_are_validated(server: &Server) {
    let ada = server.host().await;
    for wrong in [
        json!({"roomUUID": "room"}),
        json!({"filename": 1}),
        json!({"filename": null}),
        json!({"filename": "x".repeat(5000)}),
        json!({"expiry": 0}),
        json!({"expiry": -1}),
        json!({"expiry": "soon"}),
    ] {
        request_links(server, &ada, wrong).await.expect_error(400);
    }
    // An expiry above the maximum is not an error. The client gets the maximum.
    let [_, long] = links(server, &ada, json!({"expiry": u64::MAX})).await;
    let [_, short] = links(server, &ada, json!({})).await;
    let expiry = |link: &str| -> i64 {
        let (_, rest) = link.split_once("expires=").unwrap();
        rest.split('&').next().unwrap().parse().unwrap()
    };
    assert!((358..=359).contains(&((expiry(&long) - expiry(&short)) / 86_400)));
}

async fn a_link_is_valid_only_for_what_it_signs(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    let [other, _] = links(server, &ada, json!({})).await;
    assert_eq!(put(server, &get_path, "image/png", b"x").await.status, 403);
    assert_eq!(get(server, &put_path).await.status, 403);
    let (path, query) = put_path.split_once('?').unwrap();
    let renamed = path.replace("photo.png", "photo.html");
    let unknown = format!(
        "/uploads/{}/{}/{}/photo.png",
        server.app(),
        ada.meeting,
        ada.id
    );
    for wrong in [
        path.to_owned(),
        format!("{path}?"),
        format!("{renamed}?{query}"),
        format!("{unknown}?{query}"),
        format!("{path}?{}", other.split_once('?').unwrap().1),
        format!("{path}?{}", query.replace("expires=1", "expires=2")),
        format!("{path}?{}", query.replace("signature=", "signature=AAAA")),
        format!("{path}?{}", query.replace("key=", "key=x")),
        format!("{path}?expires=99999999999&key=&signature="),
    ] {
        put(server, &wrong, "image/png", b"x")
            .await
            .expect_error(403);
    }
    assert_eq!(put(server, &put_path, "image/png", b"x").await.status, 200);
}

async fn a_link_expires(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({"expiry": 2})).await;
    assert_eq!(
        put(server, &put_path, "text/plain", b"hello").await.status,
        200
    );
    assert_eq!(get(server, &get_path).await.bytes, b"hello");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let message = get(server, &get_path).await.expect_error(403);
    assert!(message.contains("expired"), "{message}");
}

async fn file_names_cannot_escape_their_folder(server: &Server) {
    let ada = server.host().await;
    for (requested, stored) in [
        ("../../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "file"),
        ("", "file"),
        (
            "Ünïcödé 文件 \u{1f600}.txt",
            "%C3%9Cn%C3%AFc%C3%B6d%C3%A9%20%E6%96%87%E4%BB%B6%20%F0%9F%98%80.txt",
        ),
        ("a\"b\r\nSet-Cookie: x.txt", "a%22bSet-Cookie%3A%20x.txt"),
        ("100%?&#.txt", "100%25%3F%26%23.txt"),
    ] {
        let [put_path, get_path] = links(server, &ada, json!({"filename": requested})).await;
        let (path, _) = put_path.split_once('?').unwrap();
        assert_eq!(path.rsplit('/').next(), Some(stored), "{requested}");
        assert_eq!(
            put(server, &put_path, "text/plain", requested.as_bytes())
                .await
                .status,
            200
        );
        let found = get(server, &get_path).await;
        assert_eq!(
            (found.status, found.bytes),
            (200, requested.as_bytes().to_vec())
        );
        let disposition = found.headers["content-disposition"].to_str().unwrap();
        assert!(disposition.starts_with("attachment; "), "{disposition}");
        assert!(
            disposition.ends_with(&format!("filename*=UTF-8''{stored}")),
            "{disposition}"
        );
    }
    let long = format!("{}.png", "x".repeat(1000));
    let [put_path, _] = links(server, &ada, json!({"filename": long})).await;
    let name = put_path
        .split_once('?')
        .unwrap()
        .0
        .rsplit('/')
        .next()
        .unwrap();
    assert!(name.ends_with("x.png") && name.len() < 100, "{name}");
}

async fn the_links_of_a_deleted_meeting_stop_working(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    put(server, &put_path, "text/plain", b"hello").await.data();
    assert_eq!(get(server, &get_path).await.status, 200);
    let path = format!("/meetings/{}", ada.meeting);
    server.rest(Method::DELETE, &path, &json!({})).await;
    get(server, &get_path).await.expect_error(404);
}

async fn the_links_of_a_deleted_participant_stop_working(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    put(server, &put_path, "text/plain", b"hello").await.data();
    let [later, _] = links(server, &ada, json!({})).await;
    assert_eq!(get(server, &get_path).await.status, 200);
    let path = format!("/meetings/{}/participants/{}", ada.meeting, ada.id);
    server.rest(Method::DELETE, &path, &json!({})).await;
    let message = get(server, &get_path).await.expect_error(403);
    assert!(message.contains("participant"), "{message}");
    put(server, &later, "text/plain", b"late")
        .await
        .expect_error(403);
}

async fn the_owner_cannot_be_removed_from_a_link(server: &Server) {
    let (ada, bob) = (server.host().await, server.host().await);
    let [_, get_path] = links(server, &ada, json!({})).await;
    let owner = format!("owner={}", ada.id);
    assert!(get_path.contains(&owner), "{get_path}");
    let (path, query) = get_path.split_once('?').unwrap();
    let rest = query.replace(&format!("{owner}&"), "");
    let rest = rest.replace(&format!("&{owner}"), "");
    for wrong in [
        format!("{path}?{rest}"),
        format!("{path}?{rest}&owner="),
        format!("{path}?{rest}&owner={}", bob.id),
        format!("{path}%0A{}?{rest}", ada.id),
        format!("{path}?{query}").replace("/photo.png?", &format!("/{}%0Aphoto.png?", ada.id)),
    ] {
        get(server, &wrong).await.expect_error(403);
    }
}
