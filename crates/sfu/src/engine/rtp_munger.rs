//! Rewrites the packets of several layers into one stream for one subscriber.
//!
//! A subscriber sees one SSRC whose sequence numbers have gaps only where packets were really lost,
//! whose timestamps advance evenly and whose VP8 picture ids are consecutive, whichever layer the
//! packets come from (RFC 7741, 4.2). The layers of a camera are separate streams with separate
//! clocks.

use std::collections::VecDeque;
use std::time::Instant;

/// Maximum number of segments remembered, for packets that arrive late or are retransmitted.
const SEGMENTS: usize = 32;

/// Minimum advance of the timestamp from one segment to the next, in seconds: one frame interval.
const FRAME_SECONDS: f64 = 1.0 / 30.0;

/// A run of packets of one layer, and the offsets that rewrite their header fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The layer that the packets come from.
    pub(super) layer: u8,
    /// Extended sequence number of the first packet, as sent by the publisher.
    source_first: u64,
    /// Extended sequence number of the first packet, as sent to the subscriber.
    sent_first: u64,
    timestamp_offset: u32,
    picture_offset: u16,
    tl0_offset: u8,
}

impl Segment {
    fn sent(&self, source: u64) -> u64 {
        self.sent_first + (source - self.source_first)
    }

    /// Returns the rewritten RTP timestamp.
    pub(super) fn timestamp(&self, source: u32) -> u32 {
        source.wrapping_add(self.timestamp_offset)
    }

    /// Returns the rewritten VP8 picture id.
    pub(super) fn picture_id(&self, source: u16) -> u16 {
        source.wrapping_add(self.picture_offset)
    }

    /// Returns the rewritten VP8 TL0PICIDX.
    pub(super) fn tl0(&self, source: u8) -> u8 {
        source.wrapping_add(self.tl0_offset)
    }

    /// Whether the VP8 picture id and TL0PICIDX stay unchanged.
    pub(super) fn keeps_vp8_fields(&self) -> bool {
        self.picture_offset == 0 && self.tl0_offset == 0
    }
}

/// The header fields of a packet that are rewritten, as sent by the publisher.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceFields {
    /// Extended sequence number.
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) picture_id: Option<u16>,
    pub(super) tl0: Option<u8>,
}

/// Rewrites the packets of one track for one subscriber.
#[derive(Debug)]
pub(super) struct RtpMunger {
    clock_rate: u32,
    segments: VecDeque<Segment>,
    /// Extended sequence number of the next new packet.
    next: u64,
    /// Extended sequence number after the newest packet of the current layer.
    expected: u64,
    last: Option<LastSent>,
}

/// The rewritten header fields of the newest packet that was sent.
#[derive(Debug, Clone, Copy)]
struct LastSent {
    at: Instant,
    timestamp: u32,
    picture: u16,
    tl0: u8,
}

impl RtpMunger {
    /// Creates a munger. The first sequence number is `first` modulo 2^15, so that a receiver that
    /// misses the first packets still derives the right rollover counter (RFC 3711, 3.3.1).
    pub(super) fn new(clock_rate: u32, first: u16) -> Self {
        Self {
            clock_rate,
            segments: VecDeque::new(),
            next: u64::from(first & 0x7FFF),
            expected: 0,
            last: None,
        }
    }

    /// Returns the extended sequence number of the newest packet sent.
    pub(super) fn highest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Returns the current segment.
    pub(super) fn current(&self) -> Option<&Segment> {
        self.segments.back()
    }

    /// Switches to another layer, or back to the same one after a pause, starting with this packet.
    /// `reference` is the timestamp of the previous layer at the time of this packet, if it is
    /// known.
    pub(super) fn switch(
        &mut self,
        now: Instant,
        layer: u8,
        numbers: SourceFields,
        reference: Option<u32>,
    ) {
        let (timestamp_offset, picture_offset, tl0_offset) = match self.last {
            None => (0, 0, 0),
            Some(last) => {
                let rewritten = self.next_timestamp(now, last, reference);
                let picture = last.picture.wrapping_add(1) & 0x7FFF;
                (
                    rewritten.wrapping_sub(numbers.timestamp),
                    numbers
                        .picture_id
                        .map_or(0, |first| picture.wrapping_sub(first) & 0x7FFF),
                    numbers
                        .tl0
                        .map_or(0, |first| last.tl0.wrapping_add(1).wrapping_sub(first)),
                )
            }
        };
        self.expected = numbers.index;
        self.push(Segment {
            layer,
            source_first: numbers.index,
            sent_first: self.next,
            timestamp_offset,
            picture_offset,
            tl0_offset,
        });
    }

