//! All that the media plane decides, without sockets, clock or chance.
//!
//! Whoever drives the [`Engine`] hands in time, datagrams and orders, and takes out what is to be
//! sent and when to come again. Nothing is searched for per packet: a datagram finds its transport
//! by the ICE user name in it or by the way it comes, a packet its track by its SSRC, and a timer
//! has its place in an ordered set.
//!
//! | where | what |
//! |---|---|
//! | `orders`, `reports` | What the rest of the server asks for: transports, tracks, receivers. |
//! | `forward`, `packet` | The way of a packet from the one who publishes it to those who receive it. |
//! | `transport`, `ice` | One connection: the way to the client, the keys, what waits to be sent. |
//! | `publish`, `reception`, `arrivals` | What a client sends: streams, losses, feedback. |
//! | `track`, `history`, `key_frame` | A track with its layers, and the last packets of each. |
//! | `subscribe`, `rewrite` | What a client receives, and how layers become one stream. |
//! | `serve`, `bandwidth`, `allocate` | What the path to a client bears, and which layers fit. |
//! | `speaking` | Who speaks in a meeting. |
//! | `shares`, `pace` | What one person, meeting, app or stream may have at most. |
//! | `start_over` | What is left after a panic. |

mod allocate;
mod arrivals;
mod bandwidth;
mod forward;
mod history;
pub(crate) mod ice;
mod key_frame;
mod orders;
mod outbox;
mod pace;
mod packet;
mod publish;
mod reception;
mod reports;
mod rewrite;
mod layer_control;
mod shares;
mod speaking;
mod start_over;
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

pub(crate) use self::ice::HELD;
pub(crate) use self::outbox::Outbox;
use self::publish::Publisher;
pub(crate) use self::shares::Apps;
use self::shares::Held;
use self::speaking::Speaking;
use self::subscribe::Subscriber;
use self::track::Track;
pub(crate) use self::transport::Identity;
use self::transport::{Security, Transport, Yard};
use crate::events::{Event, Listener};
use crate::relay::{LinkId, Via};
use crate::sdp::Candidate;
use crate::wire::{self, Kind};
use crate::{Direction, Member, Owner, Shares};

/// A transport that wants to be woken at once waits this long, so that none can keep the thread
/// for itself.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// A transport that wants nothing is looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// How long the client of a new transport may keep away. Clients give a transport up themselves that is
/// not connected 30 seconds after they began (docs/spec/media.md 1.1).
const FIRST_CHECK: Duration = Duration::from_secs(30);

/// What is believed of the path to a client before anything is known of it: enough for voices and the
/// smallest pictures of two or three, and not so much that a narrow path is full for long. What the
/// path bears is known after a round trip and what feedback takes.
const BANDWIDTH: bandwidth::Settings = bandwidth::Settings {
    start_bps: 500_000,
    min_bps: 50_000,
    max_bps: 50_000_000,
};

/// A way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// Datagrams through one of our sockets, by its place, to an address.
    Udp(usize, SocketAddr),
    /// A way that is not a UDP address: a TCP connection, or a relay.
    Link(LinkId, Via),
}

/// What an [`Engine`] needs to know.
#[derive(Clone)]
pub(crate) struct Settings {
    /// What clients are told to come to.
    pub(crate) candidates: Vec<Candidate>,
    /// What the ids of transports begin with.
    pub(crate) shard: u8,
    /// Those of all engines.
    pub(crate) shards: &'static [u8],
    /// How many transports there may be, in all engines that share [`open`](Self::open).
    pub(crate) max_transports: usize,
    /// How many there are in all of them.
    pub(crate) open: Arc<AtomicUsize>,
    /// How many of them one person, meeting or app may have.
    pub(crate) shares: Shares,
    /// How many each app has, in all engines.
    pub(crate) apps: Apps,
    /// How many tracks one client may receive at a time.
    pub(crate) max_consumers: usize,
    /// How long a transport may be without a connection.
    pub(crate) connect_timeout: Duration,
    /// What ICE passwords follow from.
    pub(crate) passwords: hmac::Key,
    /// The certificate.
    pub(crate) identity: Identity,
    /// Fills with bytes that nobody can guess.
    pub(crate) random: fn(&mut [u8]),
}

