//! Wire formats: RTP, RTCP, SRTP, and the VP8 payload descriptor.
//!
//! This module performs no I/O. Parsing untrusted input never panics and never allocates, and its
//! cost is bounded by the length of the datagram.
//!
//! | module | content | source |
//! |---|---|---|
//! | [`rtp`] | Headers, header extensions, sequence numbers | RFC 3550, 6464, 8285 |
//! | [`rtcp`] | Reports and feedback | RFC 3550, 4585, 5104, transport-wide congestion control |
//! | [`srtp`] | Encryption and authentication | RFC 3711, 5764, 7714 |
//! | [`vp8`] | The payload descriptor and the size of a key frame | RFC 6386, 7741 |

pub mod rtcp;
pub mod rtp;
pub mod srtp;
pub mod vp8;

/// The protocol of a datagram on the shared media port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A STUN message.
    Stun,
    /// A DTLS record.
    Dtls,
    /// RTP or SRTP, which have the same first bytes.
    Rtp,
    /// RTCP or SRTCP, which have the same first bytes.
    Rtcp,
    /// TURN `ChannelData`.
    Channel,
    /// An unknown protocol.
    Unknown,
}

/// Determines the protocol of a datagram from its first two bytes (RFC 7983; RFC 5761 section 4 for
/// RTP and RTCP).
pub fn kind(datagram: &[u8]) -> Kind {
    match datagram {
        [0..=3, ..] => Kind::Stun,
        [20..=63, ..] => Kind::Dtls,
        [64..=79, ..] => Kind::Channel,
        [128..=191, 192..=223, ..] => Kind::Rtcp,
        [128..=191, _, ..] => Kind::Rtp,
        _ => Kind::Unknown,
    }
}

/// Reads a 16-bit number in network byte order at an offset.
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let found = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*found))
}

/// Reads a 32-bit number in network byte order at an offset.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_bytes_determine_the_protocol() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let expected = match (first, second) {
                    (0..=3, _) => Kind::Stun,
                    (20..=63, _) => Kind::Dtls,
                    (64..=79, _) => Kind::Channel,
                    (128..=191, 192..=223) => Kind::Rtcp,
                    (128..=191, _) => Kind::Rtp,
                    _ => Kind::Unknown,
                };
                assert_eq!(kind(&[first, second, 0]), expected, "{first} {second}");
            }
        }
        assert_eq!(
            kind(&[0x80, 0x80 | 0x6F]),
            Kind::Rtp,
            "opus with its marker set"
        );
        assert_eq!(kind(&[0x81, 200]), Kind::Rtcp, "a sender report");
        assert_eq!(kind(&[0x16, 0xfe, 0xff]), Kind::Dtls, "a handshake");
    }

    #[test]
    fn a_datagram_that_is_too_short_is_unknown() {
        assert_eq!(kind(&[]), Kind::Unknown);
        assert_eq!(kind(&[0x80]), Kind::Unknown);
    }
}
