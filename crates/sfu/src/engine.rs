//! The media plane's state machine, without sockets, a clock or a source of randomness.
//!
//! The driver of the [`Engine`] passes in the time, datagrams and commands, and takes out the
//! datagrams to send and the time of the next timeout. Nothing on the packet path scans all
//! transports: a datagram is matched to its transport by the ICE username fragment in it or by its
//! route, a packet to its track by its SSRC, and timers are kept in an ordered set.
//!
//! | module | contents |
//! |---|---|
//! | `commands`, `reports` | Commands from the rest of the server: transports, producers, consumers. |
//! | `forward`, `packet` | The path of a packet from its publisher to its subscribers. |
//! | `transport`, `ice` | One connection: ICE, DTLS, the SRTP keys and the datagrams to send. |
//! | `publish`, `reception`, `arrivals` | The publisher's side: streams, loss and feedback. |
//! | `track`, `history`, `key_frame` | A track with its layers, and the last packets of each layer. |
//! | `subscribe`, `rtp_munger` | The subscriber's side: merging layers into one stream, and encryption. |
//! | `outbox` | Datagrams that wait to be sent. |
//! | `layer_control`, `bandwidth`, `allocate` | The bandwidth estimate, and the layers that fit into it. |
//! | `speaking` | Active speaker detection. |
//! | `shares`, `rate_limit` | Limits per participant, meeting, app and stream. |
//! | `reset` | Recovery from a panic. |

mod allocate;
mod arrivals;
mod bandwidth;
mod commands;
mod forward;
mod history;
pub(crate) mod ice;
mod key_frame;
mod layer_control;
mod outbox;
mod packet;
mod publish;
mod rate_limit;
mod reception;
mod reports;
mod reset;
mod rtp_munger;
mod shares;
mod speaking;
mod subscribe;
mod track;
mod transport;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use is::stun::StunMessage;
use parlor_protocol::{MeetingId, PeerId, ProducerId};
use slab::Slab;
use tracing::debug;

pub(crate) use self::ice::ROUTE_HOLD;
pub(crate) use self::outbox::Outbox;
use self::publish::Publisher;
pub(crate) use self::shares::AppCounts;
use self::shares::Held;
use self::speaking::ActiveSpeakers;
use self::subscribe::Subscriber;
use self::track::Track;
pub(crate) use self::transport::Identity;
use self::transport::{DtlsContext, OutboxPool, Transport};
use crate::events::{Event, Listener};
use crate::relay::{LinkId, Via};
use crate::sdp::Candidate;
use crate::wire::{self, Kind};
use crate::{Direction, Member, Owner, Shares};

/// The shortest time between two timeouts of one transport, so that no transport can monopolise the
/// thread.
const MIN_SLEEP: Duration = Duration::from_millis(1);

/// The longest time between two timeouts of one transport.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// How long a new transport waits for its client's first connectivity check. Clients give up on a
/// transport that is not connected within 30 seconds (docs/spec/media.md 1.1).
const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// The initial bandwidth estimate and its bounds. The initial value has room for audio and the
/// lowest layers of two or three cameras, but does not congest a narrow path for long. The first
/// feedback, one round trip later, replaces it.
const BANDWIDTH_SETTINGS: bandwidth::Settings = bandwidth::Settings {
    start_bps: 500_000,
    min_bps: 50_000,
    max_bps: 50_000_000,
};

/// A network path to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// UDP: the index of the local socket, and the remote address.
    Udp(usize, SocketAddr),
    /// A TCP connection or a TURN relay.
    Link(LinkId, Via),
}

/// The configuration of an [`Engine`].
#[derive(Clone)]
pub(crate) struct Settings {
    /// The ICE candidates of the server.
    pub(crate) candidates: Vec<Candidate>,
    /// The first byte of the transport ids of this engine.
    pub(crate) shard: u8,
    /// The first bytes of the transport ids of all engines.
    pub(crate) shards: &'static [u8],
    /// Maximum number of transports, across all engines that share [`open`](Self::open).
    pub(crate) max_transports: usize,
    /// Number of open transports, across all engines.
    pub(crate) open: Arc<AtomicUsize>,
    /// Maximum number of transports of one participant, meeting or app.
    pub(crate) shares: Shares,
    /// Number of open transports of each app, across all engines.
    pub(crate) apps: AppCounts,
    /// Maximum number of tracks that one client may receive at a time.
    pub(crate) max_consumers: usize,
    /// How long a transport may be disconnected before it is freed.
    pub(crate) connect_timeout: Duration,
    /// The key that ICE passwords are derived from.
    pub(crate) passwords: hmac::Key,
    /// The DTLS certificate.
    pub(crate) identity: Identity,
    /// Fills a buffer with cryptographically secure random bytes.
    pub(crate) random: fn(&mut [u8]),
}

