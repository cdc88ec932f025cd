//! Probing for more bandwidth with padding.
//!
//! A cluster is a short burst of packets at the target rate. If they arrive as fast as they were
//! sent, the network carries that rate; otherwise it carries the rate at which they arrived.

use super::rate::Rate;
use super::{Arrived, float, whole};

/// Minimum number of packets in a cluster.
const MIN_PACKETS: u32 = 5;
/// Minimum duration of a cluster, in µs.
const MIN_DURATION_US: u64 = 15_000;
/// Maximum duration of a cluster, in µs, after which it is cancelled.
const MAX_DURATION_US: u64 = 1_000_000;
/// Duration of one portion of requested padding, in µs.
const PORTION_US: u64 = 4_000;
/// Minimum size of a portion, in bytes.
const PORTION_BYTES: u64 = 200;
/// Maximum number of unsent portions in a row, after which the cluster is cancelled.
const MAX_UNSENT_PORTIONS: u8 = 3;
/// Timeout for feedback on a cluster, in µs.
const FEEDBACK_TIMEOUT_US: u64 = 1_000_000;

/// Maximum target of a cluster, as a multiple of the estimate.
const MAX_STEP: f64 = 2.0;
/// Maximum target of a cluster, as a multiple of the wanted rate.
const HEADROOM: f64 = 1.3;
/// Minimum target of a cluster, as a multiple of the estimate.
const MIN_STEP: f64 = 1.1;
/// If at least this part of the target arrived, another cluster may follow at once.
const CONTINUE_ABOVE: f64 = 0.7;

/// Wait after a cluster that exceeded the capacity, in µs; doubled after each further one. The
/// first wait is short because a busy machine can make a cluster seem too fast.
const MIN_WAIT_US: u64 = 1_000_000;
const MAX_WAIT_US: u64 = 5_000_000;
/// Delay before probing is reconsidered while it is not allowed, in µs.
const RECHECK_US: u64 = 200_000;
/// Pause after a cluster whose padding was not sent, or which was cancelled or lost, in µs.
const PAUSE_US: u64 = 2_000_000;

/// A drop of the estimate to this part or less is a large one.
const LARGE_DROP: f64 = 0.5;

/// Minimum part of the packets, and of the bytes, that must arrive for a valid result.
const MIN_RECEIVED: f64 = 0.8;
/// A cluster that arrives slower than this part of its send rate has exceeded the capacity.
const SATURATED_BELOW: f64 = 0.9;
/// Part of the measured capacity that may then be used.
const UTILISATION: f64 = 0.95;
/// Ratio of arrival rate to send rate above which a measurement is invalid.
const IMPLAUSIBLE: f64 = 2.0;

/// The id of a probe cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClusterId(u32);

/// A request for padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The cluster that each padding packet belongs to.
    pub(crate) cluster: ClusterId,
    /// Number of bytes, including headers. A small deviation is harmless, since the next portion
    /// compensates for it.
    pub(crate) bytes: usize,
}

/// The result of a cluster, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    /// The network carries this rate.
    Carried(f64),
    /// The network carries this rate and no more.
    Saturated(f64),
    /// The result is inconclusive.
    Inconclusive,
}

#[derive(Debug, Clone, Copy)]
struct ActiveCluster {
    cluster: ClusterId,
    target: f64,
    started_at: u64,
    /// When the next portion is due or, once complete, when the wait for feedback ends.
    due: u64,
    /// Whether all packets of the cluster have been sent.
    complete: bool,
    /// Number of portions in a row that were requested but not sent.
    unsent_portions: u8,
    sent: Sent,
    received: Received,
}

/// The sent packets of a cluster, including media.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    first_index: u64,
    last_index: u64,
    first: u64,
    last: u64,
    packets: u32,
    bytes: u64,
    last_bytes: u64,
}

/// The packets of a cluster that have arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    first: i64,
    last: i64,
    packets: u32,
    bytes: u64,
    first_bytes: u64,
}

/// Decides when to probe, and evaluates the result.
#[derive(Debug, Default)]
pub(super) struct ProbeController {
    wanted: f64,
    active: Option<ActiveCluster>,
    clusters: u32,
    /// Earliest start of the next cluster.
    next: u64,
    /// Length of the last wait.
    wait: u64,
    /// The rate before an outage, which is probed first afterwards.
    rate_before_outage: Option<f64>,
    /// Index after the last packet that feedback has covered.
    covered: u64,
}

impl ProbeController {
    /// Sets the bit rate that would be sent if there were room, in bits per second.
    pub(super) const fn set_wanted_bps(&mut self, bps: f64) {
        self.wanted = bps;
    }

