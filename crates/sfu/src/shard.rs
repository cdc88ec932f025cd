//! The threads that own the sockets and an engine each.
//!
//! A meeting lives on one thread, and nothing on the way of a packet waits for another. Clients
//! come to one port; which thread's socket the system gives a datagram to depends on where it comes
//! from only. Most often that is another thread than the meeting's, which the client's first check
//! shows: from then on its datagrams are handed over. What goes out leaves through the socket of the
//! meeting's own thread.

#[cfg(test)]
mod tests;

use std::array;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use aws_lc_rs::rand;
use parlor_protocol::{MeetingId, PeerId, ProducerId};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::debug;

use crate::core::{Engine, Identity, Outbox, Route, Settings, Taken};
use crate::relay::{Doorway, FromLink, LinkId, MediaSocket, Outlet, Relay, Via};
use crate::sdp::{Candidate, Description};
use crate::sockets::{self, Bound};
use crate::wire::{self, Kind};
use crate::{
    Config, Consumed, Direction, Error, Event, Member, Opened, PeerReport, Produce, RelayConfig,
    Stats, Want,
};

/// How many times a socket is read before orders and timers have their turn.
const ROUNDS: usize = 8;

/// How many more orders are done before sockets and timers have their turn.
const ORDERS: usize = 16;

/// Room for what one read yields: several datagrams that the system has joined.
const READ_BYTES: usize = 64 * 1024;

/// Larger than any datagram that a client has reason to send.
const DATAGRAM_BYTES: usize = 2048;

/// Datagrams that may wait to be handed over to a thread. What is more is dropped, as by any router.
const STRAYS: usize = 8192;

/// How many ways to other threads' clients are remembered.
const ELSEWHERE: usize = 100_000;

/// What the ids of a thread's transports begin with, by the thread's number. It bounds their number.
const SHARDS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a thread is asked to do.
pub(crate) enum Command {
    /// An offer is being read; its place among the orders is here.
    Claim {
        member: Member,
        direction: Direction,
        claim: u64,
    },
    Open {
        member: Member,
        direction: Direction,
        claim: u64,
        offer: Description,
        reply: Reply<Opened>,
    },
    Produce {
        member: Member,
        produce: Box<Produce>,
        offer: Description,
        reply: Reply<String>,
    },
    Reoffer {
        member: Member,
        offer: Description,
        reply: Reply<String>,
    },
    Drop {
        member: Member,
        producer: ProducerId,
    },
    Pause {
        member: Member,
        producer: ProducerId,
        paused: bool,
    },
    Consume {
        member: Member,
        transport: String,
        wanted: Vec<Want>,
        reply: Reply<Consumed>,
    },
    Answered {
        member: Member,
        transport: String,
        answer: Description,
        reply: Reply<()>,
    },
    CloseConsumers {
        member: Member,
        transport: String,
        mids: Vec<String>,
        offer: Description,
        reply: Reply<String>,
    },
    Prefer {
        member: Member,
        wishes: Vec<(String, String)>,
    },
    Revoke {
        member: Member,
        producers: Vec<ProducerId>,
    },
    Pin {
        meeting: MeetingId,
        peer: Option<PeerId>,
    },
    Close(Member),
    Listen {
        meeting: MeetingId,
        listener: mpsc::Sender<Event>,
    },
    Report {
        member: Member,
        reply: oneshot::Sender<Option<PeerReport>>,
    },
    Stop,
}

/// A datagram that came to the wrong thread.
struct Stray {
    route: Route,
    source: SocketAddr,
    datagram: Vec<u8>,
    /// The way back, if it is not a UDP address.
    outlet: Option<Outlet>,
}

/// The numbers of [`Stats`], written by a thread and read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; 7]);

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        let [open, connected, producers, consumers, came, sent, dropped] =
            array::from_fn(|index| self.0[index].load(Ordering::Relaxed));
        Stats {
            open_transports: open,
            connected_transports: connected,
            producers,
            consumers,
            datagrams_in: came,
            datagrams_out: sent,
            datagrams_dropped: dropped,
        }
    }

    fn write(&self, stats: &Stats) {
        let numbers = [
            stats.open_transports,
            stats.connected_transports,
            stats.producers,
            stats.consumers,
            stats.datagrams_in,
            stats.datagrams_out,
            stats.datagrams_dropped,
        ];
        for (own, number) in self.0.iter().zip(numbers) {
            own.store(number, Ordering::Relaxed);
        }
    }
}

