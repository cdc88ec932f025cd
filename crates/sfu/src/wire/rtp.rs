//! RTP headers (RFC 3550 section 5.1) and their extensions (RFC 8285).

use std::ops::Range;

use super::{be16, be32};

#[cfg(test)]
mod tests;

/// The part of a header that every packet has, in bytes.
const FIXED: usize = 12;
/// The profile of a block with one-byte element headers (RFC 8285 section 4.2).
const ONE_BYTE: u16 = 0xBEDE;
/// The profile of a block with two-byte element headers, without its four application bits
/// (RFC 8285 section 4.3).
const TWO_BYTE: u16 = 0x1000;

/// The header of a packet. It holds offsets and not the packet, so that the packet can be changed
/// while the header is at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The marker bit: the last packet of a video frame, the first of a talkspurt.
    pub marker: bool,
    /// Which codec, 0 to 127.
    pub payload_type: u8,
    /// The sequence number, which wraps.
    pub sequence: u16,
    /// The time of the first sample, in ticks of the codec's clock. It wraps.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
    /// Where in the packet the extension elements are; empty when there are none.
    pub extensions: Range<usize>,
    /// The profile of the extension block, which says how elements are framed; 0 without a block.
    pub profile: u16,
    /// Where the payload begins, in bytes. It is the length of the header.
    pub payload: usize,
    /// Whether the payload ends with padding. Its length is in the last byte, which is encrypted
    /// in SRTP: see [`unpadded`](Self::unpadded).
    pub padded: bool,
}

impl Header {
    /// Reads the header of a packet, encrypted or not. `None` when it is not RTP version 2, or when
    /// the header does not fit into the packet.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED>()?;
        let [first, second, ..] = *fixed;
        if first >> 6 != 2 {
            return None;
        }
        let contributors = usize::from(first & 0x0F) * 4;
        let mut header = Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: be16(fixed, 2)?,
            timestamp: be32(fixed, 4)?,
            ssrc: be32(fixed, 8)?,
            extensions: 0..0,
            profile: 0,
            payload: FIXED + contributors,
            padded: first & 0x20 != 0,
        };
        if first & 0x10 != 0 {
            header.profile = be16(rest, contributors)?;
            let length = usize::from(be16(rest, contributors + 2)?) * 4;
            let begin = header.payload + 4;
            header.extensions = begin..begin + length;
            header.payload = begin + length;
        }
        (header.payload <= packet.len()).then_some(header)
    }

    /// The extension elements of the packet that this header was read from, as ids and values.
    /// Elements after a malformed one are left out.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8])> {
        Extensions {
            profile: self.profile,
            rest: packet.get(self.extensions.clone()).unwrap_or_default(),
        }
    }

    /// Where in a decrypted packet the payload is without its padding. `None` when the padding says
    /// it is longer than the payload, or nothing at all (RFC 3550 section 5.1).
    pub fn unpadded(&self, packet: &[u8]) -> Option<Range<usize>> {
        let payload = packet.get(self.payload..)?;
        if !self.padded {
            return Some(self.payload..packet.len());
        }
        let padding = usize::from(*payload.last()?);
        (1..=payload.len())
            .contains(&padding)
            .then(|| self.payload..packet.len() - padding)
    }
}

/// What is left of a block of extension elements.
struct Extensions<'a> {
    profile: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (id, value, rest) = if self.profile == ONE_BYTE {
            one_byte_element(self.rest)
        } else if self.profile & 0xFFF0 == TWO_BYTE {
            two_byte_element(self.rest)
        } else {
            None
        }
        .unwrap_or_default();
        self.rest = rest;
        (id != 0).then_some((id, value))
    }
}

/// An id, its value, and what follows.
type Element<'a> = Option<(u8, &'a [u8], &'a [u8])>;

fn one_byte_element(mut block: &[u8]) -> Element<'_> {
    loop {
        let (head, rest) = block.split_first()?;
        // Id 0 with a length and id 15 both end the block, by RFC 8285 section 4.2.
        match (head >> 4, usize::from(head & 0x0F)) {
            (0, 0) => block = rest,
            (0 | 15, _) => return None,
            (id, length) => {
                let (value, rest) = rest.split_at_checked(length + 1)?;
                return Some((id, value, rest));
            }
        }
    }
}

fn two_byte_element(mut block: &[u8]) -> Element<'_> {
    loop {
        let (id, rest) = block.split_first()?;
        if *id == 0 {
            block = rest;
            continue;
        }
        let (length, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        return Some((*id, value, rest));
    }
}

/// What [`write_header`] writes besides extensions. No contributing sources, no padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The marker bit.
    pub marker: bool,
    /// Which codec. Only the lower seven bits are written.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The time of the first sample, in ticks of the codec's clock.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
}

/// Appends a header, with the extensions in the one-byte form, and tells how long it is in bytes.
/// Without extensions there is no block.
///
/// Ids are 1 to 14 and values have 1 to 16 bytes; whatever else is given is left out, and so is
/// everything after the fourteenth, since each id stands once.
pub fn write_header(out: &mut Vec<u8>, header: &Outgoing, extensions: &[(u8, &[u8])]) -> usize {
    let begin = out.len();
    let mut fixed = [0; FIXED];
    fixed[0] = 0x80;
    fixed[1] = u8::from(header.marker) << 7 | header.payload_type & 0x7F;
    fixed[2..4].copy_from_slice(&header.sequence.to_be_bytes());
    fixed[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
    out.extend_from_slice(&fixed);

    let [profile_high, profile_low] = ONE_BYTE.to_be_bytes();
    out.extend_from_slice(&[profile_high, profile_low, 0, 0]);
    let block = out.len();
    for (id, value) in extensions.iter().take(14) {
        // Longer than 16 gives no length of four bits, and empty gives none either.
        let length = u8::try_from(value.len().wrapping_sub(1)).unwrap_or(u8::MAX);
        if (1..=14).contains(id) && length < 16 {
            out.push(id << 4 | length);
            out.extend_from_slice(value);
        }
    }
    if out.len() == block {
        out.truncate(begin + FIXED);
        return FIXED;
    }
    let words = (out.len() - block).div_ceil(4);
    out.resize(block + words * 4, 0);
    // At most 14 elements of 17 bytes, so a byte holds the number of words.
    out[block - 1] = u8::try_from(words).unwrap_or(u8::MAX);
    out[begin] |= 0x10;
    out.len() - begin
}

/// How loud a packet of audio is, and whether it holds voice, from the value of its
/// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` extension (RFC 6464). The level is in -dBov: 0 is
/// the loudest, 127 is silence. A value that is missing is silence.
pub fn audio_level(value: &[u8]) -> (u8, bool) {
    let byte = value.first().copied().unwrap_or(0x7F);
    (byte & 0x7F, byte & 0x80 != 0)
}

/// The transport-wide sequence number, from the value of its extension
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
pub fn transport_sequence(value: &[u8]) -> Option<u16> {
    be16(value, 0)
}

/// Extends a sequence number to the one that is nearest to `near`, so that it no longer wraps. Of
/// two equally near ones it takes the earlier. It takes the later where the earlier would be
/// negative, so begin with `1 << 16 | first` to have room for what comes before the first.
pub fn unwrap_sequence(near: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub((near & 0xFFFF) as u16);
    near.checked_add_signed(i64::from(ahead.cast_signed()))
        .unwrap_or_else(|| near.wrapping_add(u64::from(ahead)))
}
