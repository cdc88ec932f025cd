//! Raw requests over TCP: pipelined, truncated, slow and oversized.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::http::participants::new_participant;
use crate::http::resource::Resource;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    pipelined_requests_are_answered_in_order,
    a_truncated_body_changes_nothing,
    a_body_that_never_ends_times_out,
    a_request_head_that_never_ends_times_out,
    an_endless_request_head_is_rejected,
    a_request_head_is_limited_to_64_kib,
    a_shutdown_finishes_accepted_requests,
];

/// Returns a request that adds a participant, without its last byte.
fn all_but_the_last_byte(meeting: &Resource, custom_id: &str) -> String {
    let body = new_participant(custom_id).to_string();
    let head = meeting.raw_post_head(&format!(
        "content-length: {}\r\nconnection: close",
        body.len()
    ));
    format!("{head}{}", &body[..body.len() - 1])
}

fn connect(resource: &Resource) -> TcpStream {
    let stream = TcpStream::connect(resource.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// Reads until the server closes the connection. The server may reset it if it did not read
/// everything.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let is_open = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!is_open, "the server does not close the connection");
    }
    String::from_utf8(bytes).unwrap()
}

async fn count(meeting: &Resource) -> u64 {
    meeting.get("/participants").await.page().total
}

async fn pipelined_requests_are_answered_in_order(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut stream = connect(&meeting);
    let ids: Vec<String> = (0..20)
        .map(|number| format!("person-{number:02}"))
        .collect();
    let mut requests = String::new();
    for id in &ids {
        let body = new_participant(id).to_string();
        let connection = if id == &ids[19] {
            "close"
        } else {
            "keep-alive"
        };
        let headers = format!("content-length: {}\r\nconnection: {connection}", body.len());
        requests.push_str(&meeting.raw_post_head(&headers));
        requests.push_str(&body);
    }
    stream.write_all(requests.as_bytes()).unwrap();
    let responses = read_to_end(&mut stream);
    let positions: Vec<Option<usize>> = ids.iter().map(|id| responses.find(id.as_str())).collect();
    assert!(
        positions.is_sorted() && positions[0].is_some(),
        "{positions:?}"
    );
    assert_eq!(count(&meeting).await, 20);
}

async fn a_truncated_body_changes_nothing(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut stream = connect(&meeting);
    stream
        .write_all(all_but_the_last_byte(&meeting, "ada").as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let response = read_to_end(&mut stream);
    assert!(
        response.is_empty() || response.starts_with("HTTP/1.1 400"),
        "{response}"
    );
    assert_eq!(count(&meeting).await, 0);
}

async fn a_body_that_never_ends_times_out(server: &Server) {
    let server = Server::dedicated(server, &["--body-secs", "1"]).await;
    let meeting = server.app().await.meeting().await;
    let mut stream = connect(&meeting);
    stream
        .write_all(all_but_the_last_byte(&meeting, "ada").as_bytes())
        .unwrap();
    let response = read_to_end(&mut stream);
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(response.contains(r#""error":{"code":408,"#), "{response}");
    assert_eq!(count(&meeting).await, 0);
}

async fn a_request_head_that_never_ends_times_out(server: &Server) {
    let server = Server::dedicated(server, &["--header-secs", "1"]).await;
    let resource = server.app().await;
    let mut silent = connect(&resource);
    let mut slow = connect(&resource);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: parlor\r\nx: ")
        .unwrap();
    for stream in [&mut silent, &mut slow] {
        let response = read_to_end(stream);
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 408"),
            "{response}"
        );
    }
    // The blocking reads kept this thread busy. Now the HTTP client can notice that its idle
    // connection was closed.
    tokio::time::sleep(Duration::from_millis(50)).await;
    resource.get("/meetings").await.data(200);
}

async fn an_endless_request_head_is_rejected(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for header in [
        format!("x: {}", "y".repeat(1024 * 1024)),
        "x: y\r\n".repeat(200),
    ] {
        let mut stream = connect(&meeting);
        // The server may close the connection before everything is written.
        let _ = stream.write_all(meeting.raw_post_head(&header).as_bytes());
        let response = read_to_end(&mut stream);
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 4"),
            "{response}"
        );
    }
    meeting.get("").await.data(200);
}

async fn a_request_head_is_limited_to_64_kib(server: &Server) {
    const MAX_BYTES: usize = 64 * 1024;
    let resource = server.public();
    let start = "GET /healthz HTTP/1.1\r\nhost: parlor\r\nconnection: close\r\nx: ";
    for (length, status) in [(MAX_BYTES, "200"), (MAX_BYTES + 1, "431"), (70_000, "431")] {
        let filler = "y".repeat(length - start.len() - 4);
        let head = format!("{start}{filler}\r\n\r\n");
        assert_eq!(head.len(), length);
        let mut stream = connect(&resource);
        stream.write_all(head.as_bytes()).unwrap();
        let response = read_to_end(&mut stream);
        // A rejected connection may be reset while the response is unread.
        let is_reset = status == "431" && response.is_empty();
        assert!(
            is_reset || response.starts_with(&format!("HTTP/1.1 {status}")),
            "{length}: {response}"
        );
    }
}

async fn a_shutdown_finishes_accepted_requests(server: &Server) {
    let server = Server::dedicated(server, &[]).await;
    let meeting = server.app().await.meeting().await;
    let mut stream = connect(&meeting);
    stream
        .write_all(all_but_the_last_byte(&meeting, "ada").as_bytes())
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"}").unwrap();
        read_to_end(&mut stream)
    });
    let status = server.stop().await;
    assert!(status.success(), "{status}");
    let response = late.join().unwrap();
    assert!(response.starts_with("HTTP/1.1 201"), "{response}");
}
