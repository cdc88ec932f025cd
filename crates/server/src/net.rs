//! The HTTP listeners: bounded resources for untrusted peers, and graceful shutdown.
//!
//! | module | content |
//! |---|---|
//! | `connections` | connections per address, and eviction of idle and slow ones |
//! | `listen` | listening sockets, and the limit of open files |
//! | `proxies`, `proxy_protocol` | the client's address behind a proxy |
//! | `stream` | detection of peers that do not read |
//! | `unsent` | bytes of responses that were not written to peers yet |

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
use self::stream::{BackpressureStream, Held};
pub(crate) use self::unsent::PieceBytes;
use self::unsent::{ChargeContext, UnsentBudget};
use crate::limits::ConnectionLimits;
use crate::metrics::{Metrics, RefusalReason};
use crate::shares::network;

/// Maximum size of a request's head, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Maximum bytes that TLS buffers for a slow peer.
const TLS_BUFFER_BYTES: usize = 64 * 1024;
/// Maximum number of connections that wait for the eviction of others. Further ones are rejected.
const MAX_WAITING: usize = 64;
/// Maximum number of headers in a request.
const MAX_HEADERS: usize = 100;

/// The URL scheme of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// Returns the name of the scheme as in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The sockets that serve one router.
pub struct HttpListener {
    listeners: Vec<TcpListener>,
    router: Router,
    tls: Option<Tls>,
}

/// The TLS configuration of a listener, and the TURN relay that shares its port.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    relay: Option<Relay>,
}

impl HttpListener {
    /// Serves a router, with or without TLS. Every request carries its [`Scheme`] as an extension.
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

    /// Also serves TURN of the media plane to clients that connect over TLS.
    #[must_use]
    pub fn with_relay(mut self, relay: Option<&Relay>) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.relay = relay.cloned();
        }
        self
    }
}

/// The state shared by all connections.
#[derive(Clone)]
struct ConnectionContext {
    bounds: ConnectionLimits,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    open: TaskTracker,
    permits: Arc<Semaphore>,
    /// Limits the connections that wait for a permit.
    waiting: Arc<Semaphore>,
    connections: Arc<Connections>,
    unsent: Arc<UnsentBudget>,
}

/// Serves until `stop` is cancelled, then until every accepted request is answered and every
/// upgraded connection is closed, or until the shutdown timeout.
pub async fn serve(
    listeners: Vec<HttpListener>,
    bounds: ConnectionLimits,
    proxies: TrustedProxies,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let connections = Connections::new(bounds.per_address, proxies, Arc::clone(&metrics));
    let context = ConnectionContext {
        bounds,
        stop,
        open: TaskTracker::new(),
        permits: Arc::new(Semaphore::new(bounds.connections)),
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        connections: Arc::new(connections),
        unsent: Arc::new(UnsentBudget::new(bounds.unsent, Arc::clone(&metrics))),
        metrics,
    };
    let accepting = listeners.into_iter().flat_map(|group| {
        let context = &context;
        let (router, tls) = (group.router, group.tls);
        group
            .listeners
            .into_iter()
            .map(move |listener| accept(listener, router.clone(), tls.clone(), context.clone()))
    });
    futures_util::future::join_all(accepting).await;
    context.open.close();
    if tokio::time::timeout(bounds.shutdown, context.open.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = context.open.len(),
            "connections were cut off: they took too long to finish"
        );
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    context: ConnectionContext,
) {
    while let Some(accepted) = context.stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Probably out of file descriptors; connections that end will release some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, router, context) = (tls.clone(), router.clone(), context.clone());
        match context.try_permit() {
            Some(permit) => {
                let held = context.hold(permit);
                tokio::spawn(connection(stream, peer, tls, router, context, held));
            }
            // Waiting for a permit must not block the accept loop.
            None => match Arc::clone(&context.waiting).try_acquire_owned() {
                Ok(waiting) => {
                    context.open.clone().spawn(async move {
                        let permit = context.permit().await;
                        drop(waiting);
                        match permit {
                            Some(permit) => {
                                let held = context.hold(permit);
                                tokio::spawn(connection(stream, peer, tls, router, context, held));
                            }
                            None => context.refuse(),
                        }
                    });
                }
                Err(_) => context.refuse(),
            },
        }
    }
}

