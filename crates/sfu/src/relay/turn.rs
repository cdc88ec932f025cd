//! A TURN server that relays only to this server's media plane (RFC 8656). It has no sockets and no
//! clock.
//!
//! Since the media plane is the only peer, an allocation binds no port. Data for one of the media
//! addresses is delivered to the engine, and datagrams from the engine are encapsulated for the
//! client. All other peer addresses are forbidden, so the server cannot be abused as an open relay.

mod allocation;
mod error;
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
use error::{ALLOCATION_MISMATCH, ErrorResponse, PEER_FAMILY_MISMATCH};
pub(super) use server::{Quota, Server};

/// Default and minimum lifetime of an allocation, and the maximum lifetime (RFC 8656 7.2).
const LIFETIME: Duration = Duration::from_secs(600);
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Values of REQUESTED-TRANSPORT and REQUESTED-ADDRESS-FAMILY (RFC 8656 18).
const UDP: u8 = 17;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// The comprehension-required attributes that this server understands.
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
    // PRIORITY, which ICE sends in its checks. It means nothing to a TURN server.
    0x0024,
];

/// Maximum number of unknown attributes listed in an error response.
const MAX_UNKNOWN: usize = 8;

/// A change in the links of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkChange {
    /// A link was opened. Contains the relayed address of the allocation.
    Opened(LinkId, SocketAddr),
    Closed(LinkId),
}

/// The state of one client, identified by its address.
pub(super) struct ClientState {
    server: Arc<Server>,
    client: SocketAddr,
    allocation: Option<Allocation>,
    changes: VecDeque<LinkChange>,
}

/// The authenticated sender of a request.
struct Signer<'m> {
    username: &'m str,
    key: Key,
}

impl ClientState {
    pub(super) fn new(server: Arc<Server>, client: SocketAddr) -> Self {
        Self {
            server,
            client,
            allocation: None,
            changes: VecDeque::new(),
        }
    }

