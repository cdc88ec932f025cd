//! The open connections: the limit per address, and the eviction of idle and slow ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::proxies::TrustedProxies;
use crate::metrics::{DisconnectReason, Metrics, RefusalReason};
use crate::shares::{Share, Shares, network};

/// How long a peer must have read nothing before it may be evicted.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// Minimum interval between two searches, per connection of the group: a search visits every
/// connection of an address, or of the server.
const SEARCH_INTERVAL: Duration = Duration::from_micros(1);
/// How long a caller that needs a slot or memory waits for evicted connections to release it.
const RETRY_TIMEOUT: Duration = Duration::from_millis(100);
/// Number of connections per connection that a search evicts. It evicts at least one.
const CONNECTIONS_PER_EVICTION: usize = 64;

/// All connections of a server.
pub(super) struct Connections {
    pub(super) metrics: Arc<Metrics>,
    pub(super) proxies: TrustedProxies,
    per_address: Arc<Shares<IpAddr>>,
    epoch: Instant,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    all: Group,
    by_network: HashMap<IpAddr, Group>,
}

/// Connections that are searched together. The interval between searches is tracked per group, so
/// that searches of one group do not delay those of another.
#[derive(Default)]
struct Group {
    by_number: HashMap<u64, Arc<Connection>>,
    for_slots: LastSearch,
    for_bytes: LastSearch,
}

/// The last search of a group.
#[derive(Default)]
struct LastSearch {
    at: Option<Instant>,
    /// The connections that it evicted, which may not be closed yet.
    closed: Vec<u64>,
}

/// The resource that a search is to free.
#[derive(Clone, Copy)]
enum Resource {
    /// A connection slot.
    Slot,
    /// A number of bytes of memory.
    Bytes(usize),
}

/// The result of a search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchResult {
    /// Nothing can be freed.
    NothingToEvict,
    /// Connections are being closed, or a search ran just now.
    Retry,
}

/// One connection. Its state is kept in atomics, because every request updates it.
pub(super) struct Connection {
    number: u64,
    epoch: Instant,
    /// The network in whose share it is, unless it belongs to a trusted proxy.
    network: OnceLock<IpAddr>,
    /// The [`stamp`] since when it has been idle, waiting for a request; 0 while a request is
    /// served, and after an upgrade.
    idle: AtomicU64,
    /// Whether the last response is complete but possibly not yet written.
    answered: AtomicBool,
    /// The stamp since when the socket has not been writable; 0 while it is.
    blocked: AtomicU64,
    upgraded: AtomicBool,
    closing: AtomicBool,
    waker: AtomicWaker,
    /// Bytes of unsent responses.
    pub(super) unsent: AtomicUsize,
    /// The share that an upgraded connection holds until it is closed.
    upgraded_share: Mutex<Option<Share<IpAddr>>>,
}

