//! Reception state of one incoming stream: receiver reports (RFC 3550 6.4, A.3, A.8), NACKs for
//! lost packets (RFC 4585 6.2.1), and the bit rate.

mod rate;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::rate::Rate;

/// Number of sequence numbers, back from the highest, in which duplicates are detected. At 1000
/// packets per second, a retransmission may be a second late.
const WINDOW: u64 = 1024;
const WORDS: usize = 16;

/// Maximum number of missing packets to send NACKs for. When more are missing, a key frame is
/// cheaper.
const MAX_MISSING: u64 = 500;

/// How long a missing packet may merely be reordered before the first NACK, unless a second packet
/// arrives after it sooner.
const REORDERING_DELAY: Duration = Duration::from_millis(10);

/// Minimum interval between two NACKs for the same packet, however short the round trip.
const MIN_NACK_INTERVAL: Duration = Duration::from_millis(20);

/// The clock rate of every video payload format that we forward, and of no audio format, in Hz.
const VIDEO_CLOCK: u32 = 90_000;

/// The largest number of lost packets that fits into the 24-bit field of a report.
const MAX_LOST: i32 = 0x7F_FFFF;

/// How a packet relates to the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It has the highest number so far. Some before it may be missing.
    InOrder,
    /// It was missing until now.
    Late,
    /// It has arrived before.
    Duplicate,
    /// It is so old that it may have arrived before.
    TooOld,
}

/// One block of a receiver report, without the SSRC (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportFields {
    /// Fraction of packets lost since the last report, in 1/256.
    pub(crate) fraction_lost: u8,
    /// Total number of packets lost. Fits into 24 bits.
    pub(crate) lost: i32,
    /// The highest sequence number, with the count of wraps in the upper half.
    pub(crate) highest: u32,
    /// Interarrival jitter, in units of the clock rate.
    pub(crate) jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, or 0 if there was none.
    pub(crate) lsr: u32,
    /// The time since the last sender report, in 1/65536 s, or 0 if there was none.
    pub(crate) dlsr: u32,
}

/// How often and for how long NACKs are sent for a missing packet.
#[derive(Debug, Clone, Copy)]
struct NackPolicy {
    requests: u8,
    give_up_after: Duration,
}

/// Video is broken until the frame is complete, so NACKs pay off for long.
const VIDEO: NackPolicy = NackPolicy {
    requests: 10,
    give_up_after: Duration::from_secs(1),
};

/// Audio that arrives later than the jitter buffer waits is useless.
const AUDIO: NackPolicy = NackPolicy {
    requests: 3,
    give_up_after: Duration::from_millis(200),
};

/// A packet that has not arrived.
#[derive(Debug)]
struct Missing {
    index: u64,
    since: Instant,
    due: Instant,
    requests: u8,
    /// Whether a second packet has arrived after it, which makes the first NACK due at once.
    overtaken: bool,
}

/// The sequence numbers that have arrived.
#[derive(Debug, Clone, Copy)]
struct SequenceWindow {
    /// The first packet's number with the lower 16 bits cleared, from which wraps are counted.
    origin: u64,
    lowest: u64,
    highest: u64,
    /// One bit for each of the last [`WINDOW`] numbers.
    seen: [u64; WORDS],
}

impl SequenceWindow {
    fn new(index: u64) -> Self {
        let mut window = Self {
            origin: index & !0xFFFF,
            lowest: index,
            highest: index,
            seen: [0; WORDS],
        };
        window.set(index);
        window
    }

