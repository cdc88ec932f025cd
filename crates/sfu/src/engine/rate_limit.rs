//! Rate limits for incoming streams. Packets are forwarded to all subscribers, audio even beyond
//! their bandwidth estimate, so an unlimited publisher would take bandwidth from all others.

use std::time::{Duration, Instant};

/// Length of the counting window.
const WINDOW: Duration = Duration::from_secs(1);

/// Minimum interval between forwarded sender reports. Browsers send one per second, a few at most.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// The limits for a kind of stream, per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateLimit {
    packets: u32,
    bytes: usize,
}

/// Opus has at most 400 packets per second and 510 kbit/s (RFC 6716, 2.1); redundancy doubles the
/// bit rate.
pub(super) const AUDIO: RateLimit = RateLimit {
    packets: 500,
    bytes: 130_000,
};

/// 50 Mbit/s, which is also the upper bound of the bandwidth estimate of a subscriber.
pub(super) const VIDEO: RateLimit = RateLimit {
    packets: 6_000,
    bytes: 6_250_000,
};

/// Counts the recent packets and bytes of a stream.
#[derive(Debug)]
pub(super) struct RateLimiter {
    limit: RateLimit,
    window_start: Option<Instant>,
    packets: u32,
    bytes: usize,
    last_report: Option<Instant>,
}

impl RateLimiter {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            window_start: None,
            packets: 0,
            bytes: 0,
            last_report: None,
        }
    }

    /// Counts a packet, and returns whether it may be forwarded.
    pub(super) fn allows(&mut self, now: Instant, bytes: usize) -> bool {
        let window_start = self.window_start.unwrap_or(now);
        if self.window_start.is_none() || now.saturating_duration_since(window_start) >= WINDOW {
            self.window_start = Some(now);
            (self.packets, self.bytes) = (0, 0);
        }
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.packets <= self.limit.packets && self.bytes <= self.limit.bytes
    }

    /// Whether a sender report may be forwarded now.
    pub(super) fn allows_report(&mut self, now: Instant) -> bool {
        let last = self.last_report;
        let allowed =
            last.is_none_or(|last| now.saturating_duration_since(last) >= MIN_REPORT_INTERVAL);
        if allowed {
            self.last_report = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_bytes_per_second_are_limited() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(AUDIO);
        let taken = (0..10_000_u32).filter(|number| {
            let now = start + Duration::from_micros(100) * *number;
            limiter.allows(now, 100)
        });
        assert_eq!(taken.count(), 500);
        let later = start + WINDOW;
        let taken = (0..100).filter(|_| limiter.allows(later, 1_300)).count();
        assert_eq!(taken, 100);
        assert!(!limiter.allows(later, 1_300));
        assert!(limiter.allows(later + WINDOW, 1_300));
    }

    #[test]
    fn sender_reports_are_rate_limited() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(AUDIO);
        let passed = (0..50).filter(|_| limiter.allows_report(start)).count();
        assert_eq!(passed, 1);
        assert!(limiter.allows_report(start + MIN_REPORT_INTERVAL));
    }
}
