//! The media plane: a selective forwarding unit (SFU).
//!
//! Each client has two transports, one to publish on and one to receive on. The client sends an SDP
//! offer for each, and [`Media::open`] answers it. It then publishes tracks on the first
//! ([`Media::produce`]) and requests the tracks of other clients on the second
//! ([`Media::consume`]). All media shares one port: a client connects with ICE, keys are negotiated
//! with DTLS, and each packet is decrypted once and encrypted again for every subscriber
//! (docs/spec/media.md 1 to 3).
//!
//! | module | content |
//! |---|---|
//! | `engine` | The state machine, without sockets and clock: time and datagrams are passed in. |
//! | `wire` | Wire formats: RTP, RTCP, SRTP and codec headers. |
//! | `sdp` | SDP parsing and offer/answer negotiation. |
//! | `relay` | Fallbacks for networks that block UDP: ICE over TCP, and TURN. |
//! | `shard` | The threads, each of which owns sockets and an engine. |
//! | `events` | Notifications about a meeting. |
//! | `client` | A WebRTC client for tests. |
//! | `secret` | Derivation of ICE and TURN passwords. |
//! | `bench` | The engine without sockets, for benchmarks. |
//! | `sockets` | The addresses to bind and the addresses to advertise to clients. |

#[doc(hidden)]
pub mod bench;
#[cfg(test)]
mod client;
mod engine;
mod events;
mod relay;
pub mod sdp;
mod secret;
mod shard;
mod sockets;
pub mod wire;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use parlor_protocol::Source;
use parlor_protocol::{AppId, MeetingId, ParticipantId, PeerId, ProducerId};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use crate::events::Listener;
pub use crate::events::{Event, Events};
pub use crate::relay::{IceCredentials, Relay, RelayConfig, RelayStats};
use crate::sdp::Description;
pub use crate::secret::Secret;
use crate::shard::{Command, Counters};

/// Maximum number of bytes of session descriptions that are queued for the threads. Beyond it,
/// calls fail with [`Error::Full`].
const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// A client in a meeting. Clients choose their peer ids, so a peer id is unique only within its
/// meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// Id of the meeting.
    pub meeting: MeetingId,
    /// Id of the client.
    pub peer: PeerId,
}

/// The app and participant whose quotas a transport counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Id of the app that owns the meeting.
    pub app: AppId,
    /// Id of the participant, who may have several clients in a meeting.
    pub participant: ParticipantId,
    /// Whether the client has been admitted to the meeting. When all transports are in use, those
    /// of clients that are not admitted are evicted first.
    pub admitted: bool,
}

impl Owner {
    /// An owner of this client only, which shares its quotas with no other client.
    fn alone(member: Member) -> Self {
        Self {
            app: AppId::from_uuid(member.meeting.uuid()),
            participant: ParticipantId::from_uuid(member.peer.uuid()),
            admitted: true,
        }
    }
}

/// Maximum numbers of concurrent transports. Every client has two. 0 means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shares {
    /// Limit for one participant in one meeting.
    pub participant: usize,
    /// Limit for one meeting.
    pub meeting: usize,
    /// Limit for one app.
    pub app: usize,
}

/// The kind of quota that is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The quota of a participant.
    Participant,
    /// The quota of a meeting.
    Meeting,
    /// The quota of an app.
    App,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Participant => "this participant",
            Self::Meeting => "this meeting",
            Self::App => "this app",
        })
    }
}

/// The direction of media on a transport, as seen by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client publishes its microphone, camera and screen.
    Publish,
    /// The client receives the tracks of other clients.
    Receive,
}

