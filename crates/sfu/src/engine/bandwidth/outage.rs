//! Detection of an outage: packets are sent, but no feedback arrives, because the path is down or
//! the queue is very long.

/// Time without feedback that counts as an outage, in µs.
const OUTAGE_US: u64 = 1_000_000;
/// Interval between further decreases during an outage, in µs.
const DECREASE_INTERVAL_US: u64 = 500_000;
/// Minimum number of unacknowledged packets for a decrease. Fewer may simply be lost, without a
/// later packet that would trigger feedback.
const MIN_PACKETS: u64 = 5;

/// Detects missing feedback.
#[derive(Debug, Default)]
pub(super) struct OutageDetector {
    /// Number of packets after the last one that feedback has covered.
    unacknowledged: u64,
    /// The value of `unacknowledged` at the last decrease.
    counted: u64,
    /// Time of the last feedback.
    last_feedback: u64,
    /// Earliest time of the next decrease.
    next: u64,
    /// The rate before the outage, in bits per second. `None` while there is none.
    before: Option<f64>,
    /// Losses among packets sent before this time are attributed to the outage.
    excused_until: Option<u64>,
}

impl OutageDetector {
    /// Records a sent packet.
    pub(super) fn sent(&mut self, at: u64) {
        if self.unacknowledged == 0 {
            self.next = self.next.max(at.saturating_add(OUTAGE_US));
        }
        self.unacknowledged = self.unacknowledged.saturating_add(1);
    }

    /// Records feedback, after which `unacknowledged` packets are not covered.
    pub(super) fn feedback(&mut self, at: u64, unacknowledged: u64) {
        self.unacknowledged = unacknowledged;
        self.counted = 0;
        self.last_feedback = at;
        self.next = at.saturating_add(OUTAGE_US);
    }

    /// Returns whether the rate must be lowered now; `bps` is the current rate.
    pub(super) fn step(&mut self, at: u64, bps: f64) -> bool {
        if self.next_step().is_none_or(|next| at < next) {
            return false;
        }
        self.counted = self.unacknowledged;
        self.next = at.saturating_add(DECREASE_INTERVAL_US);
        self.before.get_or_insert(bps);
        true
    }

    /// Returns when to call [`Self::step`], or `None` while too little was sent.
    pub(super) fn next_step(&self) -> Option<u64> {
        (self.unacknowledged >= self.counted.saturating_add(MIN_PACKETS)).then_some(self.next)
    }

    /// Returns the time after which missing feedback means only that almost nothing was sent, or
    /// `None` if many packets are unacknowledged.
    pub(super) fn quiet_from(&self) -> Option<u64> {
        (self.unacknowledged < MIN_PACKETS).then_some(self.last_feedback.saturating_add(OUTAGE_US))
    }

    /// Whether there is an outage.
    pub(super) const fn is_outage(&self) -> bool {
        self.before.is_some()
    }

    /// Ends the outage, and returns the rate before it in bits per second, or zero if there was
    /// none.
    pub(super) fn resume(&mut self, at: u64) -> f64 {
        self.excused_until = Some(at);
        self.before.take().unwrap_or(0.0)
    }

    /// Whether the loss of a packet sent at this time is attributed to an outage, and not to
    /// congestion.
    pub(super) fn excuses(&self, sent: u64) -> bool {
        self.is_outage() || self.excused_until.is_some_and(|until| sent < until)
    }
}
