//! The media plane: what people in a meeting send, and who receives it.
//!
//! A client has two connections, one to publish on and one to receive on. It offers each of them
//! in SDP, and [`Media::open`] answers. It then says on the first what it publishes
//! ([`Media::produce`]), and asks on the second for what others publish ([`Media::consume`]). The
//! rest happens on one port for everybody: the client finds the way here with ICE, both agree on
//! keys with DTLS, and its packets are decrypted once and encrypted for each who receives them
//! (docs/spec/media.md 1 to 3).
//!
//! | where | what |
//! |---|---|
//! | `core` | All that is decided. No sockets, no clock: time and datagrams are handed in. |
//! | `wire` | RTP, RTCP, SRTP and codec headers as bytes. |
//! | `sdp` | What clients offer and are answered, and the other way round. |
//! | `relay` | The ways for networks without UDP: ICE over TCP, and TURN. |
//! | `shard` | A thread that owns a socket and the engine of `core` behind it. |
//! | `events` | What happens without being asked for, on its way to who wants to know. |
//! | `sockets` | Which addresses are bound, and which of them clients are told. |

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

use parlor_protocol::{AppId, MeetingId, ParticipantId, PeerId, ProducerId};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use crate::events::Listener;
pub use crate::events::{Event, Events};
pub use crate::relay::{IceCredentials, Relay, RelayConfig, RelayStats};
use crate::sdp::Description;
pub use crate::secret::Secret;
use crate::shard::{Command, Counters};

/// How many bytes of descriptions may wait for a thread. More is [`Error::Full`].
const WAITING_BYTES: usize = 32 * 1024 * 1024;

/// One client in one meeting. Peer ids are chosen by clients and so unique in a meeting only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// The meeting.
    pub meeting: MeetingId,
    /// The client.
    pub peer: PeerId,
}

/// Whose share of the transports a client takes from, as the server knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The app.
    pub app: AppId,
    /// The person, who may have several clients in a meeting.
    pub person: ParticipantId,
    /// Whether the client has been let into the meeting. When all transports are taken, those of
    /// clients that have not go first.
    pub admitted: bool,
}

impl Owner {
    /// Somebody who has no other client.
    fn alone(member: Member) -> Self {
        Self {
            app: AppId::from_uuid(member.meeting.uuid()),
            person: ParticipantId::from_uuid(member.peer.uuid()),
            admitted: true,
        }
    }
}

/// How many transports each may have at a time. 0 is no limit. Every client has two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shares {
    /// One person in one meeting.
    pub person: usize,
    /// One meeting.
    pub meeting: usize,
    /// One app.
    pub app: usize,
}

/// Who has as many transports as they may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The person.
    Person,
    /// The meeting.
    Meeting,
    /// The app.
    App,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person => "this person",
            Self::Meeting => "this meeting",
            Self::App => "this app",
        })
    }
}

/// What a transport is for, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client publishes its microphone, camera and screen on it.
    Publish,
    /// The client receives the others on it.
    Receive,
}

/// Where what is published comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A microphone.
    Microphone,
    /// A camera.
    Camera,
    /// The picture of a screen.
    Screen,
    /// The sound that goes with a screen.
    ScreenAudio,
}

impl Source {
    /// Whether it is heard; otherwise it is seen.
    pub fn is_audio(self) -> bool {
        matches!(self, Self::Microphone | Self::ScreenAudio)
    }

    /// Whether it belongs to a shared screen.
    pub fn is_screen(self) -> bool {
        matches!(self, Self::Screen | Self::ScreenAudio)
    }
}

