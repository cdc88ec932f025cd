//! The threads of the media plane, each of which owns sockets and an engine.
//!
//! Each meeting is assigned to one thread, and packet forwarding never waits for another thread.
//! All threads share one port with `SO_REUSEPORT`, so the system selects the receiving socket by
//! the datagram's source address. Usually that is not the thread of the client's meeting. The
//! client's first connectivity check identifies the right thread, and from then on the receiving
//! thread forwards the client's datagrams to it. Outgoing datagrams are sent on the socket of the
//! meeting's thread.

#[cfg(test)]
mod tests;

mod batch_socket;
mod command;
mod counters;
mod restart;
mod routes;
mod start;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn_udp::{BATCH_SIZE, RecvMeta};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::debug;

use self::batch_socket::{BatchSocket, READ_BYTES, readable};
pub(crate) use self::command::Command;
pub(crate) use self::counters::Counters;
use self::routes::{LinkSenders, ShardRoutes};
use self::start::SHARDS;
pub(crate) use self::start::start;
use crate::engine::{Disposition, Engine, Route};
use crate::relay::{LinkEvent, LinkId, LinkSender, Via};
use crate::wire::{self, Kind};
use crate::{Direction, Member, Stats};

/// Maximum number of reads from a socket before commands and timers are processed.
const READ_ROUNDS: usize = 8;

/// Maximum number of further commands in a batch before sockets and timers are processed.
const COMMAND_BATCH: usize = 16;

/// Maximum size of a datagram, in bytes. Clients have no reason to send larger ones.
const MAX_DATAGRAM_BYTES: usize = 2048;

/// A message from one thread to another.
enum ShardMessage {
    /// A datagram that arrived at the wrong thread.
    Datagram {
        route: Route,
        source: SocketAddr,
        datagram: Vec<u8>,
        /// The sending half of the link, if the datagram arrived on a link.
        sender: Option<LinkSender>,
    },
    /// A link has closed.
    Closed(LinkId, Via),
    /// The transport that used a link was freed. The last field is the index of its thread.
    Released(LinkId, Via, usize),
}

struct Shard {
    engine: Engine,
    sockets: Vec<BatchSocket>,
    commands: mpsc::UnboundedReceiver<Command>,
    inbox: mpsc::Receiver<ShardMessage>,
    index: usize,
    /// The inboxes of all threads.
    inboxes: Vec<mpsc::Sender<ShardMessage>>,
    /// Events of all links. Only the first thread receives them.
    links: Option<mpsc::UnboundedReceiver<LinkEvent>>,
    /// The sending halves of links.
    senders: LinkSenders,
    routes: ShardRoutes,
    counters: Arc<Counters>,
    stats: Stats,
    /// The latest pending `open` request of each member and direction.
    claims: HashMap<(Member, Direction), Claim>,
}

/// A pending request to open a transport, whose offer is still being parsed.
struct Claim {
    number: u64,
    /// Whether the member was admitted to the meeting after the claim.
    admitted: bool,
}

impl Shard {
    /// Runs until it receives [`Command::Stop`]. Can be called again after a panic and
    /// [`Shard::reset`].
    async fn run(&mut self) {
        let mut buffer = vec![0; READ_BYTES * BATCH_SIZE];
        loop {
            self.engine.timeout(Instant::now());
            self.close_released_links();
            self.send();
            self.publish_stats();

            let next = self.engine.next_timeout();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => {
                        self.execute(command);
                        for _ in 0..COMMAND_BATCH {
                            match self.commands.try_recv() {
                                Ok(Command::Stop) => return self.publish_stopped(),
                                Ok(command) => self.execute(command),
                                Err(_) => break,
                            }
                        }
                    }
                },
                Some(message) = self.inbox.recv() => self.handle_messages(message),
                Some(event) = next_link_event(&mut self.links) => self.handle_link_event(event),
                () = readable(&self.sockets) => self.receive(&mut buffer),
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
        self.publish_stopped();
    }

