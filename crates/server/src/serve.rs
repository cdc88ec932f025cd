//! The socket: connections in, with a bound on everything a stranger can make us hold, and a stop
//! that finishes what was accepted.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::metrics::Metrics;

/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// No wait is longer, whatever is set.
const DAY_SECS: u64 = 24 * 60 * 60;
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
                .unwrap_or(10_000)
                .min(Semaphore::MAX_PERMITS),
            shutdown: Duration::from_secs(settings.shutdown_secs.unwrap_or(30).min(DAY_SECS)),
        }
    }
}

/// Binds every address that a name stands for, so that `localhost` is reached over IPv4 and IPv6.
///
/// # Errors
/// When none of them can be bound.
pub async fn bind(listen: &str) -> anyhow::Result<Vec<TcpListener>> {
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(listen)
        .await
        .map_err(|error| anyhow::anyhow!("--listen {listen}: {error}"))?
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
            Err(error) => anyhow::bail!("cannot listen on {address}: {error}"),
        }
        // A free port that the system chose is one address only.
        if address.port() == 0 && !listeners.is_empty() {
            break;
        }
    }
    match failure {
        Some(error) if listeners.is_empty() => {
            Err(anyhow::anyhow!("cannot listen on {listen}: {error}"))
        }
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

/// Serves until it is told to stop, and then until every accepted request is answered or time is up.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(bounds.connections));
    let accepting = listeners.into_iter().map(|listener| {
        accept(
            listener,
            router.clone(),
            bounds,
            Arc::clone(&metrics),
            stop.clone(),
            connections.clone(),
            Arc::clone(&permits),
        )
    });
    futures_util::future::join_all(accepting).await;
    connections.close();
    if tokio::time::timeout(bounds.shutdown, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "connections were cut off: they took too long to finish"
        );
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    connections: TaskTracker,
    permits: Arc<Semaphore>,
) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: connections that end will give some back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            metrics.refused();
            continue;
        };
        let connected = metrics.connected();
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, bounds, stop).await;
            drop((permit, connected));
        });
    }
}

async fn connection(stream: TcpStream, router: Router, bounds: Bounds, stop: CancellationToken) {
    // Small answers must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    // A peer that does not take its answer is as idle as one that sends nothing.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(bounds.header));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
