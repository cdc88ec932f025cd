//! The routes of clients that belong to other threads, and the senders of links.

use std::collections::HashMap;
use std::time::Instant;

use crate::engine::{ROUTE_HOLD, Route};
use crate::relay::{LinkId, LinkSender, Via};

/// Maximum number of routes in the table.
const MAX_ROUTES: usize = 100_000;

/// Maps routes to the threads that they belong to. Contains only routes of other threads.
#[derive(Default)]
pub(super) struct ShardRoutes(HashMap<Route, Home>);

struct Home {
    shard: usize,
    /// When the last connectivity check confirmed it.
    confirmed: Instant,
}

impl ShardRoutes {
    /// Returns the index of the thread that a route belongs to.
    pub(super) fn shard(&self, route: Route) -> Option<usize> {
        self.0.get(&route).map(|home| home.shard)
    }

    /// Returns whether a check on this route was forwarded so recently that a check for a different
    /// thread is ignored. ICE user names and source addresses can be forged. Links are never held,
    /// since only one client can use a link.
    pub(super) fn is_held(&self, now: Instant, route: Route) -> bool {
        let home = self.0.get(&route);
        matches!(route, Route::Udp(..))
            && home.is_some_and(|home| now.saturating_duration_since(home.confirmed) < ROUTE_HOLD)
    }

    /// Records that a check on this route was for a client of the given thread.
    pub(super) fn confirm(&mut self, now: Instant, route: Route, shard: usize) {
        if self.0.len() >= MAX_ROUTES && !self.0.contains_key(&route) {
            // Evict an arbitrary route: the next check of its client restores it.
            let one = self.0.keys().next().copied();
            one.map(|one| self.0.remove(&one));
        }
        self.0.insert(
            route,
            Home {
                shard,
                confirmed: now,
            },
        );
    }

    /// Removes a route. Returns the index of its thread.
    pub(super) fn remove(&mut self, route: Route) -> Option<usize> {
        self.0.remove(&route).map(|home| home.shard)
    }
}

/// The sending halves of links, by link.
///
/// Threads notify each other when a link closes, unless the inbox is full. To remove the links
/// whose notification was lost, closed links are swept whenever the number of links has doubled
/// since the last sweep.
#[derive(Default)]
pub(super) struct LinkSenders {
    by_link: HashMap<LinkId, LinkSender>,
    sweep_at: usize,
}

/// Minimum number of links between two sweeps.
const SWEEP_SLACK: usize = 64;

impl LinkSenders {
    /// Adds a link. Returns the links that a sweep found to be closed.
    pub(super) fn add(&mut self, link: LinkId, sender: LinkSender) -> Vec<(LinkId, Via)> {
        let mut closed = Vec::new();
        if self.by_link.len() >= self.sweep_at {
            self.by_link.retain(|link, sender| {
                if sender.is_closed() {
                    closed.push((*link, sender.via));
                }
                !sender.is_closed()
            });
            self.sweep_at = self.by_link.len() * 2 + SWEEP_SLACK;
        }
        self.by_link.insert(link, sender);
        closed
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&LinkSender> {
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
    fn a_check_moves_a_route_only_when_its_owner_has_not_sent_one_recently() {
        let start = Instant::now();
        let mut routes = ShardRoutes::default();
        assert!(!routes.is_held(start, route(1)));
        routes.confirm(start, route(1), 3);
        assert_eq!(routes.shard(route(1)), Some(3));
        assert!(routes.is_held(start + ROUTE_HOLD / 2, route(1)));
        assert!(!routes.is_held(start + ROUTE_HOLD / 2, route(2)));
        routes.confirm(start + ROUTE_HOLD / 2, route(1), 3);
        assert!(routes.is_held(start + ROUTE_HOLD, route(1)));
        assert!(!routes.is_held(start + ROUTE_HOLD * 2, route(1)));
        assert_eq!(routes.remove(route(1)), Some(3));
        assert_eq!(routes.shard(route(1)), None);

        let link = Route::Link(LinkId(1), Via::Tcp);
        routes.confirm(start, link, 3);
        assert!(!routes.is_held(start, link));
    }

    #[test]
    fn the_number_of_routes_is_bounded() {
        let mut routes = ShardRoutes::default();
        let now = Instant::now();
        for number in 0..MAX_ROUTES + 100 {
            let host = u32::try_from(number).unwrap();
            let route = Route::Udp(0, SocketAddr::new(std::net::Ipv4Addr::from(host).into(), 1));
            routes.confirm(now + Duration::from_secs(1), route, 1);
            assert_eq!(routes.shard(route), Some(1));
        }
        assert_eq!(routes.0.len(), MAX_ROUTES);
    }

    #[test]
    fn links_whose_close_message_was_lost_do_not_accumulate() {
        let mut senders = LinkSenders::default();
        let (kept, _open) = LinkSender::disconnected(LinkId(0));
        senders.add(LinkId(0), kept);
        let (mut closed, mut most) = (0, 0);
        for number in 1..10_000 {
            // No close message is sent.
            let (sender, _) = LinkSender::disconnected(LinkId(number));
            assert!(sender.is_closed());
            closed += senders.add(LinkId(number), sender).len();
            most = most.max(senders.by_link.len());
        }
        assert!(most <= 2 * SWEEP_SLACK, "{most}");
        assert_eq!(closed + senders.by_link.len(), 10_000);
        assert!(senders.get(LinkId(0)).is_some());
    }
}
