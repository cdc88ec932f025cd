//! `Idempotency-Key`: a repeated request gets the stored response.

use std::sync::Arc;

use futures_util::future::join_all;
use parlor_store::{Db, Options, Row, Statement};
use parlor_testkit::server::ACCOUNT_ID;
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::participants::{new_participant, new_participant_with};
use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    every_post_replays_its_first_response,
    another_request_under_the_same_key_is_rejected,
    racing_requests_under_one_key_get_one_response,
    a_key_belongs_to_the_token_that_used_it,
    a_rejected_request_leaves_the_key_free,
    a_key_has_limits,
    other_methods_ignore_the_key,
    a_replay_survives_a_restart,
    the_database_stores_no_token_in_plaintext,
];

/// A POST request that creates something.
struct Post {
    resource: Resource,
    path: &'static str,
    body: Value,
}

/// Returns a request for every POST operation.
async fn all_posts(server: &Server) -> Vec<Post> {
    let app = server.app().await;
    let meeting = app.meeting().await;
    meeting
        .post("/participants", &new_participant("existing"))
        .await
        .data(201);
    let post = |resource: &Resource, path, body| Post {
        resource: resource.clone(),
        path,
        body,
    };
    vec![
        post(&server.account(), "/apps", json!({ "name": "Keyed" })),
        post(&app, "/meetings", json!({ "title": "Keyed" })),
        post(&app, "/presets", json!({ "name": "keyed" })),
        post(&meeting, "/participants", new_participant("one")),
        post(
            &meeting,
            "/participants/bulk",
            json!({ "participants": [new_participant("two"), new_participant("three")] }),
        ),
        post(
            &meeting,
            "/participants/custom:existing/token",
            json!({ "expires_in": 60 }),
        ),
    ]
}

/// Returns a key that no other test uses. Keys are scoped to the token, which all tests share.
fn unique_key(post: &Post) -> String {
    format!("{}{}", post.resource.id(), post.path)
}

async fn every_post_replays_its_first_response(server: &Server) {
    for post in all_posts(server).await {
        let keyed = post
            .resource
            .with_idempotency_key(&format!("replayed-{}", unique_key(&post)));
        let first = keyed.post(post.path, &post.body).await;
        assert!(
            matches!(first.status, 200 | 201),
            "{}: {}",
            post.path,
            first.text()
        );
        assert_eq!(first.header("idempotent-replayed"), None);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        for _ in 0..2 {
            let again = keyed.post(post.path, &post.body).await;
            assert_eq!(
                (again.status, &again.bytes),
                (first.status, &first.bytes),
                "{}",
                post.path
            );
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            again.data(first.status);
        }
    }
}

async fn another_request_under_the_same_key_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let keyed = meeting.with_idempotency_key(&format!("reused-{}", meeting.id()));
    keyed
        .post("/participants", &new_participant("one"))
        .await
        .data(201);
    let message = "this Idempotency-Key was used with a different request in the last 24 hours";
    let others = [
        keyed.post("/participants", &new_participant("two")).await,
        keyed
            .post("/participants?x=1", &new_participant("one"))
            .await,
        keyed
            .post("/participants/bulk", &new_participant("one"))
            .await,
        keyed
            .post(
                "/participants/bulk",
                &json!({ "participants": [new_participant("one")] }),
            )
            .await,
        keyed
            .with_header("parlor-if-exists", "reject")
            .post("/participants", &new_participant("one"))
            .await,
        keyed
            .post("/participants/custom:one/token", &json!({}))
            .await,
    ];
    for response in &others {
        assert!(matches!(response.status, 400 | 422), "{}", response.text());
    }
    others[0].expect_error(422).assert_message(message, None);
    for other in [1, 3, 4, 5] {
        others[other].expect_error(422);
    }
    let page = meeting.get("/participants").await.page();
    assert_eq!(page.texts("custom_participant_id"), ["one"]);
}

async fn racing_requests_under_one_key_get_one_response(server: &Server) {
    for post in all_posts(server).await {
        let keyed = post
            .resource
            .with_idempotency_key(&format!("raced-{}", unique_key(&post)));
        let responses = join_all((0..12).map(|_| keyed.post(post.path, &post.body))).await;
        let first = responses
            .iter()
            .find(|response| response.header("idempotent-replayed").is_none());
        let first = first.unwrap_or_else(|| panic!("{}: no first response", post.path));
        for response in &responses {
            assert_eq!(response.text(), first.text(), "{}", post.path);
            response.data(first.status);
        }
        let replayed = responses
            .iter()
            .filter(|response| response.header("idempotent-replayed").is_some());
        assert_eq!(replayed.count(), responses.len() - 1, "{}", post.path);
    }
}

