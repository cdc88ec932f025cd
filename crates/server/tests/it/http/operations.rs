//! What is served to everybody: health, metrics, keys, the API description and its page.

use std::collections::BTreeSet;

use parlor_server::rest::{endpoints, operations};
use serde_json::{Value, json};

use crate::http::participants::person;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    health_is_answered_to_anybody,
    metrics_count_what_was_answered,
    every_answer_carries_a_request_id,
    pages_of_any_origin_may_read_what_is_public,
    every_route_is_in_the_description,
    every_built_operation_is_described_in_full,
    the_page_of_the_description_loads_only_its_own,
    a_rotated_key_keeps_its_tokens_verifiable,
];

async fn health_is_answered_to_anybody(server: &Server) {
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.public().get(path).await.status, 200, "{path}");
    }
    let root = server.public().get("/").await;
    assert_eq!(
        root.header("content-type"),
        Some("text/html; charset=utf-8"),
        "{}",
        root.text()
    );
}

async fn metrics_count_what_was_answered(server: &Server) {
    let meeting = server.app().await.meeting().await;
    meeting
        .post("/participants", &person("ada"))
        .await
        .data(201);
    meeting.post("/participants", &json!({})).await.refused(400);
    let text = server.metrics().await;
    assert_eq!(server.public().get("/metrics").await.status, 404);
    for status in ["201", "400"] {
        let counted = text.lines().any(|line| {
            line.contains("addParticipant\"")
                && line.contains(&format!("\"{status}\""))
                && !line.ends_with(" 0")
        });
        assert!(counted, "{status} in {text}");
    }
    let counts = [
        "parlor_store_query_seconds_count",
        "parlor_store_commit_seconds_count",
    ];
    for name in counts {
        let counted = |line: &str| line.starts_with(name) && !line.ends_with(" 0");
        assert!(text.lines().any(counted), "{name} in {text}");
    }
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    assert!(
        !text.contains(meeting.id()),
        "ids would make one series each"
    );
}

async fn every_answer_carries_a_request_id(server: &Server) {
    let app = server.app().await;
    let sane = app
        .with_header("x-request-id", "req-1.A:b/c=_")
        .get("/meetings")
        .await;
    assert_eq!(sane.header("x-request-id"), Some("req-1.A:b/c=_"));
    let (one, two) = (app.get("/meetings").await, app.get("/nothing").await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    for strange in ["", "a b", "<script>", &"x".repeat(129), "ü"] {
        let answer = app
            .with_header("x-request-id", strange)
            .get("/meetings")
            .await;
        let id = answer.header("x-request-id").unwrap();
        assert!(id != strange && id.len() == 32, "{strange}: {id}");
    }
}

async fn pages_of_any_origin_may_read_what_is_public(server: &Server) {
    let stranger = server.public().with_header("origin", "https://example.com");
    for path in ["/.well-known/jwks.json", "/openapi.json"] {
        let answer = stranger.get(path).await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, Some("*")),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let secret = server
        .app()
        .await
        .with_header("origin", "https://example.com")
        .get("/meetings")
        .await;
    assert_eq!(secret.header("access-control-allow-origin"), None);
}

async fn document(server: &Server) -> Value {
    server.public().get("/openapi.json").await.json()
}

async fn every_route_is_in_the_description(server: &Server) {
    let document = document(server).await;
    assert_eq!(
        document["openapi"]
            .as_str()
            .unwrap()
            .split_once('.')
            .unwrap()
            .0,
        "3"
    );
    let mut routes = BTreeSet::new();
    for endpoint in endpoints() {
        let method = endpoint.method().as_str().to_lowercase();
        routes.extend(
            endpoint
                .mounts()
                .into_iter()
                .map(|(_, path)| (path, method.clone())),
        );
    }
    for operation in operations::planned() {
        let method = operation.method().as_str().to_lowercase();
        routes.extend(
            operation
                .mounts()
                .into_iter()
                .map(|(_, path)| (path, method.clone())),
        );
    }
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = ["get", "post", "put", "patch", "delete"]
            .into_iter()
            .filter(|method| item.get(method).is_some());
        described.extend(methods.map(|method| (path.clone(), method.to_owned())));
    }
    let missing: Vec<_> = routes.difference(&described).collect();
    let invented: Vec<_> = described.difference(&routes).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "missing {missing:?}, invented {invented:?}"
    );
    println!("{} routes described", described.len());
}

async fn every_built_operation_is_described_in_full(server: &Server) {
    let document = document(server).await;
    let mut ids = BTreeSet::new();
    for endpoint in endpoints() {
        for (_, path) in endpoint.mounts() {
            let method = endpoint.method().as_str().to_lowercase();
            let operation = &document["paths"][&path][&method];
            let about = format!("{method} {path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{about}: a second id"
            );
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{about}"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{about}"
            );
            for status in ["400", "401", "403"] {
                assert!(responses.contains_key(status), "{about} lacks {status}");
            }
            let inherited = document["paths"][&path]["parameters"]
                .as_array()
                .into_iter()
                .flatten();
            let own = operation["parameters"].as_array().into_iter().flatten();
            let named: BTreeSet<&str> = inherited
                .chain(own)
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            let wanted: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert_eq!(named, wanted, "{about}");
        }
    }
}

async fn the_page_of_the_description_loads_only_its_own(server: &Server) {
    let page = server.public().get("/docs").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .starts_with("default-src 'none'")
    );
    let html = String::from_utf8(page.bytes).unwrap();
    for foreign in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
        assert!(!html.contains(foreign), "{html}");
    }
    for (file, kind) in [
        ("docs.js", "text/javascript; charset=utf-8"),
        ("docs.css", "text/css; charset=utf-8"),
    ] {
        assert!(html.contains(file), "{html}");
        let asset = server.public().get(&format!("/docs/{file}")).await;
        assert_eq!(
            (asset.status, asset.header("content-type")),
            (200, Some(kind)),
            "{file}"
        );
    }
}

async fn a_rotated_key_keeps_its_tokens_verifiable(server: &Server) {
    let own = Server::beside(server, &[]).await;
    let ids = async |own: &Server| -> BTreeSet<String> {
        let published = own.public().get("/.well-known/jwks.json").await.json();
        let keys = published["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = ids(&own).await;
    own.run(&["key", "rotate"]);
    let own = own.kill_and_start().await;
    let after = ids(&own).await;
    assert_eq!((before.len(), after.len()), (1, 2));
    assert!(before.is_subset(&after));
}
