//! The socket: connections in, with a bound on everything a stranger can make us hold, and a stop
//! that finishes what was accepted.
//!
//! | file | what it is for |
//! |---|---|
//! | `connections` | how many connections an address may have, and which give way to others |
//! | `listen` | listeners, and the open files that connections need |
//! | `proxies`, `proxy_protocol` | whose connection or request it is, behind a proxy |
//! | `stream` | whether the peer takes what it is sent |
//! | `unsent` | bytes of responses that peers have not taken yet |

mod connections;
mod listen;
mod origin;
mod proxies;
mod proxy_protocol;
mod stream;
pub mod tls;
mod unsent;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parlor_sfu::Relay;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connections::{Connection, Connections};
pub use self::listen::{bind, raise_open_files};
pub(crate) use self::origin::origin;
pub(crate) use self::proxies::ViaTrustedProxy;
pub use self::proxies::{ClientAddress, TrustedProxies};
pub(crate) use self::proxy_protocol::read_bytes as read_proxy_header;
use self::stream::{Held, Watched};
pub(crate) use self::unsent::PieceBytes;
use self::unsent::{Account, Ledger};
use crate::limits::ConnectionLimits;
use crate::metrics::{Metrics, Refused};
use crate::shares::network;

/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Bytes that TLS holds back for a peer that does not take them.
const TLS_BUFFER_BYTES: usize = 64 * 1024;
/// Connections that wait for others to give way to them. When there are more, they are refused.
const WAITING: usize = 64;
/// Headers in a request.
const HEADERS: usize = 100;

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
    bounds: ConnectionLimits,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    open: TaskTracker,
    permits: Arc<Semaphore>,
    /// Connections that wait for a permit.
    waiting: Arc<Semaphore>,
    connections: Arc<Connections>,
    ledger: Arc<Ledger>,
}

/// Serves until it is told to stop, and then until every accepted request is answered, every
/// upgraded connection is closed by whoever took it over, or time is up.
pub async fn serve(
    doors: Vec<Door>,
    bounds: ConnectionLimits,
    proxies: TrustedProxies,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let connections = Connections::new(bounds.per_address, proxies, Arc::clone(&metrics));
    let hall = Hall {
        bounds,
        stop,
        open: TaskTracker::new(),
        permits: Arc::new(Semaphore::new(bounds.connections)),
        waiting: Arc::new(Semaphore::new(WAITING)),
        connections: Arc::new(connections),
        ledger: Arc::new(Ledger::new(bounds.unsent, Arc::clone(&metrics))),
        metrics,
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
        let (tls, router, hall) = (tls.clone(), router.clone(), hall.clone());
        match hall.try_permit() {
            Some(permit) => {
                let held = hall.hold(permit);
                tokio::spawn(connection(stream, peer, tls, router, hall, held));
            }
            // Whoever has to wait keeps nobody else from being accepted.
            None => match Arc::clone(&hall.waiting).try_acquire_owned() {
                Ok(waiting) => {
                    hall.open.clone().spawn(async move {
                        let permit = hall.permit().await;
                        drop(waiting);
                        match permit {
                            Some(permit) => {
                                let held = hall.hold(permit);
                                tokio::spawn(connection(stream, peer, tls, router, hall, held));
                            }
                            None => hall.refuse(),
                        }
                    });
                }
                Err(_) => hall.refuse(),
            },
        }
    }
}

impl Hall {
    /// A place among the connections. When there is none, those that only wait give way.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.place(|| self.try_permit()).await
    }

    fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Counts in a connection that has a place. This is done before its task first runs: otherwise
    /// a search for connections to close would not find it.
    fn hold(&self, permit: OwnedSemaphorePermit) -> Held {
        Held {
            permit,
            connected: self.metrics.connected(),
            open: self.open.token(),
            share: None,
            registered: self.connections.register(),
        }
    }

    /// Counts a connection for which there is no place.
    fn refuse(&self) {
        self.metrics.refused();
        self.metrics.refused_for(Refused::Connections);
    }

    /// Who is at the other end, as a proxy says where one is to say so. `None` when it does not.
    async fn client(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.connections.proxies.speaks_proxy_protocol(peer.ip()) {
            return Some(peer);
        }
        let reading = tokio::time::timeout(self.bounds.header, proxy_protocol::read(stream));
        let read = self.stop.run_until_cancelled(reading).await?;
        let Ok(Ok(client)) = read else {
            self.metrics.refused_for(Refused::NoProxyHeader);
            return None;
        };
        Some(client.unwrap_or(peer))
    }
}