/// What runs.
pub(crate) struct Started {
    pub(crate) commands: Vec<mpsc::UnboundedSender<Command>>,
    pub(crate) counters: Vec<Arc<Counters>>,
    pub(crate) local_addrs: Vec<SocketAddr>,
    pub(crate) relay: Option<Relay>,
    /// Ends after all the threads.
    pub(crate) thread: JoinHandle<()>,
}

/// Binds the sockets and starts the threads.
pub(crate) fn start(config: &Config) -> io::Result<Started> {
    let threads = config.threads.clamp(1, SHARDS.len());
    let mut bound = sockets::bind(&config.bind, &config.public, threads)?;
    let mut candidates = Vec::new();
    for bound in &bound {
        debug!(local = %bound.local, advertised = ?bound.advertised, "media is bound");
        let udp = bound.advertised.iter();
        candidates.extend(udp.map(|&address| Candidate {
            address,
            tcp: false,
        }));
    }
    let (relay, mut links) = match &config.relay {
        Some(wanted) => {
            let (relay, links) = start_relay(config, wanted, &bound)?;
            (Some(relay), Some(links))
        }
        None => (None, None),
    };
    let tcp = relay.iter().flat_map(Relay::tcp_addresses);
    candidates.extend(tcp.map(|&address| Candidate { address, tcp: true }));
    let local_addrs = bound.iter().map(|bound| bound.local).collect();

    let (strays, inboxes): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel(STRAYS)).unzip();
    let mut started = Started {
        commands: Vec::new(),
        counters: Vec::new(),
        local_addrs,
        relay,
        thread: thread::spawn(|| ()),
    };
    let mut running = Vec::new();
    let open = Arc::default();
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (commands, orders) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let engine = Engine::new(Settings {
            candidates: candidates.clone(),
            shard: SHARDS[index],
            max_transports: config.max_transports,
            open: Arc::clone(&open),
            max_consumers: config.max_consumers,
            connect_timeout: config.connect_timeout,
            passwords: config.secret.key("ice passwords"),
            identity: Identity::generate().map_err(io::Error::other)?,
            random: |bytes| rand::fill(bytes).expect("the system has random bytes"),
        });
        let own = bound.iter_mut().map(|bound| bound.sockets.pop());
        let own = own.flatten().collect::<Vec<_>>();
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let shard = {
            let _entered = runtime.enter();
            Shard {
                engine,
                sockets: own.into_iter().map(Gate::new).collect::<io::Result<_>>()?,
                orders,
                inbox,
                index,
                strays: strays.clone(),
                links: links.take(),
                outlets: HashMap::new(),
                elsewhere: HashMap::new(),
                counters: Arc::clone(&counters),
                stats: Stats::default(),
                claims: HashMap::new(),
            }
        };
        running.push(
            thread::Builder::new()
                .name(format!("media-{index}"))
                .spawn(move || {
                    let _watch = Watch;
                    runtime.block_on(shard.run());
                })?,
        );
        started.commands.push(commands);
        started.counters.push(counters);
    }
    started.thread = thread::Builder::new()
        .name("media".to_owned())
        .spawn(move || {
            for thread in running {
                if thread.join().is_err() {
                    tracing::error!("a media thread panicked");
                }
            }
        })?;
    Ok(started)
}

/// Starts the ways for networks without UDP.
fn start_relay(
    config: &Config,
    wanted: &RelayConfig,
    bound: &[Bound],
) -> io::Result<(Relay, mpsc::UnboundedReceiver<FromLink>)> {
    let (doorway, links) = Doorway::new();
    let media = config
        .bind
        .iter()
        .zip(bound)
        .map(|(wanted, bound)| MediaSocket {
            local: bound.local,
            any_port: wanted.port() == 0,
            advertised: bound.advertised.clone(),
        });
    let media = media.collect::<Vec<_>>();
    let relay = Relay::start(wanted.clone(), &config.secret, &media, doorway)?;
    Ok((relay, links))
}

/// Ends the process with its thread, if that panics: the meetings on it would be without media for
/// good, and nothing that was acknowledged is lost.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a media thread panicked: the server ends");
            std::process::abort();
        }
    }
}