    /// Records a sent packet.
    pub(super) fn sent(&mut self, at: u64, index: u64, bytes: u16, padding: Option<ClusterId>) {
        let Some(active) = &mut self.active else {
            return;
        };
        if !active.complete {
            active.send(at, index, bytes, padding);
        }
    }

    /// Records an arrived packet.
    pub(super) fn arrived(&mut self, arrived: &Arrived) {
        if let Some(active) = &mut self.active {
            active.arrive(arrived);
        }
    }

    /// Records that feedback has covered all packets before `index`.
    pub(super) const fn covered(&mut self, index: u64) {
        self.covered = index;
    }

    /// Handles a change of the estimate. If it has dropped, the cluster being sent is too fast and
    /// is cancelled; after a large drop, which may be temporary, the next probe comes soon.
    pub(super) fn estimate_changed(&mut self, at: u64, before: f64, bps: f64) {
        if bps >= before {
            return;
        }
        if self.active.as_ref().is_some_and(|active| !active.complete) {
            self.cancel(at);
        }
        if bps < before * LARGE_DROP {
            self.next = self.next.min(at.saturating_add(PAUSE_US));
            self.wait = 0;
        }
    }

    /// Handles the end of an outage, before which the rate was `before`.
    pub(super) fn outage_ended(&mut self, at: u64, before: f64) {
        self.active = None;
        self.next = at;
        self.wait = 0;
        self.rate_before_outage = Some(before);
    }

    /// Cancels the current cluster, if there is one.
    pub(super) fn cancel(&mut self, at: u64) {
        if self.active.take().is_some() {
            self.next = at.saturating_add(PAUSE_US);
        }
    }

    /// Returns the result of the last cluster, once: when feedback has covered all of it, or is
    /// overdue.
    pub(super) fn outcome(&mut self, at: u64, rate: &Rate) -> Option<Outcome> {
        let active = self.active.as_ref().filter(|active| active.complete)?;
        if self.covered <= active.sent.last_index && at < active.due {
            return None;
        }
        let outcome = active.outcome();
        let shown = match outcome {
            Outcome::Carried(shown) | Outcome::Saturated(shown) => shown,
            Outcome::Inconclusive => 0.0,
        };
        if shown >= active.target * CONTINUE_ABOVE && (shown > rate.exact() || rate.is_initial()) {
            self.next = at;
            self.wait = 0;
        } else if outcome == Outcome::Inconclusive {
            let pause = if rate.is_initial() {
                RECHECK_US
            } else {
                PAUSE_US
            };
            self.next = at.saturating_add(pause);
        } else {
            self.wait = (self.wait * 2).clamp(MIN_WAIT_US, MAX_WAIT_US);
            self.next = at.saturating_add(self.wait);
        }
        self.active = None;
        Some(outcome)
    }

    /// Returns the padding that is due. A new cluster starts only if `may_start` is set.
    pub(super) fn poll(
        &mut self,
        at: u64,
        rate: &Rate,
        may_start: bool,
        is_outage: bool,
    ) -> Option<Probe> {
        if self.active.is_none() {
            if at < self.next {
                return None;
            }
            let target = self.target(rate, is_outage)?;
            if !may_start {
                self.next = at.saturating_add(RECHECK_US);
                return None;
            }
            self.rate_before_outage = None;
            self.clusters = self.clusters.wrapping_add(1);
            self.active = Some(ActiveCluster::new(ClusterId(self.clusters), target, at));
        }
        let active = self.active.as_mut()?;
        if active.complete || at < active.due {
            return None;
        }
        if active.unsent_portions >= MAX_UNSENT_PORTIONS
            || at.saturating_sub(active.started_at) > MAX_DURATION_US
        {
            self.cancel(at);
            return None;
        }
        active.next_portion(at)
    }

    /// Returns when [`Self::poll`] and [`Self::outcome`] must be called again, or `None` while
    /// there is nothing to probe.
    pub(super) fn next_timeout(&self, rate: &Rate, is_outage: bool) -> Option<u64> {
        match &self.active {
            Some(active) => Some(active.due),
            None => self.target(rate, is_outage).map(|_| self.next),
        }
    }

