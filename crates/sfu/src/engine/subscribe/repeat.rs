//! What a client is sent besides what is new: what it lacks, and padding.

use std::time::{Duration, Instant};

use super::{Consumer, Sent, Subscriber, patch};
use crate::engine::bandwidth::Cluster;
use crate::engine::history::Stored;
use crate::engine::rewrite::Segment;
use crate::engine::transport::{Transport, Yard};
use crate::wire::rtp::{self, Outgoing};
use crate::wire::vp8;

/// The most padding one packet can have (RFC 3550, 5.1).
const PADDING: u8 = 255;

/// Packets that are sent again in answer to one request.
const REPEATS: usize = 256;

/// Bits per second that may be sent again at least.
const REPEATED_BPS: u64 = 100_000;

/// What is sent again at once is at most what may be in so many seconds: more would fill the queue
/// that the rest waits in.
const REPEATED_AT_ONCE: f64 = 0.25;

/// The round trip while it is not known, and the longest that is waited for a packet that was sent
/// again.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(500);

impl Subscriber {
    /// Whether a packet was sent again so shortly ago that the client may still get it.
    pub(in crate::engine) fn is_repeated(&self, now: Instant, consumer: usize, index: u64) -> bool {
        let round_trip = self.bandwidth.round_trip().or(self.round_trip);
        let round_trip = round_trip.unwrap_or(ROUND_TRIP).min(LONGEST_ROUND_TRIP);
        let consumer = &self.consumers[consumer];
        consumer.repeated.is_on_its_way(now, index, round_trip)
    }

    /// Whether so much may be sent again now: at most what the path is thought to bear, and at
    /// least what a voice and a small picture need. A client that asks for more makes it worse.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(in crate::engine) fn may_repeat(&mut self, now: Instant, bytes: usize) -> bool {
        let rate = self.bandwidth.estimate().max(REPEATED_BPS) as f64 / 8.0;
        let passed = now.saturating_duration_since(self.repeated).as_secs_f64();
        self.repeated = now;
        self.repeat_credit = (self.repeat_credit + passed * rate).min(rate * REPEATED_AT_ONCE);
        let may = self.repeat_credit >= bytes as f64;
        if may {
            self.repeat_credit -= bytes as f64;
        }
        may
    }

    /// Sends a packet again that the client has not got.
    pub(in crate::engine) fn repeat(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        yard: &mut Yard,
        (place, index): (usize, u64),
        (stored, segment): (&Stored, &Segment),
    ) {
        let consumer = &mut self.consumers[place];
        consumer.repeated.note(now, index);
        let is_audio = consumer.source.is_audio();
        let mut outgoing = Outgoing {
            marker: stored.marker,
            payload_type: consumer.payload_type,
            #[expect(clippy::cast_possible_truncation, reason = "16 bits are on the wire")]
            sequence: index as u16,
            timestamp: segment.timestamp(stored.timestamp),
            ssrc: consumer.ssrc,
        };
        let original = outgoing.sequence.to_be_bytes();
        let mut sealed_as = index;
        match &mut consumer.repeats {
            Some(repeats) => {
                sealed_as = repeats.next;
                repeats.next += 1;
                outgoing.ssrc = repeats.ssrc;
                outgoing.payload_type = repeats.payload_type;
                #[expect(clippy::cast_possible_truncation, reason = "16 bits are on the wire")]
                {
                    outgoing.sequence = sealed_as as u16;
                }
            }
            // What is counted on its way cannot be sent twice under one number.
            None if !is_audio => return,
            None => {}
        }
        let repeated = consumer.repeats.is_some();
        let sent = Sent {
            outgoing,
            index: sealed_as,
            mark: stored.mark,
            is_audio,
            probe: None,
        };
        let picture = vp8::Descriptor::parse(&stored.payload).filter(|_| !is_audio);
        self.send(now, transport, yard, &sent, |bytes| {
            if repeated {
                bytes.extend_from_slice(&original);
            }
            let start = bytes.len();
            bytes.extend_from_slice(&stored.payload);
            patch(picture.as_ref(), segment, &mut bytes[start..]);
        });
    }

    /// The consumer among whose packets padding goes; nothing before there is one.
    pub(in crate::engine) fn pads(&self) -> Option<usize> {
        // What is not counted on its way tells nothing about it.
        self.marks.transport_cc?;
        let mut consumers = self.consumers.iter();
        let pads = |consumer: &Consumer| {
            consumer.agreed && consumer.repeats.is_some() && consumer.packets > 0
        };
        consumers.find_map(|(place, consumer)| pads(consumer).then_some(place))
    }

    /// Sends padding, to find out what the path bears.
    pub(in crate::engine) fn pad(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        yard: &mut Yard,
        mut bytes: usize,
        cluster: Cluster,
    ) {
        let Some(place) = self.pads() else { return };
        while bytes > 0 {
            let consumer = &mut self.consumers[place];
            let Some(repeats) = &mut consumer.repeats else {
                return;
            };
            let index = repeats.next;
            repeats.next += 1;
            let sent = Sent {
                outgoing: Outgoing {
                    marker: false,
                    payload_type: repeats.payload_type,
                    #[expect(clippy::cast_possible_truncation, reason = "16 bits are on the wire")]
                    sequence: index as u16,
                    timestamp: 0,
                    ssrc: repeats.ssrc,
                },
                index,
                mark: None,
                is_audio: false,
                probe: Some(cluster),
            };
            self.send(now, transport, yard, &sent, |out| {
                // The bit says that the last byte tells how much of the end is padding.
                let header = out.len() - 20;
                out[header] |= 0x20;
                out.resize(out.len() + usize::from(PADDING) - 1, 0);
                out.push(PADDING);
            });
            bytes = bytes.saturating_sub(usize::from(PADDING) + 20);
        }
    }

    /// The consumer of an SSRC, and the full numbers of these packets of it.
    pub(in crate::engine) fn missing(
        &self,
        ssrc: u32,
        lost: impl Iterator<Item = u16>,
    ) -> Option<(usize, Vec<u64>)> {
        let place = self.by_ssrc(ssrc)?;
        let consumer = self
            .consumers
            .get(place)
            .filter(|consumer| consumer.ssrc == ssrc)?;
        let near = consumer.rewrite.highest();
        let indexes = lost
            .take(REPEATS)
            .map(|number| rtp::unwrap_sequence(near, number));
        Some((place, indexes.collect()))
    }
}
