//! One connection, over TCP or TLS: ICE over TCP (RFC 6544, framed as RFC 4571 says) or TURN
//! (RFC 8656), whichever its first bytes are.

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
use super::{Inner, LinkId, OUTLET, Via, now};

/// Longest message or frame. Larger than any datagram that a client has reason to send.
const MESSAGE_BYTES: usize = 2048;
/// What is read at once, at most. Most of these connections are spare ones of clients that have a
/// better way, so what each of them holds counts.
const INBOX_BYTES: usize = 2 * MESSAGE_BYTES;
/// When so much waits to be written, nothing more is taken out of links, nor from a client of
/// TURN.
const OUTBOX_BYTES: usize = 32 * 1024;
/// The shortest of what goes in frames, an RTCP packet without a report (RFC 3550 6.4.2).
const FRAME_LEAST: usize = 8;

/// For the first message that means something to arrive.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How long a TURN connection may be without an allocation.
const NO_ALLOCATION: Duration = Duration::from_secs(30);
/// How long a client of ICE over TCP may go without any answer of the engine, which is all that
/// tells that a transport knows it.
const UNANSWERED: Duration = Duration::from_secs(10);
/// How long a client of ICE over TCP may be silent. It has to prove every few seconds that it
/// still wants what it is sent (RFC 7675).
const SILENCE: Duration = Duration::from_secs(60);

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ice,
    Turn,
    Other,
}

impl Kind {
    /// By the first bytes, ten of which always suffice.
    ///
    /// A frame whose bytes look like a STUN message too would be one of 8466 bytes, which no
    /// frame here is.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let may_be_stun = |from: usize| {
            let begins = bytes.get(from).is_none_or(|first| *first < 4);
            let cookie = bytes.get(from + 4..).unwrap_or_default();
            begins
                && cookie
                    .iter()
                    .zip(COOKIE)
                    .all(|(byte, wanted)| *byte == wanted)
        };
        let (turn, ice) = (may_be_stun(0), may_be_stun(2));
        // A frame holds a message's head at least, and is no longer than what is taken. Its first
        // byte says enough to send letters, and so HTTP, away at once.
        let short = bytes
            .first()
            .is_none_or(|high| usize::from(*high) <= MESSAGE_BYTES >> 8);
        let long = bytes
            .first_chunk()
            .is_none_or(|head| usize::from(u16::from_be_bytes(*head)) >= message::HEADER);
        let ice = ice && short && long;
        match (turn, ice) {
            (true, _) if bytes.len() >= 8 => Some(Self::Turn),
            (false, true) if bytes.len() >= 10 => Some(Self::Ice),
            (false, false) => Some(Self::Other),
            _ => None,
        }
    }
}

/// What is spoken, with all that belongs to it.
enum Talk {
    Ice(Ice),
    Turn(Box<Turn>),
}

struct Ice {
    peer: SocketAddr,
    link: LinkId,
    links: Links,
    /// Where the link's outlet comes from; gone once it is opened, so that the engine can hang up
    /// by dropping the outlet.
    queue: Option<mpsc::Sender<(LinkId, Vec<u8>)>>,
    heard: Instant,
    /// From the first check until the first answer: when the answer comes too late.
    answer_until: Option<Instant>,
}

struct Turn {
    client: Client,
    /// Whether any message came.
    heard: bool,
    /// Since when it has had no allocation.
    idle: Instant,
}

/// Speaks with a client until it or the engine ends it.
pub(super) async fn serve<S>(relay: Arc<Inner>, stream: S, client: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let doorway = relay.doorway.clone();
    let ended = tokio::select! {
        ended = speak(relay, stream, client) => ended,
        () = doorway.gone() => return,
    };
    if let Err(error) = ended {
        debug!(%error, %client, "a connection for media ended");
    }
}

