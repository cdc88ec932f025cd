//! Parsing and serialization of RTCP: reports (RFC 3550 section 6) and feedback (RFC 4585, RFC
//! 5104).
//!
//! The parser is lenient. Unknown packets and those with malformed content are [`Rtcp::Other`];
//! parsing stops only where the framing is invalid. Reduced-size packets (RFC 5506) are accepted,
//! so a compound need not start with a report.

use super::{be16, be32};

mod transport_cc;
mod write;

#[cfg(test)]
mod tests;

pub use transport_cc::{Arrivals, Feedback, write_transport_cc};
pub use write::{
    write_bye, write_fir, write_nack, write_pli, write_receiver_report, write_sdes_cname,
    write_sender_report,
};

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
mod packet_type {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SDES: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// The feedback message types, which occupy the count field of reports.
mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_CC: u8 = 15;
    pub(super) const PLI: u8 = 1;
    pub(super) const FIR: u8 = 4;
    pub(super) const REMB: u8 = 15;
}

/// Maximum number of packet statuses of transport-wide feedback in one datagram. A few bytes can
/// encode 65535 of them, so without a limit one datagram could take milliseconds to process. The
/// limit covers more than ten seconds of a fast stream.
const MAX_STATUSES: usize = 16_384;

/// A packet of a compound.
#[derive(Debug, Clone)]
pub enum Rtcp<'a> {
    /// A sender report (RFC 3550 section 6.4.1).
    SenderReport {
        /// The sender information.
        sender: SenderInfo,
        /// The reception reports.
        blocks: ReportBlocks<'a>,
    },
    /// A receiver report (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// The SSRC of the sender of this report.
        ssrc: u32,
        /// The reception reports.
        blocks: ReportBlocks<'a>,
    },
    /// A generic NACK, which requests retransmissions (RFC 4585 section 6.2.1).
    Nack {
        /// The SSRC of the sender of this packet.
        sender: u32,
        /// The SSRC of the media stream.
        media: u32,
        /// The sequence numbers of the lost packets.
        lost: Lost<'a>,
    },
    /// A picture loss indication, which requests a key frame (RFC 4585 section 6.3.1).
    Pli {
        /// The SSRC of the sender of this packet.
        sender: u32,
        /// The SSRC of the media stream.
        media: u32,
    },
    /// A full intra request, which requests key frames (RFC 5104 section 4.3.1).
    Fir {
        /// The SSRC of the sender of this packet.
        sender: u32,
        /// The media streams, each with a command sequence number that a repeated request does not
        /// change.
        entries: FirEntries<'a>,
    },
    /// Transport-wide congestion control feedback.
    TransportCc(Feedback<'a>),
    /// The receiver's estimated maximum bit rate
    /// (draft-alvestrand-rmcat-remb-03 section 2.2).
    Remb {
        /// The SSRC of the sender of this packet.
        sender: u32,
        /// The bit rate of all streams together, in bits per second.
        bitrate: u64,
        /// The SSRCs of the streams.
        ssrcs: Ssrcs<'a>,
    },
    /// A source description (RFC 3550 section 6.5). Its content is not parsed.
    Sdes,
    /// A goodbye, which ends streams (RFC 3550 section 6.6).
    Bye {
        /// The SSRCs of the streams.
        ssrcs: Ssrcs<'a>,
    },
    /// An unknown or malformed packet.
    Other,
}

/// The sender information of a sender report (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The SSRC of the stream.
    pub ssrc: u32,
    /// The NTP timestamp of the report: seconds since 1900, times 2^32.
    pub ntp: u64,
    /// The RTP timestamp that corresponds to [`ntp`](Self::ntp).
    pub rtp: u32,
    /// Total number of packets sent. Wraps around.
    pub packets: u32,
    /// Total number of payload bytes sent. Wraps around.
    pub octets: u32,
}

/// A reception report on one stream (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The SSRC of the stream.
    pub ssrc: u32,
    /// The fraction of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Total number of packets lost. Negative if duplicates were received. Written with 24 bits;
    /// values out of range are clamped.
    pub lost: i32,
    /// The extended highest sequence number received.
    pub highest: u32,
    /// The interarrival jitter, in ticks of the RTP clock.
    pub jitter: u32,
    /// The middle 32 bits of [`SenderInfo::ntp`] in the last sender report; 0 without one.
    pub lsr: u32,
    /// The delay since the last sender report was received, in 65536ths of a second.
    pub dlsr: u32,
}

/// Parses the packets of a decrypted datagram.
pub fn parse(compound: &[u8]) -> impl Iterator<Item = Rtcp<'_>> {
    Packets {
        rest: compound,
        statuses: MAX_STATUSES,
    }
}

/// An iterator over the packets of a compound.
struct Packets<'a> {
    rest: &'a [u8],
    /// The remaining number of statuses of transport-wide feedback.
    statuses: usize,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Rtcp<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        let first = *rest.first()?;
        let packet_type = *rest.get(1)?;
        let length = (usize::from(be16(rest, 2)?) + 1) * 4;
        let (packet, rest) = rest.split_at_checked(length)?;
        let mut body = packet.get(4..)?;
        if first >> 6 != 2 {
            return None;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            if padding == 0 {
                return None;
            }
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        self.rest = rest;
        let read = read(packet_type, first & 0x1F, body).unwrap_or(Rtcp::Other);
        if let Rtcp::TransportCc(feedback) = &read {
            match self.statuses.checked_sub(usize::from(feedback.count)) {
                Some(left) => self.statuses = left,
                None => return Some(Rtcp::Other),
            }
        }
        Some(read)
    }
}

