//! The thread that owns all sockets, sends packets on time and counts received ones.

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
use super::connection::Connection;
use super::reception::ReceiveTotals;
use super::stream::Stream;
use super::transport::Transport;

/// Interval at which the timers of all transports are checked.
const TIMER_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum time to block in one poll.
const MAX_WAIT: Duration = Duration::from_millis(5);

/// Minimum time to sleep. Packets that become due meanwhile are sent together.
const MIN_SLEEP: Duration = Duration::from_micros(200);

/// Maximum number of events per poll.
const READY: usize = 512;

/// Event data of the eventfd that signals commands.
const COMMANDS: u64 = u64::MAX;

/// ID of a transport on the media thread. IDs are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportId(u64);

/// When sockets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// As soon as data arrives, for handshakes.
    Immediate,
    /// All sockets at a fixed interval, many datagrams at once. This costs less and does not affect
    /// latencies, which are measured with kernel timestamps.
    Every(Duration),
}

/// Totals of all transports since the start.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Number of media packets sent.
    pub sent: u64,
    /// Number of packets that the system did not accept for sending.
    pub unsent: u64,
    /// Totals of the received packets.
    pub arrived: ReceiveTotals,
    /// Number of streams received by all transports.
    pub streams: usize,
    /// Number of key frame requests from the server.
    pub key_requests: u64,
    /// Number of packets that the server requested again. They are not retransmitted.
    pub retransmission_requests: u64,
    /// Latencies of a sample of the packets since the last call, from sending to arrival at the
    /// receiver's socket, in nanoseconds.
    pub latencies_ns: Vec<u32>,
}

enum Command {
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
    StopStreams(TransportId),
    Remove(TransportId),
    StopSending,
    SetReadMode(ReadMode),
    Streams {
        id: TransportId,
        reply: oneshot::Sender<usize>,
    },
    Totals(oneshot::Sender<Totals>),
}

/// Handle to the media thread. Dropping it stops the thread.
#[derive(Debug)]
pub struct MediaThread {
    commands: Option<Sender<Command>>,
    wakeup: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts the thread. One in `sample` packets of each stream is decrypted to measure its
    /// latency.
    ///
    /// # Errors
    /// When the system has no free descriptors.
    pub fn start(sample: u64) -> Result<Self> {
        let (sender, commands) = channel();
        let wakeup = Arc::new(EventFd::new()?);
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(&*wakeup, EpollEvent::new(EpollFlags::EPOLLIN, COMMANDS))?;
        let wakes = Arc::clone(&wakeup);
        let thread = thread::Builder::new()
            .name("media-clients".to_owned())
            .spawn(move || {
                // Created here, because the headers of a batch are not `Send`.
                let mut event_loop = EventLoop {
                    commands,
                    wakeup: wakes,
                    epoll,
                    connections: BTreeMap::new(),
                    next_id: 0,
                    due: BinaryHeap::new(),
                    batch: Batch::new(),
                    packet: Vec::with_capacity(2048),
                    read_mode: ReadMode::Immediate,
                    sample: sample.max(1),
                    totals: Totals::default(),
                };
                event_loop.run();
            })?;
        Ok(Self {
            commands: Some(sender),
            wakeup,
            thread: Some(thread),
        })
    }

    fn command(&self, command: Command) {
        // The thread ends only when this handle is dropped, so sending cannot fail.
        let _ = self
            .commands
            .as_ref()
            .map(|commands| commands.send(command));
        let _ = self.wakeup.write(1);
    }