/// Configuration of [`Media::start`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The UDP addresses to bind. Port 0 selects a free port. An IPv6 address accepts IPv6 only. A
    /// host with several addresses should list each of them: on an unspecified address the system
    /// chooses the source address of outgoing datagrams.
    pub bind: Vec<SocketAddr>,
    /// The addresses to advertise to clients, with the ports of [`bind`](Self::bind). If empty, the
    /// bound addresses are advertised, and an unspecified one is replaced by the addresses of this
    /// machine: that of the default route, and the loopback address for local browsers.
    pub public: Vec<IpAddr>,
    /// Configuration of ICE over TCP and TURN. `None` disables both.
    pub relay: Option<RelayConfig>,
    /// Number of threads. Each meeting is assigned to one of them.
    pub threads: usize,
    /// Maximum number of transports. Every client has two.
    pub max_transports: usize,
    /// Maximum number of transports of each participant, meeting and app.
    pub shares: Shares,
    /// Maximum number of tracks that one client may receive at a time.
    pub max_consumers: usize,
    /// How long a transport may stay disconnected, initially or after it has lost its connection,
    /// before it is freed. 60 seconds suit the SDK (docs/spec/media.md 5.7).
    pub connect_timeout: Duration,
    /// The secret from which ICE and TURN passwords are derived.
    pub secret: Secret,
}

/// A new transport that waits for its client to connect.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The id of the transport. Unguessable, but not a secret.
    pub transport_id: String,
    /// The SDP answer. It contains the transport's ICE password, so only the client may see it.
    pub answer: String,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("transport_id", &self.transport_id)
            .finish_non_exhaustive()
    }
}

/// A request to publish a track.
#[derive(Debug, Clone)]
pub struct Produce {
    /// Id of the transport, from [`Opened::transport_id`].
    pub transport: String,
    /// Id of the new producer.
    pub producer: ProducerId,
    /// The `a=mid` of the track's media line in the offer.
    pub mid: String,
    /// The source of the track.
    pub source: Source,
    /// Whether the producer starts paused, in which case none of its packets are forwarded.
    pub paused: bool,
    /// The SDP offer that contains the media line.
    pub offer: String,
}

/// A request to receive a track.
#[derive(Debug, Clone)]
pub struct ConsumeRequest {
    /// Id of the producer.
    pub producer: ProducerId,
    /// Id of the publisher.
    pub publisher: PeerId,
    /// The rid of the preferred simulcast layer, for a camera with several.
    pub preferred_rid: Option<String>,
}

/// The outcome of [`Media::consume`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// The `a=mid` of each requested track, in the order of the requests; `None` where the track no
    /// longer exists.
    pub mids: Vec<Option<String>>,
    /// The SDP offer, if anything needs to be negotiated. Packets flow after
    /// [`Media::apply_answer`].
    pub offer: Option<String>,
}

/// The reason why a request to the media plane failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The description cannot be answered. The text is the reason, worded for the client.
    #[error("the offer cannot be answered: {0}")]
    BadOffer(String),
    /// All transports are in use, or too many descriptions are queued. The client may retry later.
    #[error("the media plane is full")]
    Full,
    /// A participant, meeting or app has reached its maximum number of transports.
    #[error("{0} has reached its limit of media connections")]
    Share(Share),
    /// The media plane has stopped, or a later request superseded this one.
    #[error("the media plane has stopped, or a later request replaced this one")]
    Stopped,
    /// The member has no such transport, or no longer has it.
    #[error("there is no such transport")]
    NoTransport,
    /// The member has no such producer.
    #[error("there is no such producer")]
    NoProducer,
}

/// Statistics of the media plane. Counters are not read atomically as a whole, so they may differ
/// by a datagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Current number of transports.
    pub open_transports: u64,
    /// Current number of connected transports.
    pub connected_transports: u64,
    /// Current number of published tracks.
    pub producers: u64,
    /// Current number of received tracks, counted once per subscriber.
    pub consumers: u64,
    /// Datagrams received, including dropped ones.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams dropped because no transport matched, because they could not be parsed, or because
    /// the system did not send them.
    pub datagrams_dropped: u64,
    /// Panics of threads. Each panic frees the transports of the meetings on that thread.
    pub panics: u64,
    /// Transports rejected, in this order, because of the limit of a participant, of a meeting or
    /// of an app, or because all transports were in use.
    pub refused: [u64; 4],
}

/// A report on one client's media.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerReport {
    /// The transport that the client publishes on.
    pub publish: Option<TransportReport>,
    /// The transport that the client receives on.
    pub receive: Option<TransportReport>,
}

