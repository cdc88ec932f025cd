//! Access to the media plane without UDP: ICE over TCP, and TURN over TCP and TLS
//! (docs/spec/media.md 9.4).
//!
//! Both provide a *link*, which carries datagrams to and from the engine as a UDP socket does. TURN
//! relays only to the media plane: see `turn`.
//!
//! | module | content |
//! |---|---|
//! | `relay` | The public handle. |
//! | `relay/link` | Queues between links and the engine. |
//! | `relay/turn` | The TURN server, without sockets and clock. |
//! | `relay/message`, `relay/credentials` | STUN messages; TURN credentials and nonces. |
//! | `relay/client` | A TURN client on a stream, and its links. |
//! | `relay/stream` | One TCP or TLS connection. |
//! | `relay/listen` | TCP listeners and their advertised addresses. |

mod client;
mod credentials;
mod link;
mod listen;
mod message;
mod stream;
mod turn;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info};

use self::credentials::Credentials;
pub use self::credentials::IceCredentials;
pub(crate) use self::link::{LinkEvent, LinkEvents, LinkId, LinkSender, Via};
pub(crate) use self::listen::MediaSocket;
use self::listen::{advertised, listen, listen_on_media_address};
use self::turn::{Quota, Server};
use crate::secret::Secret;

/// Maximum number of datagrams that are queued for one client.
const LINK_QUEUE: usize = 512;

/// Timeout for TCP acknowledgements, after which the system closes the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The limits and TCP listen addresses of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// TCP addresses for ICE over TCP and TURN over TCP. `None` listens on the addresses of the
    /// media plane's UDP sockets; an empty list disables TCP listeners.
    pub listen: Option<Vec<SocketAddr>>,
    /// Maximum number of concurrent connections, including those over TLS.
    pub streams: usize,
    /// Maximum number of concurrent connections per IPv4 address or IPv6 /64 network. 0 means
    /// unlimited, for servers behind a proxy.
    pub streams_per_ip: usize,
    /// Maximum number of concurrent TURN allocations.
    pub allocations: usize,
    /// Maximum number of concurrent TURN allocations per user. A browser makes one for each
    /// combination of network interface, TURN URL and transport.
    pub allocations_per_user: usize,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            listen: None,
            streams: 20_000,
            streams_per_ip: 1_000,
            allocations: 20_000,
            allocations_per_user: 100,
        }
    }
}

/// Statistics of the relay. The fields are not read atomically as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Current number of TURN allocations.
    pub allocations: u64,
    /// Current number of connections of any protocol.
    pub streams: u64,
    /// Current number of connections that carry ICE over TCP.
    pub ice_tcp: u64,
    /// Connections rejected because of a limit.
    pub streams_refused: u64,
}

/// A handle to the relay. It is cheap to clone; all clones refer to the same relay. The relay stops
/// when the engine stops.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    server: Arc<Server>,
    link_events: LinkEvents,
    tcp: Vec<SocketAddr>,
    streams: Mutex<Streams>,
    max_streams: usize,
    max_streams_per_ip: usize,
    ice_tcp: AtomicU64,
    streams_refused: AtomicU64,
}

#[derive(Default)]
struct Streams {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Relay {
    /// Maximum number of unsent bytes in the system's send buffer of a connection
    /// (`TCP_NOTSENT_LOWAT`). Data in that buffer can no longer be dropped, so datagrams for a slow
    /// client should be queued in its [`LinkSender`] instead, which drops them when it is full.
    pub const MAX_UNSENT_BYTES: u32 = 32 * 1024;

    /// Binds the TCP listeners and starts accepting connections. Must be called within a tokio
    /// runtime, which runs the relay.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(crate) fn start(
        config: RelayConfig,
        secret: &Secret,
        media: &[MediaSocket],
        link_events: LinkEvents,
    ) -> io::Result<Self> {
        let listeners = match config.listen {
            Some(addresses) => addresses.into_iter().map(listen).collect(),
            None => media
                .iter()
                .map(listen_on_media_address)
                .collect::<io::Result<Vec<_>>>(),
        }?;
        let mut tcp = Vec::new();
        for listener in &listeners {
            let mut addresses = advertised(listener.local_addr()?, media);
            addresses.retain(|address| !tcp.contains(address));
            tcp.extend(addresses);
        }
        let udp = media
            .iter()
            .flat_map(|socket| socket.advertised.iter().copied())
            .collect::<Vec<_>>();
        let quota = Quota {
            total: config.allocations,
            per_user: config.allocations_per_user,
        };
        let credentials = Credentials::new(secret, now(), unix_seconds());
        let relay = Self(Arc::new(Inner {
            server: Arc::new(Server::new(credentials, udp, quota)),
            link_events,
            tcp,
            streams: Mutex::default(),
            max_streams: config.streams,
            max_streams_per_ip: config.streams_per_ip,
            ice_tcp: AtomicU64::new(0),
            streams_refused: AtomicU64::new(0),
        }));
        for listener in listeners {
            info!(address = %listener.local_addr()?, "listening for media on TCP");
            tokio::spawn(accept(relay.clone(), listener));
        }
        Ok(relay)
    }

