//! A TURN server that leads to one place: here (RFC 8656). Without sockets and without a clock.
//!
//! A client's only peer is our own media plane, so an allocation binds no port. What is sent to
//! one of our media addresses is handed to the engine, what the engine answers is wrapped up for
//! the client, and any other address is forbidden. There is nothing to abuse.

mod allocation;
mod refusal;
mod server;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::LinkId;
use super::credentials::{Key, REALM};
use super::message::{CHANNELS, Class, Message, Writer, is_stun, kind, method};
use allocation::Allocation;
use refusal::{FAMILY, MISMATCH, Refusal};
pub(super) use server::{Quota, Server};

/// Life of an allocation that asks for none, and the longest it may ask for (RFC 8656 7.2).
const LIFETIME: Duration = Duration::from_secs(600);
const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);

/// What REQUESTED-TRANSPORT and REQUESTED-ADDRESS-FAMILY may ask for (RFC 8656 18).
const UDP: u8 = 17;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// Attributes of requests that must be known, and are.
const KNOWN: [u16; 13] = [
    kind::USERNAME,
    kind::MESSAGE_INTEGRITY,
    kind::REALM,
    kind::NONCE,
    kind::CHANNEL_NUMBER,
    kind::LIFETIME,
    kind::XOR_PEER_ADDRESS,
    kind::DATA,
    kind::REQUESTED_ADDRESS_FAMILY,
    kind::EVEN_PORT,
    kind::REQUESTED_TRANSPORT,
    kind::RESERVATION_TOKEN,
    // ICE sends it in its checks; it asks nothing of a TURN server.
    0x0024,
];

/// How many unknown attributes are named in an answer.
const UNKNOWN: usize = 8;

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// With the address that the client was told it is relayed from.
    Opened(LinkId, SocketAddr),
    Closed(LinkId),
}

/// One client at one address, with an allocation or not yet.
pub(super) struct Session {
    server: Arc<Server>,
    client: SocketAddr,
    allocation: Option<Allocation>,
    changes: VecDeque<Change>,
}

/// Who signed a request.
struct Signer<'m> {
    username: &'m str,
    key: Key,
}

impl Session {
    pub(super) fn new(server: Arc<Server>, client: SocketAddr) -> Self {
        Self {
            server,
            client,
            allocation: None,
            changes: VecDeque::new(),
        }
    }

