//! The thread that owns all sockets, sends in time and counts what arrives.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use parlor_sfu::wire::srtp::Profile;
use tokio::sync::oneshot;

use super::batch::{BATCH, Batch};
use super::reception::Arrived;
use super::seat::Seat;
use super::stream::Stream;
use super::transport::Transport;

/// How often timers of all transports are looked at.
const ROUND: Duration = Duration::from_millis(10);

/// The longest sleep.
const REST: Duration = Duration::from_millis(5);

/// Packets that are due within this time of each other are sent together.
const GRAIN: Duration = Duration::from_micros(200);

/// Sockets of one look.
const READY: usize = 512;

/// The word by which orders wake the thread.
const ORDERS: u64 = u64::MAX;

/// What the rig calls a transport. No other ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportId(u64);

/// How sockets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as anything is there: for handshakes.
    AtOnce,
    /// All of them each so often, many datagrams at once. It costs less, and times do not suffer:
    /// the kernel's own are taken.
    Every(Duration),
}

/// What happened on all transports since the start.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Packets of media that were sent.
    pub sent: u64,
    /// Packets that the system would not take.
    pub unsent: u64,
    /// What arrived.
    pub arrived: Arrived,
    /// Streams that were heard, by all transports together.
    pub streams: usize,
    /// Keyframes that the server asked for.
    pub key_requests: u64,
    /// Packets that the server asked for again, which are not sent again.
    pub retransmission_requests: u64,
    /// Nanoseconds from sending to the arrival at the receiver's socket, of a sample of the packets
    /// since the last call.
    pub latencies_ns: Vec<u32>,
}

enum Order {
    Add {
        transport: Box<Transport>,
        connected: oneshot::Sender<Result<Profile>>,
        id: oneshot::Sender<TransportId>,
    },
    Expect {
        id: TransportId,
        transport_cc: Option<u8>,
        retransmissions: Option<u8>,
    },
    Publish {
        id: TransportId,
        stream: Box<Stream>,
        after: Duration,
    },
    Hush(TransportId),
    Remove(TransportId),
    Silence,
    Pace(Pace),
    Streams {
        id: TransportId,
        reply: oneshot::Sender<usize>,
    },
    Totals(oneshot::Sender<Totals>),
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Rig {
    orders: Option<Sender<Order>>,
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// Starts the thread. Each transport has one of so many of its packets decrypted.
    ///
    /// # Errors
    /// When the system has no descriptors.
    pub fn start(sample: u64) -> Result<Self> {
        let (sender, orders) = channel();
        let bell = Arc::new(EventFd::new()?);
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, ORDERS))?;
        let rings = Arc::clone(&bell);
        let thread = thread::Builder::new()
            .name("rig".to_owned())
            .spawn(move || {
                // Made here, since the headers of a batch may not move to another thread.
                let mut running = Running {
                    orders,
                    bell: rings,
                    epoll,
                    seats: BTreeMap::new(),
                    next_seat: 0,
                    due: BinaryHeap::new(),
                    batch: Batch::new(),
                    packet: Vec::with_capacity(2048),
                    pace: Pace::AtOnce,
                    sample: sample.max(1),
                    totals: Totals::default(),
                };
                running.run();
            })?;
        Ok(Self {
            orders: Some(sender),
            bell,
            thread: Some(thread),
        })
    }

    fn order(&self, order: Order) {
        // It ends only with this.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
        let _ = self.bell.write(1);
    }

    /// Hands a transport over, which has been told where to connect. The future is done when it is
    /// connected, and says how it is encrypted.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn add(
        &self,
        transport: Transport,
    ) -> Result<(
        TransportId,
        impl Future<Output = Result<Profile>> + Send + use<>,
    )> {
        let (id, told_id) = oneshot::channel();
        let (connected, told_connected) = oneshot::channel();
        self.order(Order::Add {
            transport: Box::new(transport),
            connected,
            id,
        });
        let id = told_id.await.context("the rig is gone")?;
        Ok((id, async move {
            told_connected.await.context("the rig is gone")?
        }))
    }

    /// Which header extension has transport-wide numbers, and which payload type is of
    /// retransmissions, on what arrives at this transport.
    pub fn expect(&self, id: TransportId, transport_cc: Option<u8>, retransmissions: Option<u8>) {
        self.order(Order::Expect {
            id,
            transport_cc,
            retransmissions,
        });
    }

    /// Sends a stream from now on, or a little later.
    pub fn publish(&self, id: TransportId, stream: Stream, after: Duration) {
        self.order(Order::Publish {
            id,
            stream: Box::new(stream),
            after,
        });
    }

    /// Ends all streams of a transport.
    pub fn hush(&self, id: TransportId) {
        self.order(Order::Hush(id));
    }

    /// Closes the socket of a transport without a word to the server.
    pub fn remove(&self, id: TransportId) {
        self.order(Order::Remove(id));
    }

    /// How many streams a transport has heard; none when it was removed.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn streams(&self, id: TransportId) -> Result<usize> {
        let (reply, told) = oneshot::channel();
        self.order(Order::Streams { id, reply });
        told.await.context("the rig is gone")
    }

    /// Sends nothing more.
    pub fn silence(&self) {
        self.order(Order::Silence);
    }

    /// Reads sockets in another way from now on.
    pub fn pace(&self, pace: Pace) {
        self.order(Order::Pace(pace));
    }

    /// What has happened so far.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn totals(&self) -> Result<Totals> {
        let (reply, told) = oneshot::channel();
        self.order(Order::Totals(reply));
        told.await.context("the rig is gone")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Running {
    orders: Receiver<Order>,
    bell: Arc<EventFd>,
    epoll: Epoll,
    seats: BTreeMap<u64, Seat>,
    next_seat: u64,
    /// When which stream of which seat is due.
    due: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    batch: Batch,
    packet: Vec<u8>,
    pace: Pace,
    sample: u64,
    totals: Totals,
}

