//! RTCP: reports (RFC 3550 section 6) and feedback (RFC 4585, RFC 5104), read and written.
//!
//! Reading is tolerant. A packet that is known but malformed inside, or not known, is
//! [`Rtcp::Other`]; reading ends where the framing is broken. Reduced-size packets (RFC 5506) are
//! taken, so nothing has to begin with a report.

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

/// The formats of feedback, which stand where reports have their count.
mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_CC: u8 = 15;
    pub(super) const PLI: u8 = 1;
    pub(super) const FIR: u8 = 4;
    pub(super) const REMB: u8 = 15;
}

/// How many packet statuses of transport-wide feedback one datagram may have. A few bytes can stand
/// for 65535 of them, so that without a limit a datagram could cost milliseconds. It is over ten
/// seconds of a fast stream.
const STATUSES: usize = 16_384;

/// One packet of a compound.
#[derive(Debug, Clone)]
pub enum Rtcp<'a> {
    /// What somebody sends, and how it receives others (RFC 3550 section 6.4.1).
    SenderReport {
        /// What is sent.
        sender: SenderInfo,
        /// How others are received.
        blocks: ReportBlocks<'a>,
    },
    /// How somebody who does not send receives others (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// How others are received.
        blocks: ReportBlocks<'a>,
    },
    /// Packets that are missing (RFC 4585 section 6.2.1).
    Nack {
        /// Who misses them.
        sender: u32,
        /// Of which stream.
        media: u32,
        /// Their sequence numbers.
        lost: Lost<'a>,
    },
    /// A key frame is needed because a picture was lost (RFC 4585 section 6.3.1).
    Pli {
        /// Who needs it.
        sender: u32,
        /// From which stream.
        media: u32,
    },
    /// Key frames are needed (RFC 5104 section 4.3.1).
    Fir {
        /// Who needs them.
        sender: u32,
        /// From which streams, each with a number that is the same when a request is repeated.
        entries: FirEntries<'a>,
    },
    /// When packets of all streams of a transport arrived.
    TransportCc(Feedback<'a>),
    /// How many bits per second the receiver thinks it can take
    /// (draft-alvestrand-rmcat-remb-03 section 2.2).
    Remb {
        /// Who receives.
        sender: u32,
        /// Bits per second, over all the streams.
        bitrate: u64,
        /// The streams.
        ssrcs: Ssrcs<'a>,
    },
    /// Who is behind a stream (RFC 3550 section 6.5). Nothing here needs to know.
    Sdes,
    /// Streams that end (RFC 3550 section 6.6).
    Bye {
        /// The streams.
        ssrcs: Ssrcs<'a>,
    },
    /// Something else, or something malformed.
    Other,
}

/// What a sender report says about its sender (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: u32,
    /// When the report was sent: seconds since 1900, times 2^32.
    pub ntp: u64,
    /// The same time in ticks of the stream's RTP clock.
    pub rtp: u32,
    /// Packets sent so far. It wraps.
    pub packets: u32,
    /// Bytes of payload sent so far. It wraps.
    pub octets: u32,
}

/// How one stream is received (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Which part of the packets since the last report was lost, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost so far. Negative when duplicates were counted. The wire has 24 bits; what does
    /// not fit is written as the nearest that does.
    pub lost: i32,
    /// The highest sequence number received, with the number of wraps above its 16 bits.
    pub highest: u32,
    /// How irregularly packets arrive, in ticks of the stream's RTP clock.
    pub jitter: u32,
    /// The middle 32 bits of [`SenderInfo::ntp`] in the last sender report; 0 without one.
    pub lsr: u32,
    /// How long ago the last sender report came, in 65536ths of a second.
    pub dlsr: u32,
}

/// Reads the packets of a decrypted datagram, one after the other.
pub fn parse(compound: &[u8]) -> impl Iterator<Item = Rtcp<'_>> {
    Packets {
        rest: compound,
        statuses: STATUSES,
    }
}

/// What is left of a compound.
struct Packets<'a> {
    rest: &'a [u8],
    /// How many statuses of transport-wide feedback it may still have.
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

/// Reads what follows the first four bytes. `count` is the five bits that are a count or a format.
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
            // At most 18 bits moved by 63, which 128 bits hold.
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

/// The first `count` records from `at` on, when there are as many.
fn records<const SIZE: usize>(body: &[u8], at: usize, count: u8) -> Option<&[[u8; SIZE]]> {
    let (records, _) = body.get(at..)?.as_chunks();
    records.get(..usize::from(count))
}

/// The blocks of a report.
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
            // Moved to the top and back, so that its sign is kept.
            lost: (loss << 8).cast_signed() >> 8,
            highest: be32(block, 8)?,
            jitter: be32(block, 12)?,
            lsr: be32(block, 16)?,
            dlsr: be32(block, 20)?,
        })
    }
}

/// The sequence numbers of a [`Rtcp::Nack`], as they stand in it: up to 17 for every four bytes.
#[derive(Debug, Clone, Default)]
pub struct Lost<'a> {
    pairs: &'a [[u8; 4]],
    /// The number that the lowest bit of `following` stands for.
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
        // In two steps, since all 16 bits at once would be an overflow.
        self.following = (self.following >> zeros) >> 1;
        let skipped = u16::try_from(zeros).expect("16 bits have at most 16 zeros");
        let found = self.next.wrapping_add(skipped);
        self.next = found.wrapping_add(1);
        Some(found)
    }
}

/// The entries of a [`Rtcp::Fir`]: stream and request number.
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

/// A list of streams.
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
