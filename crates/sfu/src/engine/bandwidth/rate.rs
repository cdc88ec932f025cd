//! The rate estimate, which rises slowly and drops at once.

use super::delay::Usage;
use super::throughput::Flow;
use super::{Settings, float, whole};

/// Multiplicative decrease: the part of the acknowledged rate that is kept on congestion.
const BETA: f64 = 0.85;
/// The part of the rate that is sent while a long queue drains.
const DRAIN_FACTOR: f64 = 0.6;
/// Growth factor per second, far from the link capacity.
const GROWTH: f64 = 1.08;
/// Minimum part of the rate that must actually be sent before the rate may rise further.
const TESTED_ABOVE: f64 = 0.7;
/// Response time in addition to the round trip, in s.
const RESPONSE_S: f64 = 0.1;
/// Maximum size of a packet, in bits.
const PACKET_BITS: f64 = 9_600.0;
/// How long the queue is left to drain after a decrease, in µs.
const SETTLING_US: u64 = 1_500_000;
/// Minimum interval between decreases while little is sent, in µs.
const DECREASE_INTERVAL_US: u64 = 1_000_000;

/// Input of an update.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateInput {
    /// Send and acknowledged rates, or `None` if too few packets have arrived.
    pub(super) flow: Option<Flow>,
    /// Round-trip time, in µs.
    pub(super) round_trip: u64,
    /// Whether the rate may rise.
    pub(super) may_rise: bool,
}

/// The rate that may be sent.
#[derive(Debug)]
pub(super) struct Rate {
    bps: f64,
    min_bps: f64,
    max_bps: f64,
    /// Whether the rate is still the initial value.
    initial: bool,
    rising: bool,
    updated_at: u64,
    /// `None` if the rate was never lowered.
    lowered_at: Option<u64>,
    link_capacity: LinkCapacity,
}

impl Rate {
    pub(super) fn new(settings: Settings) -> Self {
        let min_bps = float(settings.min_bps);
        let max_bps = float(settings.max_bps).max(min_bps);
        Self {
            bps: float(settings.start_bps).clamp(min_bps, max_bps),
            min_bps,
            max_bps,
            initial: true,
            rising: false,
            updated_at: 0,
            lowered_at: None,
            link_capacity: LinkCapacity::default(),
        }
    }

    /// Returns the rate, in bits per second.
    pub(super) const fn bps(&self) -> u64 {
        whole(self.bps)
    }

    /// Returns the rate that drains a long queue, in bits per second.
    pub(super) fn drain_bps(&self) -> u64 {
        whole((self.bps * DRAIN_FACTOR).max(self.min_bps))
    }

    /// Returns the rate without rounding, in bits per second.
    pub(super) const fn exact(&self) -> f64 {
        self.bps
    }

    /// Returns the upper bound, in bits per second.
    pub(super) const fn max_bps(&self) -> f64 {
        self.max_bps
    }

    /// Whether the rate is still the initial value.
    pub(super) const fn is_initial(&self) -> bool {
        self.initial
    }

    /// Whether the last decrease is long enough ago.
    pub(super) fn is_settled(&self, at: u64) -> bool {
        self.lowered_at
            .is_none_or(|lowered| at.saturating_sub(lowered) >= SETTLING_US)
    }

    /// Updates the rate after each feedback.
    pub(super) fn update(&mut self, at: u64, usage: Usage, input: RateInput) {
        match usage {
            Usage::Over => {
                self.rising = false;
                self.on_overuse(at, input);
            }
            // While the queue drains, more arrives than the network carries.
            Usage::Under => self.rising = false,
            Usage::Normal if !self.rising => {
                self.rising = true;
                self.updated_at = at;
            }
            Usage::Normal => self.grow(at, input),
        }
    }

    /// Lowers the rate to `bps` because of loss.
    pub(super) fn lower_for_loss(&mut self, at: u64, bps: f64, flow: Option<Flow>) {
        if self.is_tested(flow) && bps < self.bps {
            self.link_capacity.observe(received(flow));
        }
        self.initial &= flow.is_none();
        self.lower(at, bps);
    }

    fn lower(&mut self, at: u64, bps: f64) {
        if bps < self.bps {
            self.set(at, bps);
            self.lowered_at = Some(at);
            self.rising = false;
        }
    }

    /// Lowers the rate because feedback is missing.
    pub(super) fn back_off(&mut self, at: u64) {
        self.set(at, self.bps * 0.7);
        self.rising = false;
    }