async fn speak<S>(relay: Arc<Inner>, mut stream: S, client: SocketAddr) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut inbox = vec![0; INBOX_BYTES];
    let mut filled = 0;
    let kind = timeout(FIRST_MESSAGE, async {
        loop {
            if let Some(kind) = Kind::of(&inbox[..filled]) {
                return io::Result::Ok(kind);
            }
            match stream.read(&mut inbox[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
    })
    .await??;
    let now = now();
    match kind {
        Kind::Ice => {
            let (queue, outgoing) = mpsc::channel(OUTLET);
            let talk = Talk::Ice(Ice {
                peer: client,
                link: relay.server.new_link(),
                links: Links::new(Arc::clone(&relay)),
                queue: Some(queue),
                heard: now,
                answer_until: None,
            });
            relay.ice_tcp.fetch_add(1, Ordering::Relaxed);
            let _counted = Counted(relay);
            converse(talk, outgoing, stream, inbox, filled).await
        }
        Kind::Turn => {
            let (client, outgoing) = Client::new(relay, client);
            let talk = Talk::Turn(Box::new(Turn {
                client,
                heard: false,
                idle: now,
            }));
            converse(talk, outgoing, stream, inbox, filled).await
        }
        Kind::Other => Err(wrong("it speaks neither ICE nor TURN")),
    }
}

/// A connection that is counted until it ends.
struct Counted(Arc<Inner>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.ice_tcp.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn converse<S>(
    mut talk: Talk,
    mut outgoing: Outgoing,
    stream: S,
    mut inbox: Vec<u8>,
    mut filled: usize,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut outbox = Outbox::default();
    let mut unflushed = false;
    let first_until = now() + FIRST_MESSAGE;
    let mut timer = std::pin::pin!(sleep(Duration::ZERO));
    let used = talk.take(&inbox[..filled], &mut outbox.bytes)?;
    inbox.copy_within(used..filled, 0);
    filled -= used;
    loop {
        let deadline = talk.deadline(first_until);
        timer.as_mut().reset(deadline.into());
        let has_room = outbox.waiting().len() < OUTBOX_BYTES;
        if !has_room && outgoing.is_closed() {
            // The engine has hung up on a client that reads nothing, but may send for ever.
            return Ok(());
        }
        // Only TURN answers what it reads by itself.
        let reads = has_room || matches!(talk, Talk::Ice(_));
        tokio::select! {
            read = reader.read(&mut inbox[filled..]), if reads => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                filled += read;
                let used = talk.take(&inbox[..filled], &mut outbox.bytes)?;
                inbox.copy_within(used..filled, 0);
                filled -= used;
            }
            wrote = write(&mut writer, outbox.waiting()),
                if !outbox.waiting().is_empty() || unflushed =>
            {
                // Nothing to write was a flush.
                unflushed = !outbox.waiting().is_empty();
                outbox.wrote(wrote?);
            }
            came = outgoing.recv(), if has_room => {
                let Some((link, datagram)) = came else {
                    // The engine has hung up.
                    return Ok(());
                };
                talk.give(link, &datagram, &mut outbox.bytes);
                while outbox.waiting().len() < OUTBOX_BYTES {
                    let Ok((link, datagram)) = outgoing.try_recv() else {
                        break;
                    };
                    talk.give(link, &datagram, &mut outbox.bytes);
                }
            }
            () = timer.as_mut() => {
                if talk.is_over(first_until) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

/// What waits to be written, behind some of what was.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// So many more bytes need not wait.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        // A client that is never quite done reading must not keep all that it ever read. Rarely,
        // for what waits is moved.
        if self.waiting().is_empty() || self.written > OUTBOX_BYTES {
            self.bytes.drain(..self.written.min(self.bytes.len()));
            self.written = 0;
        }
    }
}

/// Writes some of what waits, or if nothing does, sees to it that what was written is under way,
/// which over TLS it need not be. Nothing is lost if it is not awaited to the end.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, waiting: &[u8]) -> io::Result<usize> {
    if waiting.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(waiting).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        wrote => Ok(wrote),
    }
}

impl Talk {
    /// Takes the whole messages that bytes begin with; how many bytes that were.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let now = now();
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let length = match self {
                Self::Ice(_) => rest
                    .first_chunk()
                    .map(|head| 2 + usize::from(u16::from_be_bytes(*head))),
                Self::Turn(_) => {
                    length_on_stream(rest).map_err(|()| wrong("what should be TURN is not"))?
                }
            };
            if length.is_some_and(|length| length > MESSAGE_BYTES + 2) {
                return Err(wrong("a message is too long"));
            }
            let Some(message) = length.and_then(|length| rest.get(..length)) else {
                return Ok(used);
            };
            used += message.len();
            match self {
                Self::Ice(ice) => ice.take(now, message.get(2..).unwrap_or_default())?,
                Self::Turn(turn) => turn.take(now, message, out)?,
            }
        }
    }

    fn give(&mut self, link: LinkId, datagram: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Ice(ice) => {
                ice.answer_until = None;
                // Longer than a frame can be is longer than any datagram is.
                if let Ok(length) = u16::try_from(datagram.len()) {
                    out.extend(length.to_be_bytes());
                    out.extend(datagram);
                }
            }
            Self::Turn(turn) => turn.client.give(now(), link, datagram, out),
        }
    }

    /// When [`Talk::is_over`] is to be asked.
    fn deadline(&self, first_until: Instant) -> Instant {
        match self {
            Self::Ice(ice) if ice.queue.is_some() => first_until,
            Self::Ice(ice) => ice.answer_until.unwrap_or(ice.heard + SILENCE),
            Self::Turn(turn) if !turn.heard => first_until,
            Self::Turn(turn) => turn.client.expires().unwrap_or(turn.idle + NO_ALLOCATION),
        }
    }

    /// Whether the client has had its time.
    fn is_over(&mut self, first_until: Instant) -> bool {
        let now = now();
        if let Self::Turn(turn) = self {
            turn.timeout(now);
        }
        self.deadline(first_until) <= now
    }
}

impl Ice {
    fn take(&mut self, now: Instant, datagram: &[u8]) -> io::Result<()> {
        if datagram.len() < FRAME_LEAST {
            return Err(wrong("a frame is too short"));
        }
        self.heard = now;
        if let Some(queue) = self.queue.take() {
            let is_check = is_stun(datagram)
                && datagram.first_chunk().is_some_and(|first| {
                    message::read_type(*first) == (method::BINDING, Class::Request)
                });
            if !is_check {
                return Err(wrong("it does not begin with a check"));
            }
            self.links.open(self.link, queue, (self.peer, Via::Tcp));
            self.answer_until = Some(now + UNANSWERED);
        }
        self.links.deliver(self.link, datagram);
        Ok(())
    }
}

impl Turn {
    fn take(&mut self, now: Instant, message: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let had = self.client.expires().is_some();
        let taken = self.client.take(now, message, out);
        if had && self.client.expires().is_none() {
            self.idle = now;
        }
        self.heard = true;
        taken.map_err(|()| wrong("a message is broken"))
    }

    fn timeout(&mut self, now: Instant) {
        let had = self.client.expires().is_some();
        self.client.timeout(now);
        if had && self.client.expires().is_none() {
            self.idle = now;
        }
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
