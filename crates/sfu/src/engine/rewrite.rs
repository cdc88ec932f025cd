//! How the packets of several layers become one stream for one receiver.
//!
//! A receiver sees one SSRC whose sequence numbers have no gaps but those of real losses, whose
//! timestamps go on evenly and whose VP8 picture numbers count up, whichever layer the packets are
//! taken from (RFC 7741, 4.2; the layers of a camera are separate streams with clocks of their own).

use std::collections::VecDeque;
use std::time::Instant;

/// How many changes are remembered, for packets that come late or are asked for again.
const SEGMENTS: usize = 32;

/// The steps between two frames that are assumed where nothing better is known.
const FRAME_SECONDS: f64 = 1.0 / 30.0;

/// Where a stretch of packets came from, and what is added to its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The layer it was taken from.
    pub(super) layer: u8,
    /// The first of its packets, as the publisher numbers them.
    source_first: u64,
    /// The same, as the receiver is told.
    sent_first: u64,
    timestamp: u32,
    picture: u16,
    tl0: u8,
}

impl Segment {
    fn sent(&self, source: u64) -> u64 {
        self.sent_first + (source - self.source_first)
    }

    /// A timestamp as the receiver is told.
    pub(super) fn timestamp(&self, source: u32) -> u32 {
        source.wrapping_add(self.timestamp)
    }

    /// A VP8 picture number as the receiver is told.
    pub(super) fn picture(&self, source: u16) -> u16 {
        source.wrapping_add(self.picture)
    }

    /// A VP8 TL0PICIDX as the receiver is told.
    pub(super) fn tl0(&self, source: u8) -> u8 {
        source.wrapping_add(self.tl0)
    }

    /// Whether pictures keep their numbers.
    pub(super) fn keeps_pictures(&self) -> bool {
        self.picture == 0 && self.tl0 == 0
    }
}

/// The numbers of a packet that matter here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) picture: Option<u16>,
    pub(super) tl0: Option<u8>,
}

/// The stream to one receiver.
#[derive(Debug)]
pub(super) struct Rewrite {
    clock_rate: u32,
    segments: VecDeque<Segment>,
    /// The number of the next packet that is newer than all before.
    next: u64,
    /// Of the layer that is taken now, the number after the newest packet seen.
    expected: u64,
    last: Option<Last>,
}

/// The newest packet that was sent.
#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    timestamp: u32,
    picture: u16,
    tl0: u8,
}

impl Rewrite {
    /// A stream whose first packet will have this number. Less than 2^15, so that a receiver that
    /// misses the first packets knows how often the number has wrapped (RFC 3711, 3.3.1).
    pub(super) fn new(clock_rate: u32, first: u16) -> Self {
        Self {
            clock_rate,
            segments: VecDeque::new(),
            next: u64::from(first & 0x7FFF),
            expected: 0,
            last: None,
        }
    }

    /// The number of the newest packet sent.
    pub(super) fn highest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// What is done with packets now.
    pub(super) fn current(&self) -> Option<&Segment> {
        self.segments.back()
    }

    /// From this packet on another layer is taken, or the same one after a pause. `same_moment` is
    /// the timestamp of the layer so far at the moment of this packet, if it is known.
    pub(super) fn switch(
        &mut self,
        now: Instant,
        layer: u8,
        numbers: Numbers,
        same_moment: Option<u32>,
    ) {
        let (timestamp, picture, tl0) = match self.last {
            None => (0, 0, 0),
            Some(last) => {
                let told = self.follow(now, last, same_moment);
                let picture = last.picture.wrapping_add(1) & 0x7FFF;
                (
                    told.wrapping_sub(numbers.timestamp),
                    numbers
                        .picture
                        .map_or(0, |first| picture.wrapping_sub(first) & 0x7FFF),
                    numbers
                        .tl0
                        .map_or(0, |first| last.tl0.wrapping_add(1).wrapping_sub(first)),
                )
            }
        };
        self.expected = numbers.index;
        self.put(Segment {
            layer,
            source_first: numbers.index,
            sent_first: self.next,
            timestamp,
            picture,
            tl0,
        });
    }