    /// Adds a transport on which [`Transport::connect`] was called. The returned future completes
    /// when it is connected, with its SRTP profile.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn add(
        &self,
        transport: Transport,
    ) -> Result<(
        TransportId,
        impl Future<Output = Result<Profile>> + Send + use<>,
    )> {
        let (id, id_receiver) = oneshot::channel();
        let (connected, connected_receiver) = oneshot::channel();
        self.command(Command::Add {
            transport: Box::new(transport),
            connected,
            id,
        });
        let id = id_receiver.await.context("the media thread has ended")?;
        Ok((id, async move {
            connected_receiver
                .await
                .context("the media thread has ended")?
        }))
    }

    /// Sets the ID of the transport-wide sequence number extension and the payload type of
    /// retransmissions for packets received on a transport.
    pub fn expect(&self, id: TransportId, transport_cc: Option<u8>, retransmissions: Option<u8>) {
        self.command(Command::Expect {
            id,
            transport_cc,
            retransmissions,
        });
    }

    /// Starts to send a stream after a delay.
    pub fn publish(&self, id: TransportId, stream: Stream, after: Duration) {
        self.command(Command::Publish {
            id,
            stream: Box::new(stream),
            after,
        });
    }

    /// Stops all streams of a transport.
    pub fn stop_streams(&self, id: TransportId) {
        self.command(Command::StopStreams(id));
    }

    /// Closes the socket of a transport without notifying the server.
    pub fn remove(&self, id: TransportId) {
        self.command(Command::Remove(id));
    }

    /// Returns the number of streams that a transport has received; 0 when it was removed.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn streams(&self, id: TransportId) -> Result<usize> {
        let (reply, receiver) = oneshot::channel();
        self.command(Command::Streams { id, reply });
        receiver.await.context("the media thread has ended")
    }

    /// Stops all streams of all transports.
    pub fn stop_sending(&self) {
        self.command(Command::StopSending);
    }

    /// Changes when sockets are read.
    pub fn set_read_mode(&self, read_mode: ReadMode) {
        self.command(Command::SetReadMode(read_mode));
    }

    /// Returns the totals so far.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn totals(&self) -> Result<Totals> {
        let (reply, receiver) = oneshot::channel();
        self.command(Command::Totals(reply));
        receiver.await.context("the media thread has ended")
    }
}

impl Drop for MediaThread {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.wakeup.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct EventLoop {
    commands: Receiver<Command>,
    wakeup: Arc<EventFd>,
    epoll: Epoll,
    connections: BTreeMap<u64, Connection>,
    next_id: u64,
    /// Due time, transport and stream index of the next packet of each stream.
    due: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    batch: Batch,
    packet: Vec<u8>,
    read_mode: ReadMode,
    sample: u64,
    totals: Totals,
}

impl EventLoop {
    fn run(&mut self) {
        let mut ready = [EpollEvent::empty(); READY];
        let (mut next_timers, mut next_poll) = (Instant::now(), Instant::now());
        loop {
            let mut now = Instant::now();
            if self.send_due(now) {
                now = Instant::now();
            }
            if now >= next_timers {
                next_timers = now + TIMER_INTERVAL;
                self.run_timers(now);
            }
            let next_due = self.due.peek().map(|Reverse((due, ..))| *due);
            let wake = next_due.map_or(next_timers, |due| due.min(next_timers));
            match self.read_mode {
                ReadMode::Immediate => {
                    let wait = wake.saturating_duration_since(now).min(MAX_WAIT);
                    let timeout_ms = u16::try_from(wait.as_millis()).unwrap_or(1);
                    if !self.poll(&mut ready, timeout_ms) {
                        return;
                    }
                }
                ReadMode::Every(interval) => {
                    if now >= next_poll {
                        next_poll = now + interval;
                        if !self.poll(&mut ready, 0) {
                            return;
                        }
                    }
                    let wait = wake
                        .min(next_poll)
                        .saturating_duration_since(Instant::now());
                    if !wait.is_zero() {
                        thread::sleep(wait.max(MIN_SLEEP));
                    }
                }
            }
        }
    }