    /// Processes one STUN message or `ChannelData` from the client. Appends the response to `out`
    /// and returns the data for the engine. The caller must apply the changes of
    /// [`ClientState::poll_change`] before it delivers the data.
    ///
    /// # Errors
    /// The message is malformed.
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
        let message = Message::parse(bytes).ok_or(())?;
        match (message.class, message.method) {
            (Class::Request, _) => {
                self.request(now, &message, out);
                Ok(None)
            }
            (Class::Indication, method::SEND) => Ok(self.send(now, &message)),
            // Ignore unsolicited responses and other indications.
            _ => Ok(None),
        }
    }

    /// Encapsulates a datagram from the engine and appends it to `out`. Returns `false` if the link
    /// is closed or the client's permission has expired.
    pub(super) fn encapsulate(
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
            // On a stream, ChannelData is padded to a multiple of four bytes (RFC 8656, 12.5).
            let padding = datagram.len().next_multiple_of(4) - datagram.len();
            out.extend(std::iter::repeat_n(0, padding));
            return true;
        }
        // An indication has no response, so its transaction id need not be random, only unique.
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

    /// Returns the next change in the client's links.
    pub(super) fn poll_change(&mut self) -> Option<LinkChange> {
        self.changes.pop_front()
    }

    /// Returns when the allocation expires, which [`ClientState::timeout`] handles. `None` without
    /// an allocation.
    pub(super) fn expires(&self) -> Option<Instant> {
        let allocation = self.allocation.as_ref();
        allocation.map(|allocation| allocation.expires)
    }

    /// Frees the allocation if it has expired.
    pub(super) fn timeout(&mut self, now: Instant) {
        if self.expires().is_some_and(|expires| expires <= now) {
            self.free();
        }
    }

    fn free(&mut self) {
        if let Some(allocation) = self.allocation.take() {
            let closed = allocation.links.iter().map(|(link, _)| *link);
            self.changes.extend(closed.map(LinkChange::Closed));
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
            Err(error) => return self.respond_error(now, message, &error, None, out),
        };
        let unknown = message
            .attributes()
            .map(|(kind, _)| kind)
            .filter(|kind| *kind < kind::OPTIONAL && !KNOWN.contains(kind))
            .take(MAX_UNKNOWN)
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<_>>();
        if !unknown.is_empty() {
            return Writer::new(out, message.method, Class::Failure, message.transaction)
                .error(420, "Unknown Attribute")
                .attribute(kind::UNKNOWN_ATTRIBUTES, &unknown)
                .finish(Some(&signer.key));
        }
        let is_owner = self
            .allocation
            .as_ref()
            .is_none_or(|allocation| allocation.username == signer.username);
        let result = match message.method {
            _ if !is_owner => Err(ErrorResponse::new(441, "Wrong Credentials")),
            method::ALLOCATE => self.allocate(now, message, &signer, out),
            method::REFRESH => self.refresh(now, message, &signer, out),
            method::CREATE_PERMISSION | method::CHANNEL_BIND => {
                self.permit(now, message, &signer, out)
            }
            _ => Err(ErrorResponse::malformed()),
        };
        if let Err(error) = result {
            self.respond_error(now, message, &error, Some(&signer.key), out);
        }
    }

    /// Authenticates a request (RFC 8489 9.2.4).
    fn signer<'m>(&self, now: Instant, message: &Message<'m>) -> Result<Signer<'m>, ErrorResponse> {
        const UNAUTHORIZED: ErrorResponse = ErrorResponse::challenge(401, "Unauthorized");
        if !message.is_signed() {
            return Err(UNAUTHORIZED);
        }
        let (Some(username), Some(_), Some(nonce)) = (
            message.text(kind::USERNAME),
            message.text(kind::REALM),
            message.text(kind::NONCE),
        ) else {
            return Err(ErrorResponse::malformed());
        };
        let credentials = &self.server.credentials;
        if !credentials.is_fresh(now, self.client, nonce) {
            return Err(ErrorResponse::challenge(438, "Stale Nonce"));
        }
        let (_, is_valid) = credentials
            .parse_username(now, username)
            .ok_or(UNAUTHORIZED)?;
        // An existing allocation outlives its credentials, so that they do not end a call.
        if !is_valid && self.allocation.is_none() {
            return Err(UNAUTHORIZED);
        }
        let key = credentials.key(username);
        if !message.is_signed_with(&key) {
            return Err(UNAUTHORIZED);
        }
        Ok(Signer { username, key })
    }

    fn respond_error(
        &self,
        now: Instant,
        message: &Message<'_>,
        error: &ErrorResponse,
        key: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let mut response = Writer::new(out, message.method, Class::Failure, message.transaction)
            .error(error.code, error.reason);
        if error.challenge {
            let nonce = self.server.credentials.nonce(now, self.client);
            response = response
                .attribute(kind::REALM, REALM.as_bytes())
                .attribute(kind::NONCE, nonce.as_bytes());
        }
        response.finish(key);
    }

    fn allocate(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        signer: &Signer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorResponse> {
        if let Some(allocation) = &self.allocation {
            if allocation.transaction == message.transaction {
                out.extend(&allocation.response);
                return Ok(());
            }
            return Err(ALLOCATION_MISMATCH);
        }
        let transport = message
            .attribute(kind::REQUESTED_TRANSPORT)
            .and_then(|value| value.first());
        match transport {
            None => return Err(ErrorResponse::malformed()),
            Some(&UDP) => {}
            Some(_) => return Err(ErrorResponse::new(442, "Unsupported Transport Protocol")),
        }
        let wants_reserved = message.attribute(kind::RESERVATION_TOKEN).is_some();
        let reserves = message
            .attribute(kind::EVEN_PORT)
            .is_some_and(|value| value.first().is_none_or(|flags| flags & 0x80 != 0));
        if wants_reserved || reserves {
            // Port pairs for separate RTP and RTCP ports are not supported.
            return Err(ErrorResponse::new(508, "Insufficient Capacity"));
        }
        let wants_v4 = match message.attribute(kind::REQUESTED_ADDRESS_FAMILY) {
            None | Some([IPV4, ..]) => true,
            Some([IPV6, ..]) => false,
            Some(_) => return Err(ErrorResponse::new(440, "Address Family not Supported")),
        };
        let ip = self
            .server
            .media
            .iter()
            .map(SocketAddr::ip)
            .find(|ip| ip.is_ipv4() == wants_v4)
            .ok_or(ErrorResponse::new(440, "Address Family not Supported"))?;
        let (user, _) = self
            .server
            .credentials
            .parse_username(now, signer.username)
            .ok_or(ErrorResponse::malformed())?;
        let permit = self.server.acquire(user)?;

        let lifetime = lifetime(message);
        let relayed = SocketAddr::new(ip, synthetic_port(self.server.new_link()));
        let mut response = Vec::new();
        Writer::new(
            &mut response,
            method::ALLOCATE,
            Class::Success,
            message.transaction,
        )
        .address(kind::XOR_RELAYED_ADDRESS, relayed)
        .attribute(kind::LIFETIME, &seconds(lifetime))
        .address(kind::XOR_MAPPED_ADDRESS, self.client)
        .finish(Some(&signer.key));
        out.extend(&response);
        self.allocation = Some(Allocation {
            transaction: message.transaction,
            response,
            username: signer.username.to_owned(),
            relayed,
            expires: now + lifetime,
            permissions: Vec::new(),
            channels: Vec::new(),
            links: Vec::new(),
            _permit: permit,
        });
        Ok(())
    }

    fn refresh(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        signer: &Signer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorResponse> {
        let allocation = self.allocation.as_mut().ok_or(ALLOCATION_MISMATCH)?;
        if let Some(family) = message.attribute(kind::REQUESTED_ADDRESS_FAMILY) {
            let is_v4 = family.first() == Some(&IPV4);
            if is_v4 != allocation.relayed.is_ipv4() {
                return Err(PEER_FAMILY_MISMATCH);
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

    /// Handles `CreatePermission`, and `ChannelBind`, which implies a permission for its peer.
    fn permit(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        signer: &Signer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorResponse> {
        let allocation = self.allocation.as_mut().ok_or(ALLOCATION_MISMATCH)?;
        let media = &self.server.media;
        let channel = match message.method {
            method::CHANNEL_BIND => Some(channel_of(message).ok_or(ErrorResponse::malformed())?),
            _ => None,
        };
        let limit = if channel.is_some() { 1 } else { usize::MAX };
        let peers = || message.addresses(kind::XOR_PEER_ADDRESS).take(limit);
        if peers().next().is_none() {
            return Err(ErrorResponse::malformed());
        }
        for peer in peers() {
            let peer = peer.ok_or(ErrorResponse::malformed())?;
            // A permission applies to all ports of an address.
            let is_media = match channel {
                Some(_) => media.contains(&peer),
                None => media.iter().any(|address| address.ip() == peer.ip()),
            };
            allocation.check_peer(peer, is_media)?;
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
        // Padding may follow.
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

    /// Returns the link for a media address, and opens it if necessary. Each address has its own
    /// link because responses must come from the address to which the request was sent.
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
        let opened = LinkChange::Opened(link, allocation.relayed);
        self.changes.push_back(opened);
        Some(link)
    }
}

/// Returns the lifetime to grant to a request, unless it requests a lifetime of zero.
fn lifetime(message: &Message<'_>) -> Duration {
    message
        .number(kind::LIFETIME)
        .map_or(LIFETIME, |seconds| Duration::from_secs(seconds.into()))
        .clamp(LIFETIME, MAX_LIFETIME)
}

/// Returns the channel number of a `ChannelBind`.
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

/// Returns a port number for a relayed address. Nothing is bound to it; it only makes the client's
/// allocations distinguishable. It is even, as EVEN-PORT requires.
fn synthetic_port(unique: LinkId) -> u16 {
    let step = u16::try_from(unique.0 % 8192).unwrap_or(0);
    0xc000 + 2 * step
}

#[cfg(test)]
mod tests;
