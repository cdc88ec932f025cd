//! TURN and HTTP on the same TLS port.

use std::net::Ipv4Addr;
use std::thread::JoinHandle;

use axum::routing::get;
use parlor_sfu::{Config, Media, RelayConfig, Secret};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::limits::UnsentLimits;

mod eviction;
mod unread;

/// A STUN binding request (RFC 8489).
const BINDING: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction.";

/// A TLS server with a media plane, and a client that trusts it.
struct TlsFixture {
    address: SocketAddr,
    connector: TlsConnector,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    media: Media,
    _thread: JoinHandle<()>,
}

async fn start_tls() -> TlsFixture {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let (media, thread) = Media::start(&Config {
        bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        public: vec![],
        relay: Some(RelayConfig::default()),
        threads: 1,
        max_transports: 1,
        shares: parlor_sfu::Shares::default(),
        max_consumers: 1,
        connect_timeout: Duration::from_secs(1),
        secret: Secret::ephemeral(),
    })
    .unwrap();
    let listeners = bind("--tls-listen", "127.0.0.1:0").await.unwrap();
    let address = listeners[0].local_addr().unwrap();
    let router = Router::new().route("/", get(async || "hello"));
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = HttpListener::new(listeners, router, Some(acceptor)).with_relay(media.relay());
    let bounds = ConnectionLimits {
        header: Duration::from_secs(1),
        connections: 10,
        per_address: 0,
        unsent: UnsentLimits {
            connection: 0,
            address: 0,
            server: 0,
        },
        shutdown: Duration::from_secs(30),
    };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(
        vec![listener],
        bounds,
        TrustedProxies::default(),
        Arc::new(Metrics::default()),
        stop.clone(),
    ));
    TlsFixture {
        address,
        connector: TlsConnector::from(Arc::new(client)),
        stop,
        serving,
        media,
        _thread: thread,
    }
}

impl TlsFixture {
    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, stream).await.unwrap()
    }

    /// Sends each piece in a separate TLS record. Returns the bytes that the server sends until it
    /// closes the connection.
    async fn exchange(&self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = self.connect().await;
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        // A missing close_notify is fine.
        let _ = soon(reading).await;
        answer
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, future).await.unwrap()
}

#[tokio::test]
async fn turn_and_http_come_to_one_port() {
    let server = start_tls().await;
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    for pieces in [&[&request[..]][..], &[&request[..1], &request[1..]]] {
        let answer = server.exchange(pieces).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        assert!(answer.ends_with(b"hello"));
    }

    for pieces in [
        &[BINDING][..],
        &[&BINDING[..1], &BINDING[1..9], &BINDING[9..]],
    ] {
        let mut stream = server.connect().await;
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut answer = [0; 40];
        soon(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer[..4], [0x01, 0x01, 0x00, 0x14]);
        assert_eq!(answer[8..20], *b"transaction.");
        assert_eq!(server.media.relay().unwrap().stats().streams, 1);
        drop(stream);
        soon(async {
            while server.media.relay().unwrap().stats().streams > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_over_tls_is_disconnected() {
    let server = start_tls().await;
    assert_eq!(server.exchange(&[]).await, b"");
}

#[tokio::test]
async fn turn_does_not_keep_the_server_from_stopping() {
    let server = start_tls().await;
    let mut stream = server.connect().await;
    stream.write_all(BINDING).await.unwrap();
    soon(stream.read_exact(&mut [0; 40])).await.unwrap();
    server.stop.cancel();
    soon(server.serving).await.unwrap();
}
