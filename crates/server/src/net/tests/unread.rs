//! Responses that are not read: their memory, and the charge for it.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::Notify;

use super::*;
use crate::limits::UnsentLimits;

/// A plain HTTP server.
pub(super) struct PlainServer {
    pub(super) address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Drop for PlainServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) async fn plain(
    router: Router,
    connections: usize,
    trusted: TrustedProxies,
) -> PlainServer {
    let listeners = bind("--listen", "127.0.0.1:0").await.unwrap();
    let address = listeners[0].local_addr().unwrap();
    let bounds = ConnectionLimits {
        header: Duration::from_secs(20),
        connections,
        per_address: usize::from(trusted.trusts(address.ip())),
        unsent: UnsentLimits {
            connection: 0,
            address: 0,
            server: 0,
        },
        shutdown: Duration::from_secs(1),
    };
    let (metrics, stop) = (Arc::new(Metrics::default()), CancellationToken::new());
    let listeners = vec![HttpListener::new(listeners, router, None)];
    let serving = serve(
        listeners,
        bounds,
        trusted,
        Arc::clone(&metrics),
        stop.clone(),
    );
    tokio::spawn(serving);
    PlainServer {
        address,
        metrics,
        stop,
    }
}

impl PlainServer {
    async fn get(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Returns a metric's value, or 0 if it is absent.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode(&parlor_sfu::Stats::default());
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }
}

async fn start_of_response(stream: &mut TcpStream) -> [u8; 12] {
    let mut start = [0; 12];
    soon(stream.read_exact(&mut start)).await.unwrap();
    start
}

const LARGE: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_connection_is_not_idle_before_its_response_is_written() {
    let large = async || vec![7_u8; LARGE];
    let router = Router::new().route("/", get(large));
    let plain = plain(router, 1, TrustedProxies::default()).await;
    let idle = "parlor_http_disconnected_total{reason=\"idle\"}";
    let mut first = plain.get("/").await;
    assert_eq!(&start_of_response(&mut first).await, b"HTTP/1.1 200");
    // It is not evicted for this one unless it has read nothing for a while.
    let _second = plain.get("/").await;
    let refused = || plain.metric("parlor_http_refused_total{reason=\"connections\"}");
    let slow = || plain.metric("parlor_http_disconnected_total{reason=\"slow\"}");
    soon(async {
        while refused() + slow() + plain.metric(idle) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(plain.metric(idle), 0);
}

#[tokio::test]
async fn a_connection_that_has_read_its_response_is_evicted() {
    let router = Router::new().route("/", get(async || vec![7_u8; LARGE]));
    let plain = plain(router, 1, TrustedProxies::default()).await;
    let mut first = plain.get("/").await;
    let head_and_body = LARGE as u64;
    let mut read = 0;
    while read < head_and_body {
        let mut piece = vec![0; 1 << 20];
        read += soon(first.read(&mut piece)).await.unwrap() as u64;
    }
    let mut second = plain.get("/").await;
    assert_eq!(&start_of_response(&mut second).await, b"HTTP/1.1 200");
    assert_eq!(
        plain.metric("parlor_http_disconnected_total{reason=\"idle\"}"),
        1
    );
}

/// A piece of a body that counts its bytes until it is dropped.
struct Piece(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_stream_holds_no_more_than_is_charged_for_it() {
    const PIECE: usize = 256 * 1024;
    let held = Arc::new(AtomicUsize::default());
    let peak = Arc::new(AtomicUsize::default());
    let (made, highest) = (Arc::clone(&held), Arc::clone(&peak));
    let stream = move || {
        let (made, highest) = (Arc::clone(&made), Arc::clone(&highest));
        let pieces = futures_util::stream::repeat_with(move || {
            let now = made.fetch_add(PIECE, Ordering::Relaxed) + PIECE;
            highest.fetch_max(now, Ordering::Relaxed);
            let piece = Piece(vec![7; PIECE], Arc::clone(&made));
            Ok::<_, std::io::Error>(Bytes::from_owner(piece))
        });
        let mut response = Response::new(Body::from_stream(pieces));
        response.extensions_mut().insert(PieceBytes(PIECE));
        std::future::ready(response)
    };
    let plain = plain(
        Router::new().route("/", get(stream)),
        10,
        TrustedProxies::default(),
    )
    .await;
    let mut first = plain.get("/").await;
    assert_eq!(&start_of_response(&mut first).await, b"HTTP/1.1 200");
    let charged = plain.metric("parlor_http_unsent_bytes ");
    // Read a little, so that it is full of pieces of different ages.
    let mut some = vec![0; 3_000_000];
    soon(first.read_exact(&mut some)).await.unwrap();
    let peak = peak.load(Ordering::Relaxed) as u64;
    println!("{peak} bytes were held, {charged} charged");
    assert!(peak <= charged, "{peak} bytes were held, {charged} charged");
}

#[tokio::test]
async fn requests_without_a_named_client_share_the_proxy_address() {
    let (arrived, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrival, departure) = (Arc::clone(&arrived), Arc::clone(&leave));
    let wait = move || {
        let (arrival, departure) = (Arc::clone(&arrival), Arc::clone(&departure));
        async move {
            arrival.notify_one();
            departure.notified().await;
        }
    };
    let router = Router::new()
        .route("/wait", get(wait))
        .route("/", get(async || "hello"));
    let plain = plain(router, 10, TrustedProxies::loopback()).await;
    let mut first = plain.get("/wait").await;
    soon(arrived.notified()).await;
    let mut second = plain.get("/").await;
    assert_eq!(&start_of_response(&mut second).await, b"HTTP/1.1 503");
    leave.notify_one();
    assert_eq!(&start_of_response(&mut first).await, b"HTTP/1.1 200");
}
