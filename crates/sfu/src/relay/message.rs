//! Parsing and serialization of STUN messages for the TURN server (RFC 8489 5 and 14, RFC 8656 18).
//!
//! `is::StunMessage` is made for ICE agents: it rejects Binding requests without credentials, keeps
//! only one of several peer addresses, and does not support the attributes of Allocate requests.
//! The tests check this implementation against it.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};
use crc::{CRC_32_ISO_HDLC, Crc};

/// Length of the header, in bytes.
pub(super) const HEADER: usize = 20;
/// The magic cookie, which every message of RFC 8489 contains.
pub(super) const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// The XOR mask of the FINGERPRINT attribute (RFC 8489 14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;
/// Length of an HMAC-SHA1 tag, in bytes.
const INTEGRITY: usize = 20;

/// The valid channel numbers. RFC 8656 12 allows only a quarter of them, but clients of RFC 5766
/// use the whole range, and no other protocol on these ports starts with these bytes.
pub(super) const CHANNELS: std::ops::Range<u16> = 0x4000..0x8000;

/// The methods (RFC 8489 18.2, RFC 8656 17).
pub(super) mod method {
    pub(in super::super) const BINDING: u16 = 0x001;
    pub(in super::super) const ALLOCATE: u16 = 0x003;
    pub(in super::super) const REFRESH: u16 = 0x004;
    pub(in super::super) const SEND: u16 = 0x006;
    pub(in super::super) const DATA: u16 = 0x007;
    pub(in super::super) const CREATE_PERMISSION: u16 = 0x008;
    pub(in super::super) const CHANNEL_BIND: u16 = 0x009;
}

/// The attribute types (RFC 8489 18.3, RFC 8656 18).
pub(super) mod kind {
    pub(in super::super) const USERNAME: u16 = 0x0006;
    pub(in super::super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(in super::super) const ERROR_CODE: u16 = 0x0009;
    pub(in super::super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(in super::super) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(in super::super) const LIFETIME: u16 = 0x000d;
    pub(in super::super) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(in super::super) const DATA: u16 = 0x0013;
    pub(in super::super) const REALM: u16 = 0x0014;
    pub(in super::super) const NONCE: u16 = 0x0015;
    pub(in super::super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(in super::super) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(in super::super) const EVEN_PORT: u16 = 0x0018;
    pub(in super::super) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(in super::super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(in super::super) const RESERVATION_TOKEN: u16 = 0x0022;
    /// The first comprehension-optional type: unknown attributes from here on may be ignored.
    pub(in super::super) const OPTIONAL: u16 = 0x8000;
    pub(in super::super) const FINGERPRINT: u16 = 0x8028;
}

/// The class of a message (RFC 8489 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Indication,
    Success,
    Failure,
}

impl Class {
    const fn bits(self) -> u16 {
        match self {
            Self::Request => 0x000,
            Self::Indication => 0x010,
            Self::Success => 0x100,
            Self::Failure => 0x110,
        }
    }
}

/// Decodes method and class from the first two bytes of a message.
pub(super) fn read_type(first: [u8; 2]) -> (u16, Class) {
    let bits = u16::from_be_bytes(first);
    let method = (bits & 0x000f) | ((bits & 0x00e0) >> 1) | ((bits & 0x3e00) >> 2);
    let class = match bits & 0x110 {
        0x000 => Class::Request,
        0x010 => Class::Indication,
        0x100 => Class::Success,
        _ => Class::Failure,
    };
    (method, class)
}

/// Encodes method and class. All supported methods fit into the lowest four bits.
const fn write_type(method: u16, class: Class) -> [u8; 2] {
    ((method & 0x000f) | class.bits()).to_be_bytes()
}

/// Returns whether bytes start with a STUN header.
pub(super) fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 4) && bytes.get(4..8) == Some(&COOKIE)
}

/// Returns the length of the STUN message or `ChannelData` at the start of `bytes`, including the
/// padding that a stream requires (RFC 8656 12.5), or `Ok(None)` if more bytes are needed.
///
/// # Errors
/// The bytes start with neither of them.
pub(super) fn length_on_stream(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let Some(head) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    match head[0] {
        0..4 if length % 4 == 0 => Ok(Some(HEADER + length)),
        0x40..0x80 => Ok(Some(4 + length.next_multiple_of(4))),
        _ => Err(()),
    }
}

/// A parsed message. Its lengths are valid, as is its fingerprint if it has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'m> {
    pub(super) method: u16,
    pub(super) class: Class,
    pub(super) transaction: [u8; 12],
    bytes: &'m [u8],
    /// The end of the attributes to process: at MESSAGE-INTEGRITY, or else at FINGERPRINT or the
    /// end of the message.
    end: usize,
    integrity: Option<&'m [u8]>,
}