    fn publish_stopped(&self) {
        self.counters.write(&Stats {
            open_transports: 0,
            connected_transports: 0,
            producers: 0,
            consumers: 0,
            ..self.stats
        });
    }

    /// Handles a message from another thread and a batch of those queued behind it.
    fn handle_messages(&mut self, first: ShardMessage) {
        let now = Instant::now();
        let mut next = Some(first);
        for _ in 0..BATCH_SIZE * READ_ROUNDS {
            let Some(message) = next else { break };
            match message {
                ShardMessage::Datagram {
                    route,
                    source,
                    mut datagram,
                    sender,
                } => {
                    if let (Route::Link(link, _), Some(sender)) = (route, sender) {
                        self.link(link, sender);
                    }
                    self.stats.datagrams_in += 1;
                    let taken = self.engine.receive(now, route, source, &mut datagram);
                    self.stats.datagrams_dropped += u64::from(taken != Disposition::Accepted);
                }
                ShardMessage::Closed(link, via) => self.unlink(link, via),
                ShardMessage::Released(link, via, shard) => {
                    let route = Route::Link(link, via);
                    if self.routes.shard(route) == Some(shard) {
                        self.routes.remove(route);
                        self.close_link(link, via);
                    }
                }
            }
            next = self.inbox.try_recv().ok();
        }
    }