/// A socket with what the system can do with it.
struct Gate {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Gate {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, state })
    }

    fn read(&self, buffer: &mut [u8], metas: &mut [RecvMeta; BATCH_SIZE]) -> io::Result<usize> {
        let mut parts = buffer.chunks_mut(READ_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut slices, metas)
        })
    }

    /// Sends to one client; answers how many datagrams left, and how many did not.
    fn send(&self, destination: SocketAddr, outbox: &Outbox) -> (u64, u64) {
        let (mut sent, mut dropped) = (0, 0);
        for (contents, size, count) in outbox.runs(self.state.max_gso_segments()) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents,
                segment_size: (count > 1).then_some(size),
                src_ip: None,
            };
            // A full buffer drops like any router on the way: whatever matters is sent again.
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => sent += count as u64,
                Err(error) => {
                    debug!(%error, "datagrams could not be sent");
                    dropped += count as u64;
                }
            }
        }
        (sent, dropped)
    }
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
    outlets: HashMap<LinkId, Outlet>,
    /// The thread that a way belongs to, if it is another.
    elsewhere: HashMap<Route, usize>,
    counters: Arc<Counters>,
    stats: Stats,
    /// The latest order of each member and direction that is still being read.
    claims: HashMap<(Member, Direction), u64>,
}