impl<'m> Message<'m> {
    /// Parses a message. Trailing bytes are not allowed.
    pub(super) fn parse(bytes: &'m [u8]) -> Option<Self> {
        if !is_stun(bytes) {
            return None;
        }
        let head = bytes.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if length % 4 != 0 || HEADER + length != bytes.len() {
            return None;
        }
        let (method, class) = read_type([head[0], head[1]]);
        let mut message = Self {
            method,
            class,
            transaction: *head.last_chunk()?,
            bytes,
            end: bytes.len(),
            integrity: None,
        };
        message.check_attributes()?;
        Some(message)
    }

    fn check_attributes(&mut self) -> Option<()> {
        let mut at = HEADER;
        let mut ended = false;
        while at < self.bytes.len() {
            let (kind, value) = attribute_at(self.bytes, at)?;
            match kind {
                kind::MESSAGE_INTEGRITY if !ended => {
                    if value.len() != INTEGRITY {
                        return None;
                    }
                    self.integrity = Some(value);
                    self.end = at;
                    ended = true;
                }
                kind::FINGERPRINT => {
                    let expected = fingerprint(self.bytes.get(..at)?);
                    let last = at + 8 == self.bytes.len();
                    if !last || value != expected.to_be_bytes() {
                        return None;
                    }
                    if !ended {
                        self.end = at;
                    }
                }
                _ => {}
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        Some(())
    }

    /// Returns the attributes before MESSAGE-INTEGRITY. Those after it are not authenticated.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (u16, &'m [u8])> + use<'m> {
        let covered = self.bytes.get(..self.end).unwrap_or_default();
        let mut at = HEADER;
        std::iter::from_fn(move || {
            let (kind, value) = attribute_at(covered, at)?;
            at += 4 + value.len().next_multiple_of(4);
            Some((kind, value))
        })
    }

    /// Returns the first attribute of a type; later ones are ignored (RFC 8489 14).
    pub(super) fn attribute(&self, kind: u16) -> Option<&'m [u8]> {
        self.attributes()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// Returns the first attribute of a type as text.
    pub(super) fn text(&self, kind: u16) -> Option<&'m str> {
        std::str::from_utf8(self.attribute(kind)?).ok()
    }

    /// Returns the first attribute of a type as a 32-bit number.
    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        let value = self.attribute(kind)?;
        Some(u32::from_be_bytes(value.try_into().ok()?))
    }

    /// Returns all address attributes of a type, with `None` for those that are malformed.
    pub(super) fn addresses(&self, kind: u16) -> impl Iterator<Item = Option<SocketAddr>> {
        let transaction = self.transaction;
        self.attributes()
            .filter(move |(found, _)| *found == kind)
            .map(move |(_, value)| read_address(value, transaction))
    }

    /// Returns whether the message has a MESSAGE-INTEGRITY attribute.
    pub(super) fn is_signed(&self) -> bool {
        self.integrity.is_some()
    }

    /// Verifies MESSAGE-INTEGRITY with this key.
    pub(super) fn is_signed_with(&self, key: &[u8]) -> bool {
        let (Some(integrity), Some(covered)) = (self.integrity, self.bytes.get(..self.end)) else {
            return false;
        };
        let computed = integrity_of(key, covered);
        constant_time::verify_slices_are_equal(computed.as_ref(), integrity).is_ok()
    }
}

