//! Estimates a subscriber's available bandwidth from its feedback.
//!
//! This is an implementation of Google congestion control (draft-ietf-rmcat-gcc-02) over
//! transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01;
//! docs/spec/media.md 8.4). Growing delay means that a queue is filling ([`delay`]), loss means
//! that a queue is full ([`loss`]), and the network is known to carry the acknowledged rate
//! ([`throughput`]). These three inputs adjust the estimate ([`rate`]). An SFU rarely sends as much
//! as it may, since layers come in steps, so these inputs alone would not discover the capacity for
//! the next layer. Short bursts of padding probe for it ([`probing`]).

mod backlog;
mod delay;
mod history;
mod loss;
mod outage;
mod probing;
mod rate;
mod throughput;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::backlog::Backlog;
use self::delay::DelayDetector;
use self::history::History;
use self::loss::LossMonitor;
use self::outage::OutageDetector;
pub(crate) use self::probing::{ClusterId, Probe};
use self::probing::{Outcome, ProbeController};
use self::rate::{Rate, RateInput};
use self::throughput::Throughput;

/// Number of arrivals that are sorted and processed at a time.
const BATCH: usize = 128;

/// Initial value and bounds of an estimate, in bits per second.
#[expect(clippy::struct_field_names, reason = "the unit is part of the name")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The estimate before the first feedback.
    pub(crate) start_bps: u64,
    /// Lower bound.
    pub(crate) min_bps: u64,
    /// Upper bound, or `min_bps` if that is higher.
    pub(crate) max_bps: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            start_bps: 600_000,
            min_bps: 50_000,
            max_bps: 50_000_000,
        }
    }
}

/// A packet that has arrived at the subscriber.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    /// Number of the packet, without wrapping.
    index: u64,
    /// Send time, in µs since the start.
    sent: u64,
    /// Arrival time, in µs on the remote clock.
    arrival: i64,
    bytes: u32,
    /// Whether no feedback covered the packets before it, because that feedback was lost.
    skipped: bool,
}

/// The bandwidth estimate of one subscriber's transport.
///
/// It is used only if the client has negotiated transport-wide feedback. Without any feedback, an
/// outage is assumed, and the estimate drops to the lower bound.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    start: Instant,
    history: History,
    backlog: Backlog,
    delay: DelayDetector,
    throughput: Throughput,
    loss: LossMonitor,
    rate: Rate,
    probing: ProbeController,
    outage: OutageDetector,
    /// Smoothed round-trip time, in µs.
    round_trip: Option<u64>,
    /// Scratch buffer; empty between calls.
    batch: Vec<Arrived>,
}

impl Bandwidth {
    /// Creates the estimate for a transport that has sent nothing yet. It takes almost no memory
    /// before the first packet, and at most about 40 kB afterwards.
    pub(crate) fn new(now: Instant, settings: Settings) -> Self {
        Self {
            start: now,
            history: History::default(),
            backlog: Backlog::default(),
            delay: DelayDetector::default(),
            throughput: Throughput::default(),
            loss: LossMonitor::default(),
            rate: Rate::new(settings),
            probing: ProbeController::default(),
            outage: OutageDetector::default(),
            round_trip: None,
            batch: Vec::new(),
        }
    }

    /// Records a packet that is sent now, and returns its transport-wide sequence number; the
    /// numbers increase and wrap.
    ///
    /// `bytes` is the size on the network, including headers. `probe` is set for padding that
    /// [`Self::poll_probe`] has requested. Media sent during a probe cluster counts towards the
    /// cluster as well.
    pub(crate) fn sent(&mut self, now: Instant, bytes: usize, probe: Option<ClusterId>) -> u16 {
        let at = self.micros(now);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let index = self.history.sent(at, bytes);
        self.outage.sent(at);
        self.probing.sent(at, index, bytes, probe);
        History::number(index)
    }

    /// Processes one feedback message: for each number, the arrival time in µs on the remote clock,
    /// or `None` if the packet has not arrived. Numbers that were never sent, are too old or have
    /// been reported as arrived before are ignored.
    pub(crate) fn feedback(
        &mut self,
        now: Instant,
        arrivals: impl Iterator<Item = (u16, Option<i64>)>,
    ) {
        let at = self.micros(now);
        let mut latest: Option<Arrived> = None;
        for (number, arrival) in arrivals {
            let Some(packet) = self.history.record_feedback(number, arrival.is_some()) else {
                continue;
            };
            let excused = self.outage.excuses(packet.sent);
            let Some(arrival) = arrival else {
                if !excused {
                    self.loss.lost();
                    self.throughput.lost(packet.bytes);
                }
                continue;
            };
            if !excused {
                self.loss.arrived(packet.was_lost);
            }
            let arrived = Arrived {
                index: packet.index,
                sent: packet.sent,
                arrival,
                bytes: u32::from(packet.bytes),
                skipped: packet.skipped,
            };
            if latest.is_none_or(|latest| latest.arrival <= arrival) {
                latest = Some(arrived);
            }
            if self.outage.is_outage() {
                self.resume(at);
            }
            self.batch.push(arrived);
            if self.batch.len() >= BATCH {
                self.process_batch();
            }
        }
        self.process_batch();
        let Some(latest) = latest else { return };
        self.outage.feedback(at, self.history.unacknowledged());
        self.measure_round_trip(at.saturating_sub(latest.sent));
        self.update_estimate(at);
    }