/// What [`Media::start`] needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The UDP addresses to bind. Port 0 takes a free one. An IPv6 address binds IPv6 only. A host
    /// with several addresses should name them here one by one: on an unspecified address the
    /// system chooses which of them an answer leaves from.
    pub bind: Vec<SocketAddr>,
    /// The addresses that clients are told to come to, at the ports of [`bind`](Self::bind). Empty
    /// takes the bound addresses, and in place of an unspecified one this machine's own: that of
    /// the default route, and the loopback address for browsers on this machine.
    pub public: Vec<IpAddr>,
    /// The ways for networks without UDP. None has none of them.
    pub relay: Option<RelayConfig>,
    /// How many threads there are. A meeting lives on one of them.
    pub threads: usize,
    /// How many transports there may be. Every client has two.
    pub max_transports: usize,
    /// How many of them each may have.
    pub shares: Shares,
    /// How many tracks one client may receive at a time.
    pub max_consumers: usize,
    /// How long a transport may be without a connection, at first and whenever it has lost it,
    /// before it is freed. 60 seconds suit the SDK (docs/spec/media.md 5.7).
    pub connect_timeout: Duration,
    /// What the passwords of ICE and TURN follow from.
    pub secret: Secret,
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

/// A track that a client is going to publish.
#[derive(Debug, Clone)]
pub struct Produce {
    /// The transport, by the id it was opened with.
    pub transport: String,
    /// What the track is called from now on.
    pub producer: ProducerId,
    /// Its line in the offer, by `a=mid`.
    pub mid: String,
    /// Where it comes from.
    pub source: Source,
    /// Nothing of it is forwarded for now.
    pub paused: bool,
    /// The SDP offer that has the line.
    pub offer: String,
}

/// A track that a client wants to receive.
#[derive(Debug, Clone)]
pub struct Want {
    /// The track.
    pub producer: ProducerId,
    /// Who publishes it.
    pub publisher: PeerId,
    /// The rid of the layer wanted, of a camera that sends several.
    pub preferred_rid: Option<String>,
}

/// What came of a wish to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// For each that was wanted, in that order, its `a=mid`; nothing where the track is gone.
    pub mids: Vec<Option<String>>,
    /// The SDP offer, if there is anything to agree on. Packets flow after [`Media::answered`].
    pub offer: Option<String>,
}

/// Why the media plane did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The description is not one that can be answered. The text says why, in words for the client.
    #[error("the offer cannot be answered: {0}")]
    BadOffer(String),
    /// As many transports as there may be, or as many offers waiting. Worth another try later.
    #[error("the media plane is full")]
    Full,
    /// As many transports as one person, meeting or app may have.
    #[error("{0} has as many media connections as it may have")]
    Share(Share),
    /// The media plane has stopped, or a later order was done first.
    #[error("the media plane has stopped, or the transport is not wanted any more")]
    Stopped,
    /// The member has no such transport any more.
    #[error("there is no such transport")]
    NoTransport,
    /// The member publishes nothing of that name.
    #[error("there is no such producer")]
    NoProducer,
}

/// What the media plane has done so far. Taken together, the numbers may be a datagram apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transports there are now.
    pub open_transports: u64,
    /// Of these, the ones that are connected.
    pub connected_transports: u64,
    /// Tracks that are published now.
    pub producers: u64,
    /// Tracks that are received now, once for each who receives them.
    pub consumers: u64,
    /// Datagrams that arrived, with those that were dropped.
    pub datagrams_in: u64,
    /// Datagrams that were sent.
    pub datagrams_out: u64,
    /// Datagrams that belonged to nobody, that were not understood, or that the system would not
    /// send.
    pub datagrams_dropped: u64,
    /// How often a thread panicked. Each time the transports of its meetings were freed.
    pub panics: u64,
    /// Transports that were refused because a person, a meeting or an app had its share, and because
    /// all were taken.
    pub refused: [u64; 4],
}

/// What is known of one client's media.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerReport {
    /// The transport that it publishes on.
    pub publish: Option<TransportReport>,
    /// The transport that it receives on.
    pub receive: Option<TransportReport>,
}