/// Parses the body of a packet, which follows the first four bytes. `count` is the five-bit field
/// that contains a count or a feedback message type.
fn read(packet_type: u8, count: u8, body: &[u8]) -> Option<Rtcp<'_>> {
    let ssrc = || be32(body, 0);
    let media = || be32(body, 4);
    Some(match (packet_type, count) {
        (packet_type::SENDER_REPORT, _) => Rtcp::SenderReport {
            sender: SenderInfo {
                ssrc: ssrc()?,
                ntp: u64::from(be32(body, 4)?) << 32 | u64::from(be32(body, 8)?),
                rtp: be32(body, 12)?,
                packets: be32(body, 16)?,
                octets: be32(body, 20)?,
            },
            blocks: ReportBlocks(records(body, 24, count)?),
        },
        (packet_type::RECEIVER_REPORT, _) => Rtcp::ReceiverReport {
            ssrc: ssrc()?,
            blocks: ReportBlocks(records(body, 4, count)?),
        },
        (packet_type::SDES, _) => Rtcp::Sdes,
        (packet_type::BYE, _) => Rtcp::Bye {
            ssrcs: Ssrcs(records(body, 0, count)?),
        },
        (packet_type::TRANSPORT_FEEDBACK, format::NACK) => Rtcp::Nack {
            sender: ssrc()?,
            media: media()?,
            lost: Lost {
                pairs: body.get(8..)?.as_chunks().0,
                next: 0,
                following: 0,
            },
        },
        (packet_type::TRANSPORT_FEEDBACK, format::TRANSPORT_CC) => {
            Rtcp::TransportCc(Feedback::parse(body)?)
        }
        (packet_type::PAYLOAD_FEEDBACK, format::PLI) => Rtcp::Pli {
            sender: ssrc()?,
            media: media()?,
        },
        (packet_type::PAYLOAD_FEEDBACK, format::FIR) => Rtcp::Fir {
            sender: ssrc()?,
            entries: FirEntries(body.get(8..)?.as_chunks().0),
        },
        (packet_type::PAYLOAD_FEEDBACK, format::REMB) if body.get(8..12)? == b"REMB" => {
            let [streams, high, middle, low] = be32(body, 12)?.to_be_bytes();
            let mantissa = u32::from_be_bytes([0, high & 0x03, middle, low]);
            // At most 18 bits shifted by 63, which fits into 128 bits.
            let bitrate = u128::from(mantissa) << (high >> 2);
            Rtcp::Remb {
                sender: ssrc()?,
                bitrate: u64::try_from(bitrate).unwrap_or(u64::MAX),
                ssrcs: Ssrcs(records(body, 16, streams)?),
            }
        }
        _ => Rtcp::Other,
    })
}

/// Returns `count` records, starting at an offset. Returns `None` if there are fewer.
fn records<const SIZE: usize>(body: &[u8], at: usize, count: u8) -> Option<&[[u8; SIZE]]> {
    let (records, _) = body.get(at..)?.as_chunks();
    records.get(..usize::from(count))
}

/// An iterator over the blocks of a report.
#[derive(Debug, Clone, Default)]
pub struct ReportBlocks<'a>(&'a [[u8; 24]]);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<Self::Item> {
        let (block, rest) = self.0.split_first()?;
        self.0 = rest;
        let loss = be32(block, 4)?;
        Some(ReportBlock {
            ssrc: be32(block, 0)?,
            fraction_lost: block[4],
            // Sign-extend the 24-bit number.
            lost: (loss << 8).cast_signed() >> 8,
            highest: be32(block, 8)?,
            jitter: be32(block, 12)?,
            lsr: be32(block, 16)?,
            dlsr: be32(block, 20)?,
        })
    }
}

/// An iterator over the sequence numbers of a [`Rtcp::Nack`], in the order of the packet. Every
/// four bytes encode up to 17 of them.
#[derive(Debug, Clone, Default)]
pub struct Lost<'a> {
    pairs: &'a [[u8; 4]],
    /// The sequence number of the lowest bit in `following`.
    next: u16,
    following: u16,
}

impl Iterator for Lost<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<Self::Item> {
        if self.following == 0 {
            let ([first_high, first_low, mask_high, mask_low], rest) = self.pairs.split_first()?;
            let first = u16::from_be_bytes([*first_high, *first_low]);
            self.pairs = rest;
            self.next = first.wrapping_add(1);
            self.following = u16::from_be_bytes([*mask_high, *mask_low]);
            return Some(first);
        }
        let zeros = self.following.trailing_zeros();
        // In two steps, since shifting by all 16 bits at once would overflow.
        self.following = (self.following >> zeros) >> 1;
        let skipped = u16::try_from(zeros).expect("16 bits have at most 16 zeros");
        let found = self.next.wrapping_add(skipped);
        self.next = found.wrapping_add(1);
        Some(found)
    }
}

/// An iterator over the entries of a [`Rtcp::Fir`]: SSRC and command sequence number.
#[derive(Debug, Clone, Default)]
pub struct FirEntries<'a>(&'a [[u8; 8]]);

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, rest) = self.0.split_first()?;
        self.0 = rest;
        Some((be32(entry, 0)?, entry[4]))
    }
}

/// An iterator over SSRCs.
#[derive(Debug, Clone, Default)]
pub struct Ssrcs<'a>(&'a [[u8; 4]]);

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<Self::Item> {
        let (ssrc, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*ssrc))
    }
}
