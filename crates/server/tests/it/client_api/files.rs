//! Chat files: written once, limited in size, and harmless to open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::client_api::links::{get, links, put};
use crate::client_api::server::{FILE_BYTES, Response, Server};
use crate::on_both_databases;

on_both_databases![
    a_file_is_returned_unchanged,
    images_are_shown_inline_and_documents_are_not,
    a_file_is_written_once,
    one_of_several_concurrent_writers_wins,
    files_over_the_size_limit_are_refused,
    an_interrupted_upload_can_be_retried,
    a_byte_range_can_be_requested,
    a_file_that_was_never_written_is_not_found,
];

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on";

async fn a_file_is_returned_unchanged(server: &Server) {
    let ada = server.host().await;
    let bytes: Vec<u8> = (0..=250_u8).cycle().take(FILE_BYTES).collect();
    for bytes in [bytes.as_slice(), b"", b"x"] {
        let [put_path, get_path] = links(server, &ada, json!({})).await;
        let stored = put(server, &put_path, "application/x-anything", bytes).await;
        assert_eq!(stored.data(), json!({"size": bytes.len()}));
        let found = get(server, &get_path).await;
        assert_eq!(found.status, 200);
        assert_eq!(found.bytes, bytes);
        assert_eq!(
            found.header("content-length"),
            Some(bytes.len().to_string().as_str())
        );
        assert_eq!(found.header("access-control-allow-origin"), Some("*"));
        let tag = found.header("etag").unwrap();
        let again = server
            .request(Method::GET, &get_path)
            .header("if-none-match", tag);
        assert_eq!(Response::fetch(again).await.status, 304);
        let head = Response::fetch(server.request(Method::HEAD, &get_path)).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
    }
}

async fn images_are_shown_inline_and_documents_are_not(server: &Server) {
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
        // The type that the SDK sends for an unknown file.
        ("a.json", "application/json", b"{}", None),
    ] {
        let [put_path, get_path] = links(server, &ada, json!({"filename": name})).await;
        put(server, &put_path, claimed, bytes).await.data();
        let found = get(server, &get_path).await;
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
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    put(server, &put_path, "text/plain", b"first").await.data();
    put(server, &put_path, "text/plain", b"second")
        .await
        .expect_error(409);
    assert_eq!(get(server, &get_path).await.bytes, b"first");
}

async fn one_of_several_concurrent_writers_wins(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    let texts: Vec<String> = (0..20).map(|number| format!("writer {number}")).collect();
    let uploads = texts
        .iter()
        .map(|text| put(server, &put_path, "text/plain", text.as_bytes()));
    let responses = futures_util::future::join_all(uploads).await;
    let mut winners = responses
        .iter()
        .zip(&texts)
        .filter(|(response, _)| response.status == 200);
    let (_, text) = winners.next().unwrap();
    assert!(winners.next().is_none());
    assert_eq!(get(server, &get_path).await.bytes, text.as_bytes());
}

async fn files_over_the_size_limit_are_refused(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    let large = vec![0; FILE_BYTES + 1];
    let message = put(server, &put_path, "text/plain", &large)
        .await
        .expect_error(413);
    assert!(message.contains(&FILE_BYTES.to_string()), "{message}");
    // Without a content length.
    let chunks = large
        .chunks(10_000)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()));
    let chunks: Vec<_> = chunks.collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let request = server.request(Method::PUT, &put_path).body(stream);
    Response::fetch(request).await.expect_error(413);
    get(server, &get_path).await.expect_error(404);
    put(server, &put_path, "text/plain", &large[1..])
        .await
        .data();
}