    /// Returns the rate to probe, if one is worth it.
    fn target(&self, rate: &Rate, is_outage: bool) -> Option<f64> {
        let bps = rate.exact();
        if is_outage {
            // A transport that sends nothing because of the outage would not detect its end.
            return (self.wanted > 0.0).then_some(bps);
        }
        let wanted = self.wanted * HEADROOM;
        let target = match self.rate_before_outage {
            // Without a wanted rate, return to the rate before the outage.
            Some(before) if wanted <= 0.0 => before,
            Some(before) => before.max(bps * MAX_STEP).min(wanted),
            // The first cluster also verifies the initial value.
            None if rate.is_initial() && wanted > 0.0 => wanted.clamp(bps, bps * MAX_STEP),
            None => wanted.min(bps * MAX_STEP),
        };
        let target = target.min(rate.max_bps());
        let is_worthwhile = rate.is_initial() || target >= bps * MIN_STEP;
        (target > 0.0 && is_worthwhile).then_some(target)
    }
}

impl ActiveCluster {
    fn new(cluster: ClusterId, target: f64, at: u64) -> Self {
        Self {
            cluster,
            target,
            started_at: at,
            due: at,
            complete: false,
            unsent_portions: 0,
            sent: Sent::default(),
            received: Received::default(),
        }
    }

    fn send(&mut self, at: u64, index: u64, bytes: u16, padding: Option<ClusterId>) {
        if padding == Some(self.cluster) {
            self.unsent_portions = 0;
        }
        let sent = &mut self.sent;
        if sent.packets == 0 {
            sent.first_index = index;
            sent.first = at;
        }
        sent.last_index = index;
        sent.last = at;
        sent.last_bytes = u64::from(bytes);
        sent.packets = sent.packets.saturating_add(1);
        sent.bytes = sent.bytes.saturating_add(u64::from(bytes));
        let enough = self.target * float(MIN_DURATION_US) / 8_000_000.0;
        self.complete = sent.packets >= MIN_PACKETS
            && at.saturating_sub(self.started_at) >= MIN_DURATION_US
            && float(sent.bytes) >= enough;
        if self.complete {
            self.due = at.saturating_add(FEEDBACK_TIMEOUT_US);
        }
    }

    fn arrive(&mut self, arrived: &Arrived) {
        let sent = &self.sent;
        if sent.packets == 0 || !(sent.first_index..=sent.last_index).contains(&arrived.index) {
            return;
        }
        let bytes = u64::from(arrived.bytes);
        let received = &mut self.received;
        if received.packets == 0 || arrived.arrival < received.first {
            received.first = arrived.arrival;
            received.first_bytes = bytes;
        }
        if received.packets == 0 || arrived.arrival > received.last {
            received.last = arrived.arrival;
        }
        received.packets = received.packets.saturating_add(1);
        received.bytes = received.bytes.saturating_add(bytes);
    }

    /// Requests the bytes that are missing until the end of the next portion, if that is at least
    /// half a portion.
    fn next_portion(&mut self, at: u64) -> Option<Probe> {
        let portion = whole(self.target * float(PORTION_US) / 8_000_000.0).max(PORTION_BYTES);
        let portion_us = whole(float(portion) * 8_000_000.0 / self.target).max(1);
        let elapsed = at
            .saturating_sub(self.started_at)
            .saturating_add(portion_us);
        let wanted = whole(self.target * float(elapsed) / 8_000_000.0);
        self.due = at.saturating_add(portion_us);
        let missing = wanted.saturating_sub(self.sent.bytes);
        if missing < portion / 2 {
            return None;
        }
        self.unsent_portions += 1;
        Some(Probe {
            cluster: self.cluster,
            // If sending is far behind, the cluster takes longer rather than getting faster.
            bytes: usize::try_from(missing.min(portion * 3)).unwrap_or(usize::MAX),
        })
    }

    fn outcome(&self) -> Outcome {
        let (sent, received) = (&self.sent, &self.received);
        if f64::from(received.packets) < MIN_RECEIVED * f64::from(sent.packets)
            || float(received.bytes) < MIN_RECEIVED * float(sent.bytes)
        {
            return Outcome::Inconclusive;
        }
        let send_us = sent.last.saturating_sub(sent.first);
        let receive_us = u64::try_from(received.last.saturating_sub(received.first)).unwrap_or(0);
        if send_us == 0 || receive_us == 0 || receive_us > 1_000_000 {
            return Outcome::Inconclusive;
        }
        let sent_bps = float((sent.bytes - sent.last_bytes) * 8_000_000) / float(send_us);
        let received_bps =
            float((received.bytes - received.first_bytes) * 8_000_000) / float(receive_us);
        if received_bps > IMPLAUSIBLE * sent_bps {
            return Outcome::Inconclusive;
        }
        // Packets sent in portions seem faster than the cluster as a whole.
        let sent_bps = sent_bps.min(self.target);
        if received_bps < SATURATED_BELOW * sent_bps {
            Outcome::Saturated(UTILISATION * received_bps)
        } else {
            Outcome::Carried(received_bps.min(sent_bps))
        }
    }
}
