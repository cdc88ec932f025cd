//! Fair shares of a bounded pool: how much of it each holder (an address, an app, a meeting or a
//! participant) may hold at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool that limits how much of it each holder may hold.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    max: usize,
    held: Mutex<HashMap<K, usize>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Returns a pool of which each holder may hold `max` at a time; 0 is no limit.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            held: Mutex::default(),
        })
    }

    /// Acquires `count` for a holder until the returned [`Share`] is dropped. Returns `None` when
    /// the holder would exceed its share.
    pub(crate) fn acquire(self: &Arc<Self>, holder: &K, count: usize) -> Option<Share<K>> {
        let mut held = self.held();
        let has = held.get(holder).copied().unwrap_or_default();
        let total = has.saturating_add(count);
        if self.max > 0 && total > self.max {
            return None;
        }
        held.insert(holder.clone(), total);
        Some(Share {
            pool: Arc::clone(self),
            holder: holder.clone(),
            count,
        })
    }

    fn release(&self, holder: &K, count: usize) {
        if let Entry::Occupied(mut entry) = self.held().entry(holder.clone()) {
            let left = entry.get().saturating_sub(count);
            if left == 0 {
                entry.remove();
            } else {
                entry.insert(left);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a pool that a holder has taken. Dropping it returns it to the pool.
#[derive(Debug)]
pub(crate) struct Share<K: Clone + Eq + Hash> {
    pool: Arc<Shares<K>>,
    holder: K,
    count: usize,
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.pool.release(&self.holder, self.count);
    }
}

/// Returns the network that shares one limit: an IPv4 address, or the /64 of an IPv6 address, which
/// is usually assigned to a single customer. IPv4-mapped IPv6 addresses count as IPv4.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_cannot_exceed_its_share() {
        let pool = Shares::new(3);
        let first = pool.acquire(&"a", 2).expect("within the share");
        assert!(pool.acquire(&"a", 2).is_none());
        let second = pool.acquire(&"a", 1).expect("within the share");
        let other = pool.acquire(&"b", 3).expect("others have their own");
        drop(first);
        assert!(pool.acquire(&"a", 2).is_some());
        drop((second, other));
        assert!(pool.held().is_empty(), "an idle holder still has an entry");
    }

    #[test]
    fn zero_is_no_limit() {
        let pool = Shares::new(0);
        let held: Vec<_> = (0..100).filter_map(|_| pool.acquire(&(), 1000)).collect();
        assert_eq!(held.len(), 100);
    }

    #[test]
    fn an_ipv6_network_is_64_bits_long() {
        let of = |address: &str| network(address.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
