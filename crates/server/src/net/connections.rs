//! The open connections: how many each address may have, and which of them are closed to make room
//! for others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::proxies::TrustedProxies;
use crate::metrics::{Disconnected, Metrics, Refused};
use crate::shares::{Share, Shares, network};

/// A peer that has taken nothing for so long may be disconnected for the sake of others.
const SLOW: Duration = Duration::from_secs(1);
/// A search looks at every connection of an address, or at every one. Between two of them there is so
/// much time for each.
const SEARCH: Duration = Duration::from_micros(1);
/// How long a request for a place or for memory waits for others to give it back.
const PATIENCE: Duration = Duration::from_millis(100);
/// Of so many connections, a search closes one. It closes one at least.
const PORTION: usize = 64;

/// All connections of a server.
pub(super) struct Connections {
    pub(super) metrics: Arc<Metrics>,
    pub(super) proxies: TrustedProxies,
    per_address: Arc<Shares<IpAddr>>,
    began: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: Group,
    by_network: HashMap<IpAddr, Group>,
}

/// Connections that are searched together. Each group has its own times of searches, so that nobody
/// who searches one keeps others from searching another.
#[derive(Default)]
struct Group {
    by_number: HashMap<u64, Arc<Connection>>,
    for_places: LastSearch,
    for_bytes: LastSearch,
}

/// The last search of a group.
#[derive(Default)]
struct LastSearch {
    at: Option<Instant>,
    /// The connections that it closed, which may not be gone yet.
    closed: Vec<u64>,
}

/// What a search is for.
#[derive(Clone, Copy)]
enum Wanted {
    /// A place for a connection.
    Place,
    /// Memory for so many bytes.
    Bytes(usize),
}

/// What a search has led to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Nothing can be freed.
    Nothing,
    /// Connections are being closed, or were looked for just now.
    Wait,
}

/// One connection. What it does is noted without locks, since every request does.
pub(super) struct Connection {
    number: u64,
    began: Instant,
    /// The network whose share it takes from, unless it is a trusted proxy's.
    network: OnceLock<IpAddr>,
    /// The [`stamp`] since when it has been idle, waiting for a request; 0 while a request is served,
    /// and after an upgrade.
    idle: AtomicU64,
    /// The response to its last request is made, but may not be written yet.
    answered: AtomicBool,
    /// The stamp of when the system took no more bytes for the peer; 0 while it takes them.
    blocked: AtomicU64,
    upgraded: AtomicBool,
    closing: AtomicBool,
    waker: AtomicWaker,
    /// Bytes of responses that it holds.
    pub(super) unsent: AtomicUsize,
    /// What an upgraded connection holds for as long as it is open.
    kept: Mutex<Option<Share<IpAddr>>>,
}

