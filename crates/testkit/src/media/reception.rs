//! What arrives on one transport: counted by the header in clear, decrypted now and then only.

use std::time::{Duration, Instant};

use parlor_sfu::wire::rtcp::{self, ReportBlock};
use parlor_sfu::wire::rtp::{self, Header};

/// How often the server is told what arrived, as browsers do.
const FEEDBACK_EVERY: Duration = Duration::from_millis(100);

/// How often a receiver report is sent.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Transport-wide numbers that wait for one feedback at most.
const WAITING: usize = 4096;

/// Streams of one receiver report at most.
const BLOCKS: usize = 31;

/// What arrived of the streams of one transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Packets of media.
    pub packets: u64,
    /// Packets that were missing among them, by their numbers.
    pub lost: u64,
    /// Retransmissions and probes.
    pub others: u64,
    /// Bytes of all of them, with RTP's header.
    pub bytes: u64,
}

impl Arrived {
    /// Counts these too.
    pub(super) fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.lost += more.lost;
        self.others += more.others;
        self.bytes += more.bytes;
    }
}

#[derive(Debug)]
struct Heard {
    ssrc: u32,
    first: u64,
    highest: u64,
    count: u64,
}

/// The numbers of one transport.
#[derive(Debug)]
pub(super) struct Reception {
    heard: Vec<Heard>,
    last: usize,
    others: u64,
    bytes: u64,
    transport_cc: Option<u8>,
    retransmissions: Option<u8>,
    base: u16,
    arrivals: Vec<Option<i64>>,
    feedback_count: u8,
    next_feedback: Instant,
    next_report: Instant,
}

impl Reception {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: Vec::new(),
            last: 0,
            others: 0,
            bytes: 0,
            transport_cc: None,
            retransmissions: None,
            base: 0,
            arrivals: Vec::new(),
            feedback_count: 0,
            next_feedback: now,
            next_report: now + REPORT_EVERY,
        }
    }

    /// The header extension of transport-wide numbers, and the payload type of retransmissions.
    pub(super) fn expect(&mut self, transport_cc: Option<u8>, retransmissions: Option<u8>) {
        self.transport_cc = transport_cc;
        self.retransmissions = retransmissions;
    }

    /// Takes a packet; how many of media there were before it on its stream, or `None` for others.
    pub(super) fn take(&mut self, packet: &[u8], at_ns: u64) -> Option<u64> {
        let header = Header::parse(packet)?;
        self.bytes += packet.len() as u64;
        if let Some(id) = self.transport_cc {
            let mut extensions = header.extensions(packet);
            let number = extensions.find(|(found, _)| *found == id);
            if let Some(&[high, low]) = number.map(|(_, bytes)| bytes) {
                self.note(u16::from_be_bytes([high, low]), at_ns);
            }
        }
        if self.retransmissions == Some(header.payload_type) {
            self.others += 1;
            return None;
        }
        let heard = self.stream(header.ssrc, header.sequence);
        let index = rtp::unwrap_sequence(heard.highest, header.sequence);
        heard.highest = heard.highest.max(index);
        heard.count += 1;
        Some(heard.count - 1)
    }

    fn stream(&mut self, ssrc: u32, sequence: u16) -> &mut Heard {
        let is_last = |heard: &Heard| heard.ssrc == ssrc;
        if !self.heard.get(self.last).is_some_and(is_last) {
            let found = self.heard.iter().position(is_last);
            self.last = found.unwrap_or(self.heard.len());
            if found.is_none() {
                let first = (1 << 16) | u64::from(sequence);
                self.heard.push(Heard {
                    ssrc,
                    first,
                    highest: first,
                    count: 0,
                });
            }
        }
        &mut self.heard[self.last]
    }

    fn note(&mut self, number: u16, at_ns: u64) {
        if self.arrivals.is_empty() {
            self.base = number;
        }
        let place = usize::from(number.wrapping_sub(self.base));
        if place >= WAITING {
            return;
        }
        if place >= self.arrivals.len() {
            self.arrivals.resize(place + 1, None);
        }
        self.arrivals[place] = i64::try_from(at_ns / 1000).ok();
    }

    /// Writes the reports that are due, if any: one compound packet each, not encrypted.
    pub(super) fn reports(&mut self, now: Instant, own: u32, mut send: impl FnMut(&mut Vec<u8>)) {
        let media = self.heard.first().map_or(0, |heard| heard.ssrc);
        if now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK_EVERY;
            let mut start = 0;
            while let Some(rest) = self.arrivals.get(start..).filter(|rest| !rest.is_empty()) {
                let mut packet = Vec::with_capacity(256);
                let base = self
                    .base
                    .wrapping_add(u16::try_from(start).unwrap_or_default());
                let count = self.feedback_count;
                let encoded = rtcp::write_transport_cc(&mut packet, own, media, count, base, rest);
                self.feedback_count = count.wrapping_add(1);
                if encoded == 0 {
                    break;
                }
                start += encoded;
                send(&mut packet);
            }
            self.arrivals.clear();
        }
        if now >= self.next_report && !self.heard.is_empty() {
            self.next_report = now + REPORT_EVERY;
            let blocks: Vec<ReportBlock> =
                self.heard.iter().take(BLOCKS).map(Heard::block).collect();
            let mut packet = Vec::with_capacity(8 + 24 * blocks.len());
            rtcp::write_receiver_report(&mut packet, own, &blocks);
            send(&mut packet);
        }
    }

    /// What arrived so far.
    pub(super) fn arrived(&self) -> Arrived {
        let packets: u64 = self.heard.iter().map(|heard| heard.count).sum();
        let expected: u64 = self.heard.iter().map(Heard::expected).sum();
        Arrived {
            packets,
            lost: expected.saturating_sub(packets),
            others: self.others,
            bytes: self.bytes,
        }
    }

    /// Streams that were heard.
    pub(super) fn streams(&self) -> usize {
        self.heard.len()
    }
}