/// What is known of one transport.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TransportReport {
    /// Whether it is connected.
    pub connected: bool,
    /// How the client comes here: `udp`, `tcp` or `relay`.
    pub protocol: &'static str,
    /// Where the client comes from, as far as the server sees.
    pub remote: Option<SocketAddr>,
    /// Round trip, milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Bits per second the path to the client is thought to bear. Of a transport to receive on.
    pub available_bps: Option<u64>,
    /// Bits per second that have arrived lately. Of a transport to receive on.
    pub arrived_bps: Option<u64>,
    /// The part of the packets that was lost in the last second or so, from 0 to 1. Of a transport
    /// to receive on.
    pub loss: Option<f64>,
    /// Its tracks.
    pub tracks: Vec<TrackReport>,
}

/// What is known of a track on one transport.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackReport {
    /// The track.
    pub producer: ProducerId,
    /// Where it comes from.
    pub source: Source,
    /// The `a=mid` of its line.
    pub mid: String,
    /// The layer that is sent, of a camera with several; of a track that is published, the best.
    pub layer: Option<String>,
    /// Bits per second.
    pub bps: u64,
    /// Packets so far.
    pub packets: u64,
    /// Bytes of them, without headers.
    pub bytes: u64,
    /// Packets lost on the way, whether or not they were sent again.
    pub lost: u64,
    /// Packets that came because they were asked for again. Of a track that is published.
    pub repaired: u64,
    /// Jitter, milliseconds.
    pub jitter_ms: f64,
}