/// A report on one transport.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TransportReport {
    /// Whether the transport is connected.
    pub connected: bool,
    /// The network path to the client: `udp`, `tcp` or `relay`.
    pub protocol: &'static str,
    /// The client's address, as seen by the server.
    pub remote: Option<SocketAddr>,
    /// Round-trip time, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Bandwidth estimate of the path to the client, in bits per second. Receive transports only.
    pub available_bps: Option<u64>,
    /// Rate at which media recently arrived at the client, in bits per second. Receive transports
    /// only.
    pub arrived_bps: Option<u64>,
    /// Fraction of packets lost during roughly the last second, from 0 to 1. Receive transports
    /// only.
    pub loss: Option<f64>,
    /// The tracks of the transport.
    pub tracks: Vec<TrackReport>,
}

/// A report on one track of a transport.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackReport {
    /// Id of the producer.
    pub producer: ProducerId,
    /// The source of the track.
    pub source: Source,
    /// The `a=mid` of the track's media line.
    pub mid: String,
    /// The simulcast layer that is sent to a subscriber; for a published track, the highest layer.
    pub layer: Option<String>,
    /// Bit rate, in bits per second.
    pub bps: u64,
    /// Total number of packets.
    pub packets: u64,
    /// Total number of payload bytes.
    pub bytes: u64,
    /// Packets lost on the network, whether or not they were retransmitted.
    pub lost: u64,
    /// Packets recovered by retransmission. Published tracks only.
    pub repaired: u64,
    /// Jitter, in milliseconds.
    pub jitter_ms: f64,
}

/// A handle to the media plane. It is cheap to clone; all clones refer to the same media plane.
#[derive(Clone)]
pub struct Media {
    shards: Arc<[mpsc::UnboundedSender<Command>]>,
    waiting: Arc<Semaphore>,
    claims: Arc<AtomicU64>,
    counters: Arc<[Arc<Counters>]>,
    local_addrs: Arc<[SocketAddr]>,
    relay: Option<Relay>,
}

impl Media {
    /// Binds the sockets and starts the threads. Must be called within a tokio runtime, which runs
    /// the relay. The threads end after [`Media::stop`], or when the last [`Media`] is dropped; the
    /// returned handle joins all of them.
    ///
    /// # Errors
    /// An address cannot be bound, or clients can reach none of the addresses.
    pub fn start(config: &Config) -> io::Result<(Self, JoinHandle<()>)> {
        let started = shard::start(config)?;
        let media = Self {
            shards: started.commands.into(),
            waiting: Arc::new(Semaphore::new(WAITING_BYTES)),
            claims: Arc::default(),
            counters: started.counters.into(),
            local_addrs: started.local_addrs.into(),
            relay: started.relay,
        };
        Ok((media, started.thread))
    }