/// A transport and the engine's state for it.
struct Entry {
    member: Member,
    owner: Owner,
    opened_at: Instant,
    direction: Direction,
    transport: Transport,
    side: Side,
    /// When the transport's timer fires; its key in [`Engine::timers`].
    wakes_at: Instant,
    /// Deadline for connecting, after which the transport is freed. `None` while it is connected.
    expires_at: Option<Instant>,
}

enum Side {
    Publish(Box<Publisher>),
    Receive(Box<Subscriber>),
}

/// Maximum number of active speakers to report: more than the largest grid shows.
const MAX_SPEAKERS: usize = 25;

/// The state of a meeting.
struct MeetingState {
    speakers: ActiveSpeakers<PeerId>,
    pinned: Option<PeerId>,
    listeners: Vec<Listener>,
    transports: usize,
}

impl Default for MeetingState {
    fn default() -> Self {
        Self {
            speakers: ActiveSpeakers::new(MAX_SPEAKERS),
            pinned: None,
            listeners: Vec::new(),
            transports: 0,
        }
    }
}

impl MeetingState {
    /// Sends an event to all listeners.
    fn notify(&self, event: &Event) {
        for listener in &self.listeners {
            listener.notify(event.clone());
        }
    }

    /// Whether the meeting has a transport or a listener.
    fn is_in_use(&self) -> bool {
        self.transports > 0 || self.listeners.iter().any(|listener| !listener.is_closed())
    }
}

/// All transports and tracks of one shard.
pub(crate) struct Engine {
    settings: Settings,
    dtls_context: DtlsContext,
    entries: Slab<Entry>,
    tracks: Slab<Track>,
    meetings: HashMap<MeetingId, MeetingState>,
    sweep_meetings_at: usize,
    by_member: HashMap<(Member, Direction), usize>,
    by_ufrag: HashMap<String, usize>,
    by_route: HashMap<Route, usize>,
    by_producer: HashMap<(MeetingId, ProducerId), usize>,
    timers: BTreeSet<(Instant, usize)>,
    pool: OutboxPool,
    connected: usize,
    consumers: usize,
    allocation: layer_control::Allocation,
    /// Scratch buffer; empty between calls.
    receivers: Vec<usize>,
    /// Links whose transports were freed, for [`Engine::released`].
    released: Vec<(LinkId, Via)>,
    closed_transports: ice::ClosedTransports,
    held: Held,
}

/// The result of [`Engine::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The datagram was processed.
    Accepted,
    /// The datagram matches no transport, or is malformed.
    Dropped,
    /// The datagram is a connectivity check for a transport of another engine, whose ids begin with
    /// this byte.
    OtherShard(u8),
}

