//! What participants join with, as it is issued by adding, changing and refreshing.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{person, person_with};
use crate::http::answer::assert_shape;
use crate::http::place::{NOBODYS_ID, Place};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_token_says_who_may_join_what,
    the_published_keys_verify_a_token,
    a_token_can_be_decoded_by_a_browser,
    a_life_can_be_asked_for,
    a_refresh_issues_another_token,
    nobody_refreshes_the_token_of_nobody,
    no_cache_keeps_a_token,
];

fn decode(part: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// The claims of a token, unverified.
pub(super) fn claims(token: &str) -> Value {
    serde_json::from_slice(&decode(parts(token)[1])).unwrap()
}

/// When a token stops working, in the form of the API.
fn expiry(claims: &Value) -> String {
    let end = jiff::Timestamp::from_second(claims["exp"].as_i64().unwrap()).unwrap();
    format!("{end:.3}")
}

fn life(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

async fn add(meeting: &Place, body: &Value) -> Value {
    meeting.post("/participants", body).await.data(201)
}

async fn a_token_says_who_may_join_what(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let added = add(&meeting, &person("ada")).await;
    let claims = claims(added["token"].as_str().unwrap());
    assert_eq!(
        claims,
        json!({
            "orgId": app.id(), "meetingId": meeting.id(), "participantId": added["id"],
            "presetId": added["preset_id"], "iat": claims["iat"], "exp": claims["exp"],
        })
    );
    assert_eq!(life(&claims), 8_640_000);
    assert_eq!(added["expires_at"], expiry(&claims));
}

async fn the_published_keys_verify_a_token(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let added = add(&meeting, &person("ada")).await;
    let token = added["token"].as_str().unwrap();
    let [header, _, signature] = parts(token);
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("EdDSA"), &json!("JWT"))
    );
    let published = server.public().get("/.well-known/jwks.json").await.json();
    let keys = published["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!(
        (&key["kty"], &key["crv"]),
        (&json!("OKP"), &json!("Ed25519"))
    );
    assert_eq!(key.get("d"), None);
    let public = UnparsedPublicKey::new(&ED25519, decode(key["x"].as_str().unwrap()));
    let signed = token.rsplit_once('.').unwrap().0;
    public
        .verify(signed.as_bytes(), &decode(signature))
        .unwrap();
    public
        .verify(b"something else", &decode(signature))
        .unwrap_err();
}

async fn a_token_can_be_decoded_by_a_browser(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body: Vec<Value> = (0..200).map(|number| person(&number.to_string())).collect();
    let added = meeting
        .post("/participants/bulk", &json!({ "participants": body }))
        .await
        .data(201);
    for person in added.as_array().unwrap() {
        // The official web client decodes with `atob`, which knows neither letter.
        assert!(
            !parts(person["token"].as_str().unwrap())[1].contains(['-', '_']),
            "{person}"
        );
    }
}

async fn a_life_can_be_asked_for(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let added = add(&meeting, &person("ada")).await;
    let one = format!("/participants/{}", added["id"].as_str().unwrap());
    for seconds in [1, 60, 366 * 24 * 60 * 60] {
        let brief = json!({ "expires_in": seconds });
        let answers = [
            add(&meeting, &person_with("ada", "expires_in", seconds)).await,
            meeting.patch(&one, &brief).await.data(200),
            meeting
                .put(&one, &person_with("ada", "expires_in", seconds))
                .await
                .data(200),
            meeting
                .post(&format!("{one}/token"), &brief)
                .await
                .data(200),
        ];
        for answer in answers {
            let claims = claims(answer["token"].as_str().unwrap());
            assert_eq!(life(&claims), seconds);
            assert_eq!(answer["expires_at"], expiry(&claims));
        }
    }
    for wrong in [
        json!(0),
        json!(-1),
        json!(366 * 24 * 60 * 60 + 1),
        json!(1.5),
        json!("60"),
        json!(u64::MAX),
    ] {
        let body = person_with("new", "expires_in", wrong.clone());
        let refusals = [
            meeting.post("/participants", &body).await,
            meeting.patch(&one, &json!({ "expires_in": wrong })).await,
            meeting
                .post(&format!("{one}/token"), &json!({ "expires_in": wrong }))
                .await,
        ];
        for answer in refusals {
            assert_eq!(
                answer.refused(400).pointers,
                [Some("/expires_in".to_owned())],
                "{wrong}"
            );
        }
    }
    assert_eq!(meeting.get("/participants").await.page().total, 1);
    add(&meeting, &person_with("ada", "expires_in", Value::Null)).await;
}

async fn a_refresh_issues_another_token(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let added = add(&meeting, &person("ada")).await;
    let path = format!("/participants/{}/token", added["id"].as_str().unwrap());
    let bodyless = meeting.send(reqwest::Method::POST, &path, None).await;
    bodyless.data(200);
    assert_shape("participant_token_refreshed", &bodyless.json());
    let blank = meeting
        .send_bytes(
            reqwest::Method::POST,
            &path,
            Some(("application/json", Vec::new())),
        )
        .await;
    let by_custom_id = meeting
        .post("/participants/custom:ada/token", &json!({}))
        .await;
    for answer in [bodyless, blank, by_custom_id] {
        let fresh = claims(answer.data(200)["token"].as_str().unwrap());
        assert_eq!(fresh["participantId"], added["id"]);
        assert_eq!(fresh["orgId"], app.id());
        assert_eq!(life(&fresh), 8_640_000);
    }
    let unchanged = meeting.get("/participants/custom:ada").await.data(200);
    assert_eq!(unchanged["updated_at"], added["updated_at"]);
}

async fn nobody_refreshes_the_token_of_nobody(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for path in [NOBODYS_ID, "custom:nobody"] {
        let refusal = meeting
            .post(&format!("/participants/{path}/token"), &json!({}))
            .await
            .refused(404);
        refusal.is("Error: resource not found: no such participant", None);
    }
    meeting
        .post("/participants/nobody/token", &json!({}))
        .await
        .refused(400);
    add(&meeting, &person("gone")).await;
    meeting.delete("/participants/custom:gone").await.data(200);
    meeting
        .post("/participants/custom:gone/token", &json!({}))
        .await
        .refused(404);
}

async fn no_cache_keeps_a_token(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body = json!({ "participants": [person("bob")] });
    let ada = "/participants/custom:ada";
    let keyed = meeting.keyed(&format!("cached-{}", meeting.id()));
    let answers = [
        meeting.post("/participants", &person("ada")).await,
        meeting.post("/participants/bulk", &body).await,
        meeting.patch(ada, &json!({ "name": "Ada" })).await,
        meeting.put(ada, &person("ada")).await,
        meeting.post(&format!("{ada}/token"), &json!({})).await,
        keyed.post("/participants", &person("eve")).await,
        keyed.post("/participants", &person("eve")).await,
    ];
    assert_eq!(answers[6].header("idempotent-replayed"), Some("true"));
    for answer in answers {
        let text = answer.text();
        let added = answer.data(answer.status);
        let added = added.get(0).unwrap_or(&added);
        assert_eq!(parts(added["token"].as_str().unwrap()).len(), 3, "{text}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{text}");
    }
}