    /// Returns the smoothed time from sending a packet to its feedback, which includes the remote
    /// feedback delay, or `None` before the first feedback.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(Duration::from_micros)
    }

    /// Returns the estimate, in bits per second.
    pub(crate) fn estimate(&self) -> u64 {
        if self.backlog.is_long() {
            self.rate.drain_bps()
        } else {
            self.rate.bps()
        }
    }

    /// Whether the estimate is based on feedback and not only on the initial value.
    pub(crate) const fn is_known(&self) -> bool {
        !self.rate.is_initial()
    }

    /// Returns the acknowledged bit rate, in bits per second, or `None` if too few
    /// packets have arrived.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.throughput.measure().map(|flow| whole(flow.received))
    }

    /// Returns the fraction of packets lost in about the last second, from 0 to 1.
    pub(crate) fn loss(&self) -> f32 {
        self.loss.fraction()
    }

    /// Sets the bit rate that would be sent if there were room, in bits per second: the sum of the
    /// preferred layers. The network is probed only if this exceeds the estimate, and once while
    /// the estimate is not known.
    pub(crate) fn set_wanted_bps(&mut self, bps: u64) {
        self.probing.set_wanted_bps(float(bps));
    }

    /// Returns the padding to send now, or `None` if none is due. The caller sends packets of about
    /// that many bytes, and passes each one to [`Self::sent`] with the cluster.
    ///
    /// Must be called whenever [`Self::next_timeout`] is reached, since it also handles missing
    /// feedback.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let at = self.micros(now);
        if self.outage.step(at, self.rate.exact()) {
            self.rate.back_off(at);
            self.probing.cancel(at);
        }
        if self.congestion_expires_at().is_some_and(|due| at >= due) {
            self.backlog.reset();
            self.delay = DelayDetector::default();
            self.loss.clear();
        }
        self.apply_probe_outcome(at);
        let may_probe = self.outage.is_outage()
            || !self.delay.is_congested()
                && !self.backlog.is_long()
                && self.rate.is_settled(at)
                && !self.loss.is_heavy();
        self.probing
            .poll(at, &self.rate, may_probe, self.outage.is_outage())
    }

    /// Returns when [`Self::poll_probe`] must be called again, unless something is sent or
    /// acknowledged before.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let probe = self
            .probing
            .next_timeout(&self.rate, self.outage.is_outage());
        let due = [probe, self.outage.next_step(), self.congestion_expires_at()]
            .into_iter()
            .flatten()
            .min()?;
        self.start.checked_add(Duration::from_micros(due))
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        // `as_micros` would divide 128 bits.
        since
            .as_secs()
            .saturating_mul(1_000_000)
            .saturating_add(u64::from(since.subsec_micros()))
    }

    /// Returns when the evidence of congestion expires. Without this, a transport that sends
    /// nothing because of the congestion would never detect its end.
    fn congestion_expires_at(&self) -> Option<u64> {
        let is_congested =
            self.backlog.is_long() || self.delay.is_congested() || self.loss.is_heavy();
        self.outage.quiet_from().filter(|_| is_congested)
    }

    /// Processes the batch in the order of arrival.
    fn process_batch(&mut self) {
        self.batch.sort_unstable_by_key(|a| (a.arrival, a.index));
        for arrived in &self.batch {
            self.throughput.packet(arrived);
            self.backlog.packet(arrived.sent, arrived.arrival);
            self.delay.packet(arrived.sent, arrived.arrival);
            self.probing.arrived(arrived);
        }
        self.batch.clear();
    }

    /// Handles the first feedback after an outage: earlier measurements are about another network.
    fn resume(&mut self, at: u64) {
        let before = self.outage.resume(at);
        self.delay = DelayDetector::default();
        self.throughput = Throughput::default();
        self.loss.clear();
        self.probing.outage_ended(at, before);
    }

    fn measure_round_trip(&mut self, sample: u64) {
        // A gain of 1/8, as in RFC 6298. The first sample is taken as it is.
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(smoothed) => smoothed - smoothed / 8 + sample / 8,
        });
    }

    fn update_estimate(&mut self, at: u64) {
        let round_trip = self.round_trip.unwrap_or_default();
        let flow = self.throughput.measure();
        if self.rate.is_initial()
            && self.backlog.is_long()
            && let Some(received) = flow.map(|flow| flow.received)
        {
            // The initial value has filled a queue: the acknowledged rate is the capacity.
            self.rate.learn_ceiling(at, received, flow);
        }
        let lowered = self.loss.update(at, round_trip, flow, self.rate.exact());
        if let Some(bps) = lowered {
            self.rate.lower_for_loss(at, bps, flow);
        }
        let usage = self.delay.usage();
        let before = self.rate.exact();
        self.rate.update(
            at,
            usage,
            RateInput {
                flow,
                round_trip,
                may_rise: !self.loss.is_notable(),
            },
        );
        self.probing.estimate_changed(at, before, self.rate.exact());
        self.probing.covered(self.history.first_unacknowledged());
        self.apply_probe_outcome(at);
    }

    /// Applies the result of a probe cluster whose feedback has arrived or is overdue.
    fn apply_probe_outcome(&mut self, at: u64) {
        match self.probing.outcome(at, &self.rate) {
            Some(Outcome::Carried(bps)) if !self.delay.is_congested() => self.rate.raise(at, bps),
            Some(Outcome::Saturated(bps)) => {
                let flow = self.throughput.measure();
                self.rate.learn_ceiling(at, bps, flow);
            }
            Some(Outcome::Carried(_) | Outcome::Inconclusive) | None => {}
        }
    }
}

/// Converts an integer for calculation.
#[expect(
    clippy::cast_precision_loss,
    reason = "rates and times are far below 2^52, and implausible ones need no precision"
)]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Converts a difference in microseconds to milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "time differences are far below 2^52, and implausible ones need no precision"
)]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

/// Truncates to an integer; NaN becomes 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the saturating cast is intended"
)]
const fn whole(value: f64) -> u64 {
    value as u64
}
