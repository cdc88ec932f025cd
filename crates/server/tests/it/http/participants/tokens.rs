//! Join tokens, as issued when participants are added, updated and refreshed.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{new_participant, new_participant_with};
use crate::http::resource::{Resource, UNKNOWN_ID};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_token_names_the_participant_and_the_meeting,
    the_published_keys_verify_a_token,
    a_token_can_be_decoded_by_a_browser,
    the_lifetime_of_a_token_can_be_chosen,
    a_refresh_issues_a_new_token,
    the_token_of_an_unknown_participant_cannot_be_refreshed,
    responses_with_a_token_forbid_caching,
];

fn decode(part: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// Returns the claims of a token without verifying it.
pub(super) fn claims(token: &str) -> Value {
    serde_json::from_slice(&decode(parts(token)[1])).unwrap()
}

/// Returns the expiry of a token in the API's time format.
fn expiry(claims: &Value) -> String {
    let end = jiff::Timestamp::from_second(claims["exp"].as_i64().unwrap()).unwrap();
    format!("{end:.3}")
}

/// Returns the lifetime of a token, in seconds.
fn lifetime(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

async fn add(meeting: &Resource, body: &Value) -> Value {
    meeting.post("/participants", body).await.data(201)
}

async fn a_token_names_the_participant_and_the_meeting(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let added = add(&meeting, &new_participant("ada")).await;
    let claims = claims(added["token"].as_str().unwrap());
    assert_eq!(
        claims,
        json!({
            "orgId": app.id(), "meetingId": meeting.id(), "participantId": added["id"],
            "presetId": added["preset_id"], "iat": claims["iat"], "exp": claims["exp"],
        })
    );
    assert_eq!(lifetime(&claims), 8_640_000);
    assert_eq!(added["expires_at"], expiry(&claims));
}

async fn the_published_keys_verify_a_token(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let added = add(&meeting, &new_participant("ada")).await;
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
    let body: Vec<Value> = (0..200)
        .map(|number| new_participant(&number.to_string()))
        .collect();
    let added = meeting
        .post("/participants/bulk", &json!({ "participants": body }))
        .await
        .data(201);
    for participant in added.as_array().unwrap() {
        // The official web client decodes with `atob`, which rejects both characters.
        assert!(
            !parts(participant["token"].as_str().unwrap())[1].contains(['-', '_']),
            "{participant}"
        );
    }
}

async fn the_lifetime_of_a_token_can_be_chosen(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let added = add(&meeting, &new_participant("ada")).await;
    let path = format!("/participants/{}", added["id"].as_str().unwrap());
    for seconds in [1, 60, 366 * 24 * 60 * 60] {
        let brief = json!({ "expires_in": seconds });
        let responses = [
            add(
                &meeting,
                &new_participant_with("ada", "expires_in", seconds),
            )
            .await,
            meeting.patch(&path, &brief).await.data(200),
            meeting
                .put(&path, &new_participant_with("ada", "expires_in", seconds))
                .await
                .data(200),
            meeting
                .post(&format!("{path}/token"), &brief)
                .await
                .data(200),
        ];
        for response in responses {
            let claims = claims(response["token"].as_str().unwrap());
            assert_eq!(lifetime(&claims), seconds);
            assert_eq!(response["expires_at"], expiry(&claims));
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
        let body = new_participant_with("new", "expires_in", wrong.clone());
        let responses = [
            meeting.post("/participants", &body).await,
            meeting.patch(&path, &json!({ "expires_in": wrong })).await,
            meeting
                .post(&format!("{path}/token"), &json!({ "expires_in": wrong }))
                .await,
        ];
        for response in responses {
            assert_eq!(
                response.expect_error(400).pointers,
                [Some("/expires_in".to_owned())],
                "{wrong}"
            );
        }
    }
    assert_eq!(meeting.get("/participants").await.page().total, 1);
    add(
        &meeting,
        &new_participant_with("ada", "expires_in", Value::Null),
    )
    .await;
}

async fn a_refresh_issues_a_new_token(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let added = add(&meeting, &new_participant("ada")).await;
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
    for response in [bodyless, blank, by_custom_id] {
        let fresh = claims(response.data(200)["token"].as_str().unwrap());
        assert_eq!(fresh["participantId"], added["id"]);
        assert_eq!(fresh["orgId"], app.id());
        assert_eq!(lifetime(&fresh), 8_640_000);
    }
    let unchanged = meeting.get("/participants/custom:ada").await.data(200);
    assert_eq!(unchanged["updated_at"], added["updated_at"]);
}

async fn the_token_of_an_unknown_participant_cannot_be_refreshed(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for path in [UNKNOWN_ID, "custom:unknown"] {
        let error = meeting
            .post(&format!("/participants/{path}/token"), &json!({}))
            .await
            .expect_error(404);
        error.assert_message("Error: resource not found: no such participant", None);
    }
    meeting
        .post("/participants/malformed/token", &json!({}))
        .await
        .expect_error(400);
    add(&meeting, &new_participant("deleted")).await;
    meeting
        .delete("/participants/custom:deleted")
        .await
        .data(200);
    meeting
        .post("/participants/custom:deleted/token", &json!({}))
        .await
        .expect_error(404);
}

async fn responses_with_a_token_forbid_caching(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let body = json!({ "participants": [new_participant("bob")] });
    let ada = "/participants/custom:ada";
    let keyed = meeting.with_idempotency_key(&format!("cached-{}", meeting.id()));
    let responses = [
        meeting.post("/participants", &new_participant("ada")).await,
        meeting.post("/participants/bulk", &body).await,
        meeting.patch(ada, &json!({ "name": "Ada" })).await,
        meeting.put(ada, &new_participant("ada")).await,
        meeting.post(&format!("{ada}/token"), &json!({})).await,
        keyed.post("/participants", &new_participant("eve")).await,
        keyed.post("/participants", &new_participant("eve")).await,
    ];
    assert_eq!(responses[6].header("idempotent-replayed"), Some("true"));
    for response in responses {
        let text = response.text();
        let added = response.data(response.status);
        let added = added.get(0).unwrap_or(&added);
        assert_eq!(parts(added["token"].as_str().unwrap()).len(), 3, "{text}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{text}");
    }
}
