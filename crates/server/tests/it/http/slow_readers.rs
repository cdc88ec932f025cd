//! Clients that do not read their responses: the memory they cost, and when they are disconnected.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http::resource::Resource;
use crate::http::server::Server;

/// Maximum growth of the server's memory, in bytes.
const MAX_GROWTH_BYTES: u64 = 50 * 1024 * 1024;

/// Waits until the resident memory of the server is at most `bytes`.
async fn wait_for_memory(server: &Server, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.resident_memory() > bytes {
        assert!(
            Instant::now() < deadline,
            "{} bytes, more than {bytes}",
            server.resident_memory()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends as many copies of a request as fit into `bytes`, and reads nothing.
fn pipelined(address: &str, request: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let timeout = Some(Duration::from_secs(5));
    stream.set_write_timeout(timeout).unwrap();
    let requests = request.repeat(bytes / request.len());
    // The server may stop reading before it has received all of them.
    let _ = stream.write_all(requests.as_bytes());
    stream
}

#[tokio::test]
async fn pipelined_requests_wait_until_earlier_responses_are_read() {
    let server = Server::sqlite().await;
    let server = Server::dedicated(server, &[]).await;
    let address = server.public().address().to_owned();
    let before = server.settled_memory().await;
    let request = "GET /openapi.json HTTP/1.1\r\nhost: p\r\n\r\n";
    let unread: Vec<TcpStream> = (0..5)
        .map(|_| pipelined(&address, request, 64 * 1024))
        .collect();
    let grown = server.settled_memory().await.saturating_sub(before);
    println!("{before} bytes, {grown} more with five clients that do not read");
    assert!(grown < MAX_GROWTH_BYTES, "{grown} bytes");
    // Other clients are still served.
    assert_eq!(server.public().get("/healthz").await.status, 200);
    drop(unread);
    wait_for_memory(&server, before + MAX_GROWTH_BYTES).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected() {
    let server = Server::sqlite().await;
    let server = Server::dedicated(server, &["--header-secs", "1"]).await;
    let request = "GET /openapi.json HTTP/1.1\r\nhost: p\r\n\r\n";
    let _unread = pipelined(server.public().address(), request, 64 * 1024);
    server
        .wait_for_metric("parlor_http_disconnected_total{reason=\"timed_out\"}", 1)
        .await;
}

/// Path of a page with a thousand participants, below a meeting.
const PAGE: &str = "/participants?per_page=1000";

/// Creates a meeting with a thousand participants. Returns it and the size of their page, in bytes.
async fn large_meeting(server: &Server) -> (Resource, u64) {
    let meeting = server.app().await.meeting().await;
    let participants: Vec<_> = (0..1000)
        .map(|number| crate::http::participants::new_participant(&format!("person-{number}")))
        .collect();
    let participants = serde_json::json!({ "participants": participants });
    meeting
        .post("/participants/bulk", &participants)
        .await
        .data(201);
    let page = meeting.with_header("connection", "close").get(PAGE).await;
    (meeting, page.bytes.len() as u64)
}

#[tokio::test]
async fn each_connection_buffers_at_most_one_unread_response() {
    let server = Server::dedicated(Server::sqlite().await, &[]).await;
    let (meeting, length) = large_meeting(&server).await;
    assert!(length > 100_000, "{length}");
    let request = meeting.raw_get(PAGE);
    let before = server.settled_memory().await;
    let unread: Vec<TcpStream> = (0..10)
        .map(|_| pipelined(meeting.address(), &request, 32 * 1024))
        .collect();
    server
        .wait_for_metric("parlor_http_unsent_bytes", 10 * length)
        .await;
    let grown = server.settled_memory().await.saturating_sub(before);
    println!("{before} bytes, {grown} more with ten clients that do not read");
    // Ten pages were built at the same time, and the allocator retains some of that memory.
    assert!(grown < 2 * MAX_GROWTH_BYTES, "{grown} bytes");
    drop(unread);
    server.wait_for_metric("parlor_http_unsent_bytes", 0).await;
}

#[tokio::test]
async fn clients_that_do_not_read_are_disconnected_to_make_room() {
    let arguments = ["--unsent-bytes-per-address", "400000"];
    let server = Server::dedicated(Server::sqlite().await, &arguments).await;
    let (meeting, length) = large_meeting(&server).await;
    assert!((200_001..400_000).contains(&length), "{length}");
    let _unread = pipelined(meeting.address(), &meeting.raw_get(PAGE), 32 * 1024);
    let slow = "parlor_http_disconnected_total{reason=\"slow\"}";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = meeting.get(PAGE).await;
        if page.status == 200 {
            assert_eq!(page.bytes.len() as u64, length);
            // The client counts as slow only once its unread responses have filled the buffers of
            // the sockets.
            if server.metric(slow).await == 1 {
                break;
            }
        } else {
            assert_eq!(page.status, 503);
            assert_eq!(page.headers["retry-after"], "1");
        }
        assert!(Instant::now() < deadline, "no client was disconnected");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_response_over_the_limit_of_its_connection_is_rejected() {
    let arguments = ["--unsent-bytes-per-connection", "100000"];
    let server = Server::dedicated(Server::sqlite().await, &arguments).await;
    let meeting = large_meeting(&server).await.0;
    let refused = "parlor_http_refused_total{reason=\"unsent_bytes_per_connection\"}";
    let before = server.metric(refused).await;
    assert_eq!(meeting.get(PAGE).await.status, 503);
    assert_eq!(server.metric(refused).await, before + 1);
    let small = meeting.get("/participants?per_page=100").await;
    assert_eq!(small.page().total, 1000);
}
