//! All that the media plane decides, without sockets and without a clock.
//!
//! Whoever drives the [`Engine`] hands in time and datagrams, and takes out what is to be sent and
//! when to come again. Nothing is searched for: a datagram finds its transport by the ICE user
//! name in it or by where it comes from, and a timer by its place in an ordered set.

mod transport;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::net::DatagramSend;
use tracing::debug;

pub(crate) use self::transport::Offer;
use self::transport::{Arrival, State, Template, Transport};
use crate::{Direction, Error, Member, Opened};

/// A transport that wants to be woken at once waits this long, so that none can keep the thread
/// for itself.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// How many paths a client may come on over the life of one transport. Changing networks takes a
/// few each time; after the last, the client makes a new transport. The limit bounds what a client
/// that sends from every port makes us remember.
const PATHS: usize = 64;

/// What an [`Engine`] needs to know.
pub(crate) struct Settings {
    /// For each socket, the addresses that clients are told to come to. No address is there twice.
    pub(crate) advertised: Vec<Vec<SocketAddr>>,
    /// How many transports there may be.
    pub(crate) max_transports: usize,
    /// How long a transport may be without a connection.
    pub(crate) connect_timeout: Duration,
}

/// A datagram to send.
#[derive(Debug)]
pub(crate) struct Transmit {
    /// Through which socket, by its index in [`Settings::advertised`].
    pub(crate) socket: usize,
    /// Where to.
    pub(crate) destination: SocketAddr,
    /// What.
    pub(crate) contents: DatagramSend,
}

/// A transport, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64);

/// Where a transport is reached from: one of our sockets, and an address of the client.
type Path = (usize, SocketAddr);

/// A transport with what the engine knows about it.
struct Entry {
    member: Member,
    direction: Direction,
    transport: Transport,
    /// Every path it was ever reached on.
    paths: Vec<Path>,
    /// When it is to be woken; its place in [`Engine::timers`].
    wakes: Instant,
    /// When it is freed unless it is connected by then. None while it is connected.
    dies: Option<Instant>,
}

/// Every transport of everybody.
pub(crate) struct Engine {
    template: Template,
    max_transports: usize,
    connect_timeout: Duration,
    /// For each socket, what transports are told a datagram was sent to. Which of the socket's
    /// addresses it really was makes no difference to them, and not every system says.
    homes: Vec<Option<SocketAddr>>,
    entries: HashMap<Key, Entry>,
    last_key: u64,
    by_member: HashMap<(Member, Direction), Key>,
    by_ufrag: HashMap<String, Key>,
    by_path: HashMap<Path, Key>,
    timers: BTreeSet<(Instant, Key)>,
    outgoing: VecDeque<Transmit>,
    connected: usize,
}

impl Engine {
    pub(crate) fn new(settings: &Settings) -> Self {
        let homes = settings
            .advertised
            .iter()
            .map(|addresses| addresses.first().copied())
            .collect();
        Self {
            template: Template::new(settings.advertised.concat()),
            max_transports: settings.max_transports,
            connect_timeout: settings.connect_timeout,
            homes,
            entries: HashMap::new(),
            last_key: 0,
            by_member: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_path: HashMap::new(),
            timers: BTreeSet::new(),
            outgoing: VecDeque::new(),
            connected: 0,
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

    /// Answers an offer with a new transport in place of the member's older one of that direction.
    ///
    /// # Errors
    /// [`Error::BadOffer`] or [`Error::Full`]; the older one stays.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        member: Member,
        direction: Direction,
        offer: Offer,
    ) -> Result<Opened, Error> {
        let older = self.by_member.get(&(member, direction)).copied();
        if self.entries.len() - usize::from(older.is_some()) >= self.max_transports {
            return Err(Error::Full);
        }
        let (transport, answer) = self.template.accept(now, offer).map_err(Error::BadOffer)?;
        if let Some(older) = older {
            self.free(older, "replaced");
        }

        self.last_key += 1;
        let key = Key(self.last_key);
        let transport_id = transport.ufrag().to_owned();
        debug!(?member, ?direction, transport_id, "a transport is open");
        self.by_member.insert((member, direction), key);
        self.by_ufrag.insert(transport_id.clone(), key);
        let entry = Entry {
            member,
            direction,
            transport,
            paths: Vec::new(),
            wakes: now,
            dies: Some(now + self.connect_timeout),
        };
        self.entries.insert(key, entry);
        self.timers.insert((now, key));
        self.drive(now, key, None);
        Ok(Opened {
            transport_id,
            answer,
        })
    }

    /// Frees what a member has.
    pub(crate) fn close(&mut self, member: Member) {
        for direction in [Direction::Publish, Direction::Receive] {
            if let Some(key) = self.by_member.get(&(member, direction)) {
                self.free(*key, "closed");
            }
        }
    }

    /// Takes a datagram from a socket. False if it was dropped.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        socket: usize,
        source: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let Some(home) = self.homes.get(socket).copied().flatten() else {
            return false;
        };
        let Some(arrival) = Arrival::read(now, source, home, datagram) else {
            return false;
        };
        let path = (socket, source);
        let known = self.by_path.get(&path).copied();
        let key = match arrival.ufrag() {
            Some(ufrag) => self.by_ufrag.get(ufrag).copied(),
            None => known,
        };
        let Some(key) = key else {
            return false;
        };
        if known != Some(key) && !self.learn(path, key, &arrival) {
            return false;
        }
        self.drive(now, key, Some(arrival))
    }

