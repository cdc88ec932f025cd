//! What goes wrong outside of any operation, and the body of every kind of error.

use parlor_server::limits::Limits;
use reqwest::Method;
use serde_json::json;

use crate::http::answer::assert_shape;
use crate::http::participants::{person, person_with};
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    every_kind_of_error_has_the_documented_shape,
    an_unknown_path_is_refused_in_the_shape_of_errors,
    a_method_that_a_path_lacks_is_refused_with_those_it_has,
    the_word_apps_is_never_taken_for_an_app,
    a_conflict_is_not_to_be_repeated,
    the_strict_mode_of_a_server_can_be_overruled,
    a_limit_on_requests_says_when_to_come_back,
];

async fn every_kind_of_error_has_the_documented_shape(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    let strict = meeting.with_header("parlor-if-exists", "reject");
    strict.post("/participants", &person("ada")).await.data(201);
    let keyed = meeting.keyed(&format!("error-{}", meeting.id()));
    keyed.post("/participants", &person("eve")).await.data(201);
    let stranger = server.token(
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
        ("error_401", 401, meeting.bearing("nobody").get("").await),
        (
            "error_403",
            403,
            meeting.bearing(&stranger.secret).get("").await,
        ),
        (
            "error_404",
            404,
            meeting
                .post("/participants", &person_with("x", "preset_name", "none"))
                .await,
        ),
        ("error_405", 405, meeting.delete("/participants").await),
        (
            "error_409",
            409,
            strict.post("/participants", &person("ada")).await,
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
            keyed.post("/participants", &person("other")).await,
        ),
        (
            "error_501",
            501,
            meeting.post("/active-livestream/stop", &json!({})).await,
        ),
    ];
    for (name, status, answer) in errors {
        answer.refused(status);
        assert_shape(name, &answer.json());
    }
}

async fn an_unknown_path_is_refused_in_the_shape_of_errors(server: &Server) {
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
        server.public().get(path).await.refused(404);
        server.public().post(path, &json!({})).await.refused(404);
    }
    for path in ["", "/", "/nothing", "/meetings/", "/meetings/x/y/z"] {
        app.get(path).await.refused(404);
    }
}

async fn a_method_that_a_path_lacks_is_refused_with_those_it_has(server: &Server) {
    let app = server.app().await;
    let meeting = app.meeting().await;
    for (place, method, path, allowed) in [
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
        let answer = place.send(method, path, None).await;
        answer.refused(405);
        let mut allow: Vec<&str> = answer
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

async fn the_word_apps_is_never_taken_for_an_app(server: &Server) {
    server.account().get("/apps/meetings").await.refused(404);
    server
        .account()
        .post("/apps/meetings", &json!({}))
        .await
        .refused(405);
}

async fn a_conflict_is_not_to_be_repeated(server: &Server) {
    let app = server.app().await;
    let answer = app
        .post("/presets", &json!({ "name": "group_call_host" }))
        .await;
    answer.refused(409);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

async fn the_strict_mode_of_a_server_can_be_overruled(server: &Server) {
    let own = Server::beside(server, &["--reject-existing", "true"]).await;
    let meeting = own.app().await.meeting().await;
    meeting
        .post("/participants", &person("ada"))
        .await
        .data(201);
    meeting
        .post("/participants", &person("ada"))
        .await
        .refused(409);
    let lenient = meeting.with_header("parlor-if-exists", "update");
    lenient
        .post("/participants", &person("ada"))
        .await
        .data(201);
}

async fn a_limit_on_requests_says_when_to_come_back(server: &Server) {
    let own = Server::beside(server, &["--requests-per-minute", "5"]).await;
    let account = own.account();
    let mut left = Vec::new();
    for _ in 0..5 {
        let answer = account.get("/apps").await;
        answer.data(200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"default\";q=5;w=60")
        );
        left.push(answer.header("ratelimit").unwrap().to_owned());
    }
    assert_eq!(
        (&*left[0], &*left[4]),
        ("\"default\";r=4", "\"default\";r=0")
    );
    let answer = account.get("/apps").await;
    answer.refused(429);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // The quota is the token's, so another one still gets through, and nobody is refused for it.
    let other = own.token(parlor_testkit::server::ACCOUNT_ID, &[]);
    account.bearing(&other.secret).get("/apps").await.data(200);
    account.bearing("nobody").get("/apps").await.refused(401);
}
