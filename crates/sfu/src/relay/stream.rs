//! One TCP or TLS connection, which carries either ICE over TCP (RFC 6544, with the framing of
//! RFC 4571) or TURN (RFC 8656). The first bytes identify the protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::client::{Client, Links, Outgoing};
use super::message::{self, COOKIE, Class, is_stun, length_on_stream, method};
use super::{Inner, LINK_QUEUE, LinkId, Via, now};

/// Maximum size of a message or frame, in bytes. Clients have no reason to send larger ones.
const MAX_MESSAGE_BYTES: usize = 2048;
/// Size of the read buffer, in bytes. It is small because most connections are backups of clients
/// that have a better path.
const READ_BUFFER_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// Maximum number of unwritten bytes. Above it, no more datagrams are taken from links, and a TURN
/// client is not read.
const WRITE_BUFFER_BYTES: usize = 32 * 1024;
/// Minimum size of a frame, in bytes: an RTCP packet without a report (RFC 3550 6.4.2).
const MIN_FRAME_BYTES: usize = 8;

/// Timeout for the first valid message.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TURN connection may exist without an allocation.
const ALLOCATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the engine's response to the first connectivity check of an ICE over TCP client. The
/// engine responds only to checks of an existing transport.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client of ICE over TCP may be silent. It must renew its consent every few seconds
/// (RFC 7675).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Ice,
    Turn,
    Other,
}

impl Protocol {
    /// Detects the protocol from the first bytes. Ten bytes are always enough.
    ///
    /// The result is unambiguous: a frame that also looks like a STUN message would have 8466
    /// bytes, more than the maximum.
    pub(super) fn detect(bytes: &[u8]) -> Option<Self> {
        let may_be_stun = |from: usize| {
            let is_stun_type = bytes.get(from).is_none_or(|first| *first < 4);
            let cookie = bytes.get(from + 4..).unwrap_or_default();
            is_stun_type
                && cookie
                    .iter()
                    .zip(COOKIE)
                    .all(|(byte, expected)| *byte == expected)
        };
        let (turn, ice) = (may_be_stun(0), may_be_stun(2));
        // The first frame has at least the size of a STUN header and at most the maximum size. Its
        // first byte, the high byte of the length, is therefore never an ASCII letter as in HTTP.
        let is_short_enough = bytes
            .first()
            .is_none_or(|high| usize::from(*high) <= MAX_MESSAGE_BYTES >> 8);
        let is_long_enough = bytes
            .first_chunk()
            .is_none_or(|head| usize::from(u16::from_be_bytes(*head)) >= message::HEADER);
        let ice = ice && is_short_enough && is_long_enough;
        match (turn, ice) {
            (true, _) if bytes.len() >= 8 => Some(Self::Turn),
            (false, true) if bytes.len() >= 10 => Some(Self::Ice),
            (false, false) => Some(Self::Other),
            _ => None,
        }
    }
}

/// The state of a connection, by protocol.
enum Connection {
    Ice(IceConnection),
    Turn(Box<TurnConnection>),
}

struct IceConnection {
    peer: SocketAddr,
    link: LinkId,
    links: Links,
    /// The sending half of the queue to the client until the link opens. After that only the engine
    /// holds it, so that the engine can close the connection by dropping it.
    queue: Option<mpsc::Sender<(LinkId, Vec<u8>)>>,
    last_received: Instant,
    /// The deadline for the engine's first response, from the first check until that response.
    response_deadline: Option<Instant>,
}

struct TurnConnection {
    client: Client,
    /// Whether any message was received.
    has_received: bool,
    /// When the connection was opened or last lost its allocation.
    idle_since: Instant,
}

/// Serves a connection until the client closes it or the engine stops.
pub(super) async fn serve<S>(relay: Arc<Inner>, stream: S, client: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let link_events = relay.link_events.clone();
    let result = tokio::select! {
        result = detect_and_run(relay, stream, client) => result,
        () = link_events.closed() => return,
    };
    if let Err(error) = result {
        debug!(%error, %client, "closed a media connection");
    }
}

