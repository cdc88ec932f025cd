//! Ways to the media plane for clients that UDP cannot bring there: ICE over TCP, and TURN
//! over TCP and TLS (docs/spec/media.md 9.4).
//!
//! All of them end in a *link*, on which datagrams go to and from the engine as they do on a UDP
//! socket. TURN relays to nowhere else: see `turn`.
//!
//! | where | what |
//! |---|---|
//! | `relay` | The handle of all that. |
//! | `relay/doorway` | Between links and the engine. |
//! | `relay/turn` | The TURN server, without sockets and clock. |
//! | `relay/message`, `relay/credentials` | STUN messages; who may use the server. |
//! | `relay/client` | A TURN client and its links, as a stream drives them. |
//! | `relay/stream` | One connection, TCP or TLS: what is spoken on it, and that. |
//! | `relay/listen` | Where connections come in. |

mod client;
mod credentials;
mod doorway;
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
pub(crate) use self::doorway::{Doorway, FromLink, LinkId, Outlet, Via};
pub(crate) use self::listen::MediaSocket;
use self::listen::{advertised, listen, listen_beside};
use self::turn::{Quota, Server};
use crate::secret::Secret;

/// Datagrams that may wait on their way to one client.
const OUTLET: usize = 512;

/// How long a peer may leave what was sent to it unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Bounds of the relay, and where it listens besides the media ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// TCP addresses for ICE-TCP and for TURN over TCP. `None` takes those of the media plane's
    /// UDP sockets, empty takes none.
    pub listen: Option<Vec<SocketAddr>>,
    /// Connections at once, with those over TLS.
    pub streams: usize,
    /// Connections at once from one IP address, or from one /64 of IPv6. 0 is no limit, for
    /// servers behind a proxy from which everybody comes.
    pub streams_per_ip: usize,
    /// TURN allocations at once.
    pub allocations: usize,
    /// TURN allocations at once of one user. A browser makes one for each of its network
    /// interfaces, each URL it is told, and each of its two connections.
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

/// What the relay has. Taken together, the numbers may be a moment apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// TURN allocations there are now.
    pub allocations: u64,
    /// Connections there are now, whatever is spoken on them.
    pub streams: u64,
    /// Of these, the ones that carry ICE over TCP.
    pub ice_tcp: u64,
    /// Connections that were turned away, because there were as many as there may be.
    pub streams_refused: u64,
}

/// The relay. Cheap to clone; every clone is the same one. It ends with the engine.
#[derive(Clone)]
pub struct Relay(Arc<Inner>);

struct Inner {
    server: Arc<Server>,
    doorway: Doorway,
    tcp: Vec<SocketAddr>,
    streams: Mutex<Streams>,
    most_streams: usize,
    most_streams_per_ip: usize,
    ice_tcp: AtomicU64,
    streams_refused: AtomicU64,
}

#[derive(Default)]
struct Streams {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Relay {
    /// Bytes that the system may hold of a connection before it sends them. What waits there is late
    /// and cannot be dropped any more, so the queue of a slow client is to be the outlet, which drops.
    pub const UNSENT: u32 = 32 * 1024;

    /// Binds the TCP listeners and begins to accept. Within a tokio runtime, which does all of the
    /// relay's work.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(crate) fn start(
        config: RelayConfig,
        secret: &Secret,
        media: &[MediaSocket],
        doorway: Doorway,
    ) -> io::Result<Self> {
        let listeners = match config.listen {
            Some(addresses) => addresses.into_iter().map(listen).collect(),
            None => media
                .iter()
                .map(listen_beside)
                .collect::<io::Result<Vec<_>>>(),
        }?;
        let mut tcp = Vec::new();
        for listener in &listeners {
            let mut told = advertised(listener.local_addr()?, media);
            told.retain(|address| !tcp.contains(address));
            tcp.extend(told);
        }
        let udp = media
            .iter()
            .flat_map(|socket| socket.advertised.iter().copied())
            .collect::<Vec<_>>();
        let quota = Quota {
            all: config.allocations,
            each: config.allocations_per_user,
        };
        let credentials = Credentials::new(secret, now(), unix_seconds());
        let relay = Self(Arc::new(Inner {
            server: Arc::new(Server::new(credentials, udp, quota)),
            doorway,
            tcp,
            streams: Mutex::default(),
            most_streams: config.streams,
            most_streams_per_ip: config.streams_per_ip,
            ice_tcp: AtomicU64::new(0),
            streams_refused: AtomicU64::new(0),
        }));
        for listener in listeners {
            info!(address = %listener.local_addr()?, "media on TCP");
            tokio::spawn(accept(relay.clone(), listener));
        }
        Ok(relay)
    }

