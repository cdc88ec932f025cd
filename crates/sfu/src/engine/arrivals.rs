//! Arrival times of the packets on one publishing transport, for transport-wide congestion control
//! feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// Maximum number of unreported numbers. A report is due every [`REPORT_PACKETS`] packets, so only
/// a jump in the numbers reaches this.
const MAX_PENDING: usize = 2048;

/// Number of reported numbers that are remembered, for packets that arrive after the report that
/// called them lost: more than the reordering seen on real paths at video rates.
const HISTORY: usize = 128;

/// Maximum delay of a report. The sender's estimate cannot react faster than this.
const REPORT_DELAY: Duration = Duration::from_millis(50);

/// Number of pending packets that makes a report due at once.
const REPORT_PACKETS: usize = 50;

/// The arrivals that have not been reported yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Start of the time scale: the first arrival.
    epoch: Option<Instant>,
    /// The number of the first entry of `times`.
    base: u16,
    /// Arrival time of each number from `base` on, in µs. The first `reported` entries have been
    /// reported and are kept in case one of them arrives late. The last entry is never `None`.
    times: Vec<Option<i64>>,
    reported: usize,
    /// Arrival of the oldest packet that has not been reported.
    waiting_since: Option<Instant>,
}

impl Arrivals {
    /// Creates an empty record.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Records a packet with this transport-wide number. Duplicates are ignored.
    pub(crate) fn packet(&mut self, now: Instant, sequence: u16) {
        let epoch = *self.epoch.get_or_insert(now);
        let micros = now.saturating_duration_since(epoch).as_micros();
        let time = Some(i64::try_from(micros).unwrap_or(i64::MAX));

        let offset = sequence.wrapping_sub(self.base);
        let next = u16::try_from(self.times.len()).unwrap_or(u16::MAX);
        // Distance from the first unknown number; negative if the packet is behind it.
        let ahead = sequence
            .wrapping_sub(self.base.wrapping_add(next))
            .cast_signed();
        if self.times.is_empty() || usize::from(offset) >= self.reported + MAX_PENDING && ahead >= 0
        {
            self.times.clear();
            self.times.push(time);
            self.base = sequence;
            self.reported = 0;
        } else if ahead >= 0 {
            self.times.resize(usize::from(offset), None);
            self.times.push(time);
        } else {
            // Without such an entry, the packet is older than everything remembered.
            let Some(entry) = self.times.get_mut(usize::from(offset)) else {
                return;
            };
            if entry.is_some() {
                return;
            }
            *entry = time;
            // It was reported as lost; the next report begins with it and corrects that.
            self.reported = self.reported.min(usize::from(offset));
        }
        self.waiting_since.get_or_insert(now);
    }

    /// Returns the entries to report: the first sequence number, and for it and each following
    /// number the arrival time in µs on a local clock, or `None` if the packet has not arrived. The
    /// caller passes the number of reported entries to [`Arrivals::consumed`].
    pub(crate) fn pending(&self) -> Option<(u16, &[Option<i64>])> {
        self.waiting_since?;
        let pending = self.times.get(self.reported..)?;
        let skipped = u16::try_from(self.reported).unwrap_or(u16::MAX);
        Some((self.base.wrapping_add(skipped), pending))
    }

    /// Marks the first `n` pending numbers as reported.
    pub(crate) fn consumed(&mut self, n: usize) {
        self.reported = self.reported.saturating_add(n).min(self.times.len());
        if self.reported == self.times.len() {
            self.waiting_since = None;
        }
        // Reported entries are removed only occasionally, so that the cost of moving the rest is
        // amortised.
        if self.reported >= 2 * HISTORY {
            let dropped = self.reported - HISTORY;
            self.times.drain(..dropped);
            self.reported = HISTORY;
            let dropped = u16::try_from(dropped).unwrap_or(u16::MAX);
            self.base = self.base.wrapping_add(dropped);
        }
    }

    /// Returns when the next report is due, or `None` if there is nothing to report.
    pub(crate) fn next_report(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        let is_full = self.times.len() - self.reported >= REPORT_PACKETS;
        Some(if is_full { since } else { since + REPORT_DELAY })
    }
}
