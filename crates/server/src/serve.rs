//! The socket: connections in, with a bound on everything a stranger can make us hold, and a stop
//! that finishes what was accepted.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parlor_sfu::Relay;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::Settings;
use crate::metrics::{Metrics, Open};

/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// No wait is longer, whatever is set.
const DAY_SECS: u64 = 24 * 60 * 60;
/// Bytes that TLS holds back for a peer that does not take them.
const TLS_BUFFER_BYTES: usize = 64 * 1024;
/// Headers in a request.
const HEADERS: usize = 100;

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For a request's head to arrive, and for an idle connection to stay.
    pub header: Duration,
    /// Open connections.
    pub connections: usize,
    /// For requests to finish when the server stops.
    pub shutdown: Duration,
}

impl Bounds {
    /// From the settings, or their defaults.
    pub fn of(settings: &Settings) -> Self {
        Self {
            header: Duration::from_secs(settings.header_secs.unwrap_or(30).min(DAY_SECS)),
            connections: settings
                .connections
                .unwrap_or(65_536)
                .min(Semaphore::MAX_PERMITS),
            shutdown: Duration::from_secs(settings.shutdown_secs.unwrap_or(30).min(DAY_SECS)),
        }
    }
}

/// Binds every address that a name stands for, so that `localhost` is reached over IPv4 and IPv6.
/// `setting` is the flag that named it, for the error.
///
/// # Errors
/// When none of them can be bound.
pub async fn bind(setting: &str, listen: &str) -> anyhow::Result<Vec<TcpListener>> {
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(listen)
        .await
        .map_err(|error| anyhow::anyhow!("{setting} {listen}: {error}"))?
        .collect();
    addresses.sort();
    addresses.dedup();
    let mut listeners = Vec::new();
    let mut failure = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // A machine without one of the two families is no failure; a port in use is.
            Err(error) if lacks_family(&error) => failure = Some(error),
            Err(error) => anyhow::bail!("{setting}: cannot listen on {address}: {error}"),
        }
        // A free port that the system chose is one address only.
        if address.port() == 0 && !listeners.is_empty() {
            break;
        }
    }
    match failure {
        Some(error) if listeners.is_empty() => Err(anyhow::anyhow!(
            "{setting}: cannot listen on {listen}: {error}"
        )),
        _ => Ok(listeners),
    }
}

fn lacks_family(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(
        error.kind(),
        ErrorKind::AddrNotAvailable | ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where connections come in.
pub struct Door {
    listeners: Vec<TcpListener>,
    router: Router,
    tls: Option<Tls>,
}

/// How connections are secured, and what else than HTTP may come in them.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    relay: Option<Relay>,
}

impl Door {
    /// A door to a router, with TLS or without. Every request carries its [`Scheme`] as an
    /// extension.
    pub fn new(listeners: Vec<TcpListener>, router: Router, tls: Option<TlsAcceptor>) -> Self {
        let scheme = tls.as_ref().map_or(Scheme::Http, |_| Scheme::Https);
        Self {
            listeners,
            router: router.layer(Extension(scheme)),
            tls: tls.map(|acceptor| Tls {
                acceptor,
                relay: None,
            }),
        }
    }

    /// The same door, at which those who come over TLS may also speak TURN with the media plane.
    #[must_use]
    pub fn with_relay(mut self, relay: Option<&Relay>) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.relay = relay.cloned();
        }
        self
    }
}

/// What every connection shares.
#[derive(Clone)]
struct Hall {
    bounds: Bounds,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    open: TaskTracker,
    permits: Arc<Semaphore>,
}

/// Serves until it is told to stop, and then until every accepted request is answered, every
/// upgraded connection is closed by whoever took it over, or time is up.
pub async fn serve(
    doors: Vec<Door>,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let hall = Hall {
        bounds,
        metrics,
        stop,
        open: TaskTracker::new(),
        permits: Arc::new(Semaphore::new(bounds.connections)),
    };
    let accepting = doors.into_iter().flat_map(|door| {
        let hall = &hall;
        let (router, tls) = (door.router, door.tls);
        door.listeners
            .into_iter()
            .map(move |listener| accept(listener, router.clone(), tls.clone(), hall.clone()))
    });
    futures_util::future::join_all(accepting).await;
    hall.open.close();
    if tokio::time::timeout(bounds.shutdown, hall.open.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = hall.open.len(),
            "connections were cut off: they took too long to finish"
        );
    }
}

async fn accept(listener: TcpListener, router: Router, tls: Option<Tls>, hall: Hall) {
    while let Some(accepted) = hall.stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: connections that end will give some back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&hall.permits).try_acquire_owned() else {
            hall.metrics.refused();
            continue;
        };
        let held = Held {
            _permit: permit,
            _connected: hall.metrics.connected(),
            _open: hall.open.token(),
        };
        tokio::spawn(connection(
            stream,
            peer,
            tls.clone(),
            router.clone(),
            hall.clone(),
            held,
        ));
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    hall: Hall,
    held: Held,
) {
    let bounds = hall.bounds;
    // Small answers must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    // A peer that does not take its answer is as idle as one that sends nothing.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(bounds.header));
    let Some(tls) = tls else {
        return requests(Counted { stream, held }, router, &hall).await;
    };
    let shaking = tls.acceptor.accept_with(stream, |session| {
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    });
    let shaking = tokio::time::timeout(bounds.header, shaking);
    match hall.stop.run_until_cancelled(shaking).await {
        Some(Ok(Ok(mut stream))) => {
            if let Some(relay) = &tls.relay {
                // What is there is looked at where it is, so HTTP is served as without.
                let looking = tokio::time::timeout(bounds.header, stream.fill_buf());
                let Some(Ok(Ok(first))) = hall.stop.run_until_cancelled(looking).await else {
                    return;
                };
                if Relay::takes(first) != Some(false) && !first.is_empty() {
                    let socket = socket2::SockRef::from(stream.get_ref().0);
                    let _ = socket.set_tcp_notsent_lowat(Relay::UNSENT);
                    let serving = relay.serve(Counted { stream, held }, peer);
                    hall.stop.run_until_cancelled(serving).await;
                    return;
                }
            }
            requests(Counted { stream, held }, router, &hall).await;
        }
        Some(Ok(Err(error))) => {
            hall.metrics.handshake_failed();
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Some(Err(_)) => hall.metrics.handshake_failed(),
        None => {}
    }
}

async fn requests<S>(stream: Counted<S>, router: Router, hall: &Hall)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(hall.bounds.header)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = hall.stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What an open connection holds on to.
struct Held {
    _permit: OwnedSemaphorePermit,
    _connected: Open,
    _open: TaskTrackerToken,
}

/// A stream that counts as a connection for as long as anybody has it: an upgraded one outlives
/// the task that served its request.
struct Counted<S> {
    stream: S,
    #[expect(dead_code, reason = "it is held, and let go with the stream")]
    held: Held,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Lets this process have as many open files as the system allows it, and says so when that is
/// less than its connections need.
pub fn raise_open_files(bounds: &Bounds) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(open_files) if open_files < needed_files(bounds) => tracing::warn!(
            open_files,
            connections = bounds.connections,
            "the system allows fewer open files than the connections may need: raise its limit \
             (LimitNOFILE under systemd, ulimit -n) or set --connections lower"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// One for each connection, and some for the database, files and the runtime.
fn needed_files(bounds: &Bounds) -> u64 {
    u64::try_from(bounds.connections)
        .unwrap_or(u64::MAX)
        .saturating_add(256)
}

#[cfg(test)]
mod tests;
