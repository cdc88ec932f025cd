//! The threads that own the sockets and an engine each.
//!
//! A meeting lives on one thread, and nothing on the way of a packet waits for another. Clients
//! come to one port; which thread's socket the system gives a datagram to depends on where it comes
//! from only. Most often that is another thread than the meeting's, which the client's first check
//! shows: from then on its datagrams are handed over. What goes out leaves through the socket of the
//! meeting's own thread.

#[cfg(test)]
mod tests;

mod command;
mod counters;
mod gate;
mod restart;
mod start;
mod ways;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn_udp::{BATCH_SIZE, RecvMeta};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::debug;

pub(crate) use self::command::Command;
pub(crate) use self::counters::Counters;
use self::gate::{Gate, READ_BYTES, readable};
use self::start::SHARDS;
pub(crate) use self::start::start;
use self::ways::{Elsewhere, Outlets};
use crate::engine::{Engine, Route, Taken};
use crate::relay::{FromLink, LinkId, Outlet, Via};
use crate::wire::{self, Kind};
use crate::{Direction, Member, Stats};

/// How many times a socket is read before orders and timers have their turn.
const ROUNDS: usize = 8;

/// How many more orders are done before sockets and timers have their turn.
const ORDERS: usize = 16;

/// Larger than any datagram that a client has reason to send.
const DATAGRAM_BYTES: usize = 2048;

/// What one thread hands to another.
enum Stray {
    /// A datagram that came to the wrong thread.
    Datagram {
        route: Route,
        source: SocketAddr,
        datagram: Vec<u8>,
        /// The way back, if it is not a UDP address.
        outlet: Option<Outlet>,
    },
    /// A link has ended.
    Ended(LinkId, Via),
    /// The transport that a link led to on this thread, by its place, is gone.
    Released(LinkId, Via, usize),
}

struct Shard {
    engine: Engine,
    sockets: Vec<Gate>,
    orders: mpsc::UnboundedReceiver<Command>,
    inbox: mpsc::Receiver<Stray>,
    index: usize,
    /// The inboxes of all threads.
    strays: Vec<mpsc::Sender<Stray>>,
    /// What comes on ways that are not UDP addresses. The first thread has it.
    links: Option<mpsc::UnboundedReceiver<FromLink>>,
    /// The ways back on them.
    outlets: Outlets,
    elsewhere: Elsewhere,
    counters: Arc<Counters>,
    stats: Stats,
    /// The latest order of each member and direction that is still being read.
    claims: HashMap<(Member, Direction), Claim>,
}

/// An order to open a transport that is still being read.
struct Claim {
    number: u64,
    /// The member was let into the meeting meanwhile.
    admitted: bool,
}