/// A connection among the others, for as long as this is held.
pub(super) struct Registered {
    connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(per_address: usize, proxies: TrustedProxies, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            proxies,
            per_address: Shares::new(per_address),
            began: Instant::now(),
            open: Mutex::default(),
        }
    }

    /// Counts a connection in. Whose it is comes to be known later: see [`Self::admit`].
    pub(super) fn register(self: &Arc<Self>) -> Registered {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let connection = Arc::new(Connection {
            number,
            began: self.began,
            network: OnceLock::new(),
            idle: AtomicU64::new(stamp(self.began)),
            answered: AtomicBool::default(),
            blocked: AtomicU64::default(),
            upgraded: AtomicBool::default(),
            closing: AtomicBool::default(),
            waker: AtomicWaker::new(),
            unsent: AtomicUsize::default(),
            kept: Mutex::default(),
        });
        open.all.by_number.insert(number, Arc::clone(&connection));
        Registered {
            connections: Arc::clone(self),
            connection,
        }
    }

    /// A place in the share of an address, if it has one left or gets one by closing connections of
    /// its own.
    ///
    /// # Errors
    /// When the address has its share.
    pub(super) async fn admit(&self, address: IpAddr) -> Result<Share<IpAddr>, Refused> {
        let holder = network(address);
        let place = || self.per_address.take(&holder, 1);
        let place = self.retry(Some(holder), Wanted::Place, place).await;
        place.ok_or(Refused::Address)
    }

    /// Takes a place that closing connections gives back, if there is none left.
    pub(super) async fn place<T>(&self, take: impl FnMut() -> Option<T>) -> Option<T> {
        self.retry(None, Wanted::Place, take).await
    }

    /// Takes memory that disconnecting peers gives back, of one network or of all, if there is none
    /// left.
    pub(super) async fn memory<T>(
        &self,
        of: Option<IpAddr>,
        bytes: usize,
        take: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.retry(of, Wanted::Bytes(bytes), take).await
    }

    /// Tries until it succeeds, nothing more can be freed or the time is over: closed connections
    /// give back what they hold when their tasks run.
    async fn retry<T>(
        &self,
        of: Option<IpAddr>,
        wanted: Wanted,
        mut take: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(taken) = take() {
                return Some(taken);
            }
            if self.search(of, wanted) == Search::Nothing || Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Closes connections, of one network or of all: some of those that wait for a request or whose
    /// peers take nothing, the longest first; or as many of those whose peers take nothing as hold so
    /// many bytes. None are closed while those of the last search are on their way out.
    fn search(&self, of: Option<IpAddr>, wanted: Wanted) -> Search {
        let found = {
            let mut open = self.open();
            let group = match of {
                None => Some(&mut open.all),
                Some(network) => open.by_network.get_mut(&network),
            };
            let Some(group) = group else {
                return Search::Nothing;
            };
            let Some(found) = group.search(wanted) else {
                return Search::Wait;
            };
            found
        };
        if found.is_empty() {
            return Search::Nothing;
        }
        self.close(found);
        Search::Wait
    }

    fn close(&self, found: Vec<Arc<Connection>>) {
        for connection in found {
            let reason = if connection.idle.load(Ordering::Relaxed) > 0 {
                Disconnected::Idle
            } else {
                Disconnected::Slow
            };
            self.metrics.disconnected(reason);
            connection.close();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Those to close, the longest waiting first. `None` when the last search for this was just now,
    /// or has closed some that are not gone yet.
    fn search(&mut self, wanted: Wanted) -> Option<Vec<Arc<Connection>>> {
        let now = Instant::now();
        let count = u32::try_from(self.by_number.len()).unwrap_or(u32::MAX);
        let last = match wanted {
            Wanted::Place => &self.for_places,
            Wanted::Bytes(_) => &self.for_bytes,
        };
        if let Some(at) = last.at {
            let since = now.saturating_duration_since(at);
            let mut closed = last.closed.iter();
            let is_going = since < PATIENCE && closed.any(|it| self.by_number.contains_key(it));
            if is_going || since < SEARCH * count {
                return None;
            }
        }
        let mut found = self.candidates(wanted);
        found.sort_unstable_by_key(|(since, _)| *since);
        let enough = match wanted {
            Wanted::Place => (self.by_number.len() / PORTION).max(1),
            Wanted::Bytes(bytes) => {
                let mut freed = 0;
                let enough = found.iter().position(|(_, connection)| {
                    freed += connection.unsent.load(Ordering::Relaxed);
                    freed >= bytes
                });
                enough.map_or(found.len(), |last| last + 1)
            }
        };
        found.truncate(enough);
        let found: Vec<_> = found
            .into_iter()
            .map(|(_, connection)| connection)
            .collect();
        let last = match wanted {
            Wanted::Place => &mut self.for_places,
            Wanted::Bytes(_) => &mut self.for_bytes,
        };
        last.at = Some(now);
        last.closed = found.iter().map(|connection| connection.number).collect();
        Some(found)
    }

    /// Those that may be closed, each with the stamp of since when.
    fn candidates(&self, wanted: Wanted) -> Vec<(u64, Arc<Connection>)> {
        let since = |connection: &Connection| match wanted {
            Wanted::Place => connection.waits(),
            Wanted::Bytes(_) => connection.holds(),
        };
        let all = self.by_number.values();
        all.filter_map(|connection| Some((since(connection)?, Arc::clone(connection))))
            .collect()
    }
}

impl Registered {
    /// Says whose share the connection takes from. Only the first time counts.
    pub(super) fn assign(&self, network: IpAddr) {
        let connection = &self.connection;
        if connection.network.set(network).is_ok() {
            let mut open = self.connections.open();
            let group = open.by_network.entry(network).or_default();
            let by_number = &mut group.by_number;
            by_number.insert(connection.number, Arc::clone(connection));
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let number = self.connection.number;
        let mut open = self.connections.open();
        open.all.by_number.remove(&number);
        let Some(network) = self.connection.network.get() else {
            return;
        };
        if let Entry::Occupied(mut group) = open.by_network.entry(*network) {
            group.get_mut().by_number.remove(&number);
            if group.get().by_number.is_empty() {
                group.remove();
            }
        }
    }
}

impl Connection {
    /// A request has come.
    pub(super) fn busy(&self) {
        self.answered.store(false, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
    }

    /// The last of a response has been made. The connection is idle when that is written.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// All that was made is written.
    pub(super) fn flushed(&self) {
        let is_answered = self.answered.swap(false, Ordering::Relaxed);
        if is_answered && !self.upgraded.load(Ordering::Relaxed) {
            self.idle.store(stamp(self.began), Ordering::Relaxed);
        }
    }

    /// The connection was upgraded: no more requests come on it.
    pub(super) fn upgraded(&self, share: Option<Share<IpAddr>>) {
        self.upgraded.store(true, Ordering::Relaxed);
        self.busy();
        *locked(&self.kept) = share;
    }

    /// The system takes no more bytes for the peer.
    pub(super) fn blocked(&self) {
        self.blocked.store(stamp(self.began), Ordering::Relaxed);
    }

    /// It takes some again.
    pub(super) fn unblocked(&self) {
        self.blocked.store(0, Ordering::Relaxed);
    }

    /// Whether it is to be closed. If not, the waker hears of it when it is.
    pub(super) fn closes(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.closing.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Since when it has waited for a request, or for a peer that takes nothing.
    fn waits(&self) -> Option<u64> {
        let idle = self.idle.load(Ordering::Relaxed);
        let idle = (idle > 0).then_some(idle);
        let since = idle.into_iter().chain(self.slow()).min()?;
        (!self.closing.load(Ordering::Relaxed)).then_some(since)
    }

    /// Since when its peer has taken nothing of what the server holds for it.
    fn holds(&self) -> Option<u64> {
        let holds = self.unsent.load(Ordering::Relaxed) > 0;
        self.slow()
            .filter(|_| holds && !self.closing.load(Ordering::Relaxed))
    }

    fn slow(&self) -> Option<u64> {
        let since = self.blocked.load(Ordering::Relaxed);
        let slow = u64::try_from(SLOW.as_millis()).unwrap_or(u64::MAX);
        (since > 0 && since + slow < stamp(self.began)).then_some(since)
    }
}

/// Milliseconds after the start, and one more: never 0.
fn stamp(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
