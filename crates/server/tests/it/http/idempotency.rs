//! `Idempotency-Key`: the same answer to the same request, once done.

use std::sync::Arc;

use futures_util::future::join_all;
use parlor_store::{Db, Options, Row, Statement};
use parlor_testkit::server::ACCOUNT_ID;
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::participants::{person, person_with};
use crate::http::place::Place;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    every_post_replays_its_first_answer,
    another_request_under_the_same_key_is_refused,
    racing_requests_under_one_key_get_one_answer,
    a_key_belongs_to_the_token_that_used_it,
    a_refused_request_leaves_the_key_free,
    a_key_has_limits,
    other_methods_ignore_the_key,
    a_replay_survives_a_restart,
    the_database_holds_no_token_in_the_clear,
];

/// A path to post to, with a body that makes something.
struct Post {
    place: Place,
    path: &'static str,
    body: Value,
}

/// Every POST there is.
async fn posts(server: &Server) -> Vec<Post> {
    let app = server.app().await;
    let meeting = app.meeting().await;
    meeting
        .post("/participants", &person("there"))
        .await
        .data(201);
    let post = |place: &Place, path, body| Post {
        place: place.clone(),
        path,
        body,
    };
    vec![
        post(&server.account(), "/apps", json!({ "name": "Keyed" })),
        post(&app, "/meetings", json!({ "title": "Keyed" })),
        post(&app, "/presets", json!({ "name": "keyed" })),
        post(&meeting, "/participants", person("one")),
        post(
            &meeting,
            "/participants/bulk",
            json!({ "participants": [person("two"), person("three")] }),
        ),
        post(
            &meeting,
            "/participants/custom:there/token",
            json!({ "expires_in": 60 }),
        ),
    ]
}

/// A key that no other test uses: keys belong to the token, which the tests share.
fn key(post: &Post) -> String {
    format!("{}{}", post.place.id(), post.path)
}