impl Heard {
    fn expected(&self) -> u64 {
        self.highest - self.first + 1
    }

    fn block(&self) -> ReportBlock {
        let lost = self.expected().saturating_sub(self.count);
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: 0,
            lost: i32::try_from(lost).unwrap_or(i32::MAX),
            highest: u32::try_from(self.highest & u64::from(u32::MAX)).unwrap_or_default(),
            jitter: 0,
            lsr: 0,
            dlsr: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlor_sfu::wire::rtp::Outgoing;

    fn packet(ssrc: u32, sequence: u16, number: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        let header = Outgoing {
            marker: false,
            payload_type: 96,
            sequence,
            timestamp: 0,
            ssrc,
        };
        rtp::write_header(&mut packet, &header, &[(3, &number.to_be_bytes())]);
        packet
    }

    #[test]
    fn what_is_missing_among_the_numbers_is_lost() {
        let mut reception = Reception::new(Instant::now());
        for sequence in [65_533, 65_534, 0, 1, 3, 2] {
            assert!(reception.take(&packet(7, sequence, 0), 0).is_some());
        }
        reception.take(&packet(8, 5, 0), 0);
        let arrived = reception.arrived();
        assert_eq!((arrived.packets, arrived.lost), (7, 1));
    }

    #[test]
    fn feedback_names_what_arrived() {
        let now = Instant::now();
        let mut reception = Reception::new(now);
        reception.expect(Some(3), None);
        for (number, at_ns) in [(65_534_u16, 1_000_000), (65_535, 2_000_000), (1, 3_000_000)] {
            reception.take(&packet(7, number, number), at_ns);
        }
        let mut told = Vec::new();
        reception.reports(now, 1, |packet| {
            for message in rtcp::parse(packet) {
                if let rtcp::Rtcp::TransportCc(feedback) = message {
                    told.extend(
                        feedback
                            .arrivals()
                            .map(|(number, at)| (number, at.is_some())),
                    );
                }
            }
        });
        assert_eq!(
            told,
            [(65_534, true), (65_535, true), (0, false), (1, true)]
        );
        reception.reports(now, 1, |_| panic!("nothing new"));
    }
}
