//! Answers that nobody reads: what they may cost the server, and who pays for them.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http::place::Place;
use crate::http::server::Server;

/// What a server may have more of in memory, whoever does not read.
const BYTES: u64 = 50 * 1024 * 1024;

/// Waits until the server has no more in memory than this.
async fn back_to(server: &Server, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.resident() > bytes {
        assert!(
            Instant::now() < deadline,
            "{} bytes, more than {bytes}",
            server.resident()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends as many of these requests as fit into so many bytes, and reads nothing.
fn pipelined(address: &str, request: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(5));
    stream.set_write_timeout(patience).unwrap();
    let requests = request.repeat(bytes / request.len());
    // The server may stop reading before it has all of them.
    let _ = stream.write_all(requests.as_bytes());
    stream
}

#[tokio::test]
async fn pipelined_answers_that_nobody_reads_are_not_made() {
    let server = Server::sqlite().await;
    let server = Server::beside(server, &[]).await;
    let address = server.public().address().to_owned();
    let before = server.settled().await;
    let request = "GET /openapi.json HTTP/1.1\r\nhost: p\r\n\r\n";
    let unread: Vec<TcpStream> = (0..5)
        .map(|_| pipelined(&address, request, 64 * 1024))
        .collect();
    let grown = server.settled().await.saturating_sub(before);
    println!("{before} bytes, {grown} more with five who do not read");
    assert!(grown < BYTES, "{grown} bytes");
    // Everybody else is served as before.
    assert_eq!(server.public().get("/healthz").await.status, 200);
    drop(unread);
    back_to(&server, before + BYTES).await;
}

#[tokio::test]
async fn whoever_takes_nothing_is_disconnected() {
    let server = Server::sqlite().await;
    let server = Server::beside(server, &["--header-secs", "1"]).await;
    let request = "GET /openapi.json HTTP/1.1\r\nhost: p\r\n\r\n";
    let _unread = pipelined(server.public().address(), request, 64 * 1024);
    server
        .counts("parlor_http_disconnected_total{reason=\"timed_out\"}", 1)
        .await;
}

/// The path of a page of a thousand people, below a meeting that has as many.
const PAGE: &str = "/participants?per_page=1000";

/// A meeting with a thousand people, and how many bytes the page of them has.
async fn crowded(server: &Server) -> (Place, u64) {
    let meeting = server.app().await.meeting().await;
    let people: Vec<_> = (0..1000)
        .map(|number| crate::http::participants::person(&format!("person-{number}")))
        .collect();
    let people = serde_json::json!({ "participants": people });
    meeting.post("/participants/bulk", &people).await.data(201);
    let page = meeting.with_header("connection", "close").get(PAGE).await;
    (meeting, page.bytes.len() as u64)
}

#[tokio::test]
async fn of_answers_that_nobody_reads_each_connection_has_one() {
    let server = Server::beside(Server::sqlite().await, &[]).await;
    let (meeting, length) = crowded(&server).await;
    assert!(length > 100_000, "{length}");
    let request = meeting.get_by_hand(PAGE);
    let before = server.settled().await;
    let unread: Vec<TcpStream> = (0..10)
        .map(|_| pipelined(meeting.address(), &request, 32 * 1024))
        .collect();
    server.counts("parlor_http_unsent_bytes", 10 * length).await;
    let grown = server.settled().await.saturating_sub(before);
    println!("{before} bytes, {grown} more with ten who do not read");
    // Ten pages were made at the same time, and the allocator keeps some of what that took.
    assert!(grown < 2 * BYTES, "{grown} bytes");
    drop(unread);
    server.counts("parlor_http_unsent_bytes", 0).await;
}

#[tokio::test]
async fn whoever_does_not_read_makes_room_for_whoever_does() {
    let arguments = ["--unsent-bytes-per-address", "400000"];
    let server = Server::beside(Server::sqlite().await, &arguments).await;
    let (meeting, length) = crowded(&server).await;
    assert!((200_001..400_000).contains(&length), "{length}");
    let _unread = pipelined(meeting.address(), &meeting.get_by_hand(PAGE), 32 * 1024);
    let slow = "parlor_http_disconnected_total{reason=\"slow\"}";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = meeting.get(PAGE).await;
        if page.status == 200 {
            assert_eq!(page.bytes.len() as u64, length);
            // Until the buffers of the system are full, answers that nobody reads are sent as well.
            if server.counted(slow).await == 1 {
                break;
            }
        } else {
            assert_eq!(page.status, 503);
            assert_eq!(page.headers["retry-after"], "1");
        }
        assert!(Instant::now() < deadline, "nobody was disconnected");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_a_connection_may_not_hold_is_refused() {
    let arguments = ["--unsent-bytes-per-connection", "100000"];
    let server = Server::beside(Server::sqlite().await, &arguments).await;
    let meeting = crowded(&server).await.0;
    let refused = "parlor_http_refused_total{reason=\"unsent_bytes_per_connection\"}";
    let before = server.counted(refused).await;
    assert_eq!(meeting.get(PAGE).await.status, 503);
    assert_eq!(server.counted(refused).await, before + 1);
    let small = meeting.get("/participants?per_page=100").await;
    assert_eq!(small.page().total, 1000);
}
