//! Receive statistics of one transport. Packets are counted by their unencrypted header; only a
//! sample is decrypted.

use std::time::{Duration, Instant};

use parlor_sfu::wire::rtcp::{self, ReportBlock};
use parlor_sfu::wire::rtp::{self, Header};

/// Interval of transport-wide feedback, as in browsers.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);

/// Interval of receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of packets in one feedback.
const WAITING: usize = 4096;

/// Maximum number of report blocks in one receiver report.
const BLOCKS: usize = 31;

/// What one transport has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveTotals {
    /// Number of media packets.
    pub packets: u64,
    /// Number of lost media packets, by gaps in their sequence numbers.
    pub lost: u64,
    /// Number of retransmissions and probes.
    pub others: u64,
    /// Size of all packets including the RTP header, in bytes.
    pub bytes: u64,
}

impl ReceiveTotals {
    /// Adds other totals.
    pub(super) fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.lost += more.lost;
        self.others += more.others;
        self.bytes += more.bytes;
    }
}

#[derive(Debug)]
struct StreamStats {
    ssrc: u32,
    first: u64,
    highest: u64,
    count: u64,
}

/// The receive statistics of one transport.
#[derive(Debug)]
pub(super) struct ReceiveStats {
    streams: Vec<StreamStats>,
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

impl ReceiveStats {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            streams: Vec::new(),
            last: 0,
            others: 0,
            bytes: 0,
            transport_cc: None,
            retransmissions: None,
            base: 0,
            arrivals: Vec::new(),
            feedback_count: 0,
            next_feedback: now,
            next_report: now + REPORT_INTERVAL,
        }
    }

    /// Sets the ID of the transport-wide sequence number extension and the payload type of
    /// retransmissions.
    pub(super) fn expect(&mut self, transport_cc: Option<u8>, retransmissions: Option<u8>) {
        self.transport_cc = transport_cc;
        self.retransmissions = retransmissions;
    }

    /// Counts a packet. Returns the number of earlier media packets on its stream, or `None` if it
    /// is not a media packet.
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
        let streams = self.stream(header.ssrc, header.sequence);
        let index = rtp::unwrap_sequence(streams.highest, header.sequence);
        streams.highest = streams.highest.max(index);
        streams.count += 1;
        Some(streams.count - 1)
    }

    fn stream(&mut self, ssrc: u32, sequence: u16) -> &mut StreamStats {
        let is_last = |streams: &StreamStats| streams.ssrc == ssrc;
        if !self.streams.get(self.last).is_some_and(is_last) {
            let found = self.streams.iter().position(is_last);
            self.last = found.unwrap_or(self.streams.len());
            if found.is_none() {
                let first = (1 << 16) | u64::from(sequence);
                self.streams.push(StreamStats {
                    ssrc,
                    first,
                    highest: first,
                    count: 0,
                });
            }
        }
        &mut self.streams[self.last]
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

    /// Writes the reports that are due, each as one unencrypted compound packet.
    pub(super) fn reports(&mut self, now: Instant, own: u32, mut send: impl FnMut(&mut Vec<u8>)) {
        let media = self.streams.first().map_or(0, |streams| streams.ssrc);
        if now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK_INTERVAL;
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
        if now >= self.next_report && !self.streams.is_empty() {
            self.next_report = now + REPORT_INTERVAL;
            let blocks: Vec<ReportBlock> = self
                .streams
                .iter()
                .take(BLOCKS)
                .map(StreamStats::block)
                .collect();
            let mut packet = Vec::with_capacity(8 + 24 * blocks.len());
            rtcp::write_receiver_report(&mut packet, own, &blocks);
            send(&mut packet);
        }
    }

    /// Returns the totals so far.
    pub(super) fn arrived(&self) -> ReceiveTotals {
        let packets: u64 = self.streams.iter().map(|streams| streams.count).sum();
        let expected: u64 = self.streams.iter().map(StreamStats::expected).sum();
        ReceiveTotals {
            packets,
            lost: expected.saturating_sub(packets),
            others: self.others,
            bytes: self.bytes,
        }
    }

    /// Returns the number of streams received.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }
}

impl StreamStats {
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
    fn gaps_in_the_sequence_numbers_are_losses() {
        let mut reception = ReceiveStats::new(Instant::now());
        for sequence in [65_533, 65_534, 0, 1, 3, 2] {
            assert!(reception.take(&packet(7, sequence, 0), 0).is_some());
        }
        reception.take(&packet(8, 5, 0), 0);
        let arrived = reception.arrived();
        assert_eq!((arrived.packets, arrived.lost), (7, 1));
    }

    #[test]
    fn feedback_lists_the_received_packets() {
        let now = Instant::now();
        let mut reception = ReceiveStats::new(now);
        reception.expect(Some(3), None);
        for (number, at_ns) in [(65_534_u16, 1_000_000), (65_535, 2_000_000), (1, 3_000_000)] {
            reception.take(&packet(7, number, number), at_ns);
        }
        let mut reported = Vec::new();
        reception.reports(now, 1, |packet| {
            for message in rtcp::parse(packet) {
                if let rtcp::Rtcp::TransportCc(feedback) = message {
                    reported.extend(
                        feedback
                            .arrivals()
                            .map(|(number, at)| (number, at.is_some())),
                    );
                }
            }
        });
        assert_eq!(
            reported,
            [(65_534, true), (65_535, true), (0, false), (1, true)]
        );
        reception.reports(now, 1, |_| panic!("a report without new packets"));
    }
}