    /// Opens a transport and answers its offer. The new transport replaces the member's previous
    /// one of the same direction, which is freed with all its tracks. A bad offer leaves the
    /// previous transport unchanged.
    ///
    /// The offer is parsed when the returned future is polled, not in this call. Requests still
    /// take effect in call order: a later [`Media::close`] or `open` of the same direction
    /// supersedes this call, which then fails with [`Error::Stopped`] if it has not completed. If
    /// the future is dropped before the request is processed, no transport is opened.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        &self,
        owner: Owner,
        member: Member,
        direction: Direction,
        offer: String,
    ) -> impl Future<Output = Result<Opened, Error>> + Send + use<> {
        let claim = self.claims.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard(member.meeting);
        let claimed = shard.send(Command::Claim {
            member,
            direction,
            claim,
        });
        let waiting = Arc::clone(&self.waiting);
        let others = self
            .shards
            .iter()
            .filter(|other| !other.same_channel(&shard));
        let others: Vec<_> = others.cloned().collect();
        async move {
            claimed.map_err(|_| Error::Stopped)?;
            let _permit = reserve(&waiting, &offer)?;
            let open = |is_final_attempt| {
                ask(&shard, &offer, move |offer, reply| Command::Open {
                    owner,
                    member,
                    direction,
                    claim,
                    is_final_attempt,
                    offer,
                    reply,
                })
            };
            let opened = open(others.is_empty()).await;
            let Err(Error::Full | Error::Share(Share::App)) = opened else {
                return opened;
            };
            for other in &others {
                let (reply, answer) = oneshot::channel();
                let requester = (owner, member);
                let is_full = opened == Err(Error::Full);
                let command = Command::Evict {
                    requester,
                    is_full,
                    reply,
                };
                if other.send(command).is_ok() && answer.await == Ok(true) {
                    break;
                }
            }
            open(true).await
        }
    }

    /// Marks the client as admitted to the meeting.
    pub fn admit(&self, member: Member) {
        self.send(member.meeting, Command::Admit { member });
    }

    /// Publishes a track and answers the offer that contains it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn produce(
        &self,
        member: Member,
        mut produce: Produce,
    ) -> impl Future<Output = Result<String, Error>> + Send + use<> {
        let (shard, waiting) = (self.shard(member.meeting), Arc::clone(&self.waiting));
        async move {
            let offer = std::mem::take(&mut produce.offer);
            ask_queued(&shard, &waiting, &offer, |offer, reply| Command::Produce {
                member,
                produce: Box::new(produce),
                offer,
                reply,
            })
            .await
        }
    }

    /// Closes a producer. If the client sent an offer for this, answers it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn close_producer(
        &self,
        member: Member,
        producer: ProducerId,
        offer: Option<String>,
    ) -> impl Future<Output = Result<Option<String>, Error>> + Send + use<> {
        let (shard, waiting) = (self.shard(member.meeting), Arc::clone(&self.waiting));
        // Close it even if the future is dropped or the offer is invalid.
        let closed = shard.send(Command::CloseProducer { member, producer });
        async move {
            closed.map_err(|_| Error::Stopped)?;
            let Some(offer) = offer else { return Ok(None) };
            ask_queued(&shard, &waiting, &offer, |offer, reply| Command::Reoffer {
                member,
                offer,
                reply,
            })
            .await
            .map(Some)
        }
    }

    /// Pauses or resumes forwarding of a producer.
    pub fn pause(&self, member: Member, producer: ProducerId, paused: bool) {
        self.send(
            member.meeting,
            Command::Pause {
                member,
                producer,
                paused,
            },
        );
    }

    /// Adds tracks of other clients to a transport and offers them to the client.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn consume(
        &self,
        member: Member,
        transport: String,
        wanted: Vec<ConsumeRequest>,
    ) -> impl Future<Output = Result<Consumed, Error>> + Send + use<> {
        let shard = self.shard(member.meeting);
        async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Consume {
                member,
                transport,
                wanted,
                reply,
            };
            shard.send(command).map_err(|_| Error::Stopped)?;
            answer.await.unwrap_or(Err(Error::Stopped))
        }
    }

    /// Applies the client's answer to the last offer of [`Media::consume`]. Packets flow from then
    /// on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn apply_answer(
        &self,
        member: Member,
        transport: String,
        answer: String,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (shard, waiting) = (self.shard(member.meeting), Arc::clone(&self.waiting));
        async move {
            ask_queued(&shard, &waiting, &answer, |answer, reply| {
                Command::ApplyAnswer {
                    member,
                    transport,
                    answer,
                    reply,
                }
            })
            .await
        }
    }

    /// Closes the client's consumers on the media lines with these `a=mid`, and answers the offer
    /// in which the client closes them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn close_consumers(
        &self,
        member: Member,
        transport: String,
        mids: Vec<String>,
        offer: String,
    ) -> impl Future<Output = Result<String, Error>> + Send + use<> {
        let (shard, waiting) = (self.shard(member.meeting), Arc::clone(&self.waiting));
        async move {
            ask_queued(&shard, &waiting, &offer, |offer, reply| {
                Command::CloseConsumers {
                    member,
                    transport,
                    mids,
                    offer,
                    reply,
                }
            })
            .await
        }
    }

    /// Sets the client's preferred simulcast layers, as pairs of `a=mid` and rid.
    pub fn prefer(&self, member: Member, layers: Vec<(String, String)>) {
        self.send(member.meeting, Command::Prefer { member, layers });
    }

    /// Stops sending these producers to the client, which may no longer receive them.
    pub fn revoke(&self, member: Member, producers: Vec<ProducerId>) {
        self.send(member.meeting, Command::Revoke { member, producers });
    }

    /// Pins a peer: its video has priority over the video of others when bandwidth is scarce.
    pub fn pin(&self, meeting: MeetingId, peer: Option<PeerId>) {
        self.send(meeting, Command::Pin { meeting, peer });
    }

    /// Frees all transports of a member, if it has any. With `client_offline`, the client has lost
    /// its signalling connection and does not know: its next connectivity check is rejected, so
    /// that it opens new transports.
    pub fn close(&self, member: Member, client_offline: bool) {
        self.send(
            member.meeting,
            Command::Close {
                member,
                client_offline,
            },
        );
    }

    /// Subscribes to the events of a meeting, from now until [`Events`] is dropped.
    pub fn listen(&self, meeting: MeetingId) -> Events {
        let (listener, events) = Listener::new();
        self.send(meeting, Command::Listen { meeting, listener });
        events
    }

    /// Returns a report on a client's media, or `None` if it has no transports or the media plane
    /// has stopped.
    pub fn report(
        &self,
        member: Member,
    ) -> impl Future<Output = Option<PeerReport>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(member.meeting, Command::Report { member, reply });
        async move { answer.await.ok().flatten() }
    }

    /// Returns the handle to ICE over TCP and TURN, if they are enabled.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Returns the bound addresses, in the order of [`Config::bind`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.local_addrs.to_vec()
    }

    /// Returns the statistics of all threads combined.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for counters in &*self.counters {
            sum.add(&counters.read());
        }
        sum
    }

    /// Stops the threads once they have processed the requests before this one, and frees all
    /// transports. Join the handle from [`Media::start`] to wait for completion.
    pub fn stop(self) {
        for shard in &*self.shards {
            // The thread may have stopped already.
            let _ = shard.send(Command::Stop);
        }
    }

    /// Returns the command queue of the thread that a meeting is assigned to.
    fn shard(&self, meeting: MeetingId) -> mpsc::UnboundedSender<Command> {
        let key = meeting.uuid().as_u128();
        let shards = self.shards.len() as u128;
        let index = usize::try_from(key % shards).expect("the remainder is less than the count");
        self.shards[index].clone()
    }

    fn send(&self, meeting: MeetingId, command: Command) {
        // Fails only after the media plane has stopped, when there is nothing left to change.
        let _ = self.shard(meeting).send(command);
    }
}