async fn detect_and_run<S>(relay: Arc<Inner>, mut stream: S, client: SocketAddr) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut filled = 0;
    let protocol = timeout(FIRST_MESSAGE_TIMEOUT, async {
        loop {
            if let Some(protocol) = Protocol::detect(&buffer[..filled]) {
                return io::Result::Ok(protocol);
            }
            match stream.read(&mut buffer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
    })
    .await??;
    let now = now();
    match protocol {
        Protocol::Ice => {
            let (queue, outgoing) = mpsc::channel(LINK_QUEUE);
            let connection = Connection::Ice(IceConnection {
                peer: client,
                link: relay.server.new_link(),
                links: Links::new(Arc::clone(&relay)),
                queue: Some(queue),
                last_received: now,
                response_deadline: None,
            });
            relay.ice_tcp.fetch_add(1, Ordering::Relaxed);
            let _counter = ConnectionCounter(relay);
            run(connection, outgoing, stream, buffer, filled).await
        }
        Protocol::Turn => {
            let (client, outgoing) = Client::new(relay, client);
            let connection = Connection::Turn(Box::new(TurnConnection {
                client,
                has_received: false,
                idle_since: now,
            }));
            run(connection, outgoing, stream, buffer, filled).await
        }
        Protocol::Other => Err(invalid("the protocol is neither ICE nor TURN")),
    }
}

/// Decrements the number of ICE over TCP connections when dropped.
struct ConnectionCounter(Arc<Inner>);

impl Drop for ConnectionCounter {
    fn drop(&mut self) {
        self.0.ice_tcp.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run<S>(
    mut connection: Connection,
    mut outgoing: Outgoing,
    stream: S,
    mut read_buffer: Vec<u8>,
    mut filled: usize,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut write_buffer = WriteBuffer::default();
    let mut unflushed = false;
    let first_deadline = now() + FIRST_MESSAGE_TIMEOUT;
    let mut timer = std::pin::pin!(sleep(Duration::ZERO));
    let used = connection.receive(&read_buffer[..filled], &mut write_buffer.bytes)?;
    read_buffer.copy_within(used..filled, 0);
    filled -= used;
    loop {
        let deadline = connection.deadline(first_deadline);
        timer.as_mut().reset(deadline.into());
        let has_room = write_buffer.pending().len() < WRITE_BUFFER_BYTES;
        if !has_room && outgoing.is_closed() {
            // The engine has closed the link, but the client reads nothing and could keep sending.
            return Ok(());
        }
        // Messages from TURN clients cause responses, which need space in the write buffer.
        let may_read = has_room || matches!(connection, Connection::Ice(_));
        tokio::select! {
            read = reader.read(&mut read_buffer[filled..]), if may_read => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                filled += read;
                let used = connection.receive(&read_buffer[..filled], &mut write_buffer.bytes)?;
                read_buffer.copy_within(used..filled, 0);
                filled -= used;
            }
            written = write(&mut writer, write_buffer.pending()),
                if !write_buffer.pending().is_empty() || unflushed =>
            {
                // With nothing to write, the call was a flush.
                unflushed = !write_buffer.pending().is_empty();
                write_buffer.advance(written?);
            }
            received = outgoing.recv(), if has_room => {
                let Some((link, datagram)) = received else {
                    // The engine has closed the link.
                    return Ok(());
                };
                connection.send(link, &datagram, &mut write_buffer.bytes);
                while write_buffer.pending().len() < WRITE_BUFFER_BYTES {
                    let Ok((link, datagram)) = outgoing.try_recv() else {
                        break;
                    };
                    connection.send(link, &datagram, &mut write_buffer.bytes);
                }
            }
            () = timer.as_mut() => {
                if connection.has_timed_out(first_deadline) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

/// A buffer of bytes to write. Written bytes are removed from its front only occasionally.
#[derive(Default)]
pub(super) struct WriteBuffer {
    pub(super) bytes: Vec<u8>,
    written: usize,
}

impl WriteBuffer {
    /// Returns the bytes that are not written yet.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Marks bytes as written.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count;
        // For a client that never catches up, the buffer must not grow forever. Compact it rarely,
        // since that moves the pending bytes.
        if self.pending().is_empty() || self.written > WRITE_BUFFER_BYTES {
            self.bytes.drain(..self.written.min(self.bytes.len()));
            self.written = 0;
        }
    }
}

/// Writes some of the pending bytes. If there are none, flushes the writer, since a TLS stream may
/// still hold written bytes. This function is cancel safe.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, pending: &[u8]) -> io::Result<usize> {
    if pending.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(pending).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

impl Connection {
    /// Processes all complete messages at the start of `bytes`. Returns how many bytes were
    /// consumed.
    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let now = now();
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let length = match self {
                Self::Ice(_) => rest
                    .first_chunk()
                    .map(|head| 2 + usize::from(u16::from_be_bytes(*head))),
                Self::Turn(_) => {
                    length_on_stream(rest).map_err(|()| invalid("invalid TURN framing"))?
                }
            };
            if length.is_some_and(|length| length > MAX_MESSAGE_BYTES + 2) {
                return Err(invalid("a message is too long"));
            }
            let Some(message) = length.and_then(|length| rest.get(..length)) else {
                return Ok(used);
            };
            used += message.len();
            match self {
                Self::Ice(ice) => ice.receive(now, message.get(2..).unwrap_or_default())?,
                Self::Turn(turn) => turn.receive(now, message, out)?,
            }
        }
    }

    /// Frames a datagram for the client and appends it to `out`.
    fn send(&mut self, link: LinkId, datagram: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Ice(ice) => {
                ice.response_deadline = None;
                // The length of a datagram always fits.
                if let Ok(length) = u16::try_from(datagram.len()) {
                    out.extend(length.to_be_bytes());
                    out.extend(datagram);
                }
            }
            Self::Turn(turn) => turn.client.send(now(), link, datagram, out),
        }
    }

    /// Returns when to call [`Connection::has_timed_out`].
    fn deadline(&self, first_deadline: Instant) -> Instant {
        match self {
            Self::Ice(ice) if ice.queue.is_some() => first_deadline,
            Self::Ice(ice) => {
                let idle = ice.last_received + IDLE_TIMEOUT;
                ice.response_deadline.unwrap_or(idle)
            }
            Self::Turn(turn) if !turn.has_received => first_deadline,
            Self::Turn(turn) => {
                let idle = turn.idle_since + ALLOCATION_TIMEOUT;
                turn.client.expires().unwrap_or(idle)
            }
        }
    }

    /// Returns whether the connection has reached its deadline.
    fn has_timed_out(&mut self, first_deadline: Instant) -> bool {
        let now = now();
        if let Self::Turn(turn) = self {
            turn.timeout(now);
        }
        self.deadline(first_deadline) <= now
    }
}

impl IceConnection {
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> io::Result<()> {
        if datagram.len() < MIN_FRAME_BYTES {
            return Err(invalid("a frame is too short"));
        }
        self.last_received = now;
        if let Some(queue) = self.queue.take() {
            let is_check = is_stun(datagram)
                && datagram.first_chunk().is_some_and(|first| {
                    message::read_type(*first) == (method::BINDING, Class::Request)
                });
            if !is_check {
                return Err(invalid("the first frame is not a connectivity check"));
            }
            self.links.open(self.link, queue, (self.peer, Via::Tcp));
            self.response_deadline = Some(now + RESPONSE_TIMEOUT);
        }
        self.links.deliver(self.link, datagram);
        Ok(())
    }
}

impl TurnConnection {
    fn receive(&mut self, now: Instant, message: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let had_allocation = self.client.expires().is_some();
        let received = self.client.receive(now, message, out);
        if had_allocation && self.client.expires().is_none() {
            self.idle_since = now;
        }
        self.has_received = true;
        received.map_err(|()| invalid("a message is malformed"))
    }

    fn timeout(&mut self, now: Instant) {
        let had_allocation = self.client.expires().is_some();
        self.client.timeout(now);
        if had_allocation && self.client.expires().is_none() {
            self.idle_since = now;
        }
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