/// A transport with what the engine knows about it.
struct Entry {
    member: Member,
    owner: Owner,
    opened: Instant,
    direction: Direction,
    transport: Transport,
    side: Side,
    /// Its place in [`Engine::timers`].
    wakes: Instant,
    /// When it is freed unless it is connected by then. None while it is connected.
    dies: Option<Instant>,
}

enum Side {
    Publish(Box<Publisher>),
    Receive(Box<Subscriber>),
}

/// How many of those who spoke last are told of: more than the largest grid shows.
const SPEAKERS: usize = 25;

/// What is known of a meeting as a whole.
struct Hall {
    speaking: Speaking<PeerId>,
    pinned: Option<PeerId>,
    listeners: Vec<Listener>,
    transports: usize,
}

impl Default for Hall {
    fn default() -> Self {
        Self {
            speaking: Speaking::new(SPEAKERS),
            pinned: None,
            listeners: Vec::new(),
            transports: 0,
        }
    }
}

impl Hall {
    /// Says what has happened.
    fn tell(&self, event: &Event) {
        for listener in &self.listeners {
            listener.tell(event.clone());
        }
    }

    /// Whether anybody is in the meeting, or listens to it.
    fn is_of_use(&self) -> bool {
        self.transports > 0 || self.listeners.iter().any(|listener| !listener.is_closed())
    }
}

/// Every transport of everybody.
pub(crate) struct Engine {
    settings: Settings,
    security: Security,
    entries: Slab<Entry>,
    tracks: Slab<Track>,
    halls: HashMap<MeetingId, Hall>,
    sweep_halls_at: usize,
    by_member: HashMap<(Member, Direction), usize>,
    by_ufrag: HashMap<String, usize>,
    by_route: HashMap<Route, usize>,
    by_producer: HashMap<(MeetingId, ProducerId), usize>,
    timers: BTreeSet<(Instant, usize)>,
    yard: Yard,
    connected: usize,
    consumers: usize,
    wanted: layer_control::Wishes,
    /// Kept for its memory; empty between calls.
    receivers: Vec<usize>,
    /// Links that led to transports that are gone.
    released: Vec<(LinkId, Via)>,
    dismissed: ice::Dismissed,
    held: Held,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was of use.
    Yes,
    /// It belongs to nobody here, or was not understood.
    No,
    /// It is a check for a transport of another engine, by what that one's ids begin with.
    Elsewhere(u8),
}