/// Returns the attribute at an offset.
fn attribute_at(bytes: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let rest = bytes.get(at..)?;
    let head = rest.first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let value = rest.get(4..4 + length)?;
    Some((u16::from_be_bytes([head[0], head[1]]), value))
}

/// Computes MESSAGE-INTEGRITY over the bytes before the attribute. The length field in the header
/// is replaced by one that includes the attribute (RFC 8489 14.5).
fn integrity_of(key: &[u8], covered: &[u8]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(covered.get(..2).unwrap_or_default());
    let length = (covered.len() + 4 + INTEGRITY).saturating_sub(HEADER);
    context.update(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    context.update(covered.get(4..).unwrap_or_default());
    context.sign()
}

/// Computes FINGERPRINT over the bytes before the attribute. The length field in the header must
/// already include the attribute (RFC 8489 14.7).
fn fingerprint(covered: &[u8]) -> u32 {
    CRC.checksum(covered) ^ FINGERPRINT_MASK
}

/// Returns the XOR mask of addresses (RFC 8489 14.2).
fn mask(transaction: [u8; 12]) -> [u8; 16] {
    let mut mask = [0; 16];
    let (cookie, rest) = mask.split_at_mut(4);
    cookie.copy_from_slice(&COOKIE);
    rest.copy_from_slice(&transaction);
    mask
}

fn read_address(value: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let head = value.first_chunk::<4>()?;
    let port = u16::from_be_bytes([head[2] ^ COOKIE[0], head[3] ^ COOKIE[1]]);
    let masked = value.get(4..)?;
    let mask = mask(transaction);
    let ip = match head[1] {
        1 => {
            let mut octets = <[u8; 4]>::try_from(masked).ok()?;
            apply_mask(&mut octets, mask);
            IpAddr::from(octets)
        }
        2 => {
            let mut octets = <[u8; 16]>::try_from(masked).ok()?;
            apply_mask(&mut octets, mask);
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn apply_mask(octets: &mut [u8], mask: [u8; 16]) {
    for (octet, mask) in octets.iter_mut().zip(mask) {
        *octet ^= mask;
    }
}

/// Appends a message to a buffer.
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    transaction: [u8; 12],
}

impl<'o> Writer<'o> {
    pub(super) fn new(
        out: &'o mut Vec<u8>,
        method: u16,
        class: Class,
        transaction: [u8; 12],
    ) -> Self {
        let start = out.len();
        out.extend(write_type(method, class));
        out.extend([0, 0]);
        out.extend(COOKIE);
        out.extend(transaction);
        Self {
            out,
            start,
            transaction,
        }
    }

    /// Appends an attribute with its padding.
    pub(super) fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).expect("datagrams are shorter than 64 KiB");
        self.out.extend(kind.to_be_bytes());
        self.out.extend(length.to_be_bytes());
        self.out.extend(value);
        let padded = value.len().next_multiple_of(4) - value.len();
        self.out.extend(std::iter::repeat_n(0, padded));
        self
    }

    /// Appends an XOR address attribute.
    pub(super) fn address(self, kind: u16, address: SocketAddr) -> Self {
        let mut value = [0; 20];
        let mask = mask(self.transaction);
        let [high, low] = address.port().to_be_bytes();
        (value[2], value[3]) = (high ^ COOKIE[0], low ^ COOKIE[1]);
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        apply_mask(&mut value[4..length], mask);
        self.attribute(kind, &value[..length])
    }

    /// Appends ERROR-CODE (RFC 8489 14.8).
    pub(super) fn error(self, code: u16, reason: &str) -> Self {
        let class = u8::try_from(code / 100).unwrap_or(0);
        let number = u8::try_from(code % 100).unwrap_or(0);
        let mut value = vec![0, 0, class, number];
        value.extend(reason.as_bytes());
        self.attribute(kind::ERROR_CODE, &value)
    }

    /// Appends MESSAGE-INTEGRITY if there is a key, then FINGERPRINT, and sets the length.
    pub(super) fn finish(mut self, key: Option<&[u8]>) {
        if let Some(key) = key {
            let tag = integrity_of(key, &self.out[self.start..]);
            self = self.attribute(kind::MESSAGE_INTEGRITY, tag.as_ref());
        }
        let length = self.out.len() - self.start - HEADER + 8;
        let length = u16::try_from(length).expect("datagrams are shorter than 64 KiB");
        self.out[self.start + 2..self.start + 4].copy_from_slice(&length.to_be_bytes());
        let sum = fingerprint(&self.out[self.start..]);
        let _ = self.attribute(kind::FINGERPRINT, &sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use is::stun::{StunMessage, StunMessageBuilder, TransId};
    use md5::{Digest, Md5};
    use proptest::prelude::*;

    use super::*;

    /// The long-term example of RFC 5769 2.4.
    const LONG_TERM: &[u8] = b"\x00\x01\x00\x60\x21\x12\xa4\x42\
        \x78\xad\x34\x33\xc6\xad\x72\xc0\x29\xda\x41\x2e\
        \x00\x06\x00\x12\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9\
        \x00\x00\x00\x15\x00\x1c\x66\x2f\x2f\x34\x39\x39\x6b\x39\x35\x34\x64\x36\x4f\x4c\x33\x34\
        \x6f\x4c\x39\x46\x53\x54\x76\x79\x36\x34\x73\x41\x00\x14\x00\x0b\x65\x78\x61\x6d\x70\x6c\
        \x65\x2e\x6f\x72\x67\x00\x00\x08\x00\x14\xf6\x70\x24\x65\x6d\xd6\x4a\x3e\x02\xb8\xe0\x71\
        \x2e\x85\xc9\xa2\x8c\xa8\x96\x66";

    fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let tag = hmac::sign(&key, &parts.concat());
        tag.as_ref().try_into().unwrap()
    }

    #[test]
    fn the_rfc_5769_example_is_parsed_and_verified() {
        let message = Message::parse(LONG_TERM).unwrap();
        let username = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        assert_eq!(message.text(kind::USERNAME), Some(username));
        assert_eq!(message.text(kind::REALM), Some("example.org"));
        let key = Md5::digest(format!("{username}:example.org:TheMatrIX"));
        assert!(message.is_signed_with(&key));
        assert!(!message.is_signed_with(b"another"));
    }

    #[test]
    fn a_changed_byte_breaks_the_signature_or_the_message() {
        let mut bytes = Vec::new();
        Writer::new(
            &mut bytes,
            method::REFRESH,
            Class::Request,
            *b"transaction.",
        )
        .attribute(kind::LIFETIME, &[0, 0, 2, 88])
        .finish(Some(b"key"));
        assert!(Message::parse(&bytes).unwrap().is_signed_with(b"key"));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // With its type changed, it is no longer a fingerprint, and only the integrity
            // protects.
            let is_kind = (bytes.len() - 8..bytes.len() - 6).contains(&at);
            assert!(
                is_kind || Message::parse(&changed).is_none(),
                "the fingerprint misses byte {at}"
            );
            // Check the integrity alone, without the fingerprint, which covers everything.
            let mut bare = changed[..bytes.len() - 8].to_vec();
            if at >= bare.len() {
                continue;
            }
            bare[3] = bare[3].wrapping_sub(8);
            let is_valid = Message::parse(&bare).is_some_and(|m| m.is_signed_with(b"key"));
            assert!(!is_valid, "the signature misses byte {at}");
        }
    }

    #[test]
    fn attributes_after_the_signature_are_ignored() {
        let mut bytes = Vec::new();
        Writer::new(
            &mut bytes,
            method::REFRESH,
            Class::Request,
            *b"transaction.",
        )
        .finish(Some(b"key"));
        bytes.truncate(bytes.len() - 8);
        bytes.extend([0, 0x0d, 0, 4, 0, 0, 0, 0]);
        let message = Message::parse(&bytes).unwrap();
        assert!(message.is_signed_with(b"key"));
        assert_eq!(message.number(kind::LIFETIME), None);
    }

    #[test]
    fn written_messages_are_parsed_by_an_independent_implementation() {
        for address in ["192.0.2.7:50000", "[2001:db8::7]:50000"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut bytes = Vec::new();
            Writer::new(
                &mut bytes,
                method::ALLOCATE,
                Class::Success,
                *b"transaction.",
            )
            .address(kind::XOR_RELAYED_ADDRESS, address)
            .address(kind::XOR_MAPPED_ADDRESS, address)
            .attribute(kind::LIFETIME, &600_u32.to_be_bytes())
            .finish(Some(b"key"));
            let read = StunMessage::parse(&bytes).unwrap();
            assert!(read.verify(b"key", hmac_sha1));
            assert_eq!(read.xor_relayed_address(), Some(address));
            assert_eq!(read.mapped_address(), Some(address));
            assert_eq!(read.lifetime(), Some(600));
        }
        let mut bytes = Vec::new();
        Writer::new(
            &mut bytes,
            method::ALLOCATE,
            Class::Failure,
            *b"transaction.",
        )
        .error(438, "Stale Nonce")
        .attribute(kind::NONCE, b"n")
        .finish(None);
        let read = StunMessage::parse(&bytes).unwrap();
        assert_eq!(read.error_code(), Some((438, "Stale Nonce")));
        assert_eq!(read.nonce(), Some("n"));
    }

    #[test]
    fn messages_of_an_independent_implementation_are_parsed() {
        let peer: SocketAddr = "[2001:db8::7]:8789".parse().unwrap();
        let built = StunMessageBuilder::new()
            .channel_bind()
            .request()
            .username("86400:ada")
            .realm("parlor")
            .nonce("nonce")
            .channel_number(0x4001)
            .xor_peer_address(peer)
            .build(TransId::new());
        let mut buffer = [0; 512];
        let length = built
            .to_bytes(Some(b"key"), &mut buffer, hmac_sha1)
            .unwrap();
        let read = Message::parse(&buffer[..length]).unwrap();
        assert_eq!(
            (read.method, read.class),
            (method::CHANNEL_BIND, Class::Request)
        );
        assert!(read.is_signed_with(b"key"));
        assert_eq!(read.text(kind::USERNAME), Some("86400:ada"));
        let peers = read.addresses(kind::XOR_PEER_ADDRESS).collect::<Vec<_>>();
        assert_eq!(peers, [Some(peer)]);
        assert_eq!(
            length_on_stream(&buffer[..4]),
            Ok(Some(length)),
            "the length on a stream matches"
        );
    }

    proptest! {
        #[test]
        fn parsing_arbitrary_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = length_on_stream(&bytes);
            if let Some(message) = Message::parse(&bytes) {
                let _ = message.attributes().count();
            }
        }

        #[test]
        fn attributes_survive_a_round_trip(
            attributes in prop::collection::vec(
                (0x0001_u16..0xc000, prop::collection::vec(any::<u8>(), 0..40)),
                0..6,
            ),
        ) {
            let attributes = attributes
                .into_iter()
                .filter(|(kind, _)| ![kind::MESSAGE_INTEGRITY, kind::FINGERPRINT].contains(kind))
                .collect::<Vec<_>>();
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes, method::SEND, Class::Indication, [7; 12]);
            for (kind, value) in &attributes {
                writer = writer.attribute(*kind, value);
            }
            writer.finish(None);
            let message = Message::parse(&bytes).unwrap();
            let read = message
                .attributes()
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect::<Vec<_>>();
            prop_assert_eq!(read, attributes);
            let _ = message.addresses(kind::XOR_PEER_ADDRESS).count();
        }
    }
}
