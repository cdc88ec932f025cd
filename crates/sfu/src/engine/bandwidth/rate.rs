//! The number itself: up carefully, down at once.

use super::delay::Usage;
use super::throughput::Flow;
use super::{Settings, float, whole};

/// What is left after congestion of what arrived during it.
const BETA: f64 = 0.85;
/// A long queue is given the rest, to empty.
const DRAINING: f64 = 0.6;
/// Growth in a second while the limit is far.
const GROWTH: f64 = 1.08;
/// Less than this part of what may be sent is no test of it. So what is sent bounds the growth.
const LIMITED: f64 = 0.7;
/// A reaction takes a round trip and so long, in s.
const REACTION_S: f64 = 0.1;
/// What one packet holds at most, in bits.
const PACKET_BITS: f64 = 9_600.0;
/// After going down, the queue is left to empty for so long, in µs.
const SETTLING_US: u64 = 1_500_000;
/// What goes down while little is sent goes down this often at most, in µs.
const DOUBTFUL_US: u64 = 1_000_000;

/// What an update knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// What arrives. None if that is too little to tell.
    pub(super) flow: Option<Flow>,
    /// In µs.
    pub(super) round_trip: u64,
    /// Whether nothing speaks against sending more.
    pub(super) may_rise: bool,
}

/// What may be sent.
#[derive(Debug)]
pub(super) struct Rate {
    bps: f64,
    least: f64,
    most: f64,
    /// Nothing has been learnt yet.
    guessed: bool,
    rising: bool,
    updated_at: u64,
    /// None if it never was.
    lowered_at: Option<u64>,
    limit: Limit,
}

impl Rate {
    pub(super) fn new(settings: Settings) -> Self {
        let least = float(settings.min_bps);
        let most = float(settings.max_bps).max(least);
        Self {
            bps: float(settings.start_bps).clamp(least, most),
            least,
            most,
            guessed: true,
            rising: false,
            updated_at: 0,
            lowered_at: None,
            limit: Limit::default(),
        }
    }

    /// In bits per second.
    pub(super) const fn bps(&self) -> u64 {
        whole(self.bps)
    }

    /// What lets a long queue go, in bits per second.
    pub(super) fn drained(&self) -> u64 {
        whole((self.bps * DRAINING).max(self.least))
    }

    /// In bits per second.
    pub(super) const fn exact(&self) -> f64 {
        self.bps
    }

    /// The most that it may become.
    pub(super) const fn most(&self) -> f64 {
        self.most
    }

    /// Whether nothing has shown what the network carries.
    pub(super) const fn is_guessed(&self) -> bool {
        self.guessed
    }

    /// Whether it has not gone down lately.
    pub(super) fn is_settled(&self, at: u64) -> bool {
        self.lowered_at
            .is_none_or(|lowered| at.saturating_sub(lowered) >= SETTLING_US)
    }

    /// After each feedback.
    pub(super) fn update(&mut self, at: u64, usage: Usage, evidence: Evidence) {
        match usage {
            Usage::Over => {
                self.rising = false;
                self.congested(at, evidence);
            }
            // The queue empties. What arrives now is more than the network carries.
            Usage::Under => self.rising = false,
            Usage::Normal if !self.rising => {
                self.rising = true;
                self.updated_at = at;
            }
            Usage::Normal => self.grow(at, evidence),
        }
    }

    /// So much is lost that it has to be `bps`, if that is less.
    pub(super) fn overloaded(&mut self, at: u64, bps: f64, flow: Option<Flow>) {
        if self.is_tested(flow) && bps < self.bps {
            self.limit.observe(received(flow));
        }
        self.guessed &= flow.is_none();
        self.lower(at, bps);
    }

    fn lower(&mut self, at: u64, bps: f64) {
        if bps < self.bps {
            self.set(at, bps);
            self.lowered_at = Some(at);
            self.rising = false;
        }
    }

    /// Nothing is heard from the other side.
    pub(super) fn back_off(&mut self, at: u64) {
        self.set(at, self.bps * 0.7);
        self.rising = false;
    }

    /// A probe has shown that the network carries `bps`.
    pub(super) fn raise(&mut self, at: u64, bps: f64) {
        self.guessed &= bps < LIMITED * self.bps;
        if bps > self.bps {
            self.set(at, bps);
            if self.limit.is_below(bps) {
                self.limit = Limit::default();
            }
        }
    }