async fn connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    hall: Hall,
    mut held: Held,
) {
    let bounds = hall.bounds;
    // Small answers must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    // A peer that is gone does not acknowledge; one that does not read is up to `Watched`.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(bounds.header));
    let Some(client) = hall.client(&mut stream, peer).await else {
        return;
    };
    // Of the connections of a trusted proxy each request counts.
    if !hall.connections.proxies.trusts(client.ip()) {
        match hall.connections.admit(client.ip()).await {
            Ok(share) => held.share = Some(share),
            Err(refused) => return hall.metrics.refused_for(refused),
        }
        held.registered.assign(network(client.ip()));
    }
    let known = Arc::clone(&held.registered.connection);
    let stream = Watched::new(stream, bounds.header, Arc::clone(&hall.metrics), held);
    let Some(tls) = tls else {
        return requests(stream, known, client, router, &hall).await;
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
                    let watched = stream.get_mut().0;
                    watched.read_while_blocked();
                    let socket = socket2::SockRef::from(&*watched);
                    let _ = socket.set_tcp_notsent_lowat(Relay::UNSENT);
                    known.upgraded(None);
                    let serving = relay.serve(stream, client);
                    hall.stop.run_until_cancelled(serving).await;
                    return;
                }
            }
            requests(stream, known, client, router, &hall).await;
        }
        Some(Ok(Err(error))) => {
            hall.metrics.handshake_failed();
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Some(Err(_)) => hall.metrics.handshake_failed(),
        None => {}
    }
}

/// Serves requests one after the other. `pipeline_flush` must stay off: with it hyper makes and
/// keeps responses for as long as there are requests, whether the peer takes any or not.
async fn requests<S>(
    stream: S,
    connection: Arc<Connection>,
    client: SocketAddr,
    router: Router,
    hall: &Hall,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (service, shared) = (TowerToHyperService::new(router), hall.clone());
    let answer = move |mut request: Request<Incoming>| {
        let (mut account, is_passed_on) = account(&mut request, client, &connection, &shared);
        let service = service.clone();
        async move {
            if is_passed_on {
                // The connection is in nobody's share, so the request is.
                match account.connections.admit(account.network).await {
                    Ok(share) => account.share = Some(share),
                    Err(refused) => return Ok::<_, Infallible>(account.refused(refused)),
                }
            }
            let response = service.call(request).await?;
            let mut response = account.answered(response).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                response.body_mut().upgrade();
            }
            Ok(response)
        }
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(hall.bounds.header)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
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

/// What a request is charged to, and whether a trusted proxy has passed it on. The request is told
/// who has sent it. If the proxy names nobody, that is the proxy itself, and all such requests share
/// its address.
fn account(
    request: &mut Request<Incoming>,
    peer: SocketAddr,
    connection: &Arc<Connection>,
    hall: &Hall,
) -> (Account, bool) {
    connection.busy();
    let proxies = &hall.connections.proxies;
    let client = proxies.client(peer.ip(), request.headers());
    let is_passed_on = proxies.trusts(peer.ip());
    let extensions = request.extensions_mut();
    extensions.insert(ClientAddress(client));
    if is_passed_on {
        extensions.insert(ViaTrustedProxy);
    }
    let account = Account {
        connections: Arc::clone(&hall.connections),
        ledger: Arc::clone(&hall.ledger),
        connection: Arc::clone(connection),
        network: network(client),
        is_write: !request.method().is_safe(),
        share: None,
    };
    (account, is_passed_on)
}

#[cfg(test)]
mod tests;
