//! Requests that are written by hand, byte by byte and not always to their end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::http::participants::person;
use crate::http::place::Place;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    pipelined_requests_are_answered_in_order,
    a_body_that_breaks_off_does_nothing,
    a_body_that_never_ends_is_given_up,
    a_head_that_never_ends_is_given_up,
    an_endless_head_is_cut_off,
    a_head_has_64_kib_and_not_a_byte_more,
    a_stop_finishes_what_was_accepted,
];

/// A request that adds somebody, up to and without its last byte.
fn all_but_the_last_byte(meeting: &Place, custom_id: &str) -> String {
    let body = person(custom_id).to_string();
    let head = meeting.head(&format!(
        "content-length: {}\r\nconnection: close",
        body.len()
    ));
    format!("{head}{}", &body[..body.len() - 1])
}

fn connect(place: &Place) -> TcpStream {
    let stream = TcpStream::connect(place.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// Everything that comes until the server closes. It may reset what it did not read.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let is_open = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!is_open, "the server does not close");
    }
    String::from_utf8(bytes).unwrap()
}

async fn count(meeting: &Place) -> u64 {
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
        let body = person(id).to_string();
        let end = if id == &ids[19] {
            "close"
        } else {
            "keep-alive"
        };
        let lengths = format!("content-length: {}\r\nconnection: {end}", body.len());
        requests.push_str(&meeting.head(&lengths));
        requests.push_str(&body);
    }
    stream.write_all(requests.as_bytes()).unwrap();
    let answers = read_to_end(&mut stream);
    let places: Vec<Option<usize>> = ids.iter().map(|id| answers.find(id.as_str())).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{places:?}");
    assert_eq!(count(&meeting).await, 20);
}

async fn a_body_that_breaks_off_does_nothing(server: &Server) {
    let meeting = server.app().await.meeting().await;
    let mut stream = connect(&meeting);
    stream
        .write_all(all_but_the_last_byte(&meeting, "ada").as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = read_to_end(&mut stream);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    assert_eq!(count(&meeting).await, 0);
}

async fn a_body_that_never_ends_is_given_up(server: &Server) {
    let own = Server::beside(server, &["--body-secs", "1"]).await;
    let meeting = own.app().await.meeting().await;
    let mut stream = connect(&meeting);
    stream
        .write_all(all_but_the_last_byte(&meeting, "ada").as_bytes())
        .unwrap();
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains(r#""error":{"code":408,"#), "{answer}");
    assert_eq!(count(&meeting).await, 0);
}

async fn a_head_that_never_ends_is_given_up(server: &Server) {
    let own = Server::beside(server, &["--header-secs", "1"]).await;
    let place = own.app().await;
    let mut silent = connect(&place);
    let mut slow = connect(&place);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: parlor\r\nx: ")
        .unwrap();
    for stream in [&mut silent, &mut slow] {
        let answer = read_to_end(stream);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer}"
        );
    }
    // Reading kept this thread busy; now the client notices that its own idle connection is gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    place.get("/meetings").await.data(200);
}

async fn an_endless_head_is_cut_off(server: &Server) {
    let meeting = server.app().await.meeting().await;
    for header in [
        format!("x: {}", "y".repeat(1024 * 1024)),
        "x: y\r\n".repeat(200),
    ] {
        let mut stream = connect(&meeting);
        // The server may close before everything is written.
        let _ = stream.write_all(meeting.head(&header).as_bytes());
        let answer = read_to_end(&mut stream);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    meeting.get("").await.data(200);
}

async fn a_head_has_64_kib_and_not_a_byte_more(server: &Server) {
    const MOST: usize = 64 * 1024;
    let place = server.public();
    let start = "GET /healthz HTTP/1.1\r\nhost: parlor\r\nconnection: close\r\nx: ";
    for (length, status) in [(MOST, "200"), (MOST + 1, "431"), (70_000, "431")] {
        let filler = "y".repeat(length - start.len() - 4);
        let head = format!("{start}{filler}\r\n\r\n");
        assert_eq!(head.len(), length);
        let mut stream = connect(&place);
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_to_end(&mut stream);
        // What is refused may be reset while there is more to read.
        let is_cut_off = status == "431" && answer.is_empty();
        assert!(
            is_cut_off || answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{length}: {answer}"
        );
    }
}

async fn a_stop_finishes_what_was_accepted(server: &Server) {
    let own = Server::beside(server, &[]).await;
    let meeting = own.app().await.meeting().await;
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
    let status = own.stop().await;
    assert!(status.success(), "{status}");
    let answer = late.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