impl ConnectionContext {
    /// Acquires a connection slot, evicting idle or slow connections if none is free.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.acquire_slot(|| self.try_permit()).await
    }

    fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Registers a connection that has a slot. This happens before its task first runs, because an
    /// eviction would not find it otherwise.
    fn hold(&self, permit: OwnedSemaphorePermit) -> Held {
        Held {
            permit,
            connected: self.metrics.connected(),
            open: self.open.token(),
            share: None,
            registration: self.connections.register(),
        }
    }

    /// Counts a connection that is rejected for lack of slots.
    fn refuse(&self) {
        self.metrics.connection_refused();
        self.metrics.record_refusal(RefusalReason::Connections);
    }

    /// Returns the client's address, from the PROXY protocol header if the peer is to send one.
    /// Returns `None` if that header is missing.
    async fn client_address(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.connections.proxies.speaks_proxy_protocol(peer.ip()) {
            return Some(peer);
        }
        let reading = tokio::time::timeout(self.bounds.header, proxy_protocol::read(stream));
        let read = self.stop.run_until_cancelled(reading).await?;
        let Ok(Ok(client)) = read else {
            self.metrics.record_refusal(RefusalReason::NoProxyHeader);
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
    context: ConnectionContext,
    mut held: Held,
) {
    let bounds = context.bounds;
    // Small responses must not wait for the acknowledgement of the previous one.
    let _ = stream.set_nodelay(true);
    // Detects peers that do not acknowledge; `BackpressureStream` detects those that do not read.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(bounds.header));
    let Some(client) = context.client_address(&mut stream, peer).await else {
        return;
    };
    // Connections of a trusted proxy are not counted; their requests are.
    if !context.connections.proxies.trusts(client.ip()) {
        match context.connections.admit(client.ip()).await {
            Ok(share) => held.share = Some(share),
            Err(refused) => return context.metrics.record_refusal(refused),
        }
        held.registration.assign(network(client.ip()));
    }
    let registered = Arc::clone(&held.registration.connection);
    let stream = BackpressureStream::new(stream, bounds.header, Arc::clone(&context.metrics), held);
    let Some(tls) = tls else {
        return serve_requests(stream, registered, client, router, &context).await;
    };
    let handshake = tls.acceptor.accept_with(stream, |session| {
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    });
    let handshake = tokio::time::timeout(bounds.header, handshake);
    match context.stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(mut stream))) => {
            if let Some(relay) = &tls.relay {
                // The first bytes are only peeked at, so that HTTP is served as usual.
                let peeking = tokio::time::timeout(bounds.header, stream.fill_buf());
                let Some(Ok(Ok(first))) = context.stop.run_until_cancelled(peeking).await else {
                    return;
                };
                if Relay::recognizes(first) != Some(false) && !first.is_empty() {
                    let watched = stream.get_mut().0;
                    watched.read_while_blocked();
                    let socket = socket2::SockRef::from(&*watched);
                    let _ = socket.set_tcp_notsent_lowat(Relay::MAX_UNSENT_BYTES);
                    registered.set_upgraded(None);
                    let serving = relay.serve(stream, client);
                    context.stop.run_until_cancelled(serving).await;
                    return;
                }
            }
            serve_requests(stream, registered, client, router, &context).await;
        }
        Some(Ok(Err(error))) => {
            context.metrics.handshake_failed();
            tracing::debug!(%error, "a TLS handshake failed");
        }
        Some(Err(_)) => context.metrics.handshake_failed(),
        None => {}
    }
}

/// Serves requests sequentially. `pipeline_flush` must stay off: with it, hyper produces and
/// buffers responses for as long as there are requests, even if the peer reads none.
async fn serve_requests<S>(
    stream: S,
    connection: Arc<Connection>,
    client: SocketAddr,
    router: Router,
    context: &ConnectionContext,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (service, shared) = (TowerToHyperService::new(router), context.clone());
    let answer = move |mut request: Request<Incoming>| {
        let (mut charge, is_forwarded) = charge_context(&mut request, client, &connection, &shared);
        let service = service.clone();
        async move {
            if is_forwarded {
                // The connection is in no client's share, so the request is counted instead.
                match charge.connections.admit(charge.network).await {
                    Ok(share) => charge.share = Some(share),
                    Err(refused) => return Ok::<_, Infallible>(charge.refuse(refused)),
                }
            }
            let response = service.call(request).await?;
            let mut response = charge.into_response(response).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                response.body_mut().upgrade();
            }
            Ok(response)
        }
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.bounds.header)
        .max_headers(MAX_HEADERS)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = context.stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Returns the context that a request is charged to, and whether a trusted proxy has forwarded the
/// request. Adds the client's address to the request. If the proxy does not send the client's
/// address, the proxy's own address is used, which all such requests share.
fn charge_context(
    request: &mut Request<Incoming>,
    peer: SocketAddr,
    connection: &Arc<Connection>,
    context: &ConnectionContext,
) -> (ChargeContext, bool) {
    connection.set_busy();
    let proxies = &context.connections.proxies;
    let client = proxies.client(peer.ip(), request.headers());
    let is_forwarded = proxies.trusts(peer.ip());
    let extensions = request.extensions_mut();
    extensions.insert(ClientAddress(client));
    if is_forwarded {
        extensions.insert(ViaTrustedProxy);
    }
    let charge = ChargeContext {
        connections: Arc::clone(&context.connections),
        budget: Arc::clone(&context.unsent),
        connection: Arc::clone(connection),
        network: network(client),
        is_write: !request.method().is_safe(),
        share: None,
    };
    (charge, is_forwarded)
}

#[cfg(test)]
mod tests;