    /// Raises the rate to `bps`, which a probe has shown the network to carry.
    pub(super) fn raise(&mut self, at: u64, bps: f64) {
        self.initial &= bps < TESTED_ABOVE * self.bps;
        if bps > self.bps {
            self.set(at, bps);
            if self.link_capacity.is_below(bps) {
                self.link_capacity = LinkCapacity::default();
            }
        }
    }

    /// Sets the rate to `bps`, which a probe has shown to be the capacity. A probe is short, so a
    /// decrease is limited, unless the rate is still the initial value.
    pub(super) fn learn_ceiling(&mut self, at: u64, bps: f64, flow: Option<Flow>) {
        if bps >= self.bps {
            self.raise(at, bps);
        } else {
            let received = received(flow);
            let floor = if self.initial { 0.0 } else { self.bps * BETA };
            self.initial = false;
            self.lower(at, bps.max(received).max(floor));
        }
    }

    fn set(&mut self, at: u64, bps: f64) {
        if bps.is_finite() {
            self.bps = bps.clamp(self.min_bps, self.max_bps);
        }
        self.updated_at = at;
    }

    fn on_overuse(&mut self, at: u64, input: RateInput) {
        let since = at.saturating_sub(self.lowered_at.unwrap_or(0));
        let Some(flow) = input.flow else {
            // Too little is sent to measure it, but it overuses the network.
            if since >= DECREASE_INTERVAL_US {
                self.lower(at, self.bps * BETA);
            }
            return;
        };
        if self.is_tested(input.flow) || flow.received < 0.95 * flow.sent {
            let min_interval = input.round_trip.clamp(10_000, 200_000);
            if since < min_interval && flow.received >= self.bps / 2.0 {
                return;
            }
            self.initial = false;
            self.link_capacity.observe(flow.received);
            let mut lowered = flow.received * BETA;
            if lowered > self.bps
                && let Some(link_capacity) = self.link_capacity.bps
            {
                lowered = link_capacity * BETA;
            }
            self.lower(at, lowered);
        } else if since >= DECREASE_INTERVAL_US {
            // Everything arrives, and it is far less than the rate: most likely jitter.
            self.lower(at, self.bps * BETA);
        }
    }

    fn grow(&mut self, at: u64, input: RateInput) {
        let seconds = (float(at.saturating_sub(self.updated_at)) / 1_000_000.0).min(1.0);
        self.updated_at = at;
        let Some(flow) = input.flow else { return };
        if !input.may_rise || !self.is_tested(input.flow) {
            return;
        }
        if self.link_capacity.is_below(flow.received) {
            self.link_capacity = LinkCapacity::default();
        }
        let grown = if self.link_capacity.bps.is_some() {
            // Near the link capacity, grow by one packet per response time.
            let frame = self.bps / 30.0;
            let packet = frame / (frame / PACKET_BITS).ceil().max(1.0);
            let response_s = float(input.round_trip) / 1_000_000.0 + RESPONSE_S;
            self.bps + (packet / response_s).max(4_000.0) * seconds
        } else {
            self.bps * GROWTH.powf(seconds) + 1_000.0 * seconds
        };
        self.initial = false;
        self.set(at, grown);
    }

    /// Whether enough is sent to test the rate.
    fn is_tested(&self, flow: Option<Flow>) -> bool {
        sent(flow) >= TESTED_ABOVE * self.bps
    }
}

fn received(flow: Option<Flow>) -> f64 {
    flow.map_or(0.0, |flow| flow.received)
}

fn sent(flow: Option<Flow>) -> f64 {
    flow.map_or(0.0, |flow| flow.sent)
}

/// Link capacity: the average acknowledged rate at congestion, in bits per second, and its
/// variance.
#[derive(Debug, Default)]
struct LinkCapacity {
    bps: Option<f64>,
    /// Variance in kbit/s, divided by the average.
    spread: f64,
}

impl LinkCapacity {
    /// Records the acknowledged rate at congestion.
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

    /// Whether the acknowledged rate is clearly above the link capacity.
    fn is_below(&self, received: f64) -> bool {
        self.bps.is_some_and(|bps| {
            let average = bps / 1_000.0;
            received / 1_000.0 > average + self.deviation(average)
        })
    }

    /// Returns three standard deviations, in kbit/s.
    fn deviation(&self, average: f64) -> f64 {
        3.0 * (self.spread * average).sqrt()
    }
}