impl Engine {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            security: Security::new(&settings.identity),
            settings,
            entries: Slab::new(),
            tracks: Slab::new(),
            halls: HashMap::new(),
            sweep_halls_at: 0,
            by_member: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_route: HashMap::new(),
            by_producer: HashMap::new(),
            timers: BTreeSet::new(),
            yard: Yard::default(),
            connected: 0,
            consumers: 0,
            wanted: layer_control::Wishes::default(),
            receivers: Vec::new(),
            released: Vec::new(),
            dismissed: ice::Dismissed::default(),
            held: Held::default(),
        }
    }

    /// How many transports there are.
    pub(crate) fn open_transports(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are connected.
    pub(crate) fn connected_transports(&self) -> usize {
        self.connected
    }

    /// How many tracks are published.
    pub(crate) fn producers(&self) -> usize {
        self.tracks.len()
    }

    /// How many are received.
    pub(crate) fn consumers(&self) -> usize {
        self.consumers
    }

    /// Takes a datagram. `source` is where the client is told that it comes from. The datagram is
    /// decrypted where it lies.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        route: Route,
        source: SocketAddr,
        datagram: &mut [u8],
    ) -> Taken {
        let kind = wire::kind(datagram);
        if kind == Kind::Stun {
            return self.check(now, route, source, datagram);
        }
        let Some(place) = self.by_route.get(&route).copied() else {
            return Taken::No;
        };
        let taken = match kind {
            Kind::Rtp => self.rtp(now, place, route, datagram),
            Kind::Rtcp => self.rtcp(now, place, route, datagram),
            Kind::Dtls => {
                let entry = &mut self.entries[place];
                entry.transport.dtls(now, datagram, &mut self.yard);
                self.look_after(now, place);
                true
            }
            _ => false,
        };
        if taken { Taken::Yes } else { Taken::No }
    }

    fn check(&mut self, now: Instant, route: Route, source: SocketAddr, datagram: &[u8]) -> Taken {
        let Ok(message) = StunMessage::parse(datagram) else {
            return Taken::No;
        };
        let Some((ufrag, _)) = message.username().and_then(|name| name.split_once(':')) else {
            return Taken::No;
        };
        let Some(place) = self.by_ufrag.get(ufrag).copied() else {
            // All threads have one key: what is not signed is not even passed on.
            let Some(password) = ice::signed(&self.settings.passwords, &message, ufrag) else {
                return Taken::No;
            };
            if let Some(shard) = self.other_shard(ufrag) {
                return Taken::Elsewhere(shard);
            }
            if !self.dismissed.has(ufrag)
                && let Some(answer) = ice::refusal(&message, &password)
            {
                self.yard.answer(route, &answer);
            }
            return Taken::No;
        };
        // Who has a transport can sign checks for it, and write the address of another on them.
        let holder = self.by_route.get(&route).filter(|holder| **holder != place);
        if holder.is_some_and(|holder| self.entries[*holder].transport.holds(now, route)) {
            return Taken::No;
        }
        let entry = &mut self.entries[place];
        let Some(answer) = entry.transport.check(now, route, source, &message) else {
            return Taken::No;
        };
        // A client that closed one transport may come to the next one the same way.
        self.by_route.insert(route, place);
        // It goes back the way that the check came, which need not be the one that is in use.
        self.yard.answer(route, &answer);
        if entry.dies.is_some() {
            self.look_after(now, place);
        }
        Taken::Yes
    }

    /// The thread whose transport a user name is of, if it is another that runs.
    fn other_shard(&self, ufrag: &str) -> Option<u8> {
        let shard = ufrag.bytes().next()?;
        let runs = self.settings.shards.contains(&shard);
        (runs && shard != self.settings.shard).then_some(shard)
    }

    /// The thread whose transport a check is for, if it is another that runs and the check is signed
    /// for it.
    pub(crate) fn is_for(&self, datagram: &[u8]) -> Option<u8> {
        let message = StunMessage::parse(datagram).ok()?;
        let (ufrag, _) = message.username()?.split_once(':')?;
        let shard = self.other_shard(ufrag)?;
        ice::signed(&self.settings.passwords, &message, ufrag).map(|_| shard)
    }

    /// Whether a client of this engine comes this way.
    pub(crate) fn knows(&self, route: Route) -> bool {
        self.by_route.contains_key(&route)
    }

    /// A link is gone.
    pub(crate) fn unlink(&mut self, link: LinkId, via: Via) {
        let route = Route::Link(link, via);
        if let Some(place) = self.by_route.remove(&route) {
            self.entries[place].transport.ice.lost(route);
        }
    }

    /// A link that led to a transport that is gone.
    pub(crate) fn released(&mut self) -> Option<(LinkId, Via)> {
        self.released.pop()
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, now: Instant) {
        while let Some(&(wakes, place)) = self.timers.first() {
            if wakes > now {
                break;
            }
            let entry = &mut self.entries[place];
            entry.transport.timeout(now, &mut self.yard);
            match &mut entry.side {
                Side::Publish(publisher) => {
                    publisher.tell(now, &mut self.tracks, &mut entry.transport, &mut self.yard);
                }
                Side::Receive(_) => self.serve(now, place),
            }
            self.look_after(now, place);
        }
    }

    /// When [`Engine::timeout`] is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(wakes, _)| *wakes)
    }

    /// Hands out what is to be sent.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(Route, &Outbox)) {
        for (route, outbox) in self.yard.answers() {
            send(route, &outbox);
        }
        while let Some(place) = self.yard.take_dirty() {
            // It may have been freed, or its place taken by another since.
            let Some(entry) = self.entries.get_mut(place) else {
                continue;
            };
            let Some(outbox) = entry.transport.take_outbox() else {
                continue;
            };
            // Nothing goes to a client that has not shown itself for long (RFC 7675, 5.1).
            let is_lost = entry.transport.is_secure() && entry.dies.is_some();
            if let Some(route) = entry.transport.ice.selected().filter(|_| !is_lost) {
                send(route, &outbox);
            }
            self.yard.give_back(outbox);
        }
    }

    /// Frees a transport that is over, and sets when to come to it again.
    fn look_after(&mut self, now: Instant, place: usize) {
        let entry = &mut self.entries[place];
        if let Some(why) = entry.transport.over() {
            return self.abandon(place, why);
        }
        let is_connected = entry.transport.is_connected(now);
        let was_connected = entry.dies.is_none();
        if is_connected && !was_connected {
            entry.dies = None;
            self.connected += 1;
            debug!(
                transport_id = entry.transport.id(),
                "a transport is connected"
            );
        } else if was_connected && !is_connected {
            entry.dies = Some(now + self.settings.connect_timeout);
            self.connected -= 1;
            debug!(
                transport_id = entry.transport.id(),
                "a transport has lost its connection"
            );
        }
        if entry.dies.is_some_and(|dies| dies <= now) {
            // A client that is there may take its time for the keys.
            let last = entry.opened + self.settings.connect_timeout;
            let is_coming = !entry.transport.is_secure() && entry.transport.ice.is_alive(now);
            if !is_coming || last <= now {
                return self.abandon(place, "not connected for too long");
            }
            entry.dies = Some(last);
        }
        let busy = match &entry.side {
            Side::Publish(publisher) => publisher.next_timeout(&self.tracks),
            Side::Receive(subscriber) => subscriber.next_timeout(),
        };
        // Before there are keys nothing of that can be done.
        let busy = busy.filter(|_| is_connected);
        let wakes = [entry.dies, entry.transport.wakes(), busy]
            .into_iter()
            .flatten()
            .fold(now + LONGEST_SLEEP, Instant::min);
        self.wake(now, place, wakes);
    }

    /// Sets when to come to a transport again.
    fn wake(&mut self, now: Instant, place: usize, at: Instant) {
        let wakes = &mut self.entries[place].wakes;
        Self::hasten(&mut self.timers, (wakes, place), now, at);
    }

    fn hasten(
        timers: &mut BTreeSet<(Instant, usize)>,
        (wakes, place): (&mut Instant, usize),
        now: Instant,
        at: Instant,
    ) {
        let at = at.max(now + SHORTEST_SLEEP);
        // A timer that is too early costs one more look; putting it off with every packet would
        // cost more.
        if at < *wakes || *wakes <= now {
            timers.remove(&(*wakes, place));
            *wakes = at;
            timers.insert((at, place));
        }
    }

    /// Frees a transport without anybody having asked for it.
    fn abandon(&mut self, place: usize, why: &str) {
        let entry = &self.entries[place];
        let meeting = entry.member.meeting;
        let freed = Event::Freed {
            peer: entry.member.peer,
            direction: entry.direction,
            transport_id: entry.transport.id().to_owned(),
        };
        self.free(place, why);
        if let Some(hall) = self.halls.get(&meeting) {
            hall.tell(&freed);
        }
    }

    fn free(&mut self, place: usize, why: &str) {
        let tracks = match &self.entries[place].side {
            Side::Publish(publisher) => publisher.tracks.clone(),
            Side::Receive(_) => Vec::new(),
        };
        for track in tracks {
            self.end_track(track);
        }
        self.end_consumers(place, |_| true);
        // Next to each other: a panic in between would leave a wrong count for good.
        let entry = self.entries.remove(place);
        self.settings.open.fetch_sub(1, Ordering::Relaxed);
        self.let_go(entry.owner, entry.member.meeting);
        if entry.dies.is_none() {
            self.connected -= 1;
        }
        self.timers.remove(&(entry.wakes, place));
        self.by_ufrag.remove(entry.transport.id());
        self.by_member.remove(&(entry.member, entry.direction));
        for route in entry.transport.ice.routes() {
            // It may have become another transport's.
            if self.by_route.get(&route) == Some(&place) {
                self.by_route.remove(&route);
                if let Route::Link(link, via) = route {
                    self.released.push((link, via));
                }
            }
        }
        let meeting = entry.member.meeting;
        if let Some(hall) = self.halls.get_mut(&meeting) {
            hall.transports -= 1;
            if entry.direction == Direction::Publish {
                hall.speaking.remove(entry.member.peer);
            }
            self.leave_hall(meeting);
        }
        debug!(
            member = ?entry.member,
            direction = ?entry.direction,
            transport_id = entry.transport.id(),
            why,
            "a transport is freed"
        );
    }

    /// Forgets a meeting that nobody is in and nobody listens to.
    fn leave_hall(&mut self, meeting: MeetingId) {
        if self
            .halls
            .get(&meeting)
            .is_some_and(|hall| !hall.is_of_use())
        {
            self.halls.remove(&meeting);
        }
    }
}
