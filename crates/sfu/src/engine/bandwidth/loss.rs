//! Packets that go missing: a queue that is full, or a network that drops some anyway.

use super::float;
use super::throughput::Flow;

/// A window closes after so long, in µs,
const WINDOW_US: u64 = 250_000;
/// and with so many packets.
const WINDOW_PACKETS: u32 = 20;
/// Judged are so many windows together.
const WINDOWS: usize = 8;
/// More than this is too much.
const HEAVY: f64 = 0.10;
/// More than this is a reason not to send more.
const NOTABLE: f64 = 0.02;
/// After sending less, what that has done is awaited for so long, in µs, and a round trip.
const PATIENCE_US: u64 = 300_000;
/// Loss that stays while a quarter less is sent is none of our making.
const STAYS: f64 = 0.75;
/// But no more than this is taken for that.
const MOST_INHERENT: f64 = 0.4;

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    arrived: u32,
    /// Less than zero when more that had been given up has come than was newly lost.
    lost: i32,
}

/// Which part of what we send is lost, and what to conclude.
#[derive(Debug, Default)]
pub(super) struct Loss {
    open: Window,
    /// None before the first packet.
    opened_at: Option<u64>,
    closed: [Window; WINDOWS],
    turn: usize,
    /// Of all windows together.
    fraction: f64,
    packets: u32,
    /// What this network loses however little is sent.
    inherent: f64,
    lowered_at: u64,
    /// What was sent, and which part was lost, when less was sent because of it.
    reference: Option<(f64, f64)>,
}

impl Loss {
    /// A packet is missing.
    pub(super) const fn lost(&mut self) {
        self.open.lost = self.open.lost.saturating_add(1);
    }

    /// A packet has arrived, perhaps after it was called missing.
    pub(super) const fn arrived(&mut self, was_lost: bool) {
        self.open.arrived = self.open.arrived.saturating_add(1);
        if was_lost {
            self.open.lost = self.open.lost.saturating_sub(1);
        }
    }

    /// Forgets what was counted, not what was learnt.
    pub(super) fn forget(&mut self) {
        *self = Self {
            inherent: self.inherent,
            lowered_at: self.lowered_at,
            ..Self::default()
        };
    }

    /// From 0 to 1.
    #[expect(clippy::cast_possible_truncation, reason = "a fraction needs no more")]
    pub(super) const fn fraction(&self) -> f32 {
        self.fraction as f32
    }

    /// Whether to send less because of it.
    pub(super) fn is_heavy(&self) -> bool {
        self.excess() > HEAVY + self.doubt(0.4)
    }

    /// Whether not to send more because of it.
    pub(super) fn is_notable(&self) -> bool {
        self.excess() > NOTABLE + self.doubt(0.3)
    }

    /// After each feedback. The rate to go down to, in bits per second, if too much is lost at
    /// `rate`.
    pub(super) fn judge(
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
        self.learn(sent);
        let patience = PATIENCE_US.saturating_add(round_trip);
        if !self.is_heavy() || at.saturating_sub(self.lowered_at) < patience {
            return None;
        }
        let received = flow.map_or(0.0, |flow| flow.received);
        // What arrives is what there is room for, and a little less lets the queue empty.
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

    /// Among few packets, chance is a large part.
    fn doubt(&self, width: f64) -> f64 {
        width / f64::from(self.packets.max(1)).sqrt()
    }

    fn close(&mut self, at: u64) {
        self.closed[self.turn % WINDOWS] = self.open;
        self.turn = (self.turn + 1) % WINDOWS;
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

    fn learn(&mut self, sent: f64) {
        if self.fraction < self.inherent {
            self.inherent += 0.05 * (self.fraction - self.inherent);
        }
        let Some((rate, fraction)) = self.reference else {
            return;
        };
        if self.fraction < fraction / 2.0 {
            // Sending less has helped.
            self.reference = None;
        } else if sent < STAYS * rate && self.fraction > STAYS * fraction {
            self.inherent = (0.9 * self.fraction).min(MOST_INHERENT);
            self.reference = None;
        }
    }
}