    /// Records an arrival, and returns how it relates to the earlier ones.
    fn record(&mut self, index: u64) -> Novelty {
        if index > self.highest {
            if index - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..=index {
                    let (word, bit) = Self::locate(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = index;
            self.set(index);
            return Novelty::InOrder;
        }
        if self.highest - index >= WINDOW {
            return Novelty::TooOld;
        }
        self.lowest = self.lowest.min(index);
        if self.set(index) {
            Novelty::Late
        } else {
            Novelty::Duplicate
        }
    }

    /// Returns the number of packets expected so far.
    fn expected(&self) -> u64 {
        (self.highest - self.lowest).saturating_add(1)
    }

    /// Sets the bit of a number, and returns whether it was clear.
    fn set(&mut self, index: u64) -> bool {
        let (word, bit) = Self::locate(index);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    fn locate(index: u64) -> (usize, u64) {
        let position = index % WINDOW;
        let word = usize::try_from(position / 64).expect("less than the number of words");
        (word, 1 << (position % 64))
    }
}

/// Interarrival jitter (RFC 3550 A.8).
#[derive(Debug, Default)]
struct Jitter {
    /// Timestamp and transit time of the last packet, in units of the clock rate.
    last: Option<(u32, u32)>,
    /// Jitter times 16, as in the RFC.
    scaled: u32,
}

impl Jitter {
    fn packet(&mut self, micros: u64, clock_rate: u32, timestamp: u32) {
        // The packets of one frame are paced on purpose: only the first of them measures the path.
        if self.last.is_some_and(|(before, _)| before == timestamp) {
            return;
        }
        let arrival = micros.saturating_mul(u64::from(clock_rate)) / 1_000_000;
        let arrival = (arrival & 0xFFFF_FFFF) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some((_, before)) = self.last.replace((timestamp, transit)) {
            let difference = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // A larger difference is a restarted source, not jitter of the path.
            if difference < clock_rate.saturating_mul(5) {
                let decay = (self.scaled.saturating_add(8)) >> 4;
                self.scaled = self.scaled.saturating_add(difference).saturating_sub(decay);
            }
        }
    }
}

/// The totals at the last report.
#[derive(Debug, Default)]
struct ReportTotals {
    expected: u64,
    received: u64,
    /// Number of arrivals, including retransmissions and duplicates.
    arrivals: u64,
}

/// Reception state of one SSRC.
///
/// Loss means loss on the path: a packet that arrived only as a retransmission still counts as
/// lost, since the sender should adapt to the path and not to our repairs.
#[derive(Debug)]
pub(crate) struct Reception {
    clock_rate: u32,
    nack_policy: NackPolicy,
    /// Start of the time scale: the first arrival.
    epoch: Option<Instant>,
    window: Option<SequenceWindow>,
    /// Number of packets that arrived without a NACK.
    received: u64,
    /// Number of packets that arrived after a NACK.
    repaired: u64,
    bytes: u64,
    arrivals: u64,
    reported: ReportTotals,
    jitter: Jitter,
    rate: Rate,
    /// The NTP time of the last sender report, and when it arrived.
    sender_report: Option<(u64, Instant)>,
    /// Missing packets by number, at most [`MAX_MISSING`].
    missing: VecDeque<Missing>,
    next_nack: Option<Instant>,
    /// The highest number that was given up, until [`Reception::take_given_up`].
    given_up: Option<u64>,
}

impl Reception {
    /// Creates the state of a stream with this clock rate in Hz. A rate of 90,000 means video; any
    /// other means audio, for which fewer NACKs are sent, and not for as long.
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            nack_policy: if clock_rate == VIDEO_CLOCK {
                VIDEO
            } else {
                AUDIO
            },
            epoch: None,
            window: None,
            received: 0,
            repaired: 0,
            bytes: 0,
            arrivals: 0,
            reported: ReportTotals::default(),
            jitter: Jitter::default(),
            rate: Rate::default(),
            sender_report: None,
            missing: VecDeque::new(),
            next_nack: None,
            given_up: None,
        }
    }

    /// Records a packet. `index` is its extended sequence number, `bytes` its size for the bit
    /// rate, and `retransmitted` whether it arrived as a retransmission (RFC 4588); `index` and
    /// `timestamp` are then those of the original packet. Only a packet that is
    /// [`Novelty::InOrder`] or [`Novelty::Late`] should be forwarded.
    pub(crate) fn packet(
        &mut self,
        now: Instant,
        index: u64,
        timestamp: u32,
        bytes: usize,
        retransmitted: bool,
    ) -> Novelty {
        let epoch = *self.epoch.get_or_insert(now);
        self.arrivals += 1;
        let highest = self.window.map(|window| window.highest);
        let novelty = if let Some(window) = &mut self.window {
            window.record(index)
        } else {
            self.window = Some(SequenceWindow::new(index));
            Novelty::InOrder
        };
        let mut was_nacked = retransmitted;
        match novelty {
            Novelty::Duplicate | Novelty::TooOld => return novelty,
            Novelty::InOrder => {
                if let Some(highest) = highest {
                    self.advance(now, highest, index);
                }
            }
            Novelty::Late => was_nacked |= self.remove_missing(index),
        }
        if was_nacked {
            self.repaired += 1;
        } else {
            self.received += 1;
        }
        let micros = now.saturating_duration_since(epoch).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.rate.add(micros, bytes);
        if novelty == Novelty::InOrder && !retransmitted {
            self.jitter.packet(micros, self.clock_rate, timestamp);
        }
        novelty
    }

    /// Records the NTP time of a sender report (RFC 3550 6.4.1).
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.sender_report = Some((ntp, now));
    }

