//! The server's responses when its disk fails.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use parlor_faults::{Disk, Fault, Operation};
use parlor_server::limits::Limits;
use parlor_server::router;
use parlor_server::state::ServerState;
use parlor_store::{DatabaseLocation, Options};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fixtures;

/// Panics if `work` hangs.
async fn completes<T>(work: impl Future<Output = T>) -> T {
    let completed = tokio::time::timeout(Duration::from_secs(30), work).await;
    completed.expect("it hangs")
}

const SECRET: &str = "a secret that is long enough to be one";

struct Server {
    state: Arc<ServerState>,
    router: axum::Router,
    kit: String,
    disk: Disk,
}

struct Response {
    status: StatusCode,
    retry_after: Option<String>,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        let disk = Disk::new();
        let location = DatabaseLocation::Sqlite(disk.file("parlor.db"));
        let limits = Limits {
            database: Options {
                timeout: Duration::from_millis(500),
                scan_timeout: Duration::from_millis(500),
                ..Options::default()
            },
            ..Limits::default()
        };
        let state = Arc::new(ServerState::open(&location, limits).await.unwrap());
        let (account, app) = fixtures::create_account_and_app(&state, SECRET).await;
        Self {
            router: router::router(&state),
            kit: format!("/client/v4/accounts/{account}/realtime/kit/{app}"),
            state,
            disk,
        }
    }

    async fn request(&self, method: &str, path: &str, body: Value, key: Option<&str>) -> Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {SECRET}"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        Response {
            status: response.status(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
            body: {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                serde_json::from_slice(&body).unwrap_or_default()
            },
        }
    }

    async fn ready(&self) -> StatusCode {
        self.request("GET", "/readyz", Value::Null, None)
            .await
            .status
    }

    /// Waits until `/readyz` returns this status.
    async fn wait_for_readiness(&self, expected: StatusCode) {
        for _ in 0..200 {
            if self.ready().await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("/readyz is never {expected}");
    }

    async fn create_meeting(&self, key: &str) -> Response {
        let path = format!("{}/meetings", self.kit);
        self.request("POST", &path, json!({"title": "x"}), Some(key))
            .await
    }

    async fn meetings(&self) -> usize {
        let path = format!("{}/meetings", self.kit);
        let response = self.request("GET", &path, Value::Null, None).await;
        response.body["data"].as_array().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_write_is_not_ready_and_rejects_writes() {
    for fault in [
        (Operation::Write, Fault::Full),
        (Operation::Write, Fault::IoError),
        (Operation::Sync, Fault::IoError),
    ] {
        let server = Server::start().await;
        assert_eq!(server.ready().await, StatusCode::OK);
        server.disk.fail(fault.0, fault.1);
        let rejected = server.create_meeting("one").await;
        assert_eq!(
            rejected.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{fault:?}"
        );
        assert!(rejected.retry_after.is_some(), "{fault:?}");
        server
            .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE)
            .await;
        server.disk.heal();
        server.wait_for_readiness(StatusCode::OK).await;
        let created = server.create_meeting("one").await;
        assert_eq!(created.status, StatusCode::CREATED, "{fault:?}");
        assert_eq!(server.meetings().await, 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_page_is_not_an_internal_error() {
    let server = Server::start().await;
    for number in 0..30 {
        let created = server.create_meeting(&number.to_string()).await;
        assert_eq!(created.status, StatusCode::CREATED);
    }
    server.disk.fail(Operation::Read, Fault::IoError);
    let path = format!("{}/meetings", server.kit);
    let response = server.request("GET", &path, Value::Null, None).await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.retry_after.is_some());
    server.disk.heal();
    assert_eq!(server.meetings().await, 20, "one page of the list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_readiness_checks_writes_once_a_second() {
    let server = Server::start().await;
    let commits = || {
        let text = server.state.metrics.encode(&parlor_sfu::Stats::default());
        let name = "parlor_store_commit_seconds_count ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse::<u64>().unwrap()
    };
    let (before, started) = (commits(), std::time::Instant::now());
    for _ in 0..20 {
        let responses = futures_util::future::join_all((0..100).map(|_| server.ready()));
        assert!(
            responses
                .await
                .iter()
                .all(|status| *status == StatusCode::OK)
        );
    }
    let (writes, seconds) = (commits() - before, started.elapsed().as_secs());
    assert!(writes >= 1, "nothing was written");
    assert!(writes <= 1 + seconds, "{writes} writes in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_disk_means_503_and_a_key_writes_once() {
    let server = Server::start().await;
    assert_eq!(
        server.create_meeting("before").await.status,
        StatusCode::CREATED
    );
    server.disk.fail(Operation::Sync, Fault::Hang);
    let create = completes(server.create_meeting("during"));
    let (rejected, ()) = tokio::join!(create, completes(server.disk.wait_for_hang()));
    assert_eq!(rejected.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(rejected.retry_after.is_some());
    assert_eq!(
        completes(server.ready()).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let metrics = server.state.metrics.encode(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_store_refused_total{reason=\"timeout\"}"));
    // Requests that need no disk are served on every thread of the runtime.
    let alive = (0..100).map(async |_| server.request("GET", "/healthz", Value::Null, None).await);
    let alive = completes(futures_util::future::join_all(alive)).await;
    assert!(
        alive
            .iter()
            .all(|response| response.status == StatusCode::OK)
    );
    server.disk.heal();
    server.wait_for_readiness(StatusCode::OK).await;
    let again = server.create_meeting("during").await;
    assert_eq!(again.status, StatusCode::CREATED);
    let replayed = server.create_meeting("during").await;
    assert_eq!(replayed.body["data"]["id"], again.body["data"]["id"]);
    assert_eq!(server.meetings().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_reads_do_not_block_the_threads_of_the_runtime() {
    let server = Server::start().await;
    assert_eq!(
        server.create_meeting("one").await.status,
        StatusCode::CREATED
    );
    server.disk.fail(Operation::Read, Fault::Hang);
    let path = format!("{}/meetings", server.kit);
    let reads = (0..50).map(async |_| server.request("GET", &path, Value::Null, None).await);
    // Cached pages are read without the disk.
    for response in completes(futures_util::future::join_all(reads)).await {
        let status = response.status;
        assert!(
            status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::OK,
            "{status}"
        );
    }
    server.disk.heal();
    server.wait_for_readiness(StatusCode::OK).await;
    assert_eq!(server.meetings().await, 1);
}