async fn an_interrupted_upload_can_be_retried(server: &Server) {
    use tokio::io::AsyncWriteExt;
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    let address = server.parlor().url().strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("PUT {put_path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    let mut attempts = 0;
    loop {
        let again = put(server, &put_path, "text/plain", b"whole").await;
        if again.status == 200 {
            break;
        }
        // The server has not yet noticed that the first connection was closed.
        again.expect_error(409);
        attempts += 1;
        assert!(attempts < 100, "the link stays in use");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(get(server, &get_path).await.bytes, b"whole");
}

async fn a_byte_range_can_be_requested(server: &Server) {
    let ada = server.host().await;
    let [put_path, get_path] = links(server, &ada, json!({})).await;
    put(server, &put_path, "image/png", PNG).await.data();
    let size = PNG.len();
    let part = async |range: &str| {
        let request = server
            .request(Method::GET, &get_path)
            .header("range", range);
        Response::fetch(request).await
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
        let expected = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(found.header("content-range"), Some(expected.as_str()));
        assert_eq!(found.header("content-type"), Some("image/png"));
    }
    part("bytes=9999-").await.expect_error(416);
    let whole = part("bytes=0-1,3-4").await;
    assert_eq!((whole.status, whole.bytes.as_slice()), (200, PNG));
    let request = server
        .request(Method::GET, &get_path)
        .header("range", "bytes=0-3");
    let other = Response::fetch(request.header("if-range", "\"other\"")).await;
    assert_eq!(other.status, 200);
}

async fn a_file_that_was_never_written_is_not_found(server: &Server) {
    let ada = server.host().await;
    let [_, get_path] = links(server, &ada, json!({})).await;
    get(server, &get_path).await.expect_error(404);
}

#[tokio::test]
async fn files_and_links_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]).await;
    let ada = server.host().await;
    let [put_path, get_path] = links(&server, &ada, json!({})).await;
    let [later_put, later_get] = links(&server, &ada, json!({})).await;
    put(&server, &put_path, "text/plain", b"kept").await.data();
    server.stop().await;
    let server = Server::start_in(folder.path(), &[]).await;
    assert_eq!(get(&server, &get_path).await.bytes, b"kept");
    put(&server, &put_path, "text/plain", b"again")
        .await
        .expect_error(409);
    put(&server, &later_put, "text/plain", b"later")
        .await
        .data();
    assert_eq!(get(&server, &later_get).await.bytes, b"later");
}

#[tokio::test]
async fn stalled_readers_of_a_large_file_use_little_memory() {
    const LARGE: usize = 48 * 1024 * 1024;
    const MAX_GROWTH: u64 = 50 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with_upload_limit(LARGE, folder.path()).await;
    let ada = server.host().await;
    let [put_path, get_path] = links(&server, &ada, json!({})).await;
    let stored = put(
        &server,
        &put_path,
        "application/x-anything",
        &vec![7; LARGE],
    )
    .await;
    assert_eq!(stored.data(), json!({"size": LARGE}));
    let process = server.parlor().process();
    let before = process.settled_memory().await.unwrap();
    let address = server.parlor().url().trim_start_matches("http://");
    let request = format!("GET {get_path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
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
    // Two chunks of 64 KiB per reader, once the socket buffers are full.
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
    let grown = process
        .settled_memory()
        .await
        .unwrap()
        .saturating_sub(before);
    println!("{before} bytes, {grown} more with thirty stalled readers");
    // About twice the file size, for thirty readers. Most of the memory belongs to the threads that
    // read files, which the runtime ends after ten idle seconds.
    assert!(grown < 2 * MAX_GROWTH, "{grown} bytes");
    drop(stopped);
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.resident().unwrap() > before + MAX_GROWTH {
        let now = process.resident().unwrap();
        assert!(Instant::now() < deadline, "{now} bytes, {before} before");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn trickling_uploads_make_room_for_others() {
    use tokio::io::AsyncWriteExt;
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        ["--uploads-at-once", "2"],
        ["--uploads-per-app", "0"],
        ["--uploads-per-meeting", "0"],
    ];
    let server = Server::start_in(folder.path(), arguments.as_flattened()).await;
    let ada = server.host().await;
    let address = server.parlor().url().strip_prefix("http://").unwrap();
    let metric = async |name: &str| {
        let metrics = server.parlor().metrics().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    let mut streams = Vec::new();
    for _ in 0..2 {
        let [put_path, _] = links(&server, &ada, json!({})).await;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head =
            format!("PUT {put_path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\n\r\nx");
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    while metric("parlor_uploads ").await < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let [put_path, get_path] = links(&server, &ada, json!({})).await;
    put(&server, &put_path, "text/plain", b"honest")
        .await
        .data();
    assert_eq!(get(&server, &get_path).await.bytes, b"honest");
    let cut = "parlor_uploads_refused_total{reason=\"slow_while_others_wait\"}";
    assert_eq!(metric(cut).await, 1);
}