    /// Returns the fields of a receiver report, or `None` if nothing has arrived since the last
    /// one.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReportFields> {
        let window = self.window.as_ref()?;
        if self.arrivals == self.reported.arrivals {
            return None;
        }
        let total = ReportTotals {
            expected: window.expected(),
            received: self.received,
            arrivals: self.arrivals,
        };
        let before = std::mem::replace(&mut self.reported, total);
        let expected = window.expected().saturating_sub(before.expected);
        let received = self.received.saturating_sub(before.received);
        let lost = expected.saturating_sub(received);
        let fraction = lost.saturating_mul(256).checked_div(expected).unwrap_or(0);
        let highest = (window.highest - window.origin) & 0xFFFF_FFFF;
        let (lsr, dlsr) = self.sender_report.map_or((0, 0), |(ntp, at)| {
            let micros = now.saturating_duration_since(at).as_micros();
            let delay = micros.saturating_mul(65_536) / 1_000_000;
            let lsr = (ntp >> 16) & 0xFFFF_FFFF;
            (lsr as u32, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReportFields {
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: i32::try_from(self.lost()).map_or(MAX_LOST, |lost| lost.min(MAX_LOST)),
            highest: highest as u32,
            jitter: self.jitter.scaled >> 4,
            lsr,
            dlsr,
        })
    }

    /// Appends the sequence numbers that a NACK is due for, in sending order, so that 0 follows
    /// 65535. `rtt` is the round-trip time to the publisher; 100 ms is a reasonable default.
    pub(crate) fn nacks(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) {
        if self.next_nack().is_none_or(|next| now < next) {
            return;
        }
        let NackPolicy {
            requests,
            give_up_after,
        } = self.nack_policy;
        let repeat = rtt.clamp(MIN_NACK_INTERVAL, give_up_after);
        let mut next: Option<Instant> = None;
        let mut given_up = self.given_up;
        self.missing.retain_mut(|missing| {
            if missing.due <= now {
                let end = missing.since + give_up_after;
                if missing.requests >= requests || now >= end {
                    given_up = given_up.max(Some(missing.index));
                    return false;
                }
                out.push((missing.index & 0xFFFF) as u16);
                missing.requests += 1;
                missing.due = (now + repeat).min(end);
            }
            next = Some(next.map_or(missing.due, |next| next.min(missing.due)));
            true
        });
        self.given_up = given_up;
        self.next_nack = next;
    }

    /// Returns when to call [`Reception::nacks`], or `None` while nothing is missing. The call may
    /// yield nothing.
    pub(crate) fn next_nack(&self) -> Option<Instant> {
        self.next_nack.filter(|_| !self.missing.is_empty())
    }

    /// Whether a packet was given up since the last call: video then needs a key frame.
    pub(crate) fn take_given_up(&mut self) -> bool {
        self.given_up.take().is_some()
    }

    /// Records that a key frame begins with this packet: the packets missing before it are no
    /// longer needed.
    pub(crate) fn key_frame(&mut self, index: u64) {
        let obsolete = self
            .missing
            .partition_point(|missing| missing.index < index);
        self.missing.drain(..obsolete);
        self.given_up = self.given_up.filter(|lost| *lost > index);
    }

    /// Returns the bit rate over the last second, in bits per second. Retransmissions count, since
    /// they are part of the original stream; duplicates do not. 0 after a second of silence.
    pub(crate) fn bitrate(&self, now: Instant) -> u64 {
        self.epoch.map_or(0, |epoch| {
            let micros = now.saturating_duration_since(epoch).as_micros();
            self.rate
                .bits_per_second(u64::try_from(micros).unwrap_or(u64::MAX))
        })
    }

    /// Returns the number of packets received, without duplicates.
    pub(crate) fn packets(&self) -> u64 {
        self.received.saturating_add(self.repaired)
    }

    /// Returns the number of packets that arrived only after a NACK.
    pub(crate) fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Returns the number of bytes received, without duplicates.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of packets that the path has lost, repaired or not.
    pub(crate) fn lost(&self) -> u64 {
        let expected = self.window.as_ref().map_or(0, SequenceWindow::expected);
        expected.saturating_sub(self.received)
    }

    /// Returns the interarrival jitter in milliseconds.
    pub(crate) fn jitter_ms(&self) -> f64 {
        f64::from(self.jitter.scaled >> 4) * 1000.0 / f64::from(self.clock_rate.max(1))
    }

    /// Handles a new highest number.
    fn advance(&mut self, now: Instant, before: u64, index: u64) {
        for missing in self.missing.iter_mut().rev() {
            if missing.overtaken {
                break;
            }
            missing.overtaken = true;
            if missing.requests == 0 {
                missing.due = now;
                self.next_nack = Some(now);
            }
        }
        let gap = index - before - 1;
        if gap == 0 {
            return;
        }
        let pending = u64::try_from(self.missing.len()).unwrap_or(u64::MAX);
        if gap > MAX_MISSING || pending + gap > MAX_MISSING {
            self.missing.clear();
            self.given_up = Some(index - 1);
            return;
        }
        let due = now + REORDERING_DELAY;
        self.next_nack = Some(self.next_nack().map_or(due, |next| next.min(due)));
        self.missing
            .extend((before + 1..index).map(|index| Missing {
                index,
                since: now,
                due,
                requests: 0,
                overtaken: false,
            }));
    }

    /// Removes a late packet from the missing ones, and returns whether a NACK was sent for it.
    fn remove_missing(&mut self, index: u64) -> bool {
        self.missing
            .binary_search_by_key(&index, |missing| missing.index)
            .ok()
            .and_then(|position| self.missing.remove(position))
            .is_some_and(|missing| missing.requests > 0)
    }
}
