//! The open connections: how many each address may have, and which of them are closed to make room
//! for others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::proxies::TrustedProxies;
use crate::metrics::{Disconnected, Metrics, Refused};
use crate::shares::{Share, Shares, network};

/// A peer that has taken nothing for so long may be disconnected for the sake of others.
const SLOW: Duration = Duration::from_secs(1);
/// A search looks at every connection. Between two of them there is so much time for each.
const SEARCH: Duration = Duration::from_micros(1);
/// How long the disconnected get to give back what they hold.
const LEAVING: Duration = Duration::from_millis(100);
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
    by_number: HashMap<u64, Arc<Connection>>,
    searched: Option<Instant>,
}

/// One connection. What it does is noted without locks, since every request does.
pub(super) struct Connection {
    number: u64,
    began: Instant,
    /// The address that pays for it, unless it is a trusted proxy's.
    network: Mutex<Option<IpAddr>>,
    /// When it began to wait for a request's head, in milliseconds after the start, and one more; 0
    /// while a request is served, and from an upgrade on.
    idle: AtomicU64,
    /// The same of when the system took no more bytes for the peer; 0 while it does.
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
            network: Mutex::default(),
            idle: AtomicU64::new(stamp(self.began)),
            blocked: AtomicU64::default(),
            upgraded: AtomicBool::default(),
            closing: AtomicBool::default(),
            waker: AtomicWaker::new(),
            unsent: AtomicUsize::default(),
            kept: Mutex::default(),
        });
        open.by_number.insert(number, Arc::clone(&connection));
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
        let take = || self.per_address.take(&holder, 1);
        if let Some(share) = take() {
            return Ok(share);
        }
        if self.make_room(Some(holder)) > 0
            && let Some(share) = within(LEAVING, take).await
        {
            return Ok(share);
        }
        Err(Refused::Address)
    }

    /// Closes some of the connections that wait for a request or whose peers take nothing, the
    /// longest first; how many.
    pub(super) fn make_room(&self, of: Option<IpAddr>) -> usize {
        let Some(mut found) = self.search(of, Connection::waits) else {
            return 0;
        };
        let portion = (self.open().by_number.len() / PORTION).max(1);
        if found.len() > portion {
            found.select_nth_unstable_by_key(portion - 1, |(since, _)| *since);
            found.truncate(portion);
        }
        self.close(found)
    }

    /// Disconnects peers that take nothing while the server holds something for them, the slowest
    /// first, until so many bytes are free; how many peers.
    pub(super) fn free(&self, of: Option<IpAddr>, bytes: usize) -> usize {
        let Some(mut found) = self.search(of, Connection::holds) else {
            return 0;
        };
        found.sort_unstable_by_key(|(since, _)| *since);
        let mut freed = 0;
        let enough = found.iter().position(|(_, connection)| {
            freed += connection.unsent.load(Ordering::Relaxed);
            freed >= bytes
        });
        found.truncate(enough.map_or(found.len(), |last| last + 1));
        self.close(found)
    }

    /// Those that a test finds, with what it found; `None` when the last search was just now.
    fn search(
        &self,
        of: Option<IpAddr>,
        test: impl Fn(&Connection) -> Option<u64>,
    ) -> Option<Vec<(u64, Arc<Connection>)>> {
        let mut open = self.open();
        let now = Instant::now();
        let count = u32::try_from(open.by_number.len()).unwrap_or(u32::MAX);
        if open
            .searched
            .is_some_and(|last| now - last < SEARCH * count)
        {
            return None;
        }
        open.searched = Some(now);
        let all = open.by_number.values();
        let asked = all.filter(|connection| of.is_none() || connection.network() == of);
        let found =
            asked.filter_map(|connection| Some((test(connection)?, Arc::clone(connection))));
        Some(found.collect())
    }

    fn close(&self, found: Vec<(u64, Arc<Connection>)>) -> usize {
        let count = found.len();
        for (_, connection) in found {
            let reason = if connection.blocked.load(Ordering::Relaxed) > 0 {
                Disconnected::Slow
            } else {
                Disconnected::Idle
            };
            self.metrics.disconnected(reason);
            connection.close();
        }
        count
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// Says whose the connection is.
    pub(super) fn assign(&self, address: IpAddr) {
        self.connection.belongs_to(Some(address));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections
            .open()
            .by_number
            .remove(&self.connection.number);
    }
}

impl Connection {
    /// Whose it is.
    pub(super) fn belongs_to(&self, address: Option<IpAddr>) {
        *locked(&self.network) = address;
    }

    fn network(&self) -> Option<IpAddr> {
        *locked(&self.network)
    }

    /// A request has come.
    pub(super) fn busy(&self) {
        self.idle.store(0, Ordering::Relaxed);
    }

    /// A request has been answered.
    pub(super) fn idle(&self) {
        if !self.upgraded.load(Ordering::Relaxed) {
            self.idle.store(stamp(self.began), Ordering::Relaxed);
        }
    }

    /// It is no connection of requests any more.
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

/// Tries until it succeeds or the time is over: the disconnected give back what they hold when their
/// tasks run.
pub(super) async fn within<T>(time: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + time;
    loop {
        if let Some(done) = attempt() {
            return Some(done);
        }
        if tokio::time::Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How long the disconnected get.
pub(super) const PATIENCE: Duration = LEAVING;

/// Milliseconds after the start, and one more: never 0.
fn stamp(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