    /// Returns the rewritten timestamp of the first packet of a new segment, which follows `last`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive time; timestamps wrap"
    )]
    fn next_timestamp(&self, now: Instant, last: LastSent, reference: Option<u32>) -> u32 {
        let rate = f64::from(self.clock_rate);
        let elapsed = now.saturating_duration_since(last.at).as_secs_f64();
        let estimate = last
            .timestamp
            .wrapping_add((elapsed.max(FRAME_SECONDS) * rate) as u64 as u32);
        // The reference from sender reports is used, unless it is not ahead of `last` or is far
        // from the estimate.
        reference
            .map(|source| self.current().map_or(source, |s| s.timestamp(source)))
            .filter(|rewritten| {
                let ahead = rewritten.wrapping_sub(last.timestamp);
                let deviation = rewritten
                    .wrapping_sub(estimate)
                    .cast_signed()
                    .unsigned_abs();
                ahead != 0 && ahead < 1 << 31 && deviation < self.clock_rate
            })
            .unwrap_or(estimate)
    }

    fn push(&mut self, segment: Segment) {
        // A segment that no packet was sent in is replaced.
        if self
            .segments
            .back()
            .is_some_and(|last| last.sent_first == segment.sent_first)
        {
            self.segments.pop_back();
        }
        if self.segments.len() == SEGMENTS {
            self.segments.pop_front();
        }
        self.segments.push_back(segment);
    }

    /// Returns the extended sequence number that a packet is sent with and the segment that
    /// rewrites its other numbers, or `None` if the packet is older than the remembered segments.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        layer: u8,
        numbers: SourceFields,
    ) -> Option<(u64, Segment)> {
        let current = *self.segments.back()?;
        if layer == current.layer && numbers.index >= self.expected {
            self.expected = numbers.index + 1;
            let sent = current.sent(numbers.index);
            self.next = sent + 1;
            self.last = Some(LastSent {
                at: now,
                timestamp: current.timestamp(numbers.timestamp),
                picture: current.picture_id(numbers.picture_id.unwrap_or_default()) & 0x7FFF,
                tl0: current.tl0(numbers.tl0.unwrap_or_default()),
            });
            return Some((sent, current));
        }
        self.map_late(layer, numbers.index)
    }

    /// Maps a packet that is not the newest.
    fn map_late(&self, layer: u8, source: u64) -> Option<(u64, Segment)> {
        let mut end = self.next;
        for segment in self.segments.iter().rev() {
            if segment.layer == layer && source >= segment.source_first {
                let sent = segment.sent(source);
                return (sent < end).then_some((sent, *segment));
            }
            end = segment.sent_first;
        }
        None
    }

    /// Skips a packet of the current layer without leaving a gap in the sequence numbers.
    pub(super) fn skip(&mut self, layer: u8, source: u64) {
        let Some(current) = self.segments.back().copied() else {
            return;
        };
        // A late packet has already left a gap in the numbers of the packets after it.
        if current.layer != layer || source < self.expected {
            return;
        }
        let missing = source - self.expected;
        self.expected = source + 1;
        // Packets lost before it still leave a gap for the receiver.
        self.next += missing;
        self.push(Segment {
            source_first: source + 1,
            sent_first: self.next,
            ..current
        });
    }

    /// Returns the publisher's extended sequence number of a sent packet, and its segment.
    pub(super) fn source(&self, sent: u64) -> Option<(u64, Segment)> {
        if sent >= self.next {
            return None;
        }
        let segment = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.sent_first <= sent)?;
        Some((segment.source_first + (sent - segment.sent_first), *segment))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn numbers(index: u64) -> SourceFields {
        SourceFields {
            index,
            timestamp: u32::try_from(index * 3000 % (1 << 32)).unwrap(),
            picture_id: Some(u16::try_from(index % (1 << 15)).unwrap()),
            tl0: Some(u8::try_from(index % 256).unwrap()),
        }
    }

    #[test]
    fn a_switch_leaves_no_gap_in_the_numbers() {
        let now = Instant::now();
        let mut munger = RtpMunger::new(90_000, 100);
        munger.switch(now, 0, numbers(7_000), None);
        let (first, _) = munger.forward(now, 0, numbers(7_000)).unwrap();
        let (second, segment) = munger.forward(now, 0, numbers(7_001)).unwrap();
        assert_eq!((first, second), (100, 101));
        let before = segment.timestamp(numbers(7_001).timestamp);

        let later = now + Duration::from_millis(40);
        munger.switch(later, 2, numbers(20), None);
        let (third, segment) = munger.forward(later, 2, numbers(20)).unwrap();
        assert_eq!(third, 102);
        assert_eq!(
            segment
                .timestamp(numbers(20).timestamp)
                .wrapping_sub(before),
            3600
        );
        assert_eq!(segment.picture_id(20) & 0x7FFF, 7_002);
        assert_eq!(segment.tl0(20), numbers(7_002).tl0.unwrap());
        // Retransmission requests map back to the original packet.
        assert_eq!(
            munger.source(101).map(|(source, s)| (source, s.layer)),
            Some((7_001, 0))
        );
        assert_eq!(
            munger.source(102).map(|(source, s)| (source, s.layer)),
            Some((20, 2))
        );
        assert_eq!(munger.source(103), None);
    }

    #[test]
    fn a_plausible_reference_timestamp_is_used() {
        let now = Instant::now();
        let mut munger = RtpMunger::new(90_000, 1);
        munger.switch(now, 0, numbers(10), None);
        munger.forward(now, 0, numbers(10)).unwrap();
        let later = now + Duration::from_millis(500);
        let reference = numbers(10).timestamp + 44_000;
        munger.switch(later, 1, numbers(9_000), Some(reference));
        let (_, segment) = munger.forward(later, 1, numbers(9_000)).unwrap();
        assert_eq!(segment.timestamp(numbers(9_000).timestamp), reference);
        // A reference that goes back in time is not used.
        munger.switch(later, 0, numbers(50), Some(reference.wrapping_sub(90_000)));
        let (_, segment) = munger.forward(later, 0, numbers(50)).unwrap();
        assert_eq!(segment.timestamp(numbers(50).timestamp), reference + 3000);
    }

    proptest! {
        /// For any sequence of forwarded, skipped, late and switched packets: no number is used for
        /// two packets, skipped packets leave no gap, and each number maps back to its packet.
        #[test]
        fn numbers_are_unique_and_map_back(
            steps in proptest::collection::vec((0_u8..8, 0_u64..4), 1..400),
        ) {
            let now = Instant::now();
            let mut munger = RtpMunger::new(90_000, 500);
            let mut newest = [0_u64, 2_000, 3_000];
            let mut layer = 0_u8;
            munger.switch(now, layer, numbers(newest[0]), None);
            let mut used = std::collections::HashMap::new();
            let mut lost = 0;
            let mut sent_count = 0;
            for (step, far) in steps {
                let index = newest[usize::from(layer)];
                match step {
                    0 => {
                        layer = (layer + 1) % 3;
                        munger.switch(now, layer, numbers(newest[usize::from(layer)]), None);
                        continue;
                    }
                    1 => munger.skip(layer, index),
                    2 => {
                        // Lost for now: leaves a gap that may be filled later.
                        lost += 1;
                    }
                    3 => {
                        let Some(late) = index.checked_sub(far + 1) else { continue };
                        if let Some((sent, segment)) = munger.forward(now, layer, numbers(late)) {
                            prop_assert_eq!(segment.layer, layer);
                            let owner = *used.entry(sent).or_insert((layer, late));
                            prop_assert_eq!(owner, (layer, late));
                        }
                        continue;
                    }
                    _ => {
                        let (sent, segment) = munger.forward(now, layer, numbers(index)).unwrap();
                        sent_count += 1;
                        prop_assert!(used.insert(sent, (layer, index)).is_none());
                        prop_assert_eq!(munger.highest(), sent);
                        prop_assert_eq!(munger.source(sent), Some((index, segment)));
                    }
                }
                newest[usize::from(layer)] += 1;
            }
            prop_assert!(munger.next - 500 <= sent_count + lost);
        }
    }
}