    fn handle_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Opened { link, sender } => self.link(link, sender),
            LinkEvent::Datagram {
                link,
                mut datagram,
                permits,
            } => {
                if let Some(sender) = self.senders.get(link) {
                    let (source, route) = (sender.source, Route::Link(link, sender.via));
                    self.dispatch(Instant::now(), route, source, &mut datagram);
                }
                drop(permits);
            }
            LinkEvent::Closed { link } => {
                let Some(via) = self.senders.get(link).map(|sender| sender.via) else {
                    return;
                };
                if let Some(shard) = self.routes.remove(Route::Link(link, via)) {
                    // If its inbox is full, that shard detects that the sender is closed.
                    let _ = self.inboxes[shard].try_send(ShardMessage::Closed(link, via));
                }
                self.unlink(link, via);
            }
        }
    }

    fn link(&mut self, link: LinkId, sender: LinkSender) {
        if self.senders.get(link).is_none() {
            for (link, via) in self.senders.add(link, sender) {
                self.engine.unlink(link, via);
            }
        }
    }

    fn unlink(&mut self, link: LinkId, via: Via) {
        self.senders.remove(link);
        self.engine.unlink(link, via);
    }

    /// Closes the links of freed transports.
    fn close_released_links(&mut self) {
        while let Some((link, via)) = self.engine.released() {
            if self.links.is_some() {
                self.close_link(link, via);
                continue;
            }
            self.senders.remove(link);
            // If the inbox is full, the connection closes when the client stops sending checks.
            let _ = self.inboxes[0].try_send(ShardMessage::Released(link, via, self.index));
        }
    }

    /// Closes a link whose transport was freed, if it is a TCP connection. A TURN allocation stays
    /// open, since the client may use it for another transport.
    fn close_link(&mut self, link: LinkId, via: Via) {
        if via == Via::Tcp {
            self.senders.remove(link);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        for index in 0..self.sockets.len() {
            for _ in 0..READ_ROUNDS {
                let count = match self.sockets[index].recv(buffer, &mut metas) {
                    Ok(count) => count,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::WouldBlock {
                            debug!(%error, "failed to receive datagrams");
                        }
                        break;
                    }
                };
                let now = Instant::now();
                for (meta, bytes) in metas.iter().zip(buffer.chunks_mut(READ_BYTES)).take(count) {
                    let route = Route::Udp(index, meta.addr);
                    for datagram in bytes[..meta.len].chunks_mut(meta.stride.max(1)) {
                        self.dispatch(now, route, meta.addr, datagram);
                    }
                }
                self.send();
            }
        }
    }

    /// Passes a datagram to the engine, or forwards it to the thread that it belongs to.
    fn dispatch(&mut self, now: Instant, route: Route, source: SocketAddr, datagram: &mut [u8]) {
        if let Some(home) = self.routes.shard(route) {
            // A connectivity check names its thread; other datagrams follow the last check.
            let is_check = wire::kind(datagram) == Kind::Stun;
            let is_at_home = is_check && self.engine.target_shard(datagram) == Some(SHARDS[home]);
            if is_at_home {
                self.routes.confirm(now, route, home);
            }
            if is_at_home || !is_check {
                return self.forward(home, route, source, datagram);
            }
            if self.routes.is_held(now, route) {
                self.stats.datagrams_in += 1;
                self.stats.datagrams_dropped += 1;
                return;
            }
        }
        // A longer datagram may have been truncated, and is useless in any case.
        let taken = if datagram.len() > MAX_DATAGRAM_BYTES {
            Disposition::Dropped
        } else {
            self.engine.receive(now, route, source, datagram)
        };
        self.stats.datagrams_in += 1;
        match taken {
            Disposition::Accepted => {
                self.routes.remove(route);
            }
            Disposition::OtherShard(shard) => {
                let shard = SHARDS.iter().position(|other| *other == shard);
                match shard.filter(|shard| *shard < self.inboxes.len()) {
                    // ICE user names can be forged: they must not redirect a client of this thread.
                    Some(shard) if !self.engine.has_route(route) => {
                        self.stats.datagrams_in -= 1;
                        self.routes.confirm(now, route, shard);
                        self.forward(shard, route, source, datagram);
                    }
                    _ => self.stats.datagrams_dropped += 1,
                }
            }
            Disposition::Dropped => self.stats.datagrams_dropped += 1,
        }
    }

    /// Forwards a datagram to another thread.
    fn forward(&mut self, shard: usize, route: Route, source: SocketAddr, datagram: &[u8]) {
        debug_assert_ne!(shard, self.index);
        let sender = match route {
            Route::Link(link, _) => self.senders.get(link).cloned(),
            Route::Udp(..) => None,
        };
        let message = ShardMessage::Datagram {
            route,
            source,
            datagram: datagram.to_vec(),
            sender,
        };
        if self.inboxes[shard].try_send(message).is_err() {
            self.stats.datagrams_dropped += 1;
        }
    }

    fn send(&mut self) {
        let (sockets, stats, senders) = (&self.sockets, &mut self.stats, &self.senders);
        let mut closed = Vec::new();
        self.engine.flush(|route, outbox| match route {
            Route::Udp(index, destination) => {
                let (sent, dropped) = sockets[index].send(destination, outbox);
                stats.datagrams_out += sent;
                stats.datagrams_dropped += dropped;
            }
            Route::Link(link, via) => {
                let sender = senders.get(link).filter(|sender| !sender.is_closed());
                if sender.is_none() {
                    closed.push((link, via));
                }
                for datagram in outbox.datagrams() {
                    if sender.is_some_and(|sender| sender.send(datagram.to_vec())) {
                        stats.datagrams_out += 1;
                    } else {
                        stats.datagrams_dropped += 1;
                    }
                }
            }
        });
        // Their close messages have not arrived. Clients may still be reachable on another route.
        for (link, via) in closed {
            self.unlink(link, via);
        }
    }

    fn publish_stats(&mut self) {
        self.stats.open_transports = self.engine.open_transports() as u64;
        self.stats.connected_transports = self.engine.connected_transports() as u64;
        self.stats.producers = self.engine.producers() as u64;
        self.stats.consumers = self.engine.consumers() as u64;
        self.stats.refused = self.engine.refused();
        self.counters.write(&self.stats);
    }
}

/// Receives the next link event. Returns `None` if this thread does not receive any.
async fn next_link_event(
    links: &mut Option<mpsc::UnboundedReceiver<LinkEvent>>,
) -> Option<LinkEvent> {
    match links {
        Some(links) => links.recv().await,
        None => None,
    }
}
