//! Errors outside of any operation, and the body of every kind of error.

use parlor_server::limits::Limits;
use reqwest::Method;
use serde_json::json;

use crate::http::participants::{new_participant, new_participant_with};
use crate::http::response::assert_shape;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    every_kind_of_error_has_the_documented_shape,
    an_unknown_path_gets_a_standard_error,
    an_unsupported_method_is_rejected_with_the_allowed_ones,
    the_segment_apps_is_never_taken_for_an_app_id,
    a_conflict_is_not_retryable,
    a_header_overrides_the_strict_mode_of_the_server,
    the_request_rate_limit_says_when_to_retry,
];

async fn every_kind_of_error_has_the_documented_shape(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let strict = meeting.with_header("parlor-if-exists", "reject");
    strict
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    let keyed = meeting.with_idempotency_key(&format!("error-{}", meeting.id()));
    keyed
        .post("/participants", &new_participant("eve"))
        .await
        .data(201);
    let unprivileged = server.token(
        parlor_testkit::server::ACCOUNT_ID,
        &["--permission", "Nothing"],
    );
    let large = vec![b' '; Limits::default().body_bytes + 1];
    let errors = [
        (
            "error_400",
            400,
            meeting
                .post("/participants", &json!({ "preset_name": "x" }))
                .await,
        ),
        (
            "error_401",
            401,
            meeting.with_token("no-such-token").get("").await,
        ),
        (
            "error_403",
            403,
            meeting.with_token(&unprivileged.secret).get("").await,
        ),
        (
            "error_404",
            404,
            meeting
                .post(
                    "/participants",
                    &new_participant_with("x", "preset_name", "none"),
                )
                .await,
        ),
        ("error_405", 405, meeting.delete("/participants").await),
        (
            "error_409",
            409,
            strict.post("/participants", &new_participant("ada")).await,
        ),
        (
            "error_413",
            413,
            meeting
                .send_bytes(Method::POST, "/participants", Some(("", large)))
                .await,
        ),
        (
            "error_422",
            422,
            keyed.post("/participants", &new_participant("other")).await,
        ),
        (
            "error_501",
            501,
            meeting.post("/active-livestream/stop", &json!({})).await,
        ),
    ];
    for (name, status, response) in errors {
        response.expect_error(status);
        assert_shape(name, &response.json());
    }
}

async fn an_unknown_path_gets_a_standard_error(server: &Server) {
    let app = server.app().await;
    for path in [
        "/nothing",
        "/client/v4",
        "/client/v4/accounts",
        "/v2",
        "/v2/",
        "/client/v5/accounts/x/realtime/kit/apps",
        "//",
        "/%FF",
    ] {
        server.public().get(path).await.expect_error(404);
        server
            .public()
            .post(path, &json!({}))
            .await
            .expect_error(404);
    }
    for path in ["", "/", "/nothing", "/meetings/", "/meetings/x/y/z"] {
        app.get(path).await.expect_error(404);
    }
}

async fn an_unsupported_method_is_rejected_with_the_allowed_ones(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    for (resource, method, path, allowed) in [
        (&app, Method::DELETE, "/meetings", vec!["GET", "POST"]),
        (
            &meeting,
            Method::POST,
            "",
            vec!["DELETE", "GET", "PATCH", "PUT"],
        ),
        (&meeting, Method::PUT, "/participants", vec!["GET", "POST"]),
        (
            &meeting,
            Method::GET,
            "/participants/custom:x/token",
            vec!["POST"],
        ),
        (
            &meeting,
            Method::TRACE,
            "",
            vec!["DELETE", "GET", "PATCH", "PUT"],
        ),
    ] {
        let response = resource.send(method, path, None).await;
        response.expect_error(405);
        let mut allow: Vec<&str> = response
            .header("allow")
            .unwrap()
            .split(", ")
            .filter(|name| *name != "HEAD")
            .collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{path}");
    }
    let head = app.send(Method::HEAD, "/meetings", None).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

async fn the_segment_apps_is_never_taken_for_an_app_id(server: &Server) {
    server
        .account()
        .get("/apps/meetings")
        .await
        .expect_error(404);
    server
        .account()
        .post("/apps/meetings", &json!({}))
        .await
        .expect_error(405);
}

async fn a_conflict_is_not_retryable(server: &Server) {
    let app = server.app().await;
    let response = app
        .post("/presets", &json!({ "name": "group_call_host" }))
        .await;
    response.expect_error(409);
    assert_eq!(response.header("x-should-retry"), Some("false"));
}

async fn a_header_overrides_the_strict_mode_of_the_server(server: &Server) {
    let server = Server::dedicated(server, &["--reject-existing", "true"]).await;
    let meeting = server.app().await.meeting().await;
    meeting
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    meeting
        .post("/participants", &new_participant("ada"))
        .await
        .expect_error(409);
    let lenient = meeting.with_header("parlor-if-exists", "update");
    lenient
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
}

async fn the_request_rate_limit_says_when_to_retry(server: &Server) {
    let server = Server::dedicated(server, &["--requests-per-minute", "5"]).await;
    let account = server.account();
    let mut left = Vec::new();
    for _ in 0..5 {
        let response = account.get("/apps").await;
        response.data(200);
        assert_eq!(
            response.header("ratelimit-policy"),
            Some("\"default\";q=5;w=60")
        );
        left.push(response.header("ratelimit").unwrap().to_owned());
    }
    assert_eq!(
        (&*left[0], &*left[4]),
        ("\"default\";r=4", "\"default\";r=0")
    );
    let response = account.get("/apps").await;
    response.expect_error(429);
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // The quota is per token: another token is not limited, and an invalid token still gets a 401.
    let other = server.token(parlor_testkit::server::ACCOUNT_ID, &[]);
    account
        .with_token(&other.secret)
        .get("/apps")
        .await
        .data(200);
    account
        .with_token("no-such-token")
        .get("/apps")
        .await
        .expect_error(401);
}