async fn every_post_replays_its_first_answer(server: &Server) {
    for post in posts(server).await {
        let keyed = post.place.keyed(&format!("replayed-{}", key(&post)));
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

async fn another_request_under_the_same_key_is_refused(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let keyed = meeting.keyed(&format!("reused-{}", meeting.id()));
    keyed.post("/participants", &person("one")).await.data(201);
    let message = "this Idempotency-Key was used with a different request in the last 24 hours";
    let others = [
        keyed.post("/participants", &person("two")).await,
        keyed.post("/participants?x=1", &person("one")).await,
        keyed.post("/participants/bulk", &person("one")).await,
        keyed
            .post(
                "/participants/bulk",
                &json!({ "participants": [person("one")] }),
            )
            .await,
        keyed
            .with_header("parlor-if-exists", "reject")
            .post("/participants", &person("one"))
            .await,
        keyed
            .post("/participants/custom:one/token", &json!({}))
            .await,
    ];
    for answer in &others {
        assert!(matches!(answer.status, 400 | 422), "{}", answer.text());
    }
    others[0].refused(422).is(message, None);
    for other in [1, 3, 4, 5] {
        others[other].refused(422);
    }
    let page = meeting.get("/participants").await.page();
    assert_eq!(page.texts("custom_participant_id"), ["one"]);
}

async fn racing_requests_under_one_key_get_one_answer(server: &Server) {
    for post in posts(server).await {
        let keyed = post.place.keyed(&format!("raced-{}", key(&post)));
        let answers = join_all((0..12).map(|_| keyed.post(post.path, &post.body))).await;
        let first = answers
            .iter()
            .find(|answer| answer.header("idempotent-replayed").is_none());
        let first = first.unwrap_or_else(|| panic!("{}: no first answer", post.path));
        for answer in &answers {
            assert_eq!(answer.text(), first.text(), "{}", post.path);
            answer.data(first.status);
        }
        let replayed = answers
            .iter()
            .filter(|answer| answer.header("idempotent-replayed").is_some());
        assert_eq!(replayed.count(), answers.len() - 1, "{}", post.path);
    }
}

async fn a_key_belongs_to_the_token_that_used_it(server: &Server) {
    let app = server.app().await;
    let key = format!("shared-{}", app.id());
    let other = server.token(ACCOUNT_ID, &["--permission", "Realtime"]);
    let body = json!({ "title": "Whose" });
    let mine = app.keyed(&key).post("/meetings", &body).await.data(201);
    let theirs = app
        .bearing(&other.secret)
        .keyed(&key)
        .post("/meetings", &body)
        .await;
    assert_eq!(theirs.header("idempotent-replayed"), None);
    assert_ne!(theirs.data(201)["id"], mine["id"]);
    app.bearing("nobody")
        .keyed(&key)
        .post("/meetings", &body)
        .await
        .refused(401);
}

async fn a_refused_request_leaves_the_key_free(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let keyed = meeting.keyed(&format!("refused-{}", meeting.id()));
    keyed
        .post("/participants", &person_with("one", "preset_name", "none"))
        .await
        .refused(404);
    keyed.post("/participants", &person("")).await.refused(400);
    let strict = keyed.with_header("parlor-if-exists", "reject");
    meeting
        .post("/participants", &person("there"))
        .await
        .data(201);
    strict
        .post("/participants", &person("there"))
        .await
        .refused(409);
    let mut bulk = json!({ "participants": [person("one"), person("two")] });
    bulk["participants"][1]["preset_name"] = json!("none");
    let refusal = keyed.post("/participants/bulk", &bulk).await.refused(404);
    assert_eq!(
        refusal.pointers,
        [Some("/participants/1/preset_name".to_owned())]
    );
    assert_eq!(meeting.get("/participants").await.page().total, 1);
    let added = keyed.post("/participants", &person("one")).await;
    assert_eq!(added.header("idempotent-replayed"), None);
    added.data(201);
    assert_eq!(meeting.get("/participants").await.page().total, 2);
}

async fn a_key_has_limits(server: &Server) {
    let app = server.app().await;
    let id = app.id();
    let longest = format!("{id}{}", "k".repeat(255 - id.len()));
    app.keyed(&longest)
        .post("/meetings", &json!({}))
        .await
        .data(201);
    for wrong in [
        format!("{longest}k"),
        String::new(),
        "schlüssel".to_owned(),
        "a key".to_owned(),
    ] {
        let refusal = app
            .keyed(&wrong)
            .post("/meetings", &json!({}))
            .await
            .refused(400);
        assert!(refusal.message.contains("Idempotency-Key"), "{refusal:?}");
    }
    assert_eq!(app.get("/meetings").await.page().total, 1);
}

async fn other_methods_ignore_the_key(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let keyed = meeting.keyed(&format!("other-methods-{}", meeting.id()));
    for title in ["One", "Two"] {
        for method in [Method::PATCH, Method::PUT] {
            let answer = keyed
                .send(method, "", Some(&json!({ "title": title })))
                .await;
            assert_eq!(answer.data(200)["title"], title);
        }
        assert_eq!(keyed.get("").await.data(200)["title"], title);
    }
    keyed.delete("").await.data(200);
    keyed.delete("").await.refused(404);
}

async fn a_replay_survives_a_restart(server: &Server) {
    let own = Server::beside(server, &[]).await;
    let app = own.app().await;
    let meeting = app.meeting().await;
    let body = person("one");
    let first = meeting.keyed("restart").post("/participants", &body).await;
    first.data(201);
    let own = own.kill_and_start().await;
    let path = format!("/{}/meetings/{}/participants", app.id(), meeting.id());
    let again = own.account().keyed("restart").post(&path, &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.text(), first.text());
    own.account()
        .keyed("restart")
        .post(&path, &person("two"))
        .await
        .refused(422);
    assert_eq!(own.account().get(&path).await.page().total, 1);
}

async fn the_database_holds_no_token_in_the_clear(server: &Server) {
    static REPLIES: Statement =
        Statement::new("test.replies", "SELECT reply FROM idempotency_keys");
    let own = Server::beside(server, &[]).await;
    let meeting = own.app().await.meeting().await;
    let added = meeting
        .keyed("sealed")
        .post("/participants", &person("marker"))
        .await;
    let token = added.data(201)["token"].as_str().unwrap().to_owned();
    let db = Db::open(&own.records(), Options::default(), Arc::new(()))
        .await
        .unwrap();
    let replies = db.scan::<Row>(&REPLIES, Vec::new()).await.unwrap();
    db.close().await;
    let [reply] = &mut replies
        .try_into()
        .unwrap_or_else(|rows: Vec<_>| panic!("{} replies", rows.len()));
    let reply: Vec<u8> = Row::take(reply, 0).unwrap();
    assert!(reply.len() > added.bytes.len(), "the whole answer is there");
    for clear in [token.rsplit_once('.').unwrap().1, "marker", "success"] {
        assert!(
            !reply
                .windows(clear.len())
                .any(|window| window == clear.as_bytes()),
            "{clear}"
        );
    }
}