impl Shard {
    async fn run(mut self) {
        let mut buffer = vec![0; READ_BYTES * BATCH_SIZE];
        loop {
            self.engine.timeout(Instant::now());
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

    fn obey(&mut self, command: Command) {
        let (engine, now) = (&mut self.engine, Instant::now());
        // If nobody waits for an answer any more, it is as if it had been lost on the way.
        match command {
            Command::Claim {
                member,
                direction,
                claim,
            } => {
                self.claims.insert((member, direction), claim);
            }
            Command::Open {
                member,
                direction,
                claim,
                offer,
                reply,
            } => {
                if self.claims.get(&(member, direction)) != Some(&claim) {
                    return;
                }
                self.claims.remove(&(member, direction));
                if reply.is_closed() {
                    return;
                }
                let opened = engine.open(now, member, direction, &offer);
                // Whoever reads the answer reads numbers that have the transport in them.
                self.count();
                let _ = reply.send(opened);
            }
            Command::Produce {
                member,
                produce,
                offer,
                reply,
            } => {
                let _ = reply.send(engine.produce(now, member, &produce, &offer));
            }
            Command::Reoffer {
                member,
                offer,
                reply,
            } => {
                let _ = reply.send(engine.reoffer(member, &offer));
            }
            Command::Drop { member, producer } => engine.drop_producer(member, producer),
            Command::Pause {
                member,
                producer,
                paused,
            } => engine.pause(now, member, producer, paused),
            Command::Consume {
                member,
                transport,
                wanted,
                reply,
            } => {
                let _ = reply.send(engine.consume(member, &transport, &wanted));
            }
            Command::Answered {
                member,
                transport,
                answer,
                reply,
            } => {
                let _ = reply.send(engine.answered(now, member, &transport, &answer));
            }
            Command::CloseConsumers {
                member,
                transport,
                mids,
                offer,
                reply,
            } => {
                let _ = reply.send(engine.close_consumers(member, &transport, &mids, &offer));
            }
            Command::Prefer { member, wishes } => engine.prefer(now, member, &wishes),
            Command::Revoke { member, producers } => engine.revoke(member, &producers),
            Command::Pin { meeting, peer } => engine.pin(meeting, peer),
            Command::Close(member) => {
                for direction in [Direction::Publish, Direction::Receive] {
                    self.claims.remove(&(member, direction));
                }
                engine.close(member);
            }
            Command::Listen { meeting, listener } => engine.listen(meeting, listener),
            Command::Report { member, reply } => {
                let _ = reply.send(engine.report(now, member));
            }
            Command::Stop => {}
        }
    }

    /// Takes what another thread was given, and whatever else waits of it.
    fn adopt(&mut self, first: Stray) {
        let now = Instant::now();
        let mut next = Some(first);
        for _ in 0..BATCH_SIZE * ROUNDS {
            let Some(mut stray) = next else { break };
            if let Route::Link(link, via) = stray.route {
                match stray.outlet {
                    Some(outlet) => {
                        self.outlets.entry(link).or_insert(outlet);
                    }
                    None => self.unlink(link, via),
                }
            }
            self.stats.datagrams_in += 1;
            let taken = self
                .engine
                .receive(now, stray.route, stray.source, &mut stray.datagram);
            if taken != Taken::Yes {
                self.stats.datagrams_dropped += 1;
            }
            next = self.inbox.try_recv().ok();
        }
    }

    /// Takes what came on a link.
    fn hear(&mut self, heard: FromLink) {
        match heard {
            FromLink::Opened { link, outlet } => {
                self.outlets.insert(link, outlet);
            }
            FromLink::Datagram {
                link,
                mut datagram,
                waits,
            } => {
                if let Some(outlet) = self.outlets.get(&link) {
                    let (source, route) = (outlet.source, Route::Link(link, outlet.via));
                    self.take(Instant::now(), route, source, &mut datagram);
                }
                drop(waits);
            }
            FromLink::Closed { link } => {
                let Some(via) = self.outlets.get(&link).map(|outlet| outlet.via) else {
                    return;
                };
                let route = Route::Link(link, via);
                if let Some(shard) = self.elsewhere.remove(&route) {
                    // Nothing is what the last datagram has in it.
                    let source = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                    self.hand_over(shard, route, source, &[]);
                }
                self.unlink(link, via);
            }
        }
    }

    fn unlink(&mut self, link: LinkId, via: Via) {
        self.outlets.remove(&link);
        self.engine.unlink(link, via);
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
        // A check says by itself where it belongs; what comes between checks goes where the last one
        // did.
        if let Some(shard) = self.elsewhere.get(&route)
            && wire::kind(datagram) != Kind::Stun
        {
            return self.hand_over(*shard, route, source, datagram);
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
                self.elsewhere.remove(&route);
            }
            Taken::Elsewhere(shard) => {
                let shard = SHARDS.iter().position(|other| *other == shard);
                match shard.filter(|shard| *shard < self.strays.len()) {
                    // Anybody can write a name: it does not lead a client of this thread away.
                    Some(shard) if !self.engine.knows(route) => {
                        self.stats.datagrams_in -= 1;
                        self.remember(route, shard);
                        self.hand_over(shard, route, source, datagram);
                    }
                    _ => self.stats.datagrams_dropped += 1,
                }
            }
            Taken::No => self.stats.datagrams_dropped += 1,
        }
    }

    /// The way leads to a client of another thread.
    fn remember(&mut self, route: Route, shard: usize) {
        if self.elsewhere.len() >= ELSEWHERE && !self.elsewhere.contains_key(&route) {
            // Any one of them: the next check shows it again.
            let one = self.elsewhere.keys().next().copied();
            one.map(|one| self.elsewhere.remove(&one));
        }
        self.elsewhere.insert(route, shard);
    }

    fn hand_over(&mut self, shard: usize, route: Route, source: SocketAddr, datagram: &[u8]) {
        debug_assert_ne!(shard, self.index);
        let outlet = match route {
            Route::Link(link, _) => self.outlets.get(&link).cloned(),
            Route::Udp(..) => None,
        };
        let stray = Stray {
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
        self.engine.flush(|route, outbox| match route {
            Route::Udp(index, destination) => {
                let (sent, dropped) = sockets[index].send(destination, outbox);
                stats.datagrams_out += sent;
                stats.datagrams_dropped += dropped;
            }
            Route::Link(link, _) => {
                let outlet = outlets.get(&link);
                for datagram in outbox.datagrams() {
                    if outlet.is_some_and(|outlet| outlet.send(datagram.to_vec())) {
                        stats.datagrams_out += 1;
                    } else {
                        stats.datagrams_dropped += 1;
                    }
                }
            }
        });
    }

    fn count(&mut self) {
        self.stats.open_transports = self.engine.open_transports() as u64;
        self.stats.connected_transports = self.engine.connected_transports() as u64;
        self.stats.producers = self.engine.producers() as u64;
        self.stats.consumers = self.engine.consumers() as u64;
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

/// Waits until a datagram is there on any of the sockets.
async fn readable(sockets: &[Gate]) {
    poll_fn(|context| {
        // Each is asked, so that each wakes the thread.
        let ready = sockets
            .iter()
            .filter(|gate| gate.socket.poll_recv_ready(context).is_ready())
            .count();
        if ready > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
