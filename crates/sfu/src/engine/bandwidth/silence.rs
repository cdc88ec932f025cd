//! Packets go out and nothing is heard of them: the way is cut, or the queue is endless.

/// So long without feedback is an outage, in µs.
const OUTAGE_US: u64 = 1_000_000;
/// And for each further time like this, less is sent, in µs.
const STEP_US: u64 = 500_000;
/// So many packets without an answer make a step. Fewer may just have been lost, with nothing
/// after them to be answered.
const STEP_PACKETS: u64 = 5;

/// Notices that feedback stays away.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Packets that feedback has not spoken of.
    unanswered: u64,
    /// How many of them the last step has counted.
    counted: u64,
    /// When feedback came last.
    heard: u64,
    /// When the next step may be.
    next: u64,
    /// What was sent per second before the outage. None while there is none.
    before: Option<f64>,
    /// Losses among what was sent up to then are the outage's.
    excused_until: Option<u64>,
}

impl Silence {
    /// A packet goes out.
    pub(super) fn sent(&mut self, at: u64) {
        if self.unanswered == 0 {
            self.next = self.next.max(at.saturating_add(OUTAGE_US));
        }
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// Feedback has come; `unanswered` packets are later than what it speaks of.
    pub(super) fn heard(&mut self, at: u64, unanswered: u64) {
        self.unanswered = unanswered;
        self.counted = 0;
        self.heard = at;
        self.next = at.saturating_add(OUTAGE_US);
    }

    /// Whether it is time to send less; `bps` is what is sent now.
    pub(super) fn step(&mut self, at: u64, bps: f64) -> bool {
        if self.next_step().is_none_or(|next| at < next) {
            return false;
        }
        self.counted = self.unanswered;
        self.next = at.saturating_add(STEP_US);
        self.before.get_or_insert(bps);
        true
    }

    /// When [`Self::step`] is to be asked. None as long as too little was sent.
    pub(super) fn next_step(&self) -> Option<u64> {
        (self.unanswered >= self.counted.saturating_add(STEP_PACKETS)).then_some(self.next)
    }

    /// From when on nothing is heard because next to nothing is sent. None if much is unanswered.
    pub(super) fn quiet_from(&self) -> Option<u64> {
        (self.unanswered < STEP_PACKETS).then_some(self.heard.saturating_add(OUTAGE_US))
    }

    /// Whether nothing is heard.
    pub(super) const fn is_outage(&self) -> bool {
        self.before.is_some()
    }

    /// Something has arrived again. Returns what was sent per second before the outage, or zero if
    /// there was none.
    pub(super) fn resume(&mut self, at: u64) -> f64 {
        self.excused_until = Some(at);
        self.before.take().unwrap_or(0.0)
    }

    /// Whether the fate of what was sent then is the outage's, and no sign of too much.
    pub(super) fn excuses(&self, sent: u64) -> bool {
        self.is_outage() || self.excused_until.is_some_and(|until| sent < until)
    }
}
