//! CORS: pages of any origin may call the client endpoints, but not the REST API.

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use reqwest::Method;
use serde_json::Value;

use crate::client_api::server::{Response, Server};
use crate::on_both_databases;

on_both_databases![
    a_preflight_allows_what_the_sdk_sends,
    the_rest_api_allows_no_other_origins,
    location_hosts_return_fixed_coordinates,
];

/// The headers of the SDK's requests, as a browser lists them in a preflight request.
const SDK_HEADERS: &str =
    "authorization,content-type,content-encoding,traceparent,tracing-id,x-realtimekit-version";

async fn preflight(server: &Server, path: &str, method: &str) -> Response {
    let request = server
        .request(Method::OPTIONS, path)
        .header("origin", "https://page.example")
        .header("access-control-request-method", method)
        .header("access-control-request-headers", SDK_HEADERS);
    Response::fetch(request).await
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
        let response = preflight(server, path, method).await;
        assert_eq!(response.status, 204, "{path}");
        // The SDK fails on an empty body that is declared as JSON.
        assert_eq!(response.header("content-type"), None, "{path}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("access-control-max-age"), Some("7200"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        let list = |name: &str| response.header(name).unwrap().to_lowercase();
        let (methods, headers) = (
            list("access-control-allow-methods"),
            list("access-control-allow-headers"),
        );
        assert!(
            methods
                .split(", ")
                .any(|allowed| allowed == method.to_lowercase())
        );
        let headers: Vec<&str> = headers.split(", ").collect();
        for sent in SDK_HEADERS.split(',') {
            assert!(headers.contains(&sent), "{sent} in {headers:?}");
        }
    }
}

async fn the_rest_api_allows_no_other_origins(server: &Server) {
    let account = format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/apps");
    for path in ["/v2/presets", "/v2/meetings", &account] {
        assert_eq!(preflight(server, path, "GET").await.status, 405, "{path}");
        let request = server.request(Method::GET, path).bearer_auth(API_TOKEN);
        let response = Response::fetch(request).await;
        assert_eq!(
            response.header("access-control-allow-origin"),
            None,
            "{path}"
        );
    }
}

async fn location_hosts_return_fixed_coordinates(server: &Server) {
    let request = async |method: Method, host: &str, path: &str| {
        let request = server.request(method, path).header("host", host);
        Response::fetch(request).await
    };
    let responses = [
        request(Method::GET, "location.calls.example:8443", "/").await,
        request(
            Method::POST,
            "location-legacy.localhost",
            "/?token=t&peerId=p",
        )
        .await,
    ];
    for response in responses {
        assert_eq!(response.status, 200);
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        let Value::String(location) = response.json()["loc"].take() else {
            panic!("no coordinates")
        };
        // The SDK queries another host when the value is shorter.
        assert!(location.len() > 5);
        assert!(location.split(',').all(|half| half.parse::<f64>().is_ok()));
    }
    let options = request(Method::OPTIONS, "location-legacy.localhost", "/").await;
    assert_eq!(options.status, 204);
    assert_eq!(
        request(Method::POST, "location.localhost", "/")
            .await
            .status,
        405
    );
    assert_eq!(request(Method::POST, "localhost", "/").await.status, 405);
    let api = request(Method::GET, "api.localhost", "/docs").await;
    assert_eq!(api.status, 200);
}
