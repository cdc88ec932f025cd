//! HTTPS, with a client that trusts the certificate authority of the data directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client_api::server::Server;

/// Returns the HTTPS address of a server from its log.
fn address(server: &Server) -> String {
    let output = server.parlor().output();
    let (_, after) = output.split_once("serving HTTPS on https://").unwrap();
    let is_address = |letter: char| letter.is_ascii_alphanumeric() || ".:[]".contains(letter);
    let end = after.find(|letter| !is_address(letter)).unwrap();
    after[..end].to_owned()
}

/// Connects to a server with this server name, trusting one certificate.
async fn connect(
    server: &Server,
    trusted: &Path,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address(server)).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Sends a raw request and returns the status and the body.
async fn send(stream: &mut TlsStream<TcpStream>, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A connection closed without `close_notify` does not invalidate the data before it.
    let _ = tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn every_host_name_of_the_sdk_answers_over_https() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--tls-name", "calls.example"]).await;
    let trusted = folder.path().join("tls/ca.pem");
    let ada = server.host().await;
    for name in [
        "localhost",
        "api.localhost",
        "socket-edge.localhost",
        "api-silos.calls.example",
        "da-collector.calls.example",
        "api.calls.example",
    ] {
        let mut stream = connect(&server, &trusted, name).await.unwrap();
        let request = format!(
            "GET /v2/internals/participant-details HTTP/1.1\r\nHost: {name}\r\n\
             Authorization: Bearer {}\r\nConnection: close\r\n\r\n",
            ada.token
        );
        let (status, body) = send(&mut stream, &request).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["data"]["participant"]["id"]),
            (200, &json!(ada.id))
        );
    }
    connect(&server, &trusted, "other.example")
        .await
        .unwrap_err();
}

#[tokio::test]
async fn links_requested_over_https_use_https() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]).await;
    let ada = server.host().await;
    let trusted = folder.path().join("tls/ca.pem");
    let mut stream = connect(&server, &trusted, "api.localhost").await.unwrap();
    let body = json!({"roomUUID": ada.meeting, "filename": "a.txt"}).to_string();
    let request = format!(
        "POST /v2/meetings/chat-upload HTTP/1.1\r\nHost: api.localhost:8443\r\n\
         Authorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        ada.token,
        body.len()
    );
    let (status, body) = send(&mut stream, &request).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let link = body["data"]["get_location"].as_str().unwrap();
    assert!(
        link.starts_with("https://api.localhost:8443/uploads/"),
        "{link}"
    );
}

#[tokio::test]
async fn a_socket_counts_as_a_connection_for_as_long_as_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]).await;
    let ada = server.host().await;
    let trusted = folder.path().join("tls/ca.pem");
    let before = connections(&server).await;
    let mut stream = connect(&server, &trusted, "socket-edge.localhost")
        .await
        .unwrap();
    let upgrade = format!(
        "GET /ws?roomID={}&peerID={}&authToken={}&useMediaV2=true&ping=true HTTP/1.1\r\n\
         Host: socket-edge.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ada.meeting, ada.id, ada.token
    );
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(connections(&server).await, before + 1);
    drop(stream);
    let mut attempts = 0;
    while connections(&server).await != before {
        attempts += 1;
        assert!(attempts < 100, "the connection is still counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn connections(server: &Server) -> i64 {
    let metrics = server.parlor().metrics().await.unwrap();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("parlor_http_connections "));
    count.unwrap().parse().unwrap()
}

#[tokio::test]
async fn unread_pipelined_responses_are_not_produced() {
    const MAX_GROWTH: u64 = 50 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]).await;
    let trusted = folder.path().join("tls/ca.pem");
    let process = server.parlor().process();
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: p\r\n\r\n".repeat(1600);
    let before = process.settled_memory().await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&server, &trusted, "api.localhost").await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        unread.push(stream);
    }
    let grown = process
        .settled_memory()
        .await
        .unwrap()
        .saturating_sub(before);
    println!("{before} bytes, {grown} more with five clients that do not read");
    assert!(grown < MAX_GROWTH, "{grown} bytes");
    drop(unread);
}

#[tokio::test]
async fn a_configured_certificate_is_presented() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let generated = rcgen::generate_simple_self_signed(["api.calls.example".to_owned()]).unwrap();
    std::fs::write(&certificate, generated.cert.pem()).unwrap();
    std::fs::write(&key, generated.signing_key.serialize_pem()).unwrap();
    let (c, k) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let server = Server::start_in(folder.path(), &["--tls-cert", c, "--tls-key", k]).await;
    connect(&server, &certificate, "api.calls.example")
        .await
        .unwrap();
    assert!(!folder.path().join("tls").exists());
}

#[tokio::test]
async fn https_can_be_turned_off() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--tls-listen", "off"]).await;
    assert!(!server.parlor().output().contains("serving HTTPS"));
    assert!(!folder.path().join("tls").exists());
}

#[tokio::test]
async fn a_connection_without_a_handshake_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--header-secs", "1"]).await;
    let mut silent = TcpStream::connect(address(&server)).await.unwrap();
    let mut byte = [0; 1];
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut byte)).await;
    assert!(matches!(closed.unwrap(), Ok(0) | Err(_)));
    let mut plain = TcpStream::connect(address(&server)).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut response = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut response));
    let _ = reading.await.unwrap();
    assert!(!response.starts_with(b"HTTP/"));
}

#[tokio::test]
async fn turn_shares_the_https_port_and_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]).await;
    let trusted = folder.path().join("tls/ca.pem");
    let ada = server.host().await;
    let mut stream = connect(&server, &trusted, "api.localhost").await.unwrap();
    let request = format!(
        "GET /iceservers HTTP/1.1\r\nHost: api.localhost:8443\r\n\
         Authorization: Bearer {}\r\nConnection: close\r\n\r\n",
        ada.token
    );
    let (status, body) = send(&mut stream, &request).await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["iceServers"][0]["urls"][1],
        json!("turns:api.localhost:8443?transport=tcp")
    );

    // A STUN Binding request in several writes, and the success response of RFC 8489.
    let mut stream = connect(&server, &trusted, "api.localhost").await.unwrap();
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction.";
    for chunk in request.chunks(5) {
        stream.write_all(chunk).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut response = [0; 40];
    let reading = stream.read_exact(&mut response);
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response[..4], [0x01, 0x01, 0x00, 0x14]);
    assert_eq!(response[8..20], *b"transaction.");
}