    /// Takes a message from the client, which is one STUN message or one `ChannelData`. What is to
    /// be answered is put behind what is in `out`; what is for the engine is returned, after the
    /// changes of [`Session::poll_change`] have been heeded.
    ///
    /// # Errors
    /// The message is neither, or broken.
    pub(super) fn receive<'m>(
        &mut self,
        now: Instant,
        bytes: &'m [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(LinkId, &'m [u8])>, ()> {
        self.timeout(now);
        if !is_stun(bytes) {
            return self.channel_data(now, bytes);
        }
        let message = Message::read(bytes).ok_or(())?;
        match (message.class, message.method) {
            (Class::Request, _) => {
                self.request(now, &message, out);
                Ok(None)
            }
            (Class::Indication, method::SEND) => Ok(self.send(now, &message)),
            // Answers to what was never asked, and indications that ask for nothing.
            _ => Ok(None),
        }
    }

    /// Wraps up what the engine sends to the client on a link. False if nothing may be sent on it
    /// any more.
    pub(super) fn wrap(
        &self,
        now: Instant,
        link: LinkId,
        datagram: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(allocation) = &self.allocation else {
            return false;
        };
        let peer = allocation.links.iter().find(|(id, _)| *id == link);
        let Some((_, peer)) = peer else {
            return false;
        };
        if !allocation.permits(now, *peer) {
            return false;
        }
        let channel = allocation
            .channels
            .iter()
            .find(|channel| channel.peer == *peer && channel.expires > now);
        if let Some(channel) = channel {
            let Ok(length) = u16::try_from(datagram.len()) else {
                return false;
            };
            out.extend(channel.number.to_be_bytes());
            out.extend(length.to_be_bytes());
            out.extend(datagram);
            // On a stream, one message begins where another ends (RFC 8656, 12.5).
            let padding = datagram.len().next_multiple_of(4) - datagram.len();
            out.extend(std::iter::repeat_n(0, padding));
            return true;
        }
        // An indication has no answer, so nobody looks its transaction up: a number that does not
        // repeat is enough.
        let mut transaction = [0; 12];
        let unique = self.server.last_link.fetch_add(1, Ordering::Relaxed);
        transaction[4..].copy_from_slice(&unique.to_be_bytes());
        if datagram.len() > usize::from(u16::MAX) / 2 {
            return false;
        }
        Writer::new(out, method::DATA, Class::Indication, transaction)
            .address(kind::XOR_PEER_ADDRESS, *peer)
            .attribute(kind::DATA, datagram)
            .finish(None);
        true
    }

    /// What became of links since it was last asked.
    pub(super) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// When [`Session::timeout`] has something to do. `None` without an allocation.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.allocation.as_ref().map(|held| held.expires)
    }

    /// Frees an allocation whose time is up.
    pub(super) fn timeout(&mut self, now: Instant) {
        if self.expires().is_some_and(|expires| expires <= now) {
            self.free();
        }
    }

    fn free(&mut self) {
        if let Some(allocation) = self.allocation.take() {
            let closed = allocation.links.iter().map(|(link, _)| *link);
            self.changes.extend(closed.map(Change::Closed));
        }
    }

    fn request(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<u8>) {
        if message.method == method::BINDING {
            return Writer::new(out, method::BINDING, Class::Success, message.transaction)
                .address(kind::XOR_MAPPED_ADDRESS, self.client)
                .finish(None);
        }
        let signer = match self.signer(now, message) {
            Ok(signer) => signer,
            Err(refusal) => return self.refuse(now, message, &refusal, None, out),
        };
        let unknown = message
            .attributes()
            .map(|(kind, _)| kind)
            .filter(|kind| *kind < kind::OPTIONAL && !KNOWN.contains(kind))
            .take(UNKNOWN)
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<_>>();
        if !unknown.is_empty() {
            return Writer::new(out, message.method, Class::Failure, message.transaction)
                .error(420, "Unknown Attribute")
                .attribute(kind::UNKNOWN_ATTRIBUTES, &unknown)
                .finish(Some(&signer.key));
        }
        let theirs = self
            .allocation
            .as_ref()
            .is_none_or(|held| held.username == signer.username);
        let done = match message.method {
            _ if !theirs => Err(Refusal::new(441, "Wrong Credentials")),
            method::ALLOCATE => self.allocate(now, message, &signer, out),
            method::REFRESH => self.refresh(now, message, &signer, out),
            method::CREATE_PERMISSION | method::CHANNEL_BIND => {
                self.permit(now, message, &signer, out)
            }
            _ => Err(Refusal::malformed()),
        };
        if let Err(refusal) = done {
            self.refuse(now, message, &refusal, Some(&signer.key), out);
        }
    }

    /// Who a request is from (RFC 8489 9.2.4).
    fn signer<'m>(&self, now: Instant, message: &Message<'m>) -> Result<Signer<'m>, Refusal> {
        const UNAUTHORIZED: Refusal = Refusal::challenge(401, "Unauthorized");
        if !message.is_signed() {
            return Err(UNAUTHORIZED);
        }
        let (Some(username), Some(_), Some(nonce)) = (
            message.text(kind::USERNAME),
            message.text(kind::REALM),
            message.text(kind::NONCE),
        ) else {
            return Err(Refusal::malformed());
        };
        let credentials = &self.server.credentials;
        if !credentials.is_fresh(now, self.client, nonce) {
            return Err(Refusal::challenge(438, "Stale Nonce"));
        }
        let (_, holds) = credentials.read(now, username).ok_or(UNAUTHORIZED)?;
        // Whoever has an allocation may keep it: a call does not end with its credentials.
        if !holds && self.allocation.is_none() {
            return Err(UNAUTHORIZED);
        }
        let key = credentials.key(username);
        if !message.is_signed_with(&key) {
            return Err(UNAUTHORIZED);
        }
        Ok(Signer { username, key })
    }

    fn refuse(
        &self,
        now: Instant,
        message: &Message<'_>,
        refusal: &Refusal,
        key: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let mut answer = Writer::new(out, message.method, Class::Failure, message.transaction)
            .error(refusal.code, refusal.reason);
        if refusal.challenge {
            let nonce = self.server.credentials.nonce(now, self.client);
            answer = answer
                .attribute(kind::REALM, REALM.as_bytes())
                .attribute(kind::NONCE, nonce.as_bytes());
        }
        answer.finish(key);
    }

    fn allocate(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        signer: &Signer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if let Some(allocation) = &self.allocation {
            if allocation.transaction == message.transaction {
                out.extend(&allocation.answer);
                return Ok(());
            }
            return Err(MISMATCH);
        }
        let transport = message
            .attribute(kind::REQUESTED_TRANSPORT)
            .and_then(|value| value.first());
        match transport {
            None => return Err(Refusal::malformed()),
            Some(&UDP) => {}
            Some(_) => return Err(Refusal::new(442, "Unsupported Transport Protocol")),
        }
        let wants_reserved = message.attribute(kind::RESERVATION_TOKEN).is_some();
        let reserves = message
            .attribute(kind::EVEN_PORT)
            .is_some_and(|value| value.first().is_none_or(|flags| flags & 0x80 != 0));
        if wants_reserved || reserves {
            // Nothing of ours uses a pair of ports.
            return Err(Refusal::new(508, "Insufficient Capacity"));
        }
        let wants_v4 = match message.attribute(kind::REQUESTED_ADDRESS_FAMILY) {
            None | Some([IPV4, ..]) => true,
            Some([IPV6, ..]) => false,
            Some(_) => return Err(Refusal::new(440, "Address Family not Supported")),
        };
        let ip = self
            .server
            .media
            .iter()
            .map(SocketAddr::ip)
            .find(|ip| ip.is_ipv4() == wants_v4)
            .ok_or(Refusal::new(440, "Address Family not Supported"))?;
        let (who, _) = self
            .server
            .credentials
            .read(now, signer.username)
            .ok_or(Refusal::malformed())?;
        let seat = self.server.seat(who)?;

        let lifetime = lifetime(message);
        let relayed = SocketAddr::new(ip, synthetic_port(self.server.new_link()));
        let mut answer = Vec::new();
        Writer::new(
            &mut answer,
            method::ALLOCATE,
            Class::Success,
            message.transaction,
        )
        .address(kind::XOR_RELAYED_ADDRESS, relayed)
        .attribute(kind::LIFETIME, &seconds(lifetime))
        .address(kind::XOR_MAPPED_ADDRESS, self.client)
        .finish(Some(&signer.key));
        out.extend(&answer);
        self.allocation = Some(Allocation {
            transaction: message.transaction,
            answer,
            username: signer.username.to_owned(),
            relayed,
            expires: now + lifetime,
            permissions: Vec::new(),
            channels: Vec::new(),
            links: Vec::new(),
            _seat: seat,
        });
        Ok(())
    }

    fn refresh(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        signer: &Signer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let allocation = self.allocation.as_mut().ok_or(MISMATCH)?;
        if let Some(family) = message.attribute(kind::REQUESTED_ADDRESS_FAMILY) {
            let is_v4 = family.first() == Some(&IPV4);
            if is_v4 != allocation.relayed.is_ipv4() {
                return Err(FAMILY);
            }
        }
        let lifetime = if message.number(kind::LIFETIME) == Some(0) {
            self.free();
            Duration::ZERO
        } else {
            let lifetime = lifetime(message);
            allocation.expires = now + lifetime;
            lifetime
        };
        Writer::new(out, method::REFRESH, Class::Success, message.transaction)
            .attribute(kind::LIFETIME, &seconds(lifetime))
            .finish(Some(&signer.key));
        Ok(())
    }

    /// `CreatePermission`, or `ChannelBind`, which permits one address and gives it a number.
    fn permit(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        signer: &Signer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let allocation = self.allocation.as_mut().ok_or(MISMATCH)?;
        let media = &self.server.media;
        let channel = match message.method {
            method::CHANNEL_BIND => Some(channel_of(message).ok_or(Refusal::malformed())?),
            _ => None,
        };
        let most = if channel.is_some() { 1 } else { usize::MAX };
        let peers = || message.addresses(kind::XOR_PEER_ADDRESS).take(most);
        if peers().next().is_none() {
            return Err(Refusal::malformed());
        }
        for peer in peers() {
            let peer = peer.ok_or(Refusal::malformed())?;
            // A permission has no port.
            let is_ours = match channel {
                Some(_) => media.contains(&peer),
                None => media.iter().any(|ours| ours.ip() == peer.ip()),
            };
            allocation.may_reach(peer, is_ours)?;
            if let Some(number) = channel {
                allocation.bind(now, number, peer)?;
            }
        }
        for peer in peers().flatten() {
            allocation.permit(now, peer.ip());
        }
        Writer::new(out, message.method, Class::Success, message.transaction)
            .finish(Some(&signer.key));
        Ok(())
    }

    fn send<'m>(&mut self, now: Instant, message: &Message<'m>) -> Option<(LinkId, &'m [u8])> {
        let peer = message.addresses(kind::XOR_PEER_ADDRESS).next().flatten()?;
        let data = message.attribute(kind::DATA)?;
        Some((self.link(now, peer)?, data))
    }

    fn channel_data<'m>(
        &mut self,
        now: Instant,
        bytes: &'m [u8],
    ) -> Result<Option<(LinkId, &'m [u8])>, ()> {
        let head = bytes.first_chunk::<4>().ok_or(())?;
        let number = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        // There may be padding behind it.
        let data = bytes.get(4..4 + length).ok_or(())?;
        if !CHANNELS.contains(&number) {
            return Err(());
        }
        let channel = self
            .allocation
            .iter()
            .flat_map(|allocation| &allocation.channels)
            .find(|channel| channel.number == number && channel.expires > now);
        let Some(peer) = channel.map(|channel| channel.peer) else {
            return Ok(None);
        };
        Ok(self.link(now, peer).map(|link| (link, data)))
    }

    /// The link to one of our addresses, opened if need be. The answers to what is sent to an
    /// address must come from that address, which is why each has a link of its own.
    fn link(&mut self, now: Instant, peer: SocketAddr) -> Option<LinkId> {
        let allocation = self.allocation.as_mut()?;
        if !allocation.permits(now, peer) || !self.server.media.contains(&peer) {
            return None;
        }
        let known = allocation.links.iter().find(|(_, to)| *to == peer);
        if let Some((link, _)) = known {
            return Some(*link);
        }
        let link = self.server.new_link();
        allocation.links.push((link, peer));
        let opened = Change::Opened(link, allocation.relayed);
        self.changes.push_back(opened);
        Some(link)
    }
}

/// How long an allocation may live by what its request asks for, which is not nothing.
fn lifetime(message: &Message<'_>) -> Duration {
    message
        .number(kind::LIFETIME)
        .map_or(LIFETIME, |asked| Duration::from_secs(asked.into()))
        .clamp(LIFETIME, LONGEST_LIFETIME)
}

/// The number that a `ChannelBind` asks for.
fn channel_of(message: &Message<'_>) -> Option<u16> {
    let value = message.attribute(kind::CHANNEL_NUMBER)?;
    let number = u16::from_be_bytes(*value.first_chunk()?);
    CHANNELS.contains(&number).then_some(number)
}

fn seconds(lifetime: Duration) -> [u8; 4] {
    u32::try_from(lifetime.as_secs())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

/// A port for the relayed address, which nothing is bound to: the client only wants its
/// allocations to look different. Even, for those who ask for that.
fn synthetic_port(unique: LinkId) -> u16 {
    let step = u16::try_from(unique.0 % 8192).unwrap_or(0);
    0xc000 + 2 * step
}

#[cfg(test)]
mod tests;