/// The registration of a connection, removed on drop.
pub(super) struct Registration {
    connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(per_address: usize, proxies: TrustedProxies, metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            proxies,
            per_address: Shares::new(per_address),
            epoch: Instant::now(),
            open: Mutex::default(),
        }
    }

    /// Registers a connection. Its address is set later: see [`Self::admit`].
    pub(super) fn register(self: &Arc<Self>) -> Registration {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let connection = Arc::new(Connection {
            number,
            epoch: self.epoch,
            network: OnceLock::new(),
            idle: AtomicU64::new(stamp(self.epoch)),
            answered: AtomicBool::default(),
            blocked: AtomicU64::default(),
            upgraded: AtomicBool::default(),
            closing: AtomicBool::default(),
            waker: AtomicWaker::new(),
            unsent: AtomicUsize::default(),
            upgraded_share: Mutex::default(),
        });
        open.all.by_number.insert(number, Arc::clone(&connection));
        Registration {
            connections: Arc::clone(self),
            connection,
        }
    }

    /// Acquires a slot in the share of an address, evicting connections of the same address if
    /// necessary.
    ///
    /// # Errors
    /// When the share of the address is exhausted.
    pub(super) async fn admit(&self, address: IpAddr) -> Result<Share<IpAddr>, RefusalReason> {
        let holder = network(address);
        let slot = || self.per_address.acquire(&holder, 1);
        let slot = self.retry(Some(holder), Resource::Slot, slot).await;
        slot.ok_or(RefusalReason::Address)
    }

    /// Acquires a slot, evicting connections of any address if none is free.
    pub(super) async fn acquire_slot<T>(&self, take: impl FnMut() -> Option<T>) -> Option<T> {
        self.retry(None, Resource::Slot, take).await
    }

    /// Acquires memory, disconnecting slow peers of one network or of all if there is none left.
    pub(super) async fn acquire_memory<T>(
        &self,
        of: Option<IpAddr>,
        bytes: usize,
        take: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.retry(of, Resource::Bytes(bytes), take).await
    }

    /// Retries until it succeeds, nothing more can be freed or the timeout is over: evicted
    /// connections release their resources when their tasks run.
    async fn retry<T>(
        &self,
        of: Option<IpAddr>,
        resource: Resource,
        mut take: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + RETRY_TIMEOUT;
        loop {
            if let Some(taken) = take() {
                return Some(taken);
            }
            if self.search(of, resource) == SearchResult::NothingToEvict
                || Instant::now() > deadline
            {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Evicts connections of one network or of all networks. To free slots, it evicts connections
    /// that have been idle or slow for the longest time. To free bytes, it evicts slow connections
    /// until they hold enough bytes. It evicts nothing while connections evicted by the last search
    /// are still closing.
    fn search(&self, of: Option<IpAddr>, resource: Resource) -> SearchResult {
        let found = {
            let mut open = self.open();
            let group = match of {
                None => Some(&mut open.all),
                Some(network) => open.by_network.get_mut(&network),
            };
            let Some(group) = group else {
                return SearchResult::NothingToEvict;
            };
            let Some(found) = group.search(resource) else {
                return SearchResult::Retry;
            };
            found
        };
        if found.is_empty() {
            return SearchResult::NothingToEvict;
        }
        self.evict(found);
        SearchResult::Retry
    }

    fn evict(&self, found: Vec<Arc<Connection>>) {
        for connection in found {
            let reason = if connection.idle.load(Ordering::Relaxed) > 0 {
                DisconnectReason::Idle
            } else {
                DisconnectReason::Slow
            };
            self.metrics.record_disconnect(reason);
            connection.close();
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Returns the connections to evict, the longest waiting first. Returns `None` if the last
    /// search for this resource was too recent, or has evicted some that are not closed yet.
    fn search(&mut self, resource: Resource) -> Option<Vec<Arc<Connection>>> {
        let now = Instant::now();
        let count = u32::try_from(self.by_number.len()).unwrap_or(u32::MAX);
        let last = match resource {
            Resource::Slot => &self.for_slots,
            Resource::Bytes(_) => &self.for_bytes,
        };
        if let Some(at) = last.at {
            let since = now.saturating_duration_since(at);
            let mut closed = last.closed.iter();
            let is_closing =
                since < RETRY_TIMEOUT && closed.any(|it| self.by_number.contains_key(it));
            if is_closing || since < SEARCH_INTERVAL * count {
                return None;
            }
        }
        let mut found = self.candidates(resource);
        found.sort_unstable_by_key(|(since, _)| *since);
        let enough = match resource {
            Resource::Slot => (self.by_number.len() / CONNECTIONS_PER_EVICTION).max(1),
            Resource::Bytes(bytes) => {
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
        let last = match resource {
            Resource::Slot => &mut self.for_slots,
            Resource::Bytes(_) => &mut self.for_bytes,
        };
        last.at = Some(now);
        last.closed = found.iter().map(|connection| connection.number).collect();
        Some(found)
    }

    /// The connections that may be evicted, each with the stamp since when.
    fn candidates(&self, resource: Resource) -> Vec<(u64, Arc<Connection>)> {
        let since = |connection: &Connection| match resource {
            Resource::Slot => connection.idle_or_slow_since(),
            Resource::Bytes(_) => connection.holding_since(),
        };
        let all = self.by_number.values();
        all.filter_map(|connection| Some((since(connection)?, Arc::clone(connection))))
            .collect()
    }
}

impl Registration {
    /// Sets the network in whose share the connection is. Later calls have no effect.
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

impl Drop for Registration {
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
    /// Marks the start of a request.
    pub(super) fn set_busy(&self) {
        self.answered.store(false, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
    }

    /// Marks the response as complete. The connection becomes idle once it is written.
    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Marks everything so far as written.
    pub(super) fn set_flushed(&self) {
        let is_answered = self.answered.swap(false, Ordering::Relaxed);
        if is_answered && !self.upgraded.load(Ordering::Relaxed) {
            self.idle.store(stamp(self.epoch), Ordering::Relaxed);
        }
    }

    /// Marks the connection as upgraded: no more requests arrive on it.
    pub(super) fn set_upgraded(&self, share: Option<Share<IpAddr>>) {
        self.upgraded.store(true, Ordering::Relaxed);
        self.set_busy();
        *lock(&self.upgraded_share) = share;
    }

    /// Marks the socket as not writable.
    pub(super) fn set_blocked(&self) {
        self.blocked.store(stamp(self.epoch), Ordering::Relaxed);
    }

    /// Marks the socket as writable again.
    pub(super) fn set_unblocked(&self) {
        self.blocked.store(0, Ordering::Relaxed);
    }

    /// Whether the connection is to be closed. If not, wakes the waker when it is.
    pub(super) fn is_closing(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.closing.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The stamp since when it has been idle or its peer has been slow.
    fn idle_or_slow_since(&self) -> Option<u64> {
        let idle = self.idle.load(Ordering::Relaxed);
        let idle = (idle > 0).then_some(idle);
        let since = idle.into_iter().chain(self.slow_since()).min()?;
        (!self.closing.load(Ordering::Relaxed)).then_some(since)
    }

    /// The stamp since when its peer has not read the unsent bytes that it holds.
    fn holding_since(&self) -> Option<u64> {
        let holds = self.unsent.load(Ordering::Relaxed) > 0;
        self.slow_since()
            .filter(|_| holds && !self.closing.load(Ordering::Relaxed))
    }

    fn slow_since(&self) -> Option<u64> {
        let since = self.blocked.load(Ordering::Relaxed);
        let slow = u64::try_from(SLOW_AFTER.as_millis()).unwrap_or(u64::MAX);
        (since > 0 && since + slow < stamp(self.epoch)).then_some(since)
    }
}

/// Milliseconds since the start, plus one, so that it is never 0.
fn stamp(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
