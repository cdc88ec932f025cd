//! What one stream may send at most. It is forwarded to everybody who receives it, voices even when the
//! path to them bears less, so a client that sends without measure would take it from all others.

use std::time::{Duration, Instant};

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(1);

/// Between two sender reports that are passed on. Browsers send one in a second, at most a few.
const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// The most of a kind of stream in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    packets: u32,
    bytes: usize,
}

/// Opus has 400 packets in a second at most, and 510 kbit/s (RFC 6716, 2.1); with redundancy that is
/// twice as much.
pub(super) const AUDIO: Most = Most {
    packets: 500,
    bytes: 130_000,
};

/// 50 Mbit/s, which is also the most that is believed of the path to a receiver.
pub(super) const VIDEO: Most = Most {
    packets: 6_000,
    bytes: 6_250_000,
};

/// What came of a stream lately.
#[derive(Debug)]
pub(super) struct Pace {
    most: Most,
    since: Option<Instant>,
    packets: u32,
    bytes: usize,
    reported: Option<Instant>,
}

impl Pace {
    pub(super) fn new(most: Most) -> Self {
        Self {
            most,
            since: None,
            packets: 0,
            bytes: 0,
            reported: None,
        }
    }

    /// Whether a packet may be forwarded.
    pub(super) fn takes(&mut self, now: Instant, bytes: usize) -> bool {
        let since = self.since.unwrap_or(now);
        if self.since.is_none() || now.saturating_duration_since(since) >= WINDOW {
            self.since = Some(now);
            (self.packets, self.bytes) = (0, 0);
        }
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.packets <= self.most.packets && self.bytes <= self.most.bytes
    }

    /// Whether a sender report may be passed on.
    pub(super) fn may_report(&mut self, now: Instant) -> bool {
        let last = self.reported;
        let may = last.is_none_or(|last| now.saturating_duration_since(last) >= REPORT_PAUSE);
        if may {
            self.reported = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_so_many_packets_and_bytes_in_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(AUDIO);
        let taken = (0..10_000_u32).filter(|number| {
            let now = start + Duration::from_micros(100) * *number;
            pace.takes(now, 100)
        });
        assert_eq!(taken.count(), 500);
        let later = start + WINDOW;
        let taken = (0..100).filter(|_| pace.takes(later, 1_300)).count();
        assert_eq!(taken, 100);
        assert!(!pace.takes(later, 1_300));
        assert!(pace.takes(later + WINDOW, 1_300));
    }

    #[test]
    fn reports_in_a_row_are_one() {
        let start = Instant::now();
        let mut pace = Pace::new(AUDIO);
        let passed = (0..50).filter(|_| pace.may_report(start)).count();
        assert_eq!(passed, 1);
        assert!(pace.may_report(start + REPORT_PAUSE));
    }
}