    /// The timestamp that a packet of now is told with, after `last`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive time; timestamps wrap"
    )]
    fn follow(&self, now: Instant, last: Last, same_moment: Option<u32>) -> u32 {
        let rate = f64::from(self.clock_rate);
        let passed = now.saturating_duration_since(last.at).as_secs_f64();
        let guess = last
            .timestamp
            .wrapping_add((passed.max(FRAME_SECONDS) * rate) as u64 as u32);
        // What sender reports say counts unless it would go back, or is far from what the clock says.
        same_moment
            .map(|source| self.current().map_or(source, |s| s.timestamp(source)))
            .filter(|told| {
                let ahead = told.wrapping_sub(last.timestamp);
                let off = told.wrapping_sub(guess).cast_signed().unsigned_abs();
                ahead != 0 && ahead < 1 << 31 && off < self.clock_rate
            })
            .unwrap_or(guess)
    }

    fn put(&mut self, segment: Segment) {
        // What took no packet at all says nothing.
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

    /// The number that a packet of the current layer is sent with, and what else changes in it.
    /// Nothing if it is older than what is remembered.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        layer: u8,
        numbers: Numbers,
    ) -> Option<(u64, Segment)> {
        let current = *self.segments.back()?;
        if layer == current.layer && numbers.index >= self.expected {
            self.expected = numbers.index + 1;
            let sent = current.sent(numbers.index);
            self.next = sent + 1;
            self.last = Some(Last {
                at: now,
                timestamp: current.timestamp(numbers.timestamp),
                picture: current.picture(numbers.picture.unwrap_or_default()) & 0x7FFF,
                tl0: current.tl0(numbers.tl0.unwrap_or_default()),
            });
            return Some((sent, current));
        }
        self.late(layer, numbers.index)
    }

    /// The place of a packet that is not the newest.
    fn late(&self, layer: u8, source: u64) -> Option<(u64, Segment)> {
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

    /// A packet of the current layer is not sent, and no gap may show where it was.
    pub(super) fn skip(&mut self, layer: u8, source: u64) {
        let Some(current) = self.segments.back().copied() else {
            return;
        };
        // One that comes late left a gap already, which its neighbours have been told around.
        if current.layer != layer || source < self.expected {
            return;
        }
        let missing = source - self.expected;
        self.expected = source + 1;
        // Those that were lost before it are missed by the receiver, as they should be.
        self.next += missing;
        self.put(Segment {
            source_first: source + 1,
            sent_first: self.next,
            ..current
        });
    }

    /// Which packet a receiver means: the layer, the publisher's number, and what was changed.
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

    fn numbers(index: u64) -> Numbers {
        Numbers {
            index,
            timestamp: u32::try_from(index * 3000 % (1 << 32)).unwrap(),
            picture: Some(u16::try_from(index % (1 << 15)).unwrap()),
            tl0: Some(u8::try_from(index % 256).unwrap()),
        }
    }

    #[test]
    fn a_switch_leaves_no_gap_and_goes_on_counting() {
        let now = Instant::now();
        let mut rewrite = Rewrite::new(90_000, 100);
        rewrite.switch(now, 0, numbers(7_000), None);
        let (first, _) = rewrite.forward(now, 0, numbers(7_000)).unwrap();
        let (second, segment) = rewrite.forward(now, 0, numbers(7_001)).unwrap();
        assert_eq!((first, second), (100, 101));
        let told = segment.timestamp(numbers(7_001).timestamp);

        let later = now + Duration::from_millis(40);
        rewrite.switch(later, 2, numbers(20), None);
        let (third, segment) = rewrite.forward(later, 2, numbers(20)).unwrap();
        assert_eq!(third, 102);
        assert_eq!(
            segment.timestamp(numbers(20).timestamp).wrapping_sub(told),
            3600
        );
        assert_eq!(segment.picture(20) & 0x7FFF, 7_002);
        assert_eq!(segment.tl0(20), numbers(7_002).tl0.unwrap());
        // What is asked for again is found where it came from.
        assert_eq!(
            rewrite.source(101).map(|(source, s)| (source, s.layer)),
            Some((7_001, 0))
        );
        assert_eq!(
            rewrite.source(102).map(|(source, s)| (source, s.layer)),
            Some((20, 2))
        );
        assert_eq!(rewrite.source(103), None);
    }

    #[test]
    fn a_timestamp_that_reports_agree_on_is_kept() {
        let now = Instant::now();
        let mut rewrite = Rewrite::new(90_000, 1);
        rewrite.switch(now, 0, numbers(10), None);
        rewrite.forward(now, 0, numbers(10)).unwrap();
        let later = now + Duration::from_millis(500);
        let moment = numbers(10).timestamp + 44_000;
        rewrite.switch(later, 1, numbers(9_000), Some(moment));
        let (_, segment) = rewrite.forward(later, 1, numbers(9_000)).unwrap();
        assert_eq!(segment.timestamp(numbers(9_000).timestamp), moment);
        // One that goes back is not.
        rewrite.switch(later, 0, numbers(50), Some(moment.wrapping_sub(90_000)));
        let (_, segment) = rewrite.forward(later, 0, numbers(50)).unwrap();
        assert_eq!(segment.timestamp(numbers(50).timestamp), moment + 3000);
    }

    proptest! {
        /// Whatever comes, is left out, late or switched: no number is used for two packets, those
        /// left out leave no gap, and each number leads back to its packet.
        #[test]
        fn numbers_are_used_once_and_lead_back(
            steps in proptest::collection::vec((0_u8..8, 0_u64..4), 1..400),
        ) {
            let now = Instant::now();
            let mut rewrite = Rewrite::new(90_000, 500);
            let mut newest = [0_u64, 2_000, 3_000];
            let mut layer = 0_u8;
            rewrite.switch(now, layer, numbers(newest[0]), None);
            let mut used = std::collections::HashMap::new();
            let mut lost = 0;
            let mut sent_count = 0;
            for (step, far) in steps {
                let index = newest[usize::from(layer)];
                match step {
                    0 => {
                        layer = (layer + 1) % 3;
                        rewrite.switch(now, layer, numbers(newest[usize::from(layer)]), None);
                        continue;
                    }
                    1 => rewrite.skip(layer, index),
                    2 => {
                        // Lost for now: a gap that may be filled later.
                        lost += 1;
                    }
                    3 => {
                        let Some(late) = index.checked_sub(far + 1) else { continue };
                        if let Some((sent, segment)) = rewrite.forward(now, layer, numbers(late)) {
                            prop_assert_eq!(segment.layer, layer);
                            let owner = *used.entry(sent).or_insert((layer, late));
                            prop_assert_eq!(owner, (layer, late));
                        }
                        continue;
                    }
                    _ => {
                        let (sent, segment) = rewrite.forward(now, layer, numbers(index)).unwrap();
                        sent_count += 1;
                        prop_assert!(used.insert(sent, (layer, index)).is_none());
                        prop_assert_eq!(rewrite.highest(), sent);
                        prop_assert_eq!(rewrite.source(sent), Some((index, segment)));
                    }
                }
                newest[usize::from(layer)] += 1;
            }
            prop_assert!(rewrite.next - 500 <= sent_count + lost);
        }
    }
}
