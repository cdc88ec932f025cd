//! RTP headers (RFC 3550 section 5.1) and their extensions (RFC 8285).

use std::ops::Range;

use super::{be16, be32};

#[cfg(test)]
mod tests;

/// Length of the fixed part of the header, in bytes.
const FIXED: usize = 12;
/// The profile of a block with one-byte element headers (RFC 8285 section 4.2).
const ONE_BYTE: u16 = 0xBEDE;
/// The profile of a block with two-byte element headers, without its four application bits
/// (RFC 8285 section 4.3).
const TWO_BYTE: u16 = 0x1000;

/// The header of a packet. It contains offsets instead of borrowing from the packet, so that the
/// packet can be modified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The marker bit, set on the last packet of a video frame and on the first of a talkspurt.
    pub marker: bool,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number. Wraps around.
    pub sequence: u16,
    /// The timestamp of the first sample, in ticks of the RTP clock. Wraps around.
    pub timestamp: u32,
    /// The SSRC of the stream.
    pub ssrc: u32,
    /// The range of the extension elements in the packet; empty without extensions.
    pub extensions: Range<usize>,
    /// The profile of the extension block, which determines its format; 0 without a block.
    pub profile: u16,
    /// The offset of the payload, which is the length of the header, in bytes.
    pub payload: usize,
    /// Whether the payload ends with padding. The length of the padding is in the last byte, which
    /// is encrypted in SRTP: see [`unpadded`](Self::unpadded).
    pub padded: bool,
}

impl Header {
    /// Parses the header of an RTP or SRTP packet. Returns `None` if the version is not 2 or the
    /// packet is shorter than the header.
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
            let start = header.payload + 4;
            header.extensions = start..start + length;
            header.payload = start + length;
        }
        (header.payload <= packet.len()).then_some(header)
    }

    /// Returns the ids and values of the extension elements in the packet of this header. Stops at
    /// the first malformed element.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8])> {
        Extensions {
            profile: self.profile,
            rest: packet.get(self.extensions.clone()).unwrap_or_default(),
        }
    }

    /// Returns the range of the payload without padding in the decrypted packet. Returns `None` if
    /// the length of the padding is zero or exceeds the payload (RFC 3550 section 5.1).
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

/// An iterator over extension elements.
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

/// An id, its value, and the rest of the block.
type Element<'a> = Option<(u8, &'a [u8], &'a [u8])>;

fn one_byte_element(mut block: &[u8]) -> Element<'_> {
    loop {
        let (head, rest) = block.split_first()?;
        // Id 0 with a non-zero length and id 15 both end the block (RFC 8285 section 4.2).
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

/// The header fields for [`write_header`]. There are no contributing sources and no padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The marker bit.
    pub marker: bool,
    /// The payload type. Only the lower seven bits are written.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp of the first sample, in ticks of the RTP clock.
    pub timestamp: u32,
    /// The SSRC of the stream.
    pub ssrc: u32,
}

/// Appends a header with extensions in one-byte form. Returns the length of the header in bytes.
/// Without extensions, the extension block is omitted.
///
/// Ids must be 1 to 14 and unique, and values must have 1 to 16 bytes. Invalid extensions are
/// skipped, as are those after the fourteenth.
pub fn write_header(out: &mut Vec<u8>, header: &Outgoing, extensions: &[(u8, &[u8])]) -> usize {
    let start = out.len();
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
        // Empty values and values of more than 16 bytes have no valid four-bit length.
        let length = u8::try_from(value.len().wrapping_sub(1)).unwrap_or(u8::MAX);
        if (1..=14).contains(id) && length < 16 {
            out.push(id << 4 | length);
            out.extend_from_slice(value);
        }
    }
    if out.len() == block {
        out.truncate(start + FIXED);
        return FIXED;
    }
    let words = (out.len() - block).div_ceil(4);
    out.resize(block + words * 4, 0);
    // With at most 14 elements of 17 bytes, the number of words fits into one byte.
    out[block - 1] = u8::try_from(words).unwrap_or(u8::MAX);
    out[start] |= 0x10;
    out.len() - start
}

/// Parses the value of the `urn:ietf:params:rtp-hdrext:ssrc-audio-level` extension (RFC 6464).
/// Returns the audio level in -dBov, where 0 is the loudest and 127 is silence, and the voice
/// activity flag. An empty value is silence.
pub fn audio_level(value: &[u8]) -> (u8, bool) {
    let byte = value.first().copied().unwrap_or(0x7F);
    (byte & 0x7F, byte & 0x80 != 0)
}

/// Parses the value of the transport-wide sequence number extension
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
pub fn transport_sequence(value: &[u8]) -> Option<u16> {
    be16(value, 0)
}

/// Extends a sequence number to the 64-bit number nearest to `near`. Of two equally near numbers,
/// returns the lower one, unless it would be negative. Start with `1 << 16 | first`, so that
/// numbers before the first one are not negative.
pub fn unwrap_sequence(near: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub((near & 0xFFFF) as u16);
    near.checked_add_signed(i64::from(ahead.cast_signed()))
        .unwrap_or_else(|| near.wrapping_add(u64::from(ahead)))
}