    /// A probe has shown that the network carries no more than `bps`. It was short, so if that is
    /// less than what may be sent it is not believed at once, unless nothing better is known.
    pub(super) fn learn_ceiling(&mut self, at: u64, bps: f64, flow: Option<Flow>) {
        if bps >= self.bps {
            self.raise(at, bps);
        } else {
            let received = received(flow);
            let least = if self.guessed { 0.0 } else { self.bps * BETA };
            self.guessed = false;
            self.lower(at, bps.max(received).max(least));
        }
    }

    fn set(&mut self, at: u64, bps: f64) {
        if bps.is_finite() {
            self.bps = bps.clamp(self.least, self.most);
        }
        self.updated_at = at;
    }

    fn congested(&mut self, at: u64, evidence: Evidence) {
        let since = at.saturating_sub(self.lowered_at.unwrap_or(0));
        let Some(flow) = evidence.flow else {
            // What little is sent overuses the network, as far as that can be told from it.
            if since >= DOUBTFUL_US {
                self.lower(at, self.bps * BETA);
            }
            return;
        };
        if self.is_tested(evidence.flow) || flow.received < 0.95 * flow.sent {
            let soon = evidence.round_trip.clamp(10_000, 200_000);
            if since < soon && flow.received >= self.bps / 2.0 {
                return;
            }
            self.guessed = false;
            self.limit.observe(flow.received);
            let mut lowered = flow.received * BETA;
            if lowered > self.bps
                && let Some(limit) = self.limit.bps
            {
                lowered = limit * BETA;
            }
            self.lower(at, lowered);
        } else if since >= DOUBTFUL_US {
            // All that is sent arrives, and it is far less than may be: most likely noise.
            self.lower(at, self.bps * BETA);
        }
    }

    fn grow(&mut self, at: u64, evidence: Evidence) {
        let seconds = (float(at.saturating_sub(self.updated_at)) / 1_000_000.0).min(1.0);
        self.updated_at = at;
        let Some(flow) = evidence.flow else { return };
        if !evidence.may_rise || !self.is_tested(evidence.flow) {
            return;
        }
        if self.limit.is_below(flow.received) {
            self.limit = Limit::default();
        }
        let grown = if self.limit.bps.is_some() {
            // Near where it was too much: one packet more in the time of a reaction.
            let frame = self.bps / 30.0;
            let packet = frame / (frame / PACKET_BITS).ceil().max(1.0);
            let reaction = float(evidence.round_trip) / 1_000_000.0 + REACTION_S;
            self.bps + (packet / reaction).max(4_000.0) * seconds
        } else {
            self.bps * GROWTH.powf(seconds) + 1_000.0 * seconds
        };
        self.guessed = false;
        self.set(at, grown);
    }

    /// Whether enough is sent for its arrival to say something about the rate.
    fn is_tested(&self, flow: Option<Flow>) -> bool {
        sent(flow) >= LIMITED * self.bps
    }
}

fn received(flow: Option<Flow>) -> f64 {
    flow.map_or(0.0, |flow| flow.received)
}

fn sent(flow: Option<Flow>) -> f64 {
    flow.map_or(0.0, |flow| flow.sent)
}

/// Where congestion has begun, as an average with its spread; in bits per second.
#[derive(Debug, Default)]
struct Limit {
    bps: Option<f64>,
    /// The variance in kbit/s, divided by the average.
    spread: f64,
}

impl Limit {
    /// Congestion while `received` arrived.
    fn observe(&mut self, received: f64) {
        let sample = received / 1_000.0;
        let Some(average) = self.bps.map(|bps| bps / 1_000.0) else {
            *self = Self {
                bps: Some(received),
                spread: 0.4,
            };
            return;
        };
        if sample < average - self.deviation(average) {
            *self = Self {
                bps: Some(received),
                spread: 0.4,
            };
            return;
        }
        let average = 0.95 * average + 0.05 * sample;
        let error = average - sample;
        self.spread =
            (0.95 * self.spread + 0.05 * error * error / average.max(1.0)).clamp(0.4, 2.5);
        self.bps = Some(average * 1_000.0);
    }

    /// Whether more has arrived than that was.
    fn is_below(&self, received: f64) -> bool {
        self.bps.is_some_and(|bps| {
            let average = bps / 1_000.0;
            received / 1_000.0 > average + self.deviation(average)
        })
    }

    /// Three standard deviations, in kbit/s.
    fn deviation(&self, average: f64) -> f64 {
        3.0 * (self.spread * average).sqrt()
    }
}
