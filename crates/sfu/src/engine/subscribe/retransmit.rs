//! Retransmissions and probe padding.

use std::time::{Duration, Instant};

use super::{Consumer, OutgoingPacket, Subscriber, patch_vp8};
use crate::engine::bandwidth::ClusterId;
use crate::engine::history::StoredPacket;
use crate::engine::rtp_munger::Segment;
use crate::engine::transport::{OutboxPool, Transport};
use crate::wire::rtp::{self, Outgoing};
use crate::wire::vp8;

/// Maximum padding of one packet, in bytes (RFC 3550, 5.1).
const MAX_PADDING: u8 = 255;

/// Maximum number of packets retransmitted in answer to one NACK.
const MAX_RETRANSMISSIONS: usize = 256;

/// Minimum retransmission rate, in bits per second.
const MIN_RETRANSMIT_BPS: u64 = 100_000;

/// Maximum burst of retransmissions, in seconds at the retransmission rate: more would fill the
/// queue that the other packets wait in.
const RETRANSMIT_BURST_SECONDS: f64 = 0.25;

/// The assumed round-trip time while it is unknown, and the upper bound of how long a
/// retransmission counts as in flight.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);
const MAX_ROUND_TRIP: Duration = Duration::from_millis(500);

impl Subscriber {
    /// Whether a packet was retransmitted so recently that it may still be in flight.
    pub(in crate::engine) fn is_retransmission_in_flight(
        &self,
        now: Instant,
        consumer: usize,
        index: u64,
    ) -> bool {
        let round_trip = self.bandwidth.round_trip().or(self.round_trip);
        let round_trip = round_trip.unwrap_or(DEFAULT_ROUND_TRIP).min(MAX_ROUND_TRIP);
        let consumer = &self.consumers[consumer];
        consumer.nack_throttle.is_in_flight(now, index, round_trip)
    }

    /// Whether `bytes` may be retransmitted now. The rate is limited to the bandwidth estimate, but
    /// is at least enough for audio and a low layer. Retransmitting more would add to the
    /// congestion.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(in crate::engine) fn may_retransmit(&mut self, now: Instant, bytes: usize) -> bool {
        let rate = self.bandwidth.estimate().max(MIN_RETRANSMIT_BPS) as f64 / 8.0;
        let passed = now
            .saturating_duration_since(self.retransmit_credit_at)
            .as_secs_f64();
        self.retransmit_credit_at = now;
        self.retransmit_credit =
            (self.retransmit_credit + passed * rate).min(rate * RETRANSMIT_BURST_SECONDS);
        let may = self.retransmit_credit >= bytes as f64;
        if may {
            self.retransmit_credit -= bytes as f64;
        }
        may
    }

    /// Retransmits a packet.
    pub(in crate::engine) fn retransmit(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        pool: &mut OutboxPool,
        (key, index): (usize, u64),
        (stored, segment): (&StoredPacket, &Segment),
    ) {
        let consumer = &mut self.consumers[key];
        consumer.nack_throttle.record(now, index);
        let is_audio = consumer.source.is_audio();
        let mut outgoing = Outgoing {
            marker: stored.marker,
            payload_type: consumer.payload_type,
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the wire format has 16 bits"
            )]
            sequence: index as u16,
            timestamp: segment.timestamp(stored.timestamp),
            ssrc: consumer.ssrc,
        };
        let original = outgoing.sequence.to_be_bytes();
        let mut sealed_as = index;
        match &mut consumer.rtx {
            Some(rtx) => {
                sealed_as = rtx.next;
                rtx.next += 1;
                outgoing.ssrc = rtx.ssrc;
                outgoing.payload_type = rtx.payload_type;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the wire format has 16 bits"
                )]
                {
                    outgoing.sequence = sealed_as as u16;
                }
            }
            // Without RTX, a packet with a transport-wide sequence number cannot be repeated
            // unchanged.
            None if !is_audio => return,
            None => {}
        }
        let is_rtx = consumer.rtx.is_some();
        let sent = OutgoingPacket {
            outgoing,
            index: sealed_as,
            extension: stored.extension,
            is_audio,
            probe: None,
        };
        let descriptor = vp8::Descriptor::parse(&stored.payload).filter(|_| !is_audio);
        self.send(now, transport, pool, &sent, |bytes| {
            if is_rtx {
                bytes.extend_from_slice(&original);
            }
            let start = bytes.len();
            bytes.extend_from_slice(&stored.payload);
            patch_vp8(descriptor.as_ref(), segment, &mut bytes[start..]);
        });
    }

    /// Returns the consumer whose RTX stream carries padding, if there is one.
    pub(in crate::engine) fn padding_consumer(&self) -> Option<usize> {
        // Without transport-wide feedback, padding would measure nothing.
        self.extension_ids.transport_cc?;
        let mut consumers = self.consumers.iter();
        let can_pad = |consumer: &Consumer| {
            consumer.negotiated && consumer.rtx.is_some() && consumer.packets > 0
        };
        consumers.find_map(|(key, consumer)| can_pad(consumer).then_some(key))
    }

    /// Sends padding to probe the path.
    pub(in crate::engine) fn send_padding(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        pool: &mut OutboxPool,
        mut bytes: usize,
        cluster: ClusterId,
    ) {
        let Some(key) = self.padding_consumer() else {
            return;
        };
        while bytes > 0 {
            let consumer = &mut self.consumers[key];
            let Some(rtx) = &mut consumer.rtx else {
                return;
            };
            let index = rtx.next;
            rtx.next += 1;
            let sent = OutgoingPacket {
                outgoing: Outgoing {
                    marker: false,
                    payload_type: rtx.payload_type,
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "the wire format has 16 bits"
                    )]
                    sequence: index as u16,
                    timestamp: 0,
                    ssrc: rtx.ssrc,
                },
                index,
                extension: None,
                is_audio: false,
                probe: Some(cluster),
            };
            self.send(now, transport, pool, &sent, |out| {
                // The P bit: the last byte of the payload holds the padding length.
                let header = out.len() - 20;
                out[header] |= 0x20;
                out.resize(out.len() + usize::from(MAX_PADDING) - 1, 0);
                out.push(MAX_PADDING);
            });
            bytes = bytes.saturating_sub(usize::from(MAX_PADDING) + 20);
        }
    }

    /// Returns the consumer of an SSRC, and the extended sequence numbers of the packets that a
    /// NACK lists.
    pub(in crate::engine) fn resolve_nack(
        &self,
        ssrc: u32,
        lost: impl Iterator<Item = u16>,
    ) -> Option<(usize, Vec<u64>)> {
        let key = self.by_ssrc(ssrc)?;
        let consumer = self
            .consumers
            .get(key)
            .filter(|consumer| consumer.ssrc == ssrc)?;
        let near = consumer.munger.highest();
        let indexes = lost
            .take(MAX_RETRANSMISSIONS)
            .map(|number| rtp::unwrap_sequence(near, number));
        Some((key, indexes.collect()))
    }
}