    /// Credentials to make allocations with, for a client that is known as `who`: whoever fetches
    /// them twice has no more allocations than who fetches them once.
    pub fn credentials(&self, now: Instant, who: &str) -> IceCredentials {
        self.0.server.credentials.issue(now, who)
    }

    /// The TCP addresses at which clients reach ICE-TCP and TURN: what answers have as passive TCP
    /// candidates.
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.0.tcp
    }

    /// Speaks ICE-TCP or TURN on a connection until it ends. Returns at once if there are too many.
    pub async fn serve<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(seat) = self.0.seat(peer) else {
            return;
        };
        stream::serve(Arc::clone(&self.0), stream, peer).await;
        drop(seat);
    }

    /// Does what [`Relay::serve`] does, in a task of its own.
    pub fn accept<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let relay = self.clone();
        tokio::spawn(async move { relay.serve(stream, peer).await });
    }

    /// Whether what a connection begins with is for [`Relay::serve`]. The first byte of HTTP or of
    /// TLS says that it is not. `None` if more bytes are needed, at most ten.
    pub fn takes(beginning: &[u8]) -> Option<bool> {
        stream::Kind::of(beginning).map(|kind| kind != stream::Kind::Other)
    }

    /// What the relay has now.
    pub fn stats(&self) -> RelayStats {
        let streams = self.0.streams.lock();
        let streams = streams.unwrap_or_else(PoisonError::into_inner).all;
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
    /// A place for a connection, unless there are too many.
    fn seat(self: &Arc<Self>, peer: SocketAddr) -> Option<StreamSeat> {
        let from = network(peer.ip());
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Streams { all, by_ip } = &mut *streams;
        let entry = by_ip.entry(from);
        let theirs = match &entry {
            Entry::Occupied(theirs) => *theirs.get(),
            Entry::Vacant(_) => 0,
        };
        let too_many = self.most_streams_per_ip > 0 && theirs >= self.most_streams_per_ip;
        if *all >= self.most_streams || too_many {
            self.streams_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *all += 1;
        *entry.or_default() += 1;
        Some(StreamSeat {
            relay: Arc::clone(self),
            from,
        })
    }
}

/// The place of a connection among those that there may be.
struct StreamSeat {
    relay: Arc<Inner>,
    from: IpAddr,
}

impl Drop for StreamSeat {
    fn drop(&mut self) {
        let streams = self.relay.streams.lock();
        let mut streams = streams.unwrap_or_else(PoisonError::into_inner);
        streams.all = streams.all.saturating_sub(1);
        if let Some(theirs) = streams.by_ip.get_mut(&self.from) {
            *theirs -= 1;
            if *theirs == 0 {
                streams.by_ip.remove(&self.from);
            }
        }
    }
}

/// The time by the clock that timers here go by, so that tests can move both.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the relay is driven by what really arrives"
)]
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// What one subscriber line has: an IPv4 address, or a /64 of IPv6.
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
            () = relay.0.doorway.gone() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                prepare(&stream);
                relay.accept(stream, peer);
            }
            Err(error) => {
                // Out of descriptors, most likely: connections that end will give some back.
                debug!(%error, "a connection for media could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // A datagram is not worth waiting for the next one.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let _ = socket.set_tcp_notsent_lowat(Relay::UNSENT);
}
