//! Reacts to packet loss, whether it comes from a full queue or from a lossy network.

use super::float;
use super::throughput::Flow;

/// Minimum length of a window, in µs.
const WINDOW_US: u64 = 250_000;
/// Minimum number of packets in a window.
const WINDOW_PACKETS: u32 = 20;
/// Number of windows that are evaluated together.
const WINDOWS: usize = 8;
/// Fraction of lost packets above which the rate is lowered.
const HEAVY_LOSS: f64 = 0.10;
/// Fraction of lost packets above which the rate does not rise.
const NOTABLE_LOSS: f64 = 0.02;
/// How long to wait for the effect of a lower rate, in µs, in addition to the round trip.
const SETTLING_US: u64 = 300_000;
/// Loss is inherent to the network if more than this part of it remains after the send rate has
/// dropped below this part.
const PERSISTENT: f64 = 0.75;
/// Maximum loss that is accepted as inherent.
const MAX_INHERENT: f64 = 0.4;

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    arrived: u32,
    /// Negative when more packets arrived after being reported as lost than were newly lost.
    lost: i32,
}

/// Measures the fraction of lost packets, and decides when to lower the rate.
#[derive(Debug, Default)]
pub(super) struct LossMonitor {
    open: Window,
    /// `None` before the first packet.
    opened_at: Option<u64>,
    closed: [Window; WINDOWS],
    next_window: usize,
    /// Fraction of lost packets over all windows.
    fraction: f64,
    packets: u32,
    /// Fraction of packets that the network loses regardless of the send rate.
    inherent: f64,
    lowered_at: u64,
    /// Send rate and fraction of lost packets when the rate was first lowered.
    reference: Option<(f64, f64)>,
}

impl LossMonitor {
    /// Records a lost packet.
    pub(super) const fn lost(&mut self) {
        self.open.lost = self.open.lost.saturating_add(1);
    }

    /// Records an arrived packet, which may have been reported as lost before.
    pub(super) const fn arrived(&mut self, was_lost: bool) {
        self.open.arrived = self.open.arrived.saturating_add(1);
        if was_lost {
            self.open.lost = self.open.lost.saturating_sub(1);
        }
    }

    /// Clears the counters, but keeps the inherent loss.
    pub(super) fn clear(&mut self) {
        *self = Self {
            inherent: self.inherent,
            lowered_at: self.lowered_at,
            ..Self::default()
        };
    }

    /// Returns the fraction of lost packets, from 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a fraction needs no more precision"
    )]
    pub(super) const fn fraction(&self) -> f32 {
        self.fraction as f32
    }

    /// Whether the loss calls for a lower rate.
    pub(super) fn is_heavy(&self) -> bool {
        self.excess() > HEAVY_LOSS + self.margin(0.4)
    }

    /// Whether the loss forbids a higher rate.
    pub(super) fn is_notable(&self) -> bool {
        self.excess() > NOTABLE_LOSS + self.margin(0.3)
    }

    /// Called after each feedback. Returns the rate to lower to, in bits per second, if too much is
    /// lost at `rate`.
    pub(super) fn update(
        &mut self,
        at: u64,
        round_trip: u64,
        flow: Option<Flow>,
        rate: f64,
    ) -> Option<f64> {
        let opened_at = *self.opened_at.get_or_insert(at);
        let lost = u32::try_from(self.open.lost).unwrap_or(0);
        if at.saturating_sub(opened_at) < WINDOW_US
            || self.open.arrived.saturating_add(lost) < WINDOW_PACKETS
        {
            return None;
        }
        self.close(at);
        let sent = flow.map_or(rate, |flow| flow.sent);
        self.update_inherent(sent);
        let settling_us = SETTLING_US.saturating_add(round_trip);
        if !self.is_heavy() || at.saturating_sub(self.lowered_at) < settling_us {
            return None;
        }
        let received = flow.map_or(0.0, |flow| flow.received);
        // The receive rate is the capacity. A slightly lower rate lets the queue drain.
        let lowered = 0.95 * received.max(rate * (1.0 - self.excess()));
        self.lowered_at = at;
        if self.reference.is_none() {
            self.reference = Some((sent, self.fraction));
        }
        self.closed = [Window::default(); WINDOWS];
        Some(lowered)
    }

    fn excess(&self) -> f64 {
        self.fraction - self.inherent
    }

    /// Returns a margin for the noise of small samples.
    fn margin(&self, width: f64) -> f64 {
        width / f64::from(self.packets.max(1)).sqrt()
    }

    fn close(&mut self, at: u64) {
        self.closed[self.next_window % WINDOWS] = self.open;
        self.next_window = (self.next_window + 1) % WINDOWS;
        self.open = Window::default();
        self.opened_at = Some(at);
        let (mut arrived, mut lost) = (0_u64, 0_i64);
        for window in &self.closed {
            arrived += u64::from(window.arrived);
            lost += i64::from(window.lost);
        }
        let lost = u64::try_from(lost).unwrap_or(0);
        let all = arrived + lost;
        self.packets = u32::try_from(all).unwrap_or(u32::MAX);
        self.fraction = float(lost) / float(all.max(1));
    }

    fn update_inherent(&mut self, sent: f64) {
        if self.fraction < self.inherent {
            self.inherent += 0.05 * (self.fraction - self.inherent);
        }
        let Some((rate, fraction)) = self.reference else {
            return;
        };
        if self.fraction < fraction / 2.0 {
            // The lower rate has helped.
            self.reference = None;
        } else if sent < PERSISTENT * rate && self.fraction > PERSISTENT * fraction {
            self.inherent = (0.9 * self.fraction).min(MAX_INHERENT);
            self.reference = None;
        }
    }
}