    /// Remembers that a path is a transport's, if what came on it proves it.
    fn learn(&mut self, path: Path, key: Key, arrival: &Arrival) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else {
            return false;
        };
        if !entry.transport.trusts(arrival) {
            return false;
        }
        if !entry.paths.contains(&path) {
            if entry.paths.len() == PATHS {
                return false;
            }
            entry.paths.push(path);
        }
        self.by_path.insert(path, key);
        true
    }

    /// Wakes the transports whose time has come, each once.
    pub(crate) fn timeout(&mut self, now: Instant) {
        while let Some((wakes, key)) = self.timers.first().copied() {
            if wakes > now {
                break;
            }
            // Where it is put back is later than now, so this ends.
            self.timers.remove(&(wakes, key));
            self.drive(now, key, None);
        }
    }

    /// When [`Engine::timeout`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(wakes, _)| *wakes)
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// Lets a transport work on what has arrived, or on the time. False if it could do nothing
    /// with what has arrived.
    fn drive(&mut self, now: Instant, key: Key, arrival: Option<Arrival>) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else {
            return false;
        };
        let was_connected = entry.dies.is_none();
        let (outgoing, homes) = (&mut self.outgoing, &self.homes);
        let driven = entry
            .transport
            .drive(now, arrival, |source, destination, contents| {
                if let Some(socket) = homes.iter().position(|home| *home == Some(source)) {
                    outgoing.push_back(Transmit {
                        socket,
                        destination,
                        contents,
                    });
                }
            });
        let is_connected = match driven.state {
            State::Connected => true,
            State::Unconnected => false,
            State::Over(why) => {
                self.free(key, why);
                return driven.understood;
            }
        };
        if is_connected && !was_connected {
            entry.dies = None;
            self.connected += 1;
            debug!(
                transport_id = entry.transport.ufrag(),
                "a transport is connected"
            );
        } else if was_connected && !is_connected {
            entry.dies = Some(now + self.connect_timeout);
            self.connected -= 1;
            debug!(
                transport_id = entry.transport.ufrag(),
                "a transport has lost its connection"
            );
        }
        if entry.dies.is_some_and(|dies| dies <= now) {
            self.free(key, "not connected for too long");
            return driven.understood;
        }

        let wakes = entry
            .dies
            .map_or(driven.wakes, |dies| dies.min(driven.wakes))
            .max(now + SHORTEST_SLEEP);
        // A timer that is too early costs one more look; putting it off with every datagram
        // would cost more.
        if wakes < entry.wakes || entry.wakes <= now {
            self.timers.remove(&(entry.wakes, key));
            entry.wakes = wakes;
            self.timers.insert((wakes, key));
        }
        driven.understood
    }

    fn free(&mut self, key: Key, why: &str) {
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        if entry.dies.is_none() {
            self.connected -= 1;
        }
        self.timers.remove(&(entry.wakes, key));
        self.by_ufrag.remove(entry.transport.ufrag());
        self.by_member.remove(&(entry.member, entry.direction));
        for path in &entry.paths {
            // It may have become another transport's.
            if self.by_path.get(path) == Some(&key) {
                self.by_path.remove(path);
            }
        }
        debug!(
            member = ?entry.member,
            direction = ?entry.direction,
            transport_id = entry.transport.ufrag(),
            why,
            "a transport is freed"
        );
    }
}