    /// Issues TURN credentials for a user. The allocation limit applies to the user, so issuing
    /// credentials repeatedly does not raise it.
    pub fn credentials(&self, now: Instant, user: &str) -> IceCredentials {
        self.0.server.credentials.issue(now, user)
    }

    /// Returns the advertised TCP addresses of ICE over TCP and TURN. Answers contain them as
    /// passive TCP candidates.
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.0.tcp
    }

    /// Serves ICE over TCP or TURN on a connection until it closes. Returns immediately if a
    /// connection limit is reached.
    pub async fn serve<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(permit) = self.0.acquire_stream(peer) else {
            return;
        };
        stream::serve(Arc::clone(&self.0), stream, peer).await;
        drop(permit);
    }

    /// Spawns a task that runs [`Relay::serve`].
    pub fn accept<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let relay = self.clone();
        tokio::spawn(async move { relay.serve(stream, peer).await });
    }

    /// Returns whether the first bytes of a connection are a protocol of [`Relay::serve`], or
    /// `None` if more bytes are needed. Ten bytes are always enough; for HTTP and TLS, one is.
    pub fn recognizes(prefix: &[u8]) -> Option<bool> {
        stream::Protocol::detect(prefix).map(|protocol| protocol != stream::Protocol::Other)
    }

    /// Returns the current statistics.
    pub fn stats(&self) -> RelayStats {
        let streams = self.0.streams.lock();
        let streams = streams.unwrap_or_else(PoisonError::into_inner).total;
        RelayStats {
            allocations: self.0.server.allocations() as u64,
            streams: streams as u64,
            ice_tcp: self.0.ice_tcp.load(Ordering::Relaxed),
            streams_refused: self.0.streams_refused.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("tcp", &self.0.tcp)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Acquires a permit for a connection, unless a limit is reached.
    fn acquire_stream(self: &Arc<Self>, peer: SocketAddr) -> Option<StreamPermit> {
        let network = network(peer.ip());
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Streams { total, by_ip } = &mut *streams;
        let entry = by_ip.entry(network);
        let count = match &entry {
            Entry::Occupied(count) => *count.get(),
            Entry::Vacant(_) => 0,
        };
        let too_many = self.max_streams_per_ip > 0 && count >= self.max_streams_per_ip;
        if *total >= self.max_streams || too_many {
            self.streams_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *total += 1;
        *entry.or_default() += 1;
        Some(StreamPermit {
            relay: Arc::clone(self),
            network,
        })
    }
}

/// A permit for one connection. Dropping it releases the permit.
struct StreamPermit {
    relay: Arc<Inner>,
    network: IpAddr,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let streams = self.relay.streams.lock();
        let mut streams = streams.unwrap_or_else(PoisonError::into_inner);
        streams.total = streams.total.saturating_sub(1);
        if let Some(count) = streams.by_ip.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                streams.by_ip.remove(&self.network);
            }
        }
    }
}

/// The current time of tokio's clock, which also drives the timers and which tests can control.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the relay works on real connections, not on simulated time"
)]
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// The network that is assigned to one internet subscriber: an IPv4 address, or an IPv6 /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

async fn accept(relay: Relay, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = relay.0.link_events.closed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                prepare(&stream);
                relay.accept(stream, peer);
            }
            Err(error) => {
                // Most likely out of file descriptors: closing connections will release some.
                debug!(%error, "failed to accept a media connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Do not delay a datagram to coalesce it with the next one.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let _ = socket.set_tcp_notsent_lowat(Relay::MAX_UNSENT_BYTES);
}