async fn a_key_belongs_to_the_token_that_used_it(server: &Server) {
    let app = server.app().await;
    let key = format!("shared-{}", app.id());
    let other = server.token(ACCOUNT_ID, &["--permission", "Realtime"]);
    let body = json!({ "title": "Keyed" });
    let mine = app
        .with_idempotency_key(&key)
        .post("/meetings", &body)
        .await
        .data(201);
    let theirs = app
        .with_token(&other.secret)
        .with_idempotency_key(&key)
        .post("/meetings", &body)
        .await;
    assert_eq!(theirs.header("idempotent-replayed"), None);
    assert_ne!(theirs.data(201)["id"], mine["id"]);
    app.with_token("no-such-token")
        .with_idempotency_key(&key)
        .post("/meetings", &body)
        .await
        .expect_error(401);
}

async fn a_rejected_request_leaves_the_key_free(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let keyed = meeting.with_idempotency_key(&format!("refused-{}", meeting.id()));
    keyed
        .post(
            "/participants",
            &new_participant_with("one", "preset_name", "none"),
        )
        .await
        .expect_error(404);
    keyed
        .post("/participants", &new_participant(""))
        .await
        .expect_error(400);
    let strict = keyed.with_header("parlor-if-exists", "reject");
    meeting
        .post("/participants", &new_participant("existing"))
        .await
        .data(201);
    strict
        .post("/participants", &new_participant("existing"))
        .await
        .expect_error(409);
    let mut bulk = json!({ "participants": [new_participant("one"), new_participant("two")] });
    bulk["participants"][1]["preset_name"] = json!("none");
    let error = keyed
        .post("/participants/bulk", &bulk)
        .await
        .expect_error(404);
    assert_eq!(
        error.pointers,
        [Some("/participants/1/preset_name".to_owned())]
    );
    assert_eq!(meeting.get("/participants").await.page().total, 1);
    let added = keyed.post("/participants", &new_participant("one")).await;
    assert_eq!(added.header("idempotent-replayed"), None);
    added.data(201);
    assert_eq!(meeting.get("/participants").await.page().total, 2);
}

async fn a_key_has_limits(server: &Server) {
    let app = server.app().await;
    let id = app.id();
    let longest = format!("{id}{}", "k".repeat(255 - id.len()));
    app.with_idempotency_key(&longest)
        .post("/meetings", &json!({}))
        .await
        .data(201);
    for wrong in [
        format!("{longest}k"),
        String::new(),
        "schlüssel".to_owned(),
        "a key".to_owned(),
    ] {
        let error = app
            .with_idempotency_key(&wrong)
            .post("/meetings", &json!({}))
            .await
            .expect_error(400);
        assert!(error.message.contains("Idempotency-Key"), "{error:?}");
    }
    assert_eq!(app.get("/meetings").await.page().total, 1);
}

async fn other_methods_ignore_the_key(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let keyed = meeting.with_idempotency_key(&format!("other-methods-{}", meeting.id()));
    for title in ["One", "Two"] {
        for method in [Method::PATCH, Method::PUT] {
            let response = keyed
                .send(method, "", Some(&json!({ "title": title })))
                .await;
            assert_eq!(response.data(200)["title"], title);
        }
        assert_eq!(keyed.get("").await.data(200)["title"], title);
    }
    keyed.delete("").await.data(200);
    keyed.delete("").await.expect_error(404);
}

async fn a_replay_survives_a_restart(server: &Server) {
    let server = Server::dedicated(server, &[]).await;
    let app = server.app().await;
    let meeting = app.meeting().await;
    let body = new_participant("one");
    let first = meeting
        .with_idempotency_key("restart")
        .post("/participants", &body)
        .await;
    first.data(201);
    let server = server.kill_and_restart().await;
    let path = format!("/{}/meetings/{}/participants", app.id(), meeting.id());
    let again = server
        .account()
        .with_idempotency_key("restart")
        .post(&path, &body)
        .await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.text(), first.text());
    server
        .account()
        .with_idempotency_key("restart")
        .post(&path, &new_participant("two"))
        .await
        .expect_error(422);
    assert_eq!(server.account().get(&path).await.page().total, 1);
}

async fn the_database_stores_no_token_in_plaintext(server: &Server) {
    static STORED: Statement = Statement::new("test.replies", "SELECT reply FROM idempotency_keys");
    let server = Server::dedicated(server, &[]).await;
    let meeting = server.app().await.meeting().await;
    let added = meeting
        .with_idempotency_key("sealed")
        .post("/participants", &new_participant("marker"))
        .await;
    let token = added.data(201)["token"].as_str().unwrap().to_owned();
    let db = Db::open(&server.database(), Options::default(), Arc::new(()))
        .await
        .unwrap();
    let rows = db.scan::<Row>(&STORED, Vec::new()).await.unwrap();
    db.close().await;
    let [row] = &mut rows
        .try_into()
        .unwrap_or_else(|rows: Vec<_>| panic!("{} stored responses", rows.len()));
    let stored: Vec<u8> = Row::take(row, 0).unwrap();
    assert!(
        stored.len() > added.bytes.len(),
        "the response is stored in full"
    );
    for plaintext in [token.rsplit_once('.').unwrap().1, "marker", "success"] {
        assert!(
            !stored
                .windows(plaintext.len())
                .any(|window| window == plaintext.as_bytes()),
            "{plaintext}"
        );
    }
}