/// Like [`ask`], but counts the description against the limit of [`WAITING_BYTES`].
async fn ask_queued<T>(
    shard: &mpsc::UnboundedSender<Command>,
    waiting: &Arc<Semaphore>,
    text: &str,
    command: impl FnOnce(Description, oneshot::Sender<Result<T, Error>>) -> Command,
) -> Result<T, Error> {
    let _permit = reserve(waiting, text)?;
    ask(shard, text, command).await
}

/// Reserves queue space for a description.
fn reserve<'w>(waiting: &'w Semaphore, text: &str) -> Result<SemaphorePermit<'w>, Error> {
    // A description that is too long is rejected unread, so it needs no more than the limit.
    let bytes = u32::try_from(text.len().min(sdp::MAX_BYTES)).unwrap_or(u32::MAX);
    waiting.try_acquire_many(bytes).map_err(|_| Error::Full)
}

/// Parses a description on the caller's task, sends the command to the thread and awaits its reply.
async fn ask<T>(
    shard: &mpsc::UnboundedSender<Command>,
    text: &str,
    command: impl FnOnce(Description, oneshot::Sender<Result<T, Error>>) -> Command,
) -> Result<T, Error> {
    let description =
        Description::parse(text).map_err(|error| Error::BadOffer(error.to_string()))?;
    let (reply, answer) = oneshot::channel();
    shard
        .send(command(description, reply))
        .map_err(|_| Error::Stopped)?;
    answer.await.unwrap_or(Err(Error::Stopped))
}

impl Stats {
    fn add(&mut self, other: &Self) {
        self.open_transports += other.open_transports;
        self.connected_transports += other.connected_transports;
        self.producers += other.producers;
        self.consumers += other.consumers;
        self.datagrams_in += other.datagrams_in;
        self.datagrams_out += other.datagrams_out;
        self.datagrams_dropped += other.datagrams_dropped;
        self.panics += other.panics;
        for (own, more) in self.refused.iter_mut().zip(other.refused) {
            *own += more;
        }
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("local_addrs", &self.local_addrs)
            .finish_non_exhaustive()
    }
}
