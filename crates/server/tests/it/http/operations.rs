//! Endpoints without authentication: health, metrics, keys, the API description and its page.

use std::collections::BTreeSet;

use parlor_server::rest::{endpoints, operations};
use serde_json::{Value, json};

use crate::http::participants::new_participant;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    health_needs_no_credentials,
    metrics_count_responses,
    every_response_carries_a_request_id,
    public_documents_can_be_read_from_any_origin,
    every_route_is_in_the_description,
    every_implemented_operation_is_described_in_full,
    the_docs_page_loads_only_its_own_files,
    tokens_stay_verifiable_after_a_key_rotation,
];

async fn health_needs_no_credentials(server: &Server) {
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

async fn metrics_count_responses(server: &Server) {
    let meeting = server.app().await.meeting().await;
    meeting
        .post("/participants", &new_participant("ada"))
        .await
        .data(201);
    meeting
        .post("/participants", &json!({}))
        .await
        .expect_error(400);
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
        "ids in labels would create a series each"
    );
}

async fn every_response_carries_a_request_id(server: &Server) {
    let app = server.app().await;
    let valid = app
        .with_header("x-request-id", "req-1.A:b/c=_")
        .get("/meetings")
        .await;
    assert_eq!(valid.header("x-request-id"), Some("req-1.A:b/c=_"));
    let (one, two) = (app.get("/meetings").await, app.get("/nothing").await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    for invalid in ["", "a b", "<script>", &"x".repeat(129), "ü"] {
        let response = app
            .with_header("x-request-id", invalid)
            .get("/meetings")
            .await;
        let id = response.header("x-request-id").unwrap();
        assert!(id != invalid && id.len() == 32, "{invalid}: {id}");
    }
}

async fn public_documents_can_be_read_from_any_origin(server: &Server) {
    let page = server.public().with_header("origin", "https://example.com");
    for path in ["/.well-known/jwks.json", "/openapi.json"] {
        let response = page.get(path).await;
        assert_eq!(
            (
                response.status,
                response.header("access-control-allow-origin")
            ),
            (200, Some("*")),
            "{path}"
        );
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    let private = server
        .app()
        .await
        .with_header("origin", "https://example.com")
        .get("/meetings")
        .await;
    assert_eq!(private.header("access-control-allow-origin"), None);
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
    let unexpected: Vec<_> = described.difference(&routes).collect();
    assert!(
        missing.is_empty() && unexpected.is_empty(),
        "missing {missing:?}, unexpected {unexpected:?}"
    );
    println!("{} routes described", described.len());
}

async fn every_implemented_operation_is_described_in_full(server: &Server) {
    let document = document(server).await;
    let mut ids = BTreeSet::new();
    for endpoint in endpoints() {
        for (_, path) in endpoint.mounts() {
            let method = endpoint.method().as_str().to_lowercase();
            let operation = &document["paths"][&path][&method];
            let context = format!("{method} {path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{context}: duplicate id"
            );
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{context}"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{context}"
            );
            for status in ["400", "401", "403"] {
                assert!(responses.contains_key(status), "{context} lacks {status}");
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
            let expected: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert_eq!(named, expected, "{context}");
        }
    }
}

async fn the_docs_page_loads_only_its_own_files(server: &Server) {
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
    for external in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
        assert!(!html.contains(external), "{html}");
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

async fn tokens_stay_verifiable_after_a_key_rotation(server: &Server) {
    let server = Server::dedicated(server, &[]).await;
    let key_ids = async |server: &Server| -> BTreeSet<String> {
        let published = server.public().get("/.well-known/jwks.json").await.json();
        let keys = published["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = key_ids(&server).await;
    server.run(&["key", "rotate"]);
    let server = server.kill_and_restart().await;
    let after = key_ids(&server).await;
    assert_eq!((before.len(), after.len()), (1, 2));
    assert!(before.is_subset(&after));
}
