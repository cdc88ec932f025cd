//! Links to files: who gets them, what they say, how long they are good.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client_api::server::{Answer, Person, Server};
use crate::on_both_databases;

on_both_databases![
    links_lead_to_the_host_that_was_asked,
    whoever_may_send_no_files_gets_no_link,
    a_link_is_for_the_meeting_of_the_token,
    a_meeting_that_is_inactive_takes_no_files,
    what_is_asked_for_is_checked,
    a_link_is_good_for_what_it_says_and_nothing_else,
    a_link_expires,
    names_lead_nowhere,
    the_links_of_a_deleted_meeting_lead_nowhere,
    the_links_of_whoever_was_deleted_lead_nowhere,
    nobody_takes_the_owner_out_of_a_link,
];

/// Asks for links; what was answered.
pub(crate) async fn ask(server: &Server, person: &Person, with: Value) -> Answer {
    let mut body = json!({"roomUUID": person.meeting, "filename": "photo.png"});
    let with: serde_json::Map<_, _> = serde_json::from_value(with).unwrap();
    body.as_object_mut().unwrap().extend(with);
    server
        .post("/v2/meetings/chat-upload", &person.token, &body)
        .await
}

/// The paths of two links: to put a file at, and to get it from.
pub(crate) async fn links(server: &Server, person: &Person, with: Value) -> [String; 2] {
    let data = ask(server, person, with).await.data();
    ["put_location", "get_location"].map(|name| {
        let link = data[name].as_str().unwrap();
        let path = link.strip_prefix(server.parlor().url()).unwrap();
        path.to_owned()
    })
}

/// Puts bytes at a link, as the SDK does: without credentials.
pub(crate) async fn put(server: &Server, path: &str, kind: &str, bytes: &[u8]) -> Answer {
    let request = server.request(Method::PUT, path);
    Answer::of(request.header("content-type", kind).body(bytes.to_vec())).await
}

pub(crate) async fn get(server: &Server, path: &str) -> Answer {
    Answer::of(server.request(Method::GET, path)).await
}

async fn links_lead_to_the_host_that_was_asked(server: &Server) {
    let ada = server.host().await;
    let request = server
        .request(Method::POST, "/v2/meetings/chat-upload")
        .bearer_auth(&ada.token)
        .header("host", "api.calls.example:444")
        // Nobody was told to believe this.
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.example");
    let body = json!({"roomUUID": ada.meeting, "filename": "a.txt"});
    let data = Answer::of(request.json(&body)).await.data();
    for name in ["put_location", "get_location"] {
        let link = data[name].as_str().unwrap();
        assert!(
            link.starts_with("http://api.calls.example:444/uploads/"),
            "{link}"
        );
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_what_the_host_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::on(folder.path(), &["--trust-forwarded"]).await;
    let ada = server.host().await;
    let request = server
        .request(Method::POST, "/v2/meetings/chat-upload")
        .bearer_auth(&ada.token)
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "api.calls.example");
    let body = json!({"roomUUID": ada.meeting, "filename": "a.txt"});
    let data = Answer::of(request.json(&body)).await.data();
    let link = data["put_location"].as_str().unwrap();
    assert!(
        link.starts_with("https://api.calls.example/uploads/"),
        "{link}"
    );
}

async fn whoever_may_send_no_files_gets_no_link(server: &Server) {
    let chat = |public: bool, private: bool| {
        json!({"chat": {
            "public": {"can_send": true, "text": true, "files": public},
            "private": {"can_send": true, "can_receive": true, "text": true, "files": private},
        }})
    };
    for (public, private) in [(true, false), (false, true)] {
        let preset = server.preset("files", chat(public, private)).await;
        let ada = server.added(&preset, json!({})).await;
        ask(server, &ada, json!({})).await.data();
    }
    let preset = server.preset("no files", chat(false, false)).await;
    let ada = server.added(&preset, json!({})).await;
    let message = ask(server, &ada, json!({})).await.refused(403);
    assert!(message.contains("files"), "{message}");
}

#[tokio::test]
async fn everybody_gets_so_many_links_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::on(folder.path(), &["--uploads-per-minute", "3"]).await;
    let (ada, bob) = (server.host().await, server.host().await);
    for _ in 0..3 {
        ask(&server, &ada, json!({})).await.data();
    }
    ask(&server, &ada, json!({})).await.refused(429);
    ask(&server, &bob, json!({})).await.data();
}

async fn a_meeting_that_is_inactive_takes_no_files(server: &Server) {
    let ada = server.host().await;
    let path = format!("/meetings/{}", ada.meeting);
    for (status, answer) in [("INACTIVE", 403), ("ACTIVE", 200)] {
        let change = json!({ "status": status });
        server.rest(Method::PATCH, &path, &change).await;
        assert_eq!(ask(server, &ada, json!({})).await.status, answer);
    }
}

async fn a_link_is_for_the_meeting_of_the_token(server: &Server) {
    let (ada, bob) = (server.host().await, server.host().await);
    ask(server, &ada, json!({"roomUUID": bob.meeting}))
        .await
        .refused(403);
    let path = "/v2/meetings/chat-upload";
    let body = json!({"roomUUID": ada.meeting, "filename": "a"});
    server.post(path, "eyJ.e30.x", &body).await.refused(401);
}

