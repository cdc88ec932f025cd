//! What callers of the server see when its disk fails.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use parlor_faults::{Disk, Fault, Operation};
use parlor_server::limits::Limits;
use parlor_server::router;
use parlor_server::state::Parlor;
use parlor_store::{Options, Place};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::owner;

/// What takes this long never ends.
async fn ends<T>(work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(30), work).await;
    ended.expect("it hangs")
}

const SECRET: &str = "a secret that is long enough to be one";

struct Server {
    parlor: Arc<Parlor>,
    router: axum::Router,
    kit: String,
    disk: Disk,
}

struct Answer {
    status: StatusCode,
    retry_after: Option<String>,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        let disk = Disk::new();
        let place = Place::Sqlite(disk.file("parlor.db"));
        let limits = Limits {
            database: Options {
                timeout: Duration::from_millis(500),
                scan_timeout: Duration::from_millis(500),
                ..Options::default()
            },
            ..Limits::default()
        };
        let parlor = Arc::new(Parlor::open(&place, limits).await.unwrap());
        let (account, app) = owner::create(&parlor, SECRET).await;
        Self {
            router: router::router(&parlor),
            kit: format!("/client/v4/accounts/{account}/realtime/kit/{app}"),
            parlor,
            disk,
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Value, key: Option<&str>) -> Answer {
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
        Answer {
            status: response.status(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
            body: {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                serde_json::from_slice(&body).unwrap_or_default()
            },
        }
    }

    async fn ready(&self) -> StatusCode {
        self.ask("GET", "/readyz", Value::Null, None).await.status
    }

    /// Waits until it says that it is ready, or not.
    async fn until_ready_is(&self, expected: StatusCode) {
        for _ in 0..200 {
            if self.ready().await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("/readyz is never {expected}");
    }

    async fn add_meeting(&self, key: &str) -> Answer {
        let path = format!("{}/meetings", self.kit);
        self.ask("POST", &path, json!({"title": "x"}), Some(key))
            .await
    }

    async fn meetings(&self) -> usize {
        let path = format!("{}/meetings", self.kit);
        let answer = self.ask("GET", &path, Value::Null, None).await;
        answer.body["data"].as_array().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_write_is_not_ready_and_says_so_to_writers() {
    for fault in [
        (Operation::Write, Fault::Full),
        (Operation::Write, Fault::Broken),
        (Operation::Sync, Fault::Broken),
    ] {
        let server = Server::start().await;
        assert_eq!(server.ready().await, StatusCode::OK);
        server.disk.fail(fault.0, fault.1);
        let refused = server.add_meeting("one").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{fault:?}");
        assert!(refused.retry_after.is_some(), "{fault:?}");
        server.until_ready_is(StatusCode::SERVICE_UNAVAILABLE).await;
        server.disk.heal();
        server.until_ready_is(StatusCode::OK).await;
        let added = server.add_meeting("one").await;
        assert_eq!(added.status, StatusCode::CREATED, "{fault:?}");
        assert_eq!(server.meetings().await, 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_read_is_no_internal_error() {
    let server = Server::start().await;
    for number in 0..30 {
        let added = server.add_meeting(&number.to_string()).await;
        assert_eq!(added.status, StatusCode::CREATED);
    }
    server.disk.fail(Operation::Read, Fault::Broken);
    let path = format!("{}/meetings", server.kit);
    let answer = server.ask("GET", &path, Value::Null, None).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.retry_after.is_some());
    server.disk.heal();
    assert_eq!(server.meetings().await, 20, "a page of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_for_readiness_is_a_write_a_second() {
    let server = Server::start().await;
    let commits = || {
        let text = server.parlor.metrics.text(&parlor_sfu::Stats::default());
        let name = "parlor_store_commit_seconds_count ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse::<u64>().unwrap()
    };
    let (before, started) = (commits(), std::time::Instant::now());
    for _ in 0..20 {
        let asked = futures_util::future::join_all((0..100).map(|_| server.ready()));
        assert!(asked.await.iter().all(|status| *status == StatusCode::OK));
    }
    let (writes, seconds) = (commits() - before, started.elapsed().as_secs());
    assert!(writes >= 1, "nothing was written");
    assert!(writes <= 1 + seconds, "{writes} writes in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_answered_by_503_and_a_key_writes_once() {
    let server = Server::start().await;
    assert_eq!(
        server.add_meeting("before").await.status,
        StatusCode::CREATED
    );
    server.disk.fail(Operation::Sync, Fault::Hangs);
    let asked = ends(server.add_meeting("during"));
    let (refused, ()) = tokio::join!(asked, ends(server.disk.hanging()));
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.retry_after.is_some());
    assert_eq!(ends(server.ready()).await, StatusCode::SERVICE_UNAVAILABLE);
    let metrics = server.parlor.metrics.text(&parlor_sfu::Stats::default());
    assert!(metrics.contains("parlor_store_refused_total{reason=\"timeout\"}"));
    // What needs no disk goes on, on every thread of the runtime.
    let alive = (0..100).map(async |_| server.ask("GET", "/healthz", Value::Null, None).await);
    let alive = ends(futures_util::future::join_all(alive)).await;
    assert!(alive.iter().all(|answer| answer.status == StatusCode::OK));
    server.disk.heal();
    server.until_ready_is(StatusCode::OK).await;
    let again = server.add_meeting("during").await;
    assert_eq!(again.status, StatusCode::CREATED);
    let replayed = server.add_meeting("during").await;
    assert_eq!(replayed.body["data"]["id"], again.body["data"]["id"]);
    assert_eq!(server.meetings().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_hang_do_not_take_the_threads_of_the_runtime() {
    let server = Server::start().await;
    assert_eq!(server.add_meeting("one").await.status, StatusCode::CREATED);
    server.disk.fail(Operation::Read, Fault::Hangs);
    let path = format!("{}/meetings", server.kit);
    let reads = (0..50).map(async |_| server.ask("GET", &path, Value::Null, None).await);
    // Pages in the cache are read without the disk.
    for answer in ends(futures_util::future::join_all(reads)).await {
        let status = answer.status;
        assert!(
            status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::OK,
            "{status}"
        );
    }
    server.disk.heal();
    server.until_ready_is(StatusCode::OK).await;
    assert_eq!(server.meetings().await, 1);
}