impl Running {
    fn run(&mut self) {
        let mut ready = [EpollEvent::empty(); READY];
        let (mut next_round, mut next_look) = (Instant::now(), Instant::now());
        loop {
            let mut now = Instant::now();
            if self.send_due(now) {
                now = Instant::now();
            }
            if now >= next_round {
                next_round = now + ROUND;
                self.round(now);
            }
            let next_due = self.due.peek().map(|Reverse((due, ..))| *due);
            let wake = next_due.map_or(next_round, |due| due.min(next_round));
            match self.pace {
                Pace::AtOnce => {
                    let rest = wake.saturating_duration_since(now).min(REST);
                    let millis = u16::try_from(rest.as_millis()).unwrap_or(1);
                    if !self.look(&mut ready, millis) {
                        return;
                    }
                }
                Pace::Every(gap) => {
                    if now >= next_look {
                        next_look = now + gap;
                        if !self.look(&mut ready, 0) {
                            return;
                        }
                    }
                    let rest = wake
                        .min(next_look)
                        .saturating_duration_since(Instant::now());
                    if !rest.is_zero() {
                        thread::sleep(rest.max(GRAIN));
                    }
                }
            }
        }
    }

    /// Reads all sockets that have something; false when the rig is to end.
    fn look(&mut self, ready: &mut [EpollEvent], millis: u16) -> bool {
        let mut millis = millis;
        loop {
            let count = match self.epoll.wait(ready, millis) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    debug_assert!(false, "epoll: {error}");
                    return false;
                }
            };
            let now = Instant::now();
            for event in ready.iter().take(count) {
                if event.data() == ORDERS {
                    let _ = self.bell.read();
                    if !self.obey(now) {
                        return false;
                    }
                } else {
                    self.read(event.data(), now);
                }
            }
            if count < ready.len() {
                return true;
            }
            millis = 0;
        }
    }

    fn obey(&mut self, now: Instant) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.follow(order, now),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn follow(&mut self, order: Order, now: Instant) {
        match order {
            Order::Add {
                transport,
                connected,
                id,
            } => self.add(*transport, connected, id, now),
            Order::Expect {
                id,
                transport_cc,
                retransmissions,
            } => {
                if let Some(seat) = self.seats.get_mut(&id.0) {
                    seat.reception.expect(transport_cc, retransmissions);
                }
            }
            Order::Publish {
                id,
                mut stream,
                after,
            } => {
                if let Some(seat) = self.seats.get_mut(&id.0) {
                    stream.start(now + after);
                    seat.own_ssrc = stream.ssrc;
                    seat.streams.push(*stream);
                    let place = (now + after, id.0, seat.streams.len() - 1);
                    self.due.push(Reverse(place));
                }
            }
            Order::Hush(id) => {
                let seat = self.seats.get_mut(&id.0);
                for stream in seat.into_iter().flat_map(|seat| &mut seat.streams) {
                    stream.end();
                }
            }
            Order::Remove(id) => self.remove(id),
            Order::Silence => self.due.clear(),
            Order::Pace(pace) => self.pace = pace,
            Order::Streams { id, reply } => {
                let seat = self.seats.get(&id.0);
                let _ = reply.send(seat.map_or(0, |seat| seat.reception.streams()));
            }
            Order::Totals(reply) => {
                let _ = reply.send(self.sum());
            }
        }
    }

    /// What has arrived there still counts. The kernel forgets a socket that is closed.
    fn remove(&mut self, id: TransportId) {
        if let Some(seat) = self.seats.remove(&id.0) {
            self.totals.arrived.add(seat.reception.arrived());
            self.totals.streams += seat.reception.streams();
        }
    }

    fn add(
        &mut self,
        transport: Transport,
        connected: oneshot::Sender<Result<Profile>>,
        id: oneshot::Sender<TransportId>,
        now: Instant,
    ) {
        let number = self.next_seat;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        let Some(socket) = transport.socket() else {
            let _ = connected.send(Err(anyhow!("no socket")));
            return;
        };
        if let Err(error) = self.epoll.add(socket, event) {
            let _ = connected.send(Err(anyhow!("epoll: {error}")));
            return;
        }
        self.next_seat += 1;
        let mut seat = Seat::new(transport, connected, now);
        seat.timeout(now);
        // Whoever does not wait for it any more would never remove it.
        if id.send(TransportId(number)).is_ok() {
            self.seats.insert(number, seat);
        }
    }

    /// Sends what is due; whether anything was.
    fn send_due(&mut self, now: Instant) -> bool {
        let mut has_sent = false;
        while let Some(Reverse((due, seat, place))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let Some(found) = self.seats.get_mut(&seat) else {
                continue;
            };
            if let Some(next) = found.send(place, &mut self.packet, &mut self.totals) {
                has_sent = true;
                self.due.push(Reverse((next, seat, place)));
            }
        }
        has_sent
    }

    fn read(&mut self, number: u64, now: Instant) {
        let Some(seat) = self.seats.get_mut(&number) else {
            return;
        };
        loop {
            let Some(socket) = seat.transport.socket() else {
                return;
            };
            let count = self.batch.read(socket);
            for index in 0..count {
                if let Some((datagram, at_ns)) = self.batch.get(index) {
                    seat.receive(datagram, at_ns, now, self.sample, &mut self.totals);
                }
            }
            if count < BATCH {
                return;
            }
        }
    }

    fn round(&mut self, now: Instant) {
        for seat in self.seats.values_mut() {
            seat.timeout(now);
        }
    }

    fn sum(&mut self) -> Totals {
        let latencies_ns = std::mem::take(&mut self.totals.latencies_ns);
        let mut totals = self.totals.clone();
        totals.latencies_ns = latencies_ns;
        for seat in self.seats.values() {
            totals.arrived.add(seat.reception.arrived());
            totals.streams += seat.reception.streams();
        }
        totals
    }
}

#[cfg(test)]
mod tests;