/// The media plane. Cheap to clone; every clone is the same one.
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
    /// Binds the sockets and starts the threads, within a tokio runtime, which does the work of the
    /// relay. They end after [`Media::stop`], or when the last
    /// [`Media`] is gone; the handle waits for all of them.
    ///
    /// # Errors
    /// An address cannot be bound, or no client could ever come to any of them.
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

    /// Answers an offer with a new transport. It takes the place of the member's older one of
    /// that direction, which is freed with all its tracks; a bad offer leaves the older one as it
    /// is.
    ///
    /// The offer is read where the answer is awaited; who calls is not kept. Orders count in the
    /// order of the calls all the same: a [`Media::close`] or another `open` of that direction
    /// after this call comes after it, and if it is done first, this one is [`Error::Stopped`]. If
    /// nobody waits for the answer any more when its turn comes, nothing is opened.
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
            let _waits = reserve(&waiting, &offer)?;
            let open = |is_last| {
                ask(&shard, &offer, move |offer, reply| Command::Open {
                    owner,
                    member,
                    direction,
                    claim,
                    is_last,
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
                let for_whom = (owner, member);
                let is_full = opened == Err(Error::Full);
                let command = Command::Evict {
                    for_whom,
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

    /// The client has been let into the meeting.
    pub fn admit(&self, member: Member) {
        self.tell(member.meeting, Command::Admit { member });
    }

    /// Answers an offer with a new track in it.
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
            asked(&shard, &waiting, &offer, |offer, reply| Command::Produce {
                member,
                produce: Box::new(produce),
                offer,
                reply,
            })
            .await
        }
    }

    /// Ends a track. With an offer, in which the client says the same, there is an answer to it.
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
        // What must end does so whether or not anybody waits for it, and whatever the offer says.
        let closed = shard.send(Command::Drop { member, producer });
        async move {
            closed.map_err(|_| Error::Stopped)?;
            let Some(offer) = offer else { return Ok(None) };
            asked(&shard, &waiting, &offer, |offer, reply| Command::Reoffer {
                member,
                offer,
                reply,
            })
            .await
            .map(Some)
        }
    }

    /// Forwards nothing of a track for now, or goes on with it.
    pub fn pause(&self, member: Member, producer: ProducerId, paused: bool) {
        self.tell(
            member.meeting,
            Command::Pause {
                member,
                producer,
                paused,
            },
        );
    }

    /// Takes tracks of others into an offer to the client.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn consume(
        &self,
        member: Member,
        transport: String,
        wanted: Vec<Want>,
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

    /// The client's answer to the last offer of [`Media::consume`]: packets flow from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn answered(
        &self,
        member: Member,
        transport: String,
        answer: String,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (shard, waiting) = (self.shard(member.meeting), Arc::clone(&self.waiting));
        async move {
            asked(&shard, &waiting, &answer, |answer, reply| {
                Command::Answered {
                    member,
                    transport,
                    answer,
                    reply,
                }
            })
            .await
        }
    }

    /// Ends what a client receives on these lines, by `a=mid`, as its offer says too.
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
            asked(&shard, &waiting, &offer, |offer, reply| {
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

    /// Which layer a client would like on a line: pairs of `a=mid` and rid.
    pub fn prefer(&self, member: Member, wishes: Vec<(String, String)>) {
        self.tell(member.meeting, Command::Prefer { member, wishes });
    }

    /// The client may not receive these any more. Nothing of them is sent to it from now on.
    pub fn revoke(&self, member: Member, producers: Vec<ProducerId>) {
        self.tell(member.meeting, Command::Revoke { member, producers });
    }

    /// Whose picture comes before those of others where not all of them fit.
    pub fn pin(&self, meeting: MeetingId, peer: Option<PeerId>) {
        self.tell(meeting, Command::Pin { meeting, peer });
    }

    /// Frees everything of a member. Not an error if there is nothing. A client that is `away` does not
    /// know: when it is back and checks whether what it had is still there, it is told, so that it
    /// makes it anew.
    pub fn close(&self, member: Member, away: bool) {
        self.tell(member.meeting, Command::Close { member, away });
    }

    /// What happens in a meeting from now on, until [`Events`] is dropped.
    pub fn listen(&self, meeting: MeetingId) -> Events {
        let (listener, events) = Listener::new();
        self.tell(meeting, Command::Listen { meeting, listener });
        events
    }

    /// What is known of a client's media; nothing if it has none, or if the media plane has stopped.
    pub fn report(
        &self,
        member: Member,
    ) -> impl Future<Output = Option<PeerReport>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.tell(member.meeting, Command::Report { member, reply });
        async move { answer.await.ok().flatten() }
    }

    /// The ways for networks without UDP.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// The addresses that are bound, in the order of [`Config::bind`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.local_addrs.to_vec()
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for counters in &*self.counters {
            sum.add(&counters.read());
        }
        sum
    }

    /// Stops the threads after the orders before this one, and frees every transport. Join the
    /// handle of [`Media::start`] to wait for it.
    pub fn stop(self) {
        for shard in &*self.shards {
            // It may have stopped already.
            let _ = shard.send(Command::Stop);
        }
    }

    /// The thread that a meeting lives on.
    fn shard(&self, meeting: MeetingId) -> mpsc::UnboundedSender<Command> {
        let spread = meeting.uuid().as_u128();
        let shards = self.shards.len() as u128;
        let index = usize::try_from(spread % shards).expect("it is less than their number");
        self.shards[index].clone()
    }

    fn tell(&self, meeting: MeetingId, command: Command) {
        // After a stop there is nothing left to do it to.
        let _ = self.shard(meeting).send(command);
    }
}

/// Reads a description here, and has the thread answer it.
async fn asked<T>(
    shard: &mpsc::UnboundedSender<Command>,
    waiting: &Arc<Semaphore>,
    text: &str,
    command: impl FnOnce(Description, oneshot::Sender<Result<T, Error>>) -> Command,
) -> Result<T, Error> {
    let _waits = reserve(waiting, text)?;
    ask(shard, text, command).await
}

/// Room for a description that waits for its answer.
fn reserve<'w>(waiting: &'w Semaphore, text: &str) -> Result<SemaphorePermit<'w>, Error> {
    // What is too long to be read takes no room from the others.
    let bytes = u32::try_from(text.len().min(sdp::MAX_BYTES)).unwrap_or(u32::MAX);
    waiting.try_acquire_many(bytes).map_err(|_| Error::Full)
}

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
