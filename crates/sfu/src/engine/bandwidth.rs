//! How much a subscriber's network carries, told from the feedback to what we send it.
//!
//! Google congestion control in outline (draft-ietf-rmcat-gcc-02) over transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01; docs/spec/media.md 8.4). Packets that take
//! longer and longer mean a queue that fills ([`delay`]), packets that are missing mean one that
//! is full ([`loss`]), and what arrives is what the network carries for certain ([`throughput`]).
//! These three move one number ([`rate`]). A forwarder rarely sends as much as it may, since layers
//! come in steps, so nothing of that would tell it that there is room for the next one: short
//! bursts of padding do ([`probing`]).

mod backlog;
mod delay;
mod history;
mod loss;
mod probing;
mod rate;
mod silence;
mod throughput;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::backlog::Backlog;
use self::delay::Delay;
use self::history::History;
use self::loss::Loss;
pub(crate) use self::probing::{Cluster, Probe};
use self::probing::{Outcome, Probing};
use self::rate::{Evidence, Rate};
use self::silence::Silence;
use self::throughput::Throughput;

/// So many arrivals are put in order and taken in at a time.
const BATCH: usize = 128;

/// What an estimate starts with and stays within, in bits per second.
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// What is believed before anything is known.
    pub(crate) start_bps: u64,
    /// Never below this.
    pub(crate) min_bps: u64,
    /// Never above this; `min_bps` if that is more.
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

/// A packet that has arrived over there.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    /// Its place among all packets that were sent.
    index: u64,
    /// When it left, in µs since the start.
    sent: u64,
    /// When it came, in µs on the remote clock.
    arrival: i64,
    bytes: u32,
    /// Feedback has never spoken of those before it: that feedback was lost.
    skipped: bool,
}

/// What the network towards one subscriber carries. One for each transport that sends.
///
/// Only for transports whose client has agreed to transport-wide feedback: without any, silence is
/// taken for an outage, and the estimate goes down to the least.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    start: Instant,
    history: History,
    backlog: Backlog,
    delay: Delay,
    throughput: Throughput,
    loss: Loss,
    rate: Rate,
    probing: Probing,
    silence: Silence,
    /// Smoothed, in µs.
    round_trip: Option<u64>,
    /// Kept for its memory; empty between calls.
    batch: Vec<Arrived>,
}

impl Bandwidth {
    /// An estimate for a transport that has sent nothing yet. Takes next to no memory before the
    /// first packet, and at most some 40 kB after.
    pub(crate) fn new(now: Instant, settings: Settings) -> Self {
        Self {
            start: now,
            history: History::default(),
            backlog: Backlog::default(),
            delay: Delay::default(),
            throughput: Throughput::default(),
            loss: Loss::default(),
            rate: Rate::new(settings),
            probing: Probing::default(),
            silence: Silence::default(),
            round_trip: None,
            batch: Vec::new(),
        }
    }

    /// The transport-wide number for a packet that is sent now; the numbers count up and wrap.
    ///
    /// `bytes` is what the network carries for it, headers included. `probe` is for padding that
    /// [`Self::poll_probe`] has asked for. Media sent while a cluster runs counts for the cluster
    /// as well.
    pub(crate) fn sent(&mut self, now: Instant, bytes: usize, probe: Option<Cluster>) -> u16 {
        let at = self.micros(now);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let index = self.history.sent(at, bytes);
        self.silence.sent(at);
        self.probing.sent(at, index, bytes, probe);
        History::number(index)
    }

    /// What one feedback says: for each number, when the packet arrived in µs on the remote clock,
    /// or None if it has not. Numbers that were never sent, are too old or have been reported as
    /// arrived before are passed over.
    pub(crate) fn feedback(
        &mut self,
        now: Instant,
        arrivals: impl Iterator<Item = (u16, Option<i64>)>,
    ) {
        let at = self.micros(now);
        let mut latest: Option<Arrived> = None;
        for (number, arrival) in arrivals {
            let Some(answer) = self.history.answered(number, arrival.is_some()) else {
                continue;
            };
            let excused = self.silence.excuses(answer.sent);
            let Some(arrival) = arrival else {
                if !excused {
                    self.loss.lost();
                    self.throughput.lost(answer.bytes);
                }
                continue;
            };
            if !excused {
                self.loss.arrived(answer.was_lost);
            }
            let arrived = Arrived {
                index: answer.index,
                sent: answer.sent,
                arrival,
                bytes: u32::from(answer.bytes),
                skipped: answer.skipped,
            };
            if latest.is_none_or(|latest| latest.arrival <= arrival) {
                latest = Some(arrived);
            }
            if self.silence.is_outage() {
                self.resume(at);
            }
            self.batch.push(arrived);
            if self.batch.len() >= BATCH {
                self.digest();
            }
        }
        self.digest();
        let Some(latest) = latest else { return };
        self.silence.heard(at, self.history.unanswered());
        self.measure_round_trip(at.saturating_sub(latest.sent));
        self.conclude(at);
    }

