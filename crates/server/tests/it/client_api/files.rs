//! Files of chats: written once, bounded, and harmless to whoever opens them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::client_api::links::{get, links, put};
use crate::client_api::server::{Answer, FILE_BYTES, Server};
use crate::on_both_databases;

on_both_databases![
    a_file_comes_back_as_it_was,
    pictures_are_shown_and_pages_are_not,
    a_file_is_written_once,
    of_many_who_write_at_once_one_does,
    a_file_may_be_so_large_and_no_larger,
    a_broken_upload_can_be_tried_again,
    a_part_can_be_asked_for,
    what_was_never_written_is_not_found,
];

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";

async fn a_file_comes_back_as_it_was(server: &Server) {
    let ada = server.host().await;
    let bytes: Vec<u8> = (0..=250_u8).cycle().take(FILE_BYTES).collect();
    for bytes in [bytes.as_slice(), b"", b"x"] {
        let [to_put, to_get] = links(server, &ada, json!({})).await;
        let stored = put(server, &to_put, "application/x-anything", bytes).await;
        assert_eq!(stored.data(), json!({"size": bytes.len()}));
        let found = get(server, &to_get).await;
        assert_eq!(found.status, 200);
        assert_eq!(found.bytes, bytes);
        assert_eq!(
            found.header("content-length"),
            Some(bytes.len().to_string().as_str())
        );
        assert_eq!(found.header("access-control-allow-origin"), Some("*"));
        let tag = found.header("etag").unwrap();
        let again = server
            .request(Method::GET, &to_get)
            .header("if-none-match", tag);
        assert_eq!(Answer::of(again).await.status, 304);
        let head = Answer::of(server.request(Method::HEAD, &to_get)).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
    }
}

async fn pictures_are_shown_and_pages_are_not(server: &Server) {
    let ada = server.host().await;
    for (name, claimed, bytes, shown_as) in [
        ("a.png", "image/png", PNG, Some("image/png")),
        ("a.bin", "application/octet-stream", PNG, Some("image/png")),
        ("a.png", "image/png", b"<script>alert(1)</script>", None),
        ("a.html", "text/html", b"<html>", None),
        ("a.svg", "image/svg+xml", b"<svg onload='alert(1)'/>", None),
        (
            "a.xhtml",
            "application/xhtml+xml",
            b"<?xml version='1.0'?>",
            None,
        ),
        ("a.js", "text/javascript", b"alert(1)", None),
        ("a.pdf", "application/pdf", b"%PDF-1.7", None),
        // What the SDK makes of a file whose type it does not know.
        ("a.json", "application/json", b"{}", None),
    ] {
        let [to_put, to_get] = links(server, &ada, json!({"filename": name})).await;
        put(server, &to_put, claimed, bytes).await.data();
        let found = get(server, &to_get).await;
        assert_eq!(found.bytes, bytes);
        assert_eq!(found.header("x-content-type-options"), Some("nosniff"));
        assert!(
            found
                .header("content-security-policy")
                .unwrap()
                .contains("sandbox")
        );
        let (kind, disposition) = (
            found.header("content-type").unwrap(),
            found.header("content-disposition").unwrap(),
        );
        if let Some(shown_as) = shown_as {
            assert_eq!(kind, shown_as);
            assert!(disposition.starts_with("inline; "), "{disposition}");
        } else {
            assert!(disposition.starts_with("attachment; "), "{disposition}");
            let harmless = ["application/octet-stream", "application/pdf"];
            assert!(harmless.contains(&kind), "{kind}");
        }
    }
}

async fn a_file_is_written_once(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    put(server, &to_put, "text/plain", b"first").await.data();
    put(server, &to_put, "text/plain", b"second")
        .await
        .refused(409);
    assert_eq!(get(server, &to_get).await.bytes, b"first");
}

async fn of_many_who_write_at_once_one_does(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    let texts: Vec<String> = (0..20).map(|number| format!("writer {number}")).collect();
    let writing = texts
        .iter()
        .map(|text| put(server, &to_put, "text/plain", text.as_bytes()));
    let answers = futures_util::future::join_all(writing).await;
    let mut won = answers
        .iter()
        .zip(&texts)
        .filter(|(answer, _)| answer.status == 200);
    let (_, text) = won.next().unwrap();
    assert!(won.next().is_none());
    assert_eq!(get(server, &to_get).await.bytes, text.as_bytes());
}

async fn a_file_may_be_so_large_and_no_larger(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    let large = vec![0; FILE_BYTES + 1];
    let message = put(server, &to_put, "text/plain", &large)
        .await
        .refused(413);
    assert!(message.contains(&FILE_BYTES.to_string()), "{message}");
    // Without its length being told beforehand.
    let pieces = large
        .chunks(10_000)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let pieces: Vec<_> = pieces.collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = server.request(Method::PUT, &to_put).body(stream);
    Answer::of(request).await.refused(413);
    get(server, &to_get).await.refused(404);
    put(server, &to_put, "text/plain", &large[1..]).await.data();
}

