//! What a thread knows of the ways to clients of other threads, and of those that are no UDP
//! addresses.

use std::collections::HashMap;
use std::time::Instant;

use crate::engine::{HELD, Route};
use crate::relay::{LinkId, Outlet, Via};

/// How many ways to other threads' clients are remembered.
const MOST: usize = 100_000;

/// The thread that a way belongs to, if it is another.
#[derive(Default)]
pub(super) struct Elsewhere(HashMap<Route, Home>);

struct Home {
    shard: usize,
    /// The last check that said so.
    checked: Instant,
}

impl Elsewhere {
    /// The thread that a way leads to.
    pub(super) fn shard(&self, route: Route) -> Option<usize> {
        self.0.get(&route).map(|home| home.shard)
    }

    /// Whether a way leads where it does so surely that a check which says something else is not
    /// believed: anybody can write a name, and the address of another. Nobody else can come on a
    /// link.
    pub(super) fn is_held(&self, now: Instant, route: Route) -> bool {
        let home = self.0.get(&route);
        matches!(route, Route::Udp(..))
            && home.is_some_and(|home| now.saturating_duration_since(home.checked) < HELD)
    }

    /// A check says that a way leads to a client of this thread.
    pub(super) fn checked(&mut self, now: Instant, route: Route, shard: usize) {
        if self.0.len() >= MOST && !self.0.contains_key(&route) {
            // Any one of them: the next check shows it again.
            let one = self.0.keys().next().copied();
            one.map(|one| self.0.remove(&one));
        }
        self.0.insert(
            route,
            Home {
                shard,
                checked: now,
            },
        );
    }

    /// A way leads nowhere else any more; where it did.
    pub(super) fn forget(&mut self, route: Route) -> Option<usize> {
        self.0.remove(&route).map(|home| home.shard)
    }
}

/// The ways back to clients on links.
///
/// Threads tell each other when a link ends, as far as their queues have room. What was never told
/// is found out here: whenever there are twice as many as were of use the last time, those are looked
/// for that are not.
#[derive(Default)]
pub(super) struct Outlets {
    by_link: HashMap<LinkId, Outlet>,
    sweep_at: usize,
}

/// So many are of no account.
const FEW: usize = 64;

impl Outlets {
    /// Adds the way back on a link. What is returned are links that have ended meanwhile.
    pub(super) fn add(&mut self, link: LinkId, outlet: Outlet) -> Vec<(LinkId, Via)> {
        let mut ended = Vec::new();
        if self.by_link.len() >= self.sweep_at {
            self.by_link.retain(|link, outlet| {
                if outlet.is_closed() {
                    ended.push((*link, outlet.via));
                }
                !outlet.is_closed()
            });
            self.sweep_at = self.by_link.len() * 2 + FEW;
        }
        self.by_link.insert(link, outlet);
        ended
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&Outlet> {
        self.by_link.get(&link)
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        self.by_link.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    fn route(port: u16) -> Route {
        Route::Udp(0, SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn a_check_moves_a_way_only_when_its_owner_has_not_checked_lately() {
        let start = Instant::now();
        let mut elsewhere = Elsewhere::default();
        assert!(!elsewhere.is_held(start, route(1)));
        elsewhere.checked(start, route(1), 3);
        assert_eq!(elsewhere.shard(route(1)), Some(3));
        assert!(elsewhere.is_held(start + HELD / 2, route(1)));
        assert!(!elsewhere.is_held(start + HELD / 2, route(2)));
        elsewhere.checked(start + HELD / 2, route(1), 3);
        assert!(elsewhere.is_held(start + HELD, route(1)));
        assert!(!elsewhere.is_held(start + HELD * 2, route(1)));
        assert_eq!(elsewhere.forget(route(1)), Some(3));
        assert_eq!(elsewhere.shard(route(1)), None);

        let link = Route::Link(LinkId(1), Via::Tcp);
        elsewhere.checked(start, link, 3);
        assert!(!elsewhere.is_held(start, link));
    }

    #[test]
    fn no_more_ways_are_remembered_than_may_be() {
        let mut elsewhere = Elsewhere::default();
        let now = Instant::now();
        for number in 0..MOST + 100 {
            let host = u32::try_from(number).unwrap();
            let way = Route::Udp(0, SocketAddr::new(std::net::Ipv4Addr::from(host).into(), 1));
            elsewhere.checked(now + Duration::from_secs(1), way, 1);
            assert_eq!(elsewhere.shard(way), Some(1));
        }
        assert_eq!(elsewhere.0.len(), MOST);
    }

    #[test]
    fn links_whose_end_nobody_told_do_not_pile_up() {
        let mut outlets = Outlets::default();
        let (kept, _open) = Outlet::to_nobody(LinkId(0));
        outlets.add(LinkId(0), kept);
        let (mut ended, mut most) = (0, 0);
        for number in 1..10_000 {
            // Its end is not told.
            let (outlet, _) = Outlet::to_nobody(LinkId(number));
            assert!(outlet.is_closed());
            ended += outlets.add(LinkId(number), outlet).len();
            most = most.max(outlets.by_link.len());
        }
        assert!(most <= 2 * FEW, "{most}");
        assert_eq!(ended + outlets.by_link.len(), 10_000);
        assert!(outlets.get(LinkId(0)).is_some());
    }
}