    /// Reads all readable sockets. Returns `false` when the thread must end.
    fn poll(&mut self, ready: &mut [EpollEvent], timeout_ms: u16) -> bool {
        let mut timeout_ms = timeout_ms;
        loop {
            let count = match self.epoll.wait(ready, timeout_ms) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    debug_assert!(false, "epoll: {error}");
                    return false;
                }
            };
            let now = Instant::now();
            for event in ready.iter().take(count) {
                if event.data() == COMMANDS {
                    let _ = self.wakeup.read();
                    if !self.handle_commands(now) {
                        return false;
                    }
                } else {
                    self.read(event.data(), now);
                }
            }
            if count < ready.len() {
                return true;
            }
            timeout_ms = 0;
        }
    }

    fn handle_commands(&mut self, now: Instant) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.handle_command(command, now),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Add {
                transport,
                connected,
                id,
            } => self.add(*transport, connected, id, now),
            Command::Expect {
                id,
                transport_cc,
                retransmissions,
            } => {
                if let Some(connection) = self.connections.get_mut(&id.0) {
                    connection.reception.expect(transport_cc, retransmissions);
                }
            }
            Command::Publish {
                id,
                mut stream,
                after,
            } => {
                if let Some(connection) = self.connections.get_mut(&id.0) {
                    stream.start(now + after);
                    connection.own_ssrc = stream.ssrc;
                    connection.streams.push(*stream);
                    let due = (now + after, id.0, connection.streams.len() - 1);
                    self.due.push(Reverse(due));
                }
            }
            Command::StopStreams(id) => {
                let connection = self.connections.get_mut(&id.0);
                for stream in connection
                    .into_iter()
                    .flat_map(|connection| &mut connection.streams)
                {
                    stream.end();
                }
            }
            Command::Remove(id) => self.remove(id),
            Command::StopSending => self.due.clear(),
            Command::SetReadMode(read_mode) => self.read_mode = read_mode,
            Command::Streams { id, reply } => {
                let connection = self.connections.get(&id.0);
                let _ =
                    reply.send(connection.map_or(0, |connection| connection.reception.streams()));
            }
            Command::Totals(reply) => {
                let _ = reply.send(self.sum());
            }
        }
    }

    /// Removes a transport. Its packets still count in the totals. Closing the socket also removes
    /// it from epoll.
    fn remove(&mut self, id: TransportId) {
        if let Some(connection) = self.connections.remove(&id.0) {
            self.totals.arrived.add(connection.reception.arrived());
            self.totals.streams += connection.reception.streams();
        }
    }

    fn add(
        &mut self,
        transport: Transport,
        connected: oneshot::Sender<Result<Profile>>,
        id: oneshot::Sender<TransportId>,
        now: Instant,
    ) {
        let number = self.next_id;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        let Some(socket) = transport.socket() else {
            let _ = connected.send(Err(anyhow!("the transport has no socket")));
            return;
        };
        if let Err(error) = self.epoll.add(socket, event) {
            let _ = connected.send(Err(anyhow!("epoll: {error}")));
            return;
        }
        self.next_id += 1;
        let mut connection = Connection::new(transport, connected, now);
        connection.timeout(now);
        // If the caller has given up waiting, nothing would ever remove the transport.
        if id.send(TransportId(number)).is_ok() {
            self.connections.insert(number, connection);
        }
    }

    /// Sends the packets that are due. Returns whether any were.
    fn send_due(&mut self, now: Instant) -> bool {
        let mut has_sent = false;
        while let Some(Reverse((due, connection, index))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let Some(found) = self.connections.get_mut(&connection) else {
                continue;
            };
            if let Some(next) = found.send(index, &mut self.packet, &mut self.totals) {
                has_sent = true;
                self.due.push(Reverse((next, connection, index)));
            }
        }
        has_sent
    }

    fn read(&mut self, number: u64, now: Instant) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        loop {
            let Some(socket) = connection.transport.socket() else {
                return;
            };
            let count = self.batch.read(socket);
            for index in 0..count {
                if let Some((datagram, at_ns)) = self.batch.get(index) {
                    connection.receive(datagram, at_ns, now, self.sample, &mut self.totals);
                }
            }
            if count < BATCH {
                return;
            }
        }
    }

    fn run_timers(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            connection.timeout(now);
        }
    }

    fn sum(&mut self) -> Totals {
        let latencies_ns = std::mem::take(&mut self.totals.latencies_ns);
        let mut totals = self.totals.clone();
        totals.latencies_ns = latencies_ns;
        for connection in self.connections.values() {
            totals.arrived.add(connection.reception.arrived());
            totals.streams += connection.reception.streams();
        }
        totals
    }
}

#[cfg(test)]
mod tests;