    /// From sending a packet to its feedback, smoothed. It includes the time that the remote side
    /// holds feedback back. None before the first feedback.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(Duration::from_micros)
    }

    /// What may be sent, in bits per second.
    pub(crate) fn estimate(&self) -> u64 {
        if self.backlog.is_long() {
            self.rate.drained()
        } else {
            self.rate.bps()
        }
    }

    /// Whether the estimate is more than what it started with: something has shown what the network
    /// carries.
    pub(crate) const fn is_known(&self) -> bool {
        !self.rate.is_guessed()
    }

    /// What has arrived lately, in bits per second. None if that was too little to tell.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.throughput.measure().map(|flow| whole(flow.received))
    }

    /// Which part of the packets was lost in about the last second, from 0 to 1.
    pub(crate) fn loss(&self) -> f32 {
        self.loss.fraction()
    }

    /// What would be sent if there were room, in bits per second: the sum of the layers that the
    /// subscriber is to see. Only for more than the estimate is the network probed, and once if that
    /// is not known yet.
    pub(crate) fn wants(&mut self, bps: u64) {
        self.probing.wants(float(bps));
    }

    /// Padding to send now, as near to `bytes` as packets allow, each packet given to
    /// [`Self::sent`] with the cluster. None if nothing is due.
    ///
    /// To be called whenever [`Self::next_timeout`] has come: what silence means is decided here
    /// too.
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let at = self.micros(now);
        if self.silence.step(at, self.rate.exact()) {
            self.rate.back_off(at);
            self.probing.cancel(at);
        }
        if self.forgets().is_some_and(|due| at >= due) {
            self.backlog.forget();
            self.delay = Delay::default();
            self.loss.forget();
        }
        self.follow_up(at);
        let calm = self.silence.is_outage()
            || !self.delay.is_congested()
                && !self.backlog.is_long()
                && self.rate.is_settled(at)
                && !self.loss.is_heavy();
        self.probing
            .poll(at, &self.rate, calm, self.silence.is_outage())
    }

    /// When [`Self::poll_probe`] is to be called again, unless something is sent or fed back
    /// before.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let probe = self
            .probing
            .next_timeout(&self.rate, self.silence.is_outage());
        let due = [probe, self.silence.next_step(), self.forgets()]
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

    /// When what speaks against sending more is too old to do so. Without that, whoever sends
    /// nothing because nothing may be sent would never learn that more may be.
    fn forgets(&self) -> Option<u64> {
        let speaks = self.backlog.is_long() || self.delay.is_congested() || self.loss.is_heavy();
        self.silence.quiet_from().filter(|_| speaks)
    }

    /// Takes in what has gathered in the batch, in the order of arrival.
    fn digest(&mut self) {
        self.batch.sort_unstable_by_key(|a| (a.arrival, a.index));
        for arrived in &self.batch {
            self.throughput.packet(arrived);
            self.backlog.packet(arrived.sent, arrived.arrival);
            self.delay.packet(arrived.sent, arrived.arrival);
            self.probing.arrived(arrived);
        }
        self.batch.clear();
    }

    /// The first feedback after an outage: what was measured before it is about another network.
    fn resume(&mut self, at: u64) {
        let before = self.silence.resume(at);
        self.delay = Delay::default();
        self.throughput = Throughput::default();
        self.loss.forget();
        self.probing.recover(at, before);
    }

    fn measure_round_trip(&mut self, sample: u64) {
        // A gain of 1/8, as RFC 6298 has it. The first sample counts whole.
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(smoothed) => smoothed - smoothed / 8 + sample / 8,
        });
    }

    fn conclude(&mut self, at: u64) {
        let round_trip = self.round_trip.unwrap_or_default();
        let flow = self.throughput.measure();
        if self.rate.is_guessed()
            && self.backlog.is_long()
            && let Some(received) = flow.map(|flow| flow.received)
        {
            // What was guessed has filled a queue: it is what comes out of it.
            self.rate.learn_ceiling(at, received, flow);
        }
        let lowered = self.loss.judge(at, round_trip, flow, self.rate.exact());
        if let Some(bps) = lowered {
            self.rate.overloaded(at, bps, flow);
        }
        let usage = self.delay.usage();
        let before = self.rate.exact();
        self.rate.update(
            at,
            usage,
            Evidence {
                flow,
                round_trip,
                may_rise: !self.loss.is_notable(),
            },
        );
        self.probing.changed(at, before, self.rate.exact());
        self.probing.answered(self.history.first_unanswered());
        self.follow_up(at);
    }

    /// Acts on a cluster whose feedback is there, or late.
    fn follow_up(&mut self, at: u64) {
        match self.probing.outcome(at, &self.rate) {
            Some(Outcome::Carried(bps)) if !self.delay.is_congested() => self.rate.raise(at, bps),
            Some(Outcome::Saturated(bps)) => {
                let flow = self.throughput.measure();
                self.rate.learn_ceiling(at, bps, flow);
            }
            Some(Outcome::Carried(_) | Outcome::Nothing) | None => {}
        }
    }
}

/// Bits per second as a number to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "rates and times are far below 2^52, and wild ones need no precision"
)]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Microseconds, forward or back, as milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "differences of times are far below 2^52, and wild ones need no precision"
)]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

/// Bits per second without the fraction; 0 for what is no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is meant"
)]
const fn whole(value: f64) -> u64 {
    value as u64
}
