//! The media plane: the transports of the clients in a meeting.
//!
//! A client has two connections, one to publish on and one to receive on. It offers each of them
//! in SDP, and [`Media::open`] answers. The rest happens on UDP, on one port for everybody: the
//! client finds the way here with ICE, then both agree on keys with DTLS (contract: media 1.3,
//! 1.4, 7). Forwarding is not built yet.
//!
//! | where | what |
//! |---|---|
//! | `core` | All that is decided. No sockets, no clock: time and datagrams are handed in. |
//! | `core/transport` | One connection, driven through str0m. |
//! | `shard` | The thread that owns the sockets and the engine of `core` behind them. |
//! | `sockets` | Which addresses are bound, and which of them clients are told. |

#[cfg(test)]
mod client;
mod core;
mod shard;
mod sockets;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parlor_protocol::{MeetingId, PeerId};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::core::Offer;
use crate::shard::{Command, Counters};

/// How many bytes of offers may wait for the thread. More is [`Error::Full`].
const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// One client in one meeting. Peer ids are chosen by clients and so unique in a meeting only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// The meeting.
    pub meeting: MeetingId,
    /// The client.
    pub peer: PeerId,
}

/// What a transport is for, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client publishes its microphone, camera and screen on it.
    Publish,
    /// The client receives the others on it.
    Receive,
}

/// What [`Media::start`] needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The UDP addresses to bind, one socket each. Port 0 takes a free one. An IPv6 address binds
    /// IPv6 only. A host with several addresses should name them here one by one: on an
    /// unspecified address the system chooses which of them an answer leaves from.
    pub bind: Vec<SocketAddr>,
    /// The addresses that clients are told to come to, at the ports of [`bind`](Self::bind). Empty
    /// takes the bound addresses, and in place of an unspecified one this machine's own: that of
    /// the default route, and the loopback address for browsers on this machine.
    pub public: Vec<IpAddr>,
    /// How many transports there may be. Every client has two.
    pub max_transports: usize,
    /// How long a transport may be without a connection, at first and whenever it has lost it,
    /// before it is freed. The contract suggests 60 seconds (contract: media 5).
    pub connect_timeout: Duration,
}

/// A transport that waits for its client.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The id of the transport. Unguessable, but not a secret.
    pub transport_id: String,
    /// The SDP answer. It holds the transport's ICE password, so it is for the client only.
    pub answer: String,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("transport_id", &self.transport_id)
            .finish_non_exhaustive()
    }
}

/// Why there is no transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The offer is not one that can be answered. The text says why, in words for the client.
    #[error("the offer cannot be answered: {0}")]
    BadOffer(String),
    /// As many transports as there may be, or as many offers waiting. Worth another try later.
    #[error("the media plane is full")]
    Full,
    /// The media plane has stopped, or a later order was done first.
    #[error("the media plane has stopped, or the transport is not wanted any more")]
    Stopped,
}

/// What the media plane has done so far. Taken together, the numbers may be a datagram apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transports there are now.
    pub open_transports: u64,
    /// Of these, the ones that are connected.
    pub connected_transports: u64,
    /// Datagrams that arrived, with those that were dropped.
    pub datagrams_in: u64,
    /// Datagrams that were sent.
    pub datagrams_out: u64,
    /// Datagrams that belonged to nobody, that were not understood, or that the system would not
    /// send.
    pub datagrams_dropped: u64,
}

/// The media plane. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Media {
    commands: mpsc::UnboundedSender<Command>,
    waiting: Arc<Semaphore>,
    claims: Arc<AtomicU64>,
    counters: Arc<Counters>,
    local_addrs: Arc<[SocketAddr]>,
}

impl Media {
    /// Binds the sockets and starts the thread. The thread ends after [`Media::stop`], or when the
    /// last [`Media`] is gone.
    ///
    /// # Errors
    /// An address cannot be bound, or no client could ever come to any of them.
    pub fn start(config: Config) -> io::Result<(Self, JoinHandle<()>)> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let (local_addrs, thread) = shard::start(config, inbox, Arc::clone(&counters))?;
        let media = Self {
            commands,
            waiting: Arc::new(Semaphore::new(WAITING_BYTES)),
            claims: Arc::default(),
            counters,
            local_addrs: local_addrs.into(),
        };
        Ok((media, thread))
    }

    /// Answers an offer with a new transport. It takes the place of the member's older one of
    /// that direction, which is freed; a bad offer leaves the older one as it is.
    ///
    /// The offer is read where the answer is awaited, which takes that thread about half a
    /// millisecond; who calls is not kept. Orders count in the order of the calls all the same: a
    /// [`Media::close`] or another `open` of that direction after this call comes after it, and if
    /// it is done first, this one is [`Error::Stopped`]. If nobody waits for the answer any more
    /// when its turn comes, nothing is opened.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        &self,
        member: Member,
        direction: Direction,
        offer: String,
    ) -> impl Future<Output = Result<Opened, Error>> + Send + use<> {
        let claim = self.claims.fetch_add(1, Ordering::Relaxed);
        let claimed = self.commands.send(Command::Claim {
            member,
            direction,
            claim,
        });
        let (commands, waiting) = (self.commands.clone(), Arc::clone(&self.waiting));
        async move {
            claimed.map_err(|_| Error::Stopped)?;
            let bytes = u32::try_from(offer.len()).unwrap_or(u32::MAX);
            let waits = waiting
                .try_acquire_many_owned(bytes)
                .map_err(|_| Error::Full)?;
            let offer = Offer::read(&offer).map_err(Error::BadOffer)?;
            let (reply, answer) = oneshot::channel();
            let command = Command::Open {
                member,
                direction,
                claim,
                offer,
                reply,
                waits,
            };
            commands.send(command).map_err(|_| Error::Stopped)?;
            answer.await.unwrap_or(Err(Error::Stopped))
        }
    }

    /// Frees everything of a member. Not an error if there is nothing.
    pub fn close(&self, member: Member) {
        // After a stop there is nothing left to free.
        let _ = self.commands.send(Command::Close(member));
    }

    /// The addresses that are bound, in the order of [`Config::bind`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.local_addrs.to_vec()
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Stops the thread after the orders before this one, and frees every transport. Join the
    /// handle of [`Media::start`] to wait for it.
    pub fn stop(self) {
        // It may have stopped already.
        let _ = self.commands.send(Command::Stop);
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("local_addrs", &self.local_addrs)
            .finish_non_exhaustive()
    }
}
