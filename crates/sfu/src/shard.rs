//! The thread that owns the sockets and the engine behind them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::debug;

use crate::core::{Engine, Offer, Settings};
use crate::sockets;
use crate::{Config, Direction, Error, Member, Opened, Stats};

/// How many datagrams are taken from a socket before orders and timers have their turn.
const BATCH: usize = 64;

/// Larger than any datagram that a client has reason to send; what fills it was cut off.
const DATAGRAM_BYTES: usize = 2048;

/// What the thread is asked to do.
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
        offer: Offer,
        reply: oneshot::Sender<Result<Opened, Error>>,
        /// Held until the offer's memory is free.
        waits: OwnedSemaphorePermit,
    },
    Close(Member),
    Stop,
}

/// The numbers of [`Stats`], written by the thread and read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    open_transports: AtomicU64,
    connected_transports: AtomicU64,
    datagrams_in: AtomicU64,
    datagrams_out: AtomicU64,
    datagrams_dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            open_transports: self.open_transports.load(Ordering::Relaxed),
            connected_transports: self.connected_transports.load(Ordering::Relaxed),
            datagrams_in: self.datagrams_in.load(Ordering::Relaxed),
            datagrams_out: self.datagrams_out.load(Ordering::Relaxed),
            datagrams_dropped: self.datagrams_dropped.load(Ordering::Relaxed),
        }
    }

    fn write(&self, stats: &Stats) {
        self.open_transports
            .store(stats.open_transports, Ordering::Relaxed);
        self.connected_transports
            .store(stats.connected_transports, Ordering::Relaxed);
        self.datagrams_in
            .store(stats.datagrams_in, Ordering::Relaxed);
        self.datagrams_out
            .store(stats.datagrams_out, Ordering::Relaxed);
        self.datagrams_dropped
            .store(stats.datagrams_dropped, Ordering::Relaxed);
    }
}

/// Binds the sockets and starts the thread; answers where they are bound.
pub(crate) fn start(
    config: Config,
    inbox: mpsc::UnboundedReceiver<Command>,
    counters: Arc<Counters>,
) -> io::Result<(Vec<SocketAddr>, JoinHandle<()>)> {
    let Config {
        bind,
        public,
        max_transports,
        connect_timeout,
    } = config;
    let bound = sockets::bind(&bind, &public)?;
    let local_addrs = bound.iter().map(|bound| bound.local).collect();
    for bound in &bound {
        debug!(local = %bound.local, advertised = ?bound.advertised, "media is bound");
    }

    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let entered = runtime.enter();
    let (advertised, sockets): (Vec<_>, Vec<_>) = bound
        .into_iter()
        .map(|bound| (bound.advertised, UdpSocket::from_std(bound.socket)))
        .unzip();
    let sockets = sockets.into_iter().collect::<io::Result<Vec<_>>>()?;
    drop(entered);

    let engine = Engine::new(&Settings {
        advertised,
        max_transports,
        connect_timeout,
    });
    let shard = Shard {
        engine,
        sockets,
        inbox,
        counters,
        stats: Stats::default(),
        claims: HashMap::new(),
    };
    let thread = thread::Builder::new()
        .name("media-0".to_owned())
        .spawn(move || runtime.block_on(shard.run()))?;
    Ok((local_addrs, thread))
}

struct Shard {
    engine: Engine,
    sockets: Vec<UdpSocket>,
    inbox: mpsc::UnboundedReceiver<Command>,
    counters: Arc<Counters>,
    stats: Stats,
    /// The latest order of each member and direction that is still being read.
    claims: HashMap<(Member, Direction), u64>,
}

impl Shard {
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            self.engine.timeout(Instant::now());
            self.send();
            self.count();

            let next = self.engine.next_timeout();
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => self.obey(command),
                },
                () = readable(&self.sockets) => self.receive(&mut buffer),
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
        self.counters.write(&Stats {
            open_transports: 0,
            connected_transports: 0,
            ..self.stats
        });
    }

    fn obey(&mut self, command: Command) {
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
                waits,
            } => {
                if self.claims.get(&(member, direction)) != Some(&claim) {
                    return;
                }
                self.claims.remove(&(member, direction));
                if reply.is_closed() {
                    return;
                }
                let opened = self.engine.open(Instant::now(), member, direction, offer);
                drop(waits);
                // Whoever reads the answer reads numbers that have the transport in them.
                self.count();
                // If nobody waits any more, the transport is freed when it does not connect.
                let _ = reply.send(opened);
            }
            Command::Close(member) => {
                for direction in [Direction::Publish, Direction::Receive] {
                    self.claims.remove(&(member, direction));
                }
                self.engine.close(member);
            }
            Command::Stop => {}
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for (index, socket) in self.sockets.iter().enumerate() {
            for _ in 0..BATCH {
                let (length, source) = match socket.try_recv_from(buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        debug!(%error, "a datagram could not be received");
                        break;
                    }
                };
                self.stats.datagrams_in += 1;
                let whole = length < buffer.len();
                let taken = whole
                    && self
                        .engine
                        .receive(Instant::now(), index, source, &buffer[..length]);
                if !taken {
                    self.stats.datagrams_dropped += 1;
                }
            }
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit() {
            let socket = &self.sockets[transmit.socket];
            // A full buffer drops like any router on the way: whatever matters is sent again.
            match socket.try_send_to(&transmit.contents, transmit.destination) {
                Ok(_) => self.stats.datagrams_out += 1,
                Err(error) => {
                    debug!(%error, "a datagram could not be sent");
                    self.stats.datagrams_dropped += 1;
                }
            }
        }
    }

    fn count(&mut self) {
        self.stats.open_transports = self.engine.open_transports() as u64;
        self.stats.connected_transports = self.engine.connected_transports() as u64;
        self.counters.write(&self.stats);
    }
}

/// Waits until a datagram is there on any of the sockets.
async fn readable(sockets: &[UdpSocket]) {
    poll_fn(|context| {
        // Each is asked, so that each wakes the thread.
        let ready = sockets
            .iter()
            .filter(|socket| socket.poll_recv_ready(context).is_ready())
            .count();
        if ready > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