impl Shard {
    /// Works until it is told to stop. Can be called again after a panic and [`Shard::start_over`].
    async fn run(&mut self) {
        let mut buffer = vec![0; READ_BYTES * BATCH_SIZE];
        loop {
            self.engine.timeout(Instant::now());
            self.release();
            self.send();
            self.count();

            let next = self.engine.next_timeout();
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Command::Stop) | None => break,
                    Some(command) => {
                        self.obey(command);
                        for _ in 0..ORDERS {
                            match self.orders.try_recv() {
                                Ok(Command::Stop) => return self.stopped(),
                                Ok(command) => self.obey(command),
                                Err(_) => break,
                            }
                        }
                    }
                },
                Some(stray) = self.inbox.recv() => self.adopt(stray),
                Some(heard) = from_links(&mut self.links) => self.hear(heard),
                () = readable(&self.sockets) => self.receive(&mut buffer),
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
        self.stopped();
    }

    fn stopped(&self) {
        self.counters.write(&Stats {
            open_transports: 0,
            connected_transports: 0,
            producers: 0,
            consumers: 0,
            ..self.stats
        });
    }

    /// Takes what another thread was given, and whatever else waits of it.
    fn adopt(&mut self, first: Stray) {
        let now = Instant::now();
        let mut next = Some(first);
        for _ in 0..BATCH_SIZE * ROUNDS {
            let Some(stray) = next else { break };
            match stray {
                Stray::Datagram {
                    route,
                    source,
                    mut datagram,
                    outlet,
                } => {
                    if let (Route::Link(link, _), Some(outlet)) = (route, outlet) {
                        self.link(link, outlet);
                    }
                    self.stats.datagrams_in += 1;
                    let taken = self.engine.receive(now, route, source, &mut datagram);
                    self.stats.datagrams_dropped += u64::from(taken != Taken::Yes);
                }
                Stray::Ended(link, via) => self.unlink(link, via),
                Stray::Released(link, via, shard) => {
                    let route = Route::Link(link, via);
                    if self.elsewhere.shard(route) == Some(shard) {
                        self.elsewhere.forget(route);
                        self.hang_up(link, via);
                    }
                }
            }
            next = self.inbox.try_recv().ok();
        }
    }

    /// Takes what came on a link.
    fn hear(&mut self, heard: FromLink) {
        match heard {
            FromLink::Opened { link, outlet } => self.link(link, outlet),
            FromLink::Datagram {
                link,
                mut datagram,
                waits,
            } => {
                if let Some(outlet) = self.outlets.get(link) {
                    let (source, route) = (outlet.source, Route::Link(link, outlet.via));
                    self.take(Instant::now(), route, source, &mut datagram);
                }
                drop(waits);
            }
            FromLink::Closed { link } => {
                let Some(via) = self.outlets.get(link).map(|outlet| outlet.via) else {
                    return;
                };
                if let Some(shard) = self.elsewhere.forget(Route::Link(link, via)) {
                    // Without room for it, that thread finds out by itself.
                    let _ = self.strays[shard].try_send(Stray::Ended(link, via));
                }
                self.unlink(link, via);
            }
        }
    }

    fn link(&mut self, link: LinkId, outlet: Outlet) {
        if self.outlets.get(link).is_none() {
            for (link, via) in self.outlets.add(link, outlet) {
                self.engine.unlink(link, via);
            }
        }
    }

    fn unlink(&mut self, link: LinkId, via: Via) {
        self.outlets.remove(link);
        self.engine.unlink(link, via);
    }

    /// Lets go of the links to transports that are gone.
    fn release(&mut self) {
        while let Some((link, via)) = self.engine.released() {
            if self.links.is_some() {
                self.hang_up(link, via);
                continue;
            }
            self.outlets.remove(link);
            // Without room for it, the connection ends when its client does not check any more.
            let _ = self.strays[0].try_send(Stray::Released(link, via, self.index));
        }
    }

    /// The transport is gone that a link led to. A TCP connection is for nothing else; through a
    /// relay the client may come to another.
    fn hang_up(&mut self, link: LinkId, via: Via) {
        if via == Via::Tcp {
            self.outlets.remove(link);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        for index in 0..self.sockets.len() {
            for _ in 0..ROUNDS {
                let count = match self.sockets[index].read(buffer, &mut metas) {
                    Ok(count) => count,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::WouldBlock {
                            debug!(%error, "datagrams could not be received");
                        }
                        break;
                    }
                };
                let now = Instant::now();
                for (meta, bytes) in metas.iter().zip(buffer.chunks_mut(READ_BYTES)).take(count) {
                    let route = Route::Udp(index, meta.addr);
                    for datagram in bytes[..meta.len].chunks_mut(meta.stride.max(1)) {
                        self.take(now, route, meta.addr, datagram);
                    }
                }
                self.send();
            }
        }
    }

    fn take(&mut self, now: Instant, route: Route, source: SocketAddr, datagram: &mut [u8]) {
        if let Some(home) = self.elsewhere.shard(route) {
            // A check says by itself where it belongs; what comes between checks goes where the last
            // one did.
            let is_check = wire::kind(datagram) == Kind::Stun;
            let is_at_home = is_check && self.engine.is_for(datagram) == Some(SHARDS[home]);
            if is_at_home {
                self.elsewhere.checked(now, route, home);
            }
            if is_at_home || !is_check {
                return self.hand_over(home, route, source, datagram);
            }
            if self.elsewhere.is_held(now, route) {
                self.stats.datagrams_in += 1;
                self.stats.datagrams_dropped += 1;
                return;
            }
        }
        // What is longer was cut off, or is of no use.
        let taken = if datagram.len() > DATAGRAM_BYTES {
            Taken::No
        } else {
            self.engine.receive(now, route, source, datagram)
        };
        self.stats.datagrams_in += 1;
        match taken {
            Taken::Yes => {
                self.elsewhere.forget(route);
            }
            Taken::Elsewhere(shard) => {
                let shard = SHARDS.iter().position(|other| *other == shard);
                match shard.filter(|shard| *shard < self.strays.len()) {
                    // Anybody can write a name: it does not lead a client of this thread away.
                    Some(shard) if !self.engine.knows(route) => {
                        self.stats.datagrams_in -= 1;
                        self.elsewhere.checked(now, route, shard);
                        self.hand_over(shard, route, source, datagram);
                    }
                    _ => self.stats.datagrams_dropped += 1,
                }
            }
            Taken::No => self.stats.datagrams_dropped += 1,
        }
    }

    fn hand_over(&mut self, shard: usize, route: Route, source: SocketAddr, datagram: &[u8]) {
        debug_assert_ne!(shard, self.index);
        let outlet = match route {
            Route::Link(link, _) => self.outlets.get(link).cloned(),
            Route::Udp(..) => None,
        };
        let stray = Stray::Datagram {
            route,
            source,
            datagram: datagram.to_vec(),
            outlet,
        };
        if self.strays[shard].try_send(stray).is_err() {
            self.stats.datagrams_dropped += 1;
        }
    }

    fn send(&mut self) {
        let (sockets, stats, outlets) = (&self.sockets, &mut self.stats, &self.outlets);
        let mut ended = Vec::new();
        self.engine.flush(|route, outbox| match route {
            Route::Udp(index, destination) => {
                let (sent, dropped) = sockets[index].send(destination, outbox);
                stats.datagrams_out += sent;
                stats.datagrams_dropped += dropped;
            }
            Route::Link(link, via) => {
                let outlet = outlets.get(link).filter(|outlet| !outlet.is_closed());
                if outlet.is_none() {
                    ended.push((link, via));
                }
                for datagram in outbox.datagrams() {
                    if outlet.is_some_and(|outlet| outlet.send(datagram.to_vec())) {
                        stats.datagrams_out += 1;
                    } else {
                        stats.datagrams_dropped += 1;
                    }
                }
            }
        });
        // It was not told in time, but is seen now: the client may be there on another way.
        for (link, via) in ended {
            self.unlink(link, via);
        }
    }

    fn count(&mut self) {
        self.stats.open_transports = self.engine.open_transports() as u64;
        self.stats.connected_transports = self.engine.connected_transports() as u64;
        self.stats.producers = self.engine.producers() as u64;
        self.stats.consumers = self.engine.consumers() as u64;
        self.stats.refused = self.engine.refused();
        self.counters.write(&self.stats);
    }
}

/// What comes on links next; never, if there are none.
async fn from_links(links: &mut Option<mpsc::UnboundedReceiver<FromLink>>) -> Option<FromLink> {
    match links {
        Some(links) => links.recv().await,
        None => None,
    }
}
