//! Pages of any origin may call what is for clients, and nothing else.

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use reqwest::Method;
use serde_json::Value;

use crate::client_api::server::{Answer, Server};
use crate::on_both_databases;

on_both_databases![
    a_preflight_allows_what_the_sdk_sends,
    the_rest_api_is_not_for_pages,
    the_hosts_that_are_asked_for_a_place_answer_without_one,
];

/// What the SDK's requests carry, as a browser asks about it.
const SENT: &str =
    "authorization,content-type,content-encoding,traceparent,tracing-id,x-realtimekit-version";

async fn ask(server: &Server, path: &str, method: &str) -> Answer {
    let request = server
        .request(Method::OPTIONS, path)
        .header("origin", "https://page.example")
        .header("access-control-request-method", method)
        .header("access-control-request-headers", SENT);
    Answer::of(request).await
}

async fn a_preflight_allows_what_the_sdk_sends(server: &Server) {
    for (method, path) in [
        ("GET", "/v2/internals/participant-details"),
        ("GET", "/iceservers"),
        ("GET", "/v2/meetings/m/active-livestream"),
        ("POST", "/v2/meetings/m/livestreams"),
        ("POST", "/v2/meetings/m/active-livestream/stop"),
        ("POST", "/v2/recordings"),
        ("PUT", "/v2/recordings/r"),
        ("GET", "/v2/meetings/m/active-transcript"),
        ("POST", "/v2/meetings/chat-upload"),
        ("PUT", "/uploads/a/m/f/photo.png"),
        ("POST", "/otel/logs"),
        ("POST", "/api/v1/message"),
    ] {
        let answer = ask(server, path, method).await;
        assert_eq!(answer.status, 204, "{path}");
        // The SDK's own trap: no body must not call itself JSON.
        assert_eq!(answer.header("content-type"), None, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let list = |name: &str| answer.header(name).unwrap().to_lowercase();
        let (methods, headers) = (
            list("access-control-allow-methods"),
            list("access-control-allow-headers"),
        );
        assert!(
            methods
                .split(", ")
                .any(|known| known == method.to_lowercase())
        );
        let headers: Vec<&str> = headers.split(", ").collect();
        for sent in SENT.split(',') {
            assert!(headers.contains(&sent), "{sent} in {headers:?}");
        }
    }
}

async fn the_rest_api_is_not_for_pages(server: &Server) {
    let account = format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/apps");
    for path in ["/v2/presets", "/v2/meetings", &account] {
        assert_eq!(ask(server, path, "GET").await.status, 405, "{path}");
        let request = server.request(Method::GET, path).bearer_auth(API_TOKEN);
        let answer = Answer::of(request).await;
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
}

async fn the_hosts_that_are_asked_for_a_place_answer_without_one(server: &Server) {
    let at = async |method: Method, host: &str, path: &str| {
        let request = server.request(method, path).header("host", host);
        Answer::of(request).await
    };
    let answers = [
        at(Method::GET, "location.calls.example:8443", "/").await,
        at(
            Method::POST,
            "location-legacy.localhost",
            "/?token=t&peerId=p",
        )
        .await,
    ];
    for answer in answers {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let Value::String(place) = answer.json()["loc"].take() else {
            panic!("no place")
        };
        // The SDK asks elsewhere when it is shorter.
        assert!(place.len() > 5);
        assert!(place.split(',').all(|half| half.parse::<f64>().is_ok()));
    }
    let preflight = at(Method::OPTIONS, "location-legacy.localhost", "/").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        at(Method::POST, "location.localhost", "/").await.status,
        405
    );
    assert_eq!(at(Method::POST, "localhost", "/").await.status, 405);
    let api = at(Method::GET, "api.localhost", "/docs").await;
    assert_eq!(api.status, 200);
}
