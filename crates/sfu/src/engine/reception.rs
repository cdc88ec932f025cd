//! What has arrived of one stream that a client publishes, and what is missing of it: receiver
//! reports (RFC 3550 6.4, A.3, A.8), requests for what was lost (RFC 4585 6.2.1), and how many
//! bits per second it is.

mod rate;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::rate::Rate;

/// How far back from the highest number arrivals are told from duplicates. At 1000 packets per
/// second, a retransmission may be a second late.
const WINDOW: u64 = 1024;
const WORDS: usize = 16;

/// How many numbers are asked for at most. When more are missing, a key frame is cheaper.
const MOST_MISSING: u64 = 500;

/// How long a missing packet may still be on its way behind others, before it is asked for; unless
/// a second packet comes after it sooner.
const REORDERING: Duration = Duration::from_millis(10);

/// The same number is not asked for more often than this, however near the sender is.
const SHORTEST_REPEAT: Duration = Duration::from_millis(20);

/// The clock rate of every video payload format that we forward, and of no audio format.
const VIDEO_CLOCK: u32 = 90_000;

/// The largest count of lost packets that fits the 24 bits of a report.
const MOST_LOST: i32 = 0x7F_FFFF;

/// How a packet stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It has the highest number so far. Some before it may be missing.
    InOrder,
    /// It was missing.
    Late,
    /// It was here before.
    Duplicate,
    /// It is so far behind that nobody knows whether it was here before.
    TooOld,
}

/// One block of a receiver report, without the SSRC (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportFields {
    /// The part of the packets since the last report that the path lost, in 1/256.
    pub(crate) fraction_lost: u8,
    /// How many the path lost in all. Fits 24 bits.
    pub(crate) lost: i32,
    /// The highest sequence number, with the count of wraps in the upper half.
    pub(crate) highest: u32,
    /// Interarrival jitter in units of the clock rate.
    pub(crate) jitter: u32,
    /// The middle of the NTP time of the last sender report; 0 if there was none.
    pub(crate) lsr: u32,
    /// How long ago that came, in 1/65536 s; 0 if there was none.
    pub(crate) dlsr: u32,
}

/// How often and how long a missing packet is asked for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    requests: u8,
    within: Duration,
}

/// A picture is broken until it is complete, so asking pays for long.
const VIDEO: Patience = Patience {
    requests: 10,
    within: Duration::from_secs(1),
};

/// Sound that comes later than a jitter buffer waits is of no use.
const AUDIO: Patience = Patience {
    requests: 3,
    within: Duration::from_millis(200),
};

/// A packet that has not come.
#[derive(Debug)]
struct Missing {
    index: u64,
    since: Instant,
    due: Instant,
    requests: u8,
    /// Whether a second packet came after it, which makes the first request due at once.
    overtaken: bool,
}

/// The numbers that have been here.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Its first packet's number with the lower 16 bits cleared, from where wraps are counted.
    origin: u64,
    lowest: u64,
    highest: u64,
    /// One bit for each of the last [`WINDOW`] numbers.
    seen: [u64; WORDS],
}

impl Span {
    fn new(index: u64) -> Self {
        let mut span = Self {
            origin: index & !0xFFFF,
            lowest: index,
            highest: index,
            seen: [0; WORDS],
        };
        span.mark(index);
        span
    }

