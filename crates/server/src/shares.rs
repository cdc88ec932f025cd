//! Shares of a bounded pool: how much of it each holder (an address, an app, a meeting, a person)
//! may have at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what each holder has of a pool and refuses more than `most`.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    most: usize,
    held: Mutex<HashMap<K, usize>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// A pool of which each holder may have `most` at a time; 0 is no limit.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            held: Mutex::default(),
        })
    }

    /// Takes `count` for a holder until the returned [`Share`] is dropped. `None` when the holder
    /// would have more than its share.
    pub(crate) fn take(self: &Arc<Self>, holder: &K, count: usize) -> Option<Share<K>> {
        let mut held = self.held();
        let has = held.get(holder).copied().unwrap_or_default();
        let total = has.saturating_add(count);
        if self.most > 0 && total > self.most {
            return None;
        }
        held.insert(holder.clone(), total);
        Some(Share {
            pool: Arc::clone(self),
            holder: holder.clone(),
            count,
        })
    }

    fn give_back(&self, holder: &K, count: usize) {
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

/// Part of a pool that somebody holds, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Clone + Eq + Hash> {
    pool: Arc<Shares<K>>,
    holder: K,
    count: usize,
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.pool.give_back(&self.holder, self.count);
    }
}

/// The network that shares one limit: an IPv4 address, or the /64 of an IPv6 address, which one
/// customer of an access network usually has whole. IPv4 addresses mapped into IPv6 count as IPv4.
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
    fn a_holder_has_no_more_than_its_share() {
        let pool = Shares::new(3);
        let first = pool.take(&"a", 2).expect("within the share");
        assert!(pool.take(&"a", 2).is_none());
        let second = pool.take(&"a", 1).expect("within the share");
        let other = pool.take(&"b", 3).expect("others have their own");
        drop(first);
        assert!(pool.take(&"a", 2).is_some());
        drop((second, other));
        assert!(pool.held().is_empty(), "nothing is left of those who left");
    }

    #[test]
    fn zero_is_no_limit() {
        let pool = Shares::new(0);
        let held: Vec<_> = (0..100).filter_map(|_| pool.take(&(), 1000)).collect();
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