async fn a_broken_upload_can_be_tried_again(server: &Server) {
    use tokio::io::AsyncWriteExt;
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    let address = server.parlor().url().strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("PUT {to_put} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    let mut tries = 0;
    loop {
        let again = put(server, &to_put, "text/plain", b"whole").await;
        if again.status == 200 {
            break;
        }
        // Until the server has seen that the first one has gone.
        again.refused(409);
        tries += 1;
        assert!(tries < 100, "the link stays used");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(get(server, &to_get).await.bytes, b"whole");
}

async fn a_part_can_be_asked_for(server: &Server) {
    let ada = server.host().await;
    let [to_put, to_get] = links(server, &ada, json!({})).await;
    put(server, &to_put, "image/png", PNG).await.data();
    let size = PNG.len();
    let part = async |range: &str| {
        let request = server.request(Method::GET, &to_get).header("range", range);
        Answer::of(request).await
    };
    for (range, from, to) in [
        ("bytes=0-3", 0, 4),
        ("bytes=4-", 4, size),
        ("bytes=-5", size - 5, size),
        ("bytes=2-9999", 2, size),
    ] {
        let found = part(range).await;
        assert_eq!(found.status, 206, "{range}");
        assert_eq!(found.bytes, &PNG[from..to]);
        let told = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(found.header("content-range"), Some(told.as_str()));
        assert_eq!(found.header("content-type"), Some("image/png"));
    }
    part("bytes=9999-").await.refused(416);
    let whole = part("bytes=0-1,3-4").await;
    assert_eq!((whole.status, whole.bytes.as_slice()), (200, PNG));
    let request = server
        .request(Method::GET, &to_get)
        .header("range", "bytes=0-3");
    let other = Answer::of(request.header("if-range", "\"other\"")).await;
    assert_eq!(other.status, 200);
}

async fn what_was_never_written_is_not_found(server: &Server) {
    let ada = server.host().await;
    let [_, to_get] = links(server, &ada, json!({})).await;
    get(server, &to_get).await.refused(404);
}

#[tokio::test]
async fn files_and_links_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::on(folder.path(), &[]).await;
    let ada = server.host().await;
    let [to_put, to_get] = links(&server, &ada, json!({})).await;
    let [later_put, later_get] = links(&server, &ada, json!({})).await;
    put(&server, &to_put, "text/plain", b"kept").await.data();
    server.stop().await;
    let server = Server::on(folder.path(), &[]).await;
    assert_eq!(get(&server, &to_get).await.bytes, b"kept");
    put(&server, &to_put, "text/plain", b"again")
        .await
        .refused(409);
    put(&server, &later_put, "text/plain", b"later")
        .await
        .data();
    assert_eq!(get(&server, &later_get).await.bytes, b"later");
}

#[tokio::test]
async fn readers_who_stop_cost_little_of_a_large_file() {
    const LARGE: usize = 48 * 1024 * 1024;
    const MOST: u64 = 50 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::for_files_of(LARGE, folder.path()).await;
    let ada = server.host().await;
    let [to_put, to_get] = links(&server, &ada, json!({})).await;
    let stored = put(&server, &to_put, "application/x-anything", &vec![7; LARGE]).await;
    assert_eq!(stored.data(), json!({"size": LARGE}));
    let process = server.parlor().process();
    let before = process.settled().await.unwrap();
    let address = server.parlor().url().trim_start_matches("http://");
    let request = format!("GET {to_get} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let stopped: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            stream
        })
        .collect();
    // Two pieces of 64 KiB for each, once the buffers of the system are full.
    let charged = format!("\nparlor_http_unsent_bytes {}\n", 30 * 2 * 64 * 1024);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = server.parlor().metrics().await.unwrap();
        if metrics.contains(&charged) {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let grown = process.settled().await.unwrap().saturating_sub(before);
    println!("{before} bytes, {grown} more with thirty who do not read on");
    // Less than two files of thirty. Most of it is of the threads that read files, which the runtime
    // ends when they have had nothing to do for ten seconds.
    assert!(grown < 2 * MOST, "{grown} bytes");
    drop(stopped);
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.resident().unwrap() > before + MOST {
        let now = process.resident().unwrap();
        assert!(Instant::now() < deadline, "{now} bytes, {before} before");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn those_who_trickle_make_room_for_others() {
    use tokio::io::AsyncWriteExt;
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        ["--uploads-at-once", "2"],
        ["--uploads-per-app", "0"],
        ["--uploads-per-meeting", "0"],
    ];
    let server = Server::on(folder.path(), arguments.as_flattened()).await;
    let ada = server.host().await;
    let address = server.parlor().url().strip_prefix("http://").unwrap();
    let metric = async |name: &str| {
        let metrics = server.parlor().metrics().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    let mut streams = Vec::new();
    for _ in 0..2 {
        let [to_put, _] = links(&server, &ada, json!({})).await;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head =
            format!("PUT {to_put} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\n\r\nx");
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    while metric("parlor_uploads ").await < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let [to_put, to_get] = links(&server, &ada, json!({})).await;
    put(&server, &to_put, "text/plain", b"honest").await.data();
    assert_eq!(get(&server, &to_get).await.bytes, b"honest");
    let cut = "parlor_uploads_refused_total{reason=\"slow_while_others_wait\"}";
    assert_eq!(metric(cut).await, 1);
}