async fn what_is_asked_for_is_checked(server: &Server) {
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
        ask(server, &ada, wrong).await.refused(400);
    }
    // Longer than anything lives here is not an error: the client gets what there is.
    let [_, long] = links(server, &ada, json!({"expiry": u64::MAX})).await;
    let [_, short] = links(server, &ada, json!({})).await;
    let until = |link: &str| -> i64 {
        let (_, rest) = link.split_once("expires=").unwrap();
        rest.split('&').next().unwrap().parse().unwrap()
    };
    assert!((358..=359).contains(&((until(&long) - until(&short)) / 86_400)));
}

async fn a_link_is_good_for_what_it_says_and_nothing_else(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    let [other, _] = links(server, &ada, json!({})).await;
    assert_eq!(put(server, &to_get, "image/png", b"x").await.status, 403);
    assert_eq!(get(server, &to_put).await.status, 403);
    let (path, proof) = to_put.split_once('?').unwrap();
    let renamed = path.replace("photo.png", "photo.html");
    let strange = format!(
        "/uploads/{}/{}/{}/photo.png",
        server.app(),
        ada.meeting,
        ada.id
    );
    for wrong in [
        path.to_owned(),
        format!("{path}?"),
        format!("{renamed}?{proof}"),
        format!("{strange}?{proof}"),
        format!("{path}?{}", other.split_once('?').unwrap().1),
        format!("{path}?{}", proof.replace("expires=1", "expires=2")),
        format!("{path}?{}", proof.replace("signature=", "signature=AAAA")),
        format!("{path}?{}", proof.replace("key=", "key=x")),
        format!("{path}?expires=99999999999&key=&signature="),
    ] {
        put(server, &wrong, "image/png", b"x").await.refused(403);
    }
    assert_eq!(put(server, &to_put, "image/png", b"x").await.status, 200);
}

async fn a_link_expires(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({"expiry": 2})).await;
    assert_eq!(
        put(server, &to_put, "text/plain", b"hello").await.status,
        200
    );
    assert_eq!(get(server, &to_get).await.bytes, b"hello");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let message = get(server, &to_get).await.refused(403);
    assert!(message.contains("expired"), "{message}");
}

async fn names_lead_nowhere(server: &Server) {
    let ada = server.host().await;
    for (asked, kept) in [
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
        let [to_put, to_get] = links(server, &ada, json!({"filename": asked})).await;
        let (path, _) = to_put.split_once('?').unwrap();
        assert_eq!(path.rsplit('/').next(), Some(kept), "{asked}");
        assert_eq!(
            put(server, &to_put, "text/plain", asked.as_bytes())
                .await
                .status,
            200
        );
        let found = get(server, &to_get).await;
        assert_eq!(
            (found.status, found.bytes),
            (200, asked.as_bytes().to_vec())
        );
        let disposition = found.headers["content-disposition"].to_str().unwrap();
        assert!(disposition.starts_with("attachment; "), "{disposition}");
        assert!(
            disposition.ends_with(&format!("filename*=UTF-8''{kept}")),
            "{disposition}"
        );
    }
    let long = format!("{}.png", "x".repeat(1000));
    let [to_put, _] = links(server, &ada, json!({"filename": long})).await;
    let name = to_put
        .split_once('?')
        .unwrap()
        .0
        .rsplit('/')
        .next()
        .unwrap();
    assert!(name.ends_with("x.png") && name.len() < 100, "{name}");
}

async fn the_links_of_a_deleted_meeting_lead_nowhere(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    put(server, &to_put, "text/plain", b"hello").await.data();
    assert_eq!(get(server, &to_get).await.status, 200);
    let path = format!("/meetings/{}", ada.meeting);
    server.rest(Method::DELETE, &path, &json!({})).await;
    get(server, &to_get).await.refused(404);
}

async fn the_links_of_whoever_was_deleted_lead_nowhere(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    put(server, &to_put, "text/plain", b"hello").await.data();
    let [later, _] = links(server, &ada, json!({})).await;
    assert_eq!(get(server, &to_get).await.status, 200);
    let path = format!("/meetings/{}/participants/{}", ada.meeting, ada.id);
    server.rest(Method::DELETE, &path, &json!({})).await;
    let message = get(server, &to_get).await.refused(403);
    assert!(message.contains("participant"), "{message}");
    put(server, &later, "text/plain", b"late")
        .await
        .refused(403);
}

async fn nobody_takes_the_owner_out_of_a_link(server: &Server) {
    let (ada, bob) = (server.host().await, server.host().await);
    let [_, to_get] = links(server, &ada, json!({})).await;
    let owner = format!("owner={}", ada.id);
    assert!(to_get.contains(&owner), "{to_get}");
    let (path, proof) = to_get.split_once('?').unwrap();
    let rest = proof.replace(&format!("{owner}&"), "");
    let rest = rest.replace(&format!("&{owner}"), "");
    for wrong in [
        format!("{path}?{rest}"),
        format!("{path}?{rest}&owner="),
        format!("{path}?{rest}&owner={}", bob.id),
        format!("{path}%0A{}?{rest}", ada.id),
        format!("{path}?{proof}").replace("/photo.png?", &format!("/{}%0Aphoto.png?", ada.id)),
    ] {
        get(server, &wrong).await.refused(403);
    }
}
