//! When the packets of one publishing transport arrived, which its congestion control wants to
//! hear (transport-wide congestion control, draft-holmer-rmcat-transport-wide-cc-extensions-01).

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// How many numbers wait to be reported at most. Reports are due every [`ENOUGH`] packets, so only
/// a jump in the numbers comes this far.
const PENDING: usize = 2048;

/// How many reported numbers are remembered, for packets that were overtaken by the report that
/// called them lost. Longer than any reordering seen on real paths at video rates.
const HISTORY: usize = 128;

/// How long a packet waits for its report. The sender's estimate cannot react faster than this.
const PATIENCE: Duration = Duration::from_millis(50);

/// A report is made at once when it would tell of this many numbers.
const ENOUGH: usize = 50;

/// The arrivals that have not been reported yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Times are counted from the first arrival.
    epoch: Option<Instant>,
    /// The number of the first entry of `times`.
    base: u16,
    /// Arrival of each number from `base` on, in µs. The first `reported` of them have been
    /// reported and are here in case that one of them comes late. The last is never None.
    times: Vec<Option<i64>>,
    reported: usize,
    /// When the oldest arrival came that has not been reported.
    waiting_since: Option<Instant>,
}

impl Arrivals {
    /// Nothing has arrived.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A packet arrived with this transport-wide number. A number that is here a second time
    /// changes nothing.
    pub(crate) fn packet(&mut self, now: Instant, sequence: u16) {
        let epoch = *self.epoch.get_or_insert(now);
        let micros = now.saturating_duration_since(epoch).as_micros();
        let time = Some(i64::try_from(micros).unwrap_or(i64::MAX));

        let offset = sequence.wrapping_sub(self.base);
        let next = u16::try_from(self.times.len()).unwrap_or(u16::MAX);
        // How far it is ahead of the first number that is unknown; negative is behind.
        let ahead = sequence
            .wrapping_sub(self.base.wrapping_add(next))
            .cast_signed();
        if self.times.is_empty() || usize::from(offset) >= self.reported + PENDING && ahead >= 0 {
            self.times.clear();
            self.times.push(time);
            self.base = sequence;
            self.reported = 0;
        } else if ahead >= 0 {
            self.times.resize(usize::from(offset), None);
            self.times.push(time);
        } else {
            // Older than everything that is remembered, if there is no such entry.
            let Some(entry) = self.times.get_mut(usize::from(offset)) else {
                return;
            };
            if entry.is_some() {
                return;
            }
            *entry = time;
            // It was reported as lost. The next report begins with it and says otherwise.
            self.reported = self.reported.min(usize::from(offset));
        }
        self.waiting_since.get_or_insert(now);
    }

    /// What there is to report: the first number, and for it and each that follows the arrival in
    /// µs on a clock of our own; None is a number that has not arrived. Call
    /// [`Arrivals::consumed`] with how many of them were reported.
    pub(crate) fn pending(&self) -> Option<(u16, &[Option<i64>])> {
        self.waiting_since?;
        let pending = self.times.get(self.reported..)?;
        let skipped = u16::try_from(self.reported).unwrap_or(u16::MAX);
        Some((self.base.wrapping_add(skipped), pending))
    }

    /// The first `n` of the pending numbers have been reported.
    pub(crate) fn consumed(&mut self, n: usize) {
        self.reported = self.reported.saturating_add(n).min(self.times.len());
        if self.reported == self.times.len() {
            self.waiting_since = None;
        }
        // Only now and then, so that moving the rest costs nothing per report.
        if self.reported >= 2 * HISTORY {
            let forgotten = self.reported - HISTORY;
            self.times.drain(..forgotten);
            self.reported = HISTORY;
            let forgotten = u16::try_from(forgotten).unwrap_or(u16::MAX);
            self.base = self.base.wrapping_add(forgotten);
        }
    }

    /// When to report. None if there is nothing to report.
    pub(crate) fn next_report(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        let enough = self.times.len() - self.reported >= ENOUGH;
        Some(if enough { since } else { since + PATIENCE })
    }
}