    /// Notes an arrival, and says how it stands to the others.
    fn arrive(&mut self, index: u64) -> Novelty {
        if index > self.highest {
            if index - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..=index {
                    let (word, bit) = Self::place(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = index;
            self.mark(index);
            return Novelty::InOrder;
        }
        if self.highest - index >= WINDOW {
            return Novelty::TooOld;
        }
        self.lowest = self.lowest.min(index);
        if self.mark(index) {
            Novelty::Late
        } else {
            Novelty::Duplicate
        }
    }

    /// How many packets there should be.
    fn expected(&self) -> u64 {
        (self.highest - self.lowest).saturating_add(1)
    }

    /// Whether the number was not marked before.
    fn mark(&mut self, index: u64) -> bool {
        let (word, bit) = Self::place(index);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    fn place(index: u64) -> (usize, u64) {
        let place = index % WINDOW;
        let word = usize::try_from(place / 64).expect("less than the number of words");
        (word, 1 << (place % 64))
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
        // The packets of one picture are sent one after the other on purpose: only the first of
        // them says something about the path.
        if self.last.is_some_and(|(before, _)| before == timestamp) {
            return;
        }
        let arrival = micros.saturating_mul(u64::from(clock_rate)) / 1_000_000;
        let arrival = (arrival & 0xFFFF_FFFF) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some((_, before)) = self.last.replace((timestamp, transit)) {
            let difference = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // More than that is a source that has begun anew, not a path that hesitated.
            if difference < clock_rate.saturating_mul(5) {
                let decay = (self.scaled.saturating_add(8)) >> 4;
                self.scaled = self.scaled.saturating_add(difference).saturating_sub(decay);
            }
        }
    }
}

/// What the last report said.
#[derive(Debug, Default)]
struct Reported {
    expected: u64,
    received: u64,
    /// How many had arrived, retransmissions and duplicates included.
    arrivals: u64,
}

/// The reception of one SSRC.
///
/// Loss is what the path lost: a packet that came only because it was asked for still counts as
/// lost, for the sender adapts to the path and not to our repairs.
#[derive(Debug)]
pub(crate) struct Reception {
    clock_rate: u32,
    patience: Patience,
    /// Times are counted from the first arrival.
    epoch: Option<Instant>,
    span: Option<Span>,
    /// Packets that came by themselves.
    received: u64,
    /// Packets that came because they were asked for.
    repaired: u64,
    bytes: u64,
    arrivals: u64,
    reported: Reported,
    jitter: Jitter,
    rate: Rate,
    /// The NTP time of the last sender report, and when it came.
    sender_report: Option<(u64, Instant)>,
    /// By number. Never more than [`MOST_MISSING`].
    missing: VecDeque<Missing>,
    next_nack: Option<Instant>,
    /// The highest number that was lost for good, until somebody takes notice.
    given_up: Option<u64>,
}

impl Reception {
    /// A stream with this clock rate in Hz. 90,000 is video, everything else is audio, which is
    /// asked for less and not as long.
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            patience: if clock_rate == VIDEO_CLOCK {
                VIDEO
            } else {
                AUDIO
            },
            epoch: None,
            span: None,
            received: 0,
            repaired: 0,
            bytes: 0,
            arrivals: 0,
            reported: Reported::default(),
            jitter: Jitter::default(),
            rate: Rate::default(),
            sender_report: None,
            missing: VecDeque::new(),
            next_nack: None,
            given_up: None,
        }
    }

    /// A packet arrived. `index` is its sequence number with the wraps counted in, `bytes` what it
    /// weighs in the bit rate, `retransmitted` whether it came as a retransmission (RFC 4588);
    /// `index` and `timestamp` are then those of the original. Only a packet that is
    /// [`Novelty::InOrder`] or [`Novelty::Late`] is worth forwarding.
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
        let highest = self.span.map(|span| span.highest);
        let novelty = if let Some(span) = &mut self.span {
            span.arrive(index)
        } else {
            self.span = Some(Span::new(index));
            Novelty::InOrder
        };
        let mut asked_for = retransmitted;
        match novelty {
            Novelty::Duplicate | Novelty::TooOld => return novelty,
            Novelty::InOrder => {
                if let Some(highest) = highest {
                    self.advance(now, highest, index);
                }
            }
            Novelty::Late => asked_for |= self.found(index),
        }
        if asked_for {
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

    /// A sender report came with this NTP time (RFC 3550 6.4.1).
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.sender_report = Some((ntp, now));
    }

    /// What to put into a receiver report now. None if nothing came since the last one.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReportFields> {
        let span = self.span.as_ref()?;
        if self.arrivals == self.reported.arrivals {
            return None;
        }
        let total = Reported {
            expected: span.expected(),
            received: self.received,
            arrivals: self.arrivals,
        };
        let before = std::mem::replace(&mut self.reported, total);
        let expected = span.expected().saturating_sub(before.expected);
        let received = self.received.saturating_sub(before.received);
        let lost = expected.saturating_sub(received);
        let fraction = lost.saturating_mul(256).checked_div(expected).unwrap_or(0);
        let highest = (span.highest - span.origin) & 0xFFFF_FFFF;
        let (lsr, dlsr) = self.sender_report.map_or((0, 0), |(ntp, at)| {
            let micros = now.saturating_duration_since(at).as_micros();
            let delay = micros.saturating_mul(65_536) / 1_000_000;
            let middle = (ntp >> 16) & 0xFFFF_FFFF;
            (middle as u32, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReportFields {
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: i32::try_from(self.lost()).map_or(MOST_LOST, |lost| lost.min(MOST_LOST)),
            highest: highest as u32,
            jitter: self.jitter.scaled >> 4,
            lsr,
            dlsr,
        })
    }

    /// Appends the sequence numbers to ask for now, in the order of sending, so 0 comes after
    /// 65535. `rtt` is that of the publisher's path; 100 ms will do while it is unknown.
    pub(crate) fn nacks(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) {
        if self.next_nack().is_none_or(|next| now < next) {
            return;
        }
        let Patience { requests, within } = self.patience;
        let repeat = rtt.clamp(SHORTEST_REPEAT, within);
        let mut next: Option<Instant> = None;
        let mut given_up = self.given_up;
        self.missing.retain_mut(|missing| {
            if missing.due <= now {
                let end = missing.since + within;
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

    /// When to call [`Reception::nacks`]. None while nothing is missing. It may turn out that
    /// there is nothing to ask for by then.
    pub(crate) fn next_nack(&self) -> Option<Instant> {
        self.next_nack.filter(|_| !self.missing.is_empty())
    }

    /// Whether something was lost for good since the last call: video then needs a key frame.
    pub(crate) fn take_given_up(&mut self) -> bool {
        self.given_up.take().is_some()
    }

    /// A key frame begins with the packet of this number: what is missing before it will not be
    /// missed.
    pub(crate) fn key_frame(&mut self, index: u64) {
        let obsolete = self
            .missing
            .partition_point(|missing| missing.index < index);
        self.missing.drain(..obsolete);
        self.given_up = self.given_up.filter(|lost| *lost > index);
    }

    /// How many bits per second it is, over the last second. Retransmissions count, for they are
    /// what the stream would have been; duplicates do not. 0 after a second of silence.
    pub(crate) fn bitrate(&self, now: Instant) -> u64 {
        self.epoch.map_or(0, |epoch| {
            let micros = now.saturating_duration_since(epoch).as_micros();
            self.rate
                .bits_per_second(u64::try_from(micros).unwrap_or(u64::MAX))
        })
    }

    /// How many packets have come, each counted once.
    pub(crate) fn packets(&self) -> u64 {
        self.received.saturating_add(self.repaired)
    }

    /// How many of those came only because they were asked for.
    pub(crate) fn repaired(&self) -> u64 {
        self.repaired
    }

    /// How many bytes those packets had.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many packets the path has lost, repaired or not.
    pub(crate) fn lost(&self) -> u64 {
        let expected = self.span.as_ref().map_or(0, Span::expected);
        expected.saturating_sub(self.received)
    }

    /// Interarrival jitter in milliseconds.
    pub(crate) fn jitter_ms(&self) -> f64 {
        f64::from(self.jitter.scaled >> 4) * 1000.0 / f64::from(self.clock_rate.max(1))
    }

    /// The highest number has gone up.
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
        let waiting = u64::try_from(self.missing.len()).unwrap_or(u64::MAX);
        if gap > MOST_MISSING || waiting + gap > MOST_MISSING {
            self.missing.clear();
            self.given_up = Some(index - 1);
            return;
        }
        let due = now + REORDERING;
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

    /// A packet came late; whether it had been asked for.
    fn found(&mut self, index: u64) -> bool {
        self.missing
            .binary_search_by_key(&index, |missing| missing.index)
            .ok()
            .and_then(|place| self.missing.remove(place))
            .is_some_and(|missing| missing.requests > 0)
    }
}