impl Engine {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            dtls_context: DtlsContext::new(&settings.identity),
            settings,
            entries: Slab::new(),
            tracks: Slab::new(),
            meetings: HashMap::new(),
            sweep_meetings_at: 0,
            by_member: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_route: HashMap::new(),
            by_producer: HashMap::new(),
            timers: BTreeSet::new(),
            pool: OutboxPool::default(),
            connected: 0,
            consumers: 0,
            allocation: layer_control::Allocation::default(),
            receivers: Vec::new(),
            released: Vec::new(),
            closed_transports: ice::ClosedTransports::default(),
            held: Held::default(),
        }
    }

    /// Returns the number of transports.
    pub(crate) fn open_transports(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of connected transports.
    pub(crate) fn connected_transports(&self) -> usize {
        self.connected
    }

    /// Returns the number of published tracks.
    pub(crate) fn producers(&self) -> usize {
        self.tracks.len()
    }

    /// Returns the number of consumers.
    pub(crate) fn consumers(&self) -> usize {
        self.consumers
    }

    /// Processes a datagram, which is decrypted in place. `source` is the address that the STUN
    /// response reports to the client.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        route: Route,
        source: SocketAddr,
        datagram: &mut [u8],
    ) -> Disposition {
        let kind = wire::kind(datagram);
        if kind == Kind::Stun {
            return self.stun(now, route, source, datagram);
        }
        let Some(key) = self.by_route.get(&route).copied() else {
            return Disposition::Dropped;
        };
        let accepted = match kind {
            Kind::Rtp => self.rtp(now, key, route, datagram),
            Kind::Rtcp => self.rtcp(now, key, route, datagram),
            Kind::Dtls => {
                let entry = &mut self.entries[key];
                entry.transport.dtls(now, datagram, &mut self.pool);
                self.update_transport(now, key);
                true
            }
            _ => false,
        };
        if accepted {
            Disposition::Accepted
        } else {
            Disposition::Dropped
        }
    }

    fn stun(
        &mut self,
        now: Instant,
        route: Route,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Disposition {
        let Ok(message) = StunMessage::parse(datagram) else {
            return Disposition::Dropped;
        };
        let Some((ufrag, _)) = message.username().and_then(|name| name.split_once(':')) else {
            return Disposition::Dropped;
        };
        let Some(key) = self.by_ufrag.get(ufrag).copied() else {
            // All shards share one key, so an unsigned check is not passed on to another shard.
            let Some(password) = ice::verify_check(&self.settings.passwords, &message, ufrag)
            else {
                return Disposition::Dropped;
            };
            if let Some(shard) = self.other_shard(ufrag) {
                return Disposition::OtherShard(shard);
            }
            if !self.closed_transports.contains(ufrag)
                && let Some(response) = ice::error_response(&message, &password)
            {
                self.pool.respond(route, &response);
            }
            return Disposition::Dropped;
        };
        // A client can sign checks for its own transport and send them with the spoofed source
        // address of another client.
        let holder = self.by_route.get(&route).filter(|holder| **holder != key);
        if holder.is_some_and(|holder| self.entries[*holder].transport.holds(now, route)) {
            return Disposition::Dropped;
        }
        let entry = &mut self.entries[key];
        let Some(response) = entry.transport.check(now, route, source, &message) else {
            return Disposition::Dropped;
        };
        // A client that closed one transport may use the same route for the next one.
        self.by_route.insert(route, key);
        // The response takes the route of the check, which need not be the selected one.
        self.pool.respond(route, &response);
        if entry.expires_at.is_some() {
            self.update_transport(now, key);
        }
        Disposition::Accepted
    }

    /// Returns the shard that a username fragment belongs to, if it is another one.
    fn other_shard(&self, ufrag: &str) -> Option<u8> {
        let shard = ufrag.bytes().next()?;
        let runs = self.settings.shards.contains(&shard);
        (runs && shard != self.settings.shard).then_some(shard)
    }

    /// Returns the shard that a connectivity check is for, if it is another one and the check is
    /// signed with that transport's password.
    pub(crate) fn target_shard(&self, datagram: &[u8]) -> Option<u8> {
        let message = StunMessage::parse(datagram).ok()?;
        let (ufrag, _) = message.username()?.split_once(':')?;
        let shard = self.other_shard(ufrag)?;
        ice::verify_check(&self.settings.passwords, &message, ufrag).map(|_| shard)
    }

    /// Whether the route belongs to a transport of this engine.
    pub(crate) fn has_route(&self, route: Route) -> bool {
        self.by_route.contains_key(&route)
    }

    /// Removes a link that has ended.
    pub(crate) fn unlink(&mut self, link: LinkId, via: Via) {
        let route = Route::Link(link, via);
        if let Some(key) = self.by_route.remove(&route) {
            self.entries[key].transport.ice.remove_route(route);
        }
    }

    /// Takes the next link whose transport was freed.
    pub(crate) fn released(&mut self) -> Option<(LinkId, Via)> {
        self.released.pop()
    }

    /// Processes all expired timers.
    pub(crate) fn timeout(&mut self, now: Instant) {
        while let Some(&(wakes_at, key)) = self.timers.first() {
            if wakes_at > now {
                break;
            }
            let entry = &mut self.entries[key];
            entry.transport.timeout(now, &mut self.pool);
            match &mut entry.side {
                Side::Publish(publisher) => {
                    publisher.send_feedback(
                        now,
                        &mut self.tracks,
                        &mut entry.transport,
                        &mut self.pool,
                    );
                }
                Side::Receive(_) => self.allocate_layers(now, key),
            }
            self.update_transport(now, key);
        }
    }

    /// Returns when [`Engine::timeout`] must be called.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(wakes_at, _)| *wakes_at)
    }

    /// Passes the queued datagrams to `send`.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(Route, &Outbox)) {
        for (route, outbox) in self.pool.responses() {
            send(route, &outbox);
        }
        while let Some(key) = self.pool.take_dirty() {
            // The transport may have been freed, or its key reused, since it was queued.
            let Some(entry) = self.entries.get_mut(key) else {
                continue;
            };
            let Some(outbox) = entry.transport.take_outbox() else {
                continue;
            };
            // Without fresh consent, nothing is sent to the client (RFC 7675, 5.1).
            let is_lost = entry.transport.is_secure() && entry.expires_at.is_some();
            if let Some(route) = entry.transport.ice.selected().filter(|_| !is_lost) {
                send(route, &outbox);
            }
            self.pool.recycle(outbox);
        }
    }

    /// Frees the transport if it has ended; otherwise updates its connection state and its timer.
    fn update_transport(&mut self, now: Instant, key: usize) {
        let entry = &mut self.entries[key];
        if let Some(why) = entry.transport.end_reason() {
            return self.free_and_notify(key, why);
        }
        let is_connected = entry.transport.is_connected(now);
        let was_connected = entry.expires_at.is_none();
        if is_connected && !was_connected {
            entry.expires_at = None;
            self.connected += 1;
            debug!(transport_id = entry.transport.id(), "transport connected");
        } else if was_connected && !is_connected {
            entry.expires_at = Some(now + self.settings.connect_timeout);
            self.connected -= 1;
            debug!(
                transport_id = entry.transport.id(),
                "transport disconnected"
            );
        }
        if entry.expires_at.is_some_and(|expires_at| expires_at <= now) {
            // A client that still sends checks may take longer for the DTLS handshake.
            let last = entry.opened_at + self.settings.connect_timeout;
            let is_handshaking = !entry.transport.is_secure() && entry.transport.ice.is_alive(now);
            if !is_handshaking || last <= now {
                return self.free_and_notify(key, "not connected for too long");
            }
            entry.expires_at = Some(last);
        }
        let busy = match &entry.side {
            Side::Publish(publisher) => publisher.next_timeout(&self.tracks),
            Side::Receive(subscriber) => subscriber.next_timeout(),
        };
        // This work needs the SRTP keys.
        let busy = busy.filter(|_| is_connected);
        let wakes_at = [entry.expires_at, entry.transport.next_timeout(), busy]
            .into_iter()
            .flatten()
            .fold(now + MAX_SLEEP, Instant::min);
        self.wake(now, key, wakes_at);
    }

    /// Sets the timer of a transport, unless it fires earlier anyway.
    fn wake(&mut self, now: Instant, key: usize, at: Instant) {
        let wakes_at = &mut self.entries[key].wakes_at;
        Self::wake_by(&mut self.timers, (wakes_at, key), now, at);
    }

    fn wake_by(
        timers: &mut BTreeSet<(Instant, usize)>,
        (wakes_at, key): (&mut Instant, usize),
        now: Instant,
        at: Instant,
    ) {
        let at = at.max(now + MIN_SLEEP);
        // A timer that fires too early costs one extra wake-up; postponing it with every packet
        // would cost more.
        if at < *wakes_at || *wakes_at <= now {
            timers.remove(&(*wakes_at, key));
            *wakes_at = at;
            timers.insert((at, key));
        }
    }

    /// Frees a transport that its client did not close, and notifies the meeting's listeners.
    fn free_and_notify(&mut self, key: usize, why: &str) {
        let entry = &self.entries[key];
        let meeting = entry.member.meeting;
        let freed = Event::Freed {
            peer: entry.member.peer,
            direction: entry.direction,
            transport_id: entry.transport.id().to_owned(),
        };
        self.free(key, why);
        if let Some(state) = self.meetings.get(&meeting) {
            state.notify(&freed);
        }
    }

    fn free(&mut self, key: usize, why: &str) {
        let tracks = match &self.entries[key].side {
            Side::Publish(publisher) => publisher.tracks.clone(),
            Side::Receive(_) => Vec::new(),
        };
        for track in tracks {
            self.end_track(track);
        }
        self.end_consumers(key, |_| true);
        // The code below must not panic, since the counts would then be wrong permanently.
        let entry = self.entries.remove(key);
        self.settings.open.fetch_sub(1, Ordering::Relaxed);
        self.release_share(entry.owner, entry.member.meeting);
        if entry.expires_at.is_none() {
            self.connected -= 1;
        }
        self.timers.remove(&(entry.wakes_at, key));
        self.by_ufrag.remove(entry.transport.id());
        self.by_member.remove(&(entry.member, entry.direction));
        for route in entry.transport.ice.routes() {
            // The route may belong to another transport by now.
            if self.by_route.get(&route) == Some(&key) {
                self.by_route.remove(&route);
                if let Route::Link(link, via) = route {
                    self.released.push((link, via));
                }
            }
        }
        let meeting = entry.member.meeting;
        if let Some(state) = self.meetings.get_mut(&meeting) {
            state.transports -= 1;
            if entry.direction == Direction::Publish {
                state.speakers.remove(entry.member.peer);
            }
            self.drop_idle_meeting(meeting);
        }
        debug!(
            member = ?entry.member,
            direction = ?entry.direction,
            transport_id = entry.transport.id(),
            why,
            "transport freed"
        );
    }

    /// Drops the state of a meeting that has neither a transport nor a listener.
    fn drop_idle_meeting(&mut self, meeting: MeetingId) {
        if self
            .meetings
            .get(&meeting)
            .is_some_and(|state| !state.is_in_use())
        {
            self.meetings.remove(&meeting);
        }
    }
}
