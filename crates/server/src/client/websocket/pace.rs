//! Rate limit for the messages that a socket does not forward to its room: texts and pings.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum burst, in messages.
const BURST: u32 = 20;
/// Interval at which one more message is allowed. Clients send one every 12 to 15 seconds.
const PERIOD: Duration = Duration::from_millis(500);

/// Rate limiter for one socket (generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct ControlMessageRate {
    /// Theoretical arrival time of the next message.
    next_arrival: Instant,
}

impl ControlMessageRate {
    pub(super) fn new() -> Self {
        Self {
            next_arrival: Instant::now(),
        }
    }

    /// Counts a message. Returns the time at which the socket may be read again, if it must pause.
    pub(super) fn record(&mut self, now: Instant) -> Option<Instant> {
        self.next_arrival = self.next_arrival.max(now) + PERIOD;
        let resume_at = self.next_arrival.checked_sub(PERIOD * BURST)?;
        (resume_at > now).then_some(resume_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_accepted_and_then_one_message_per_period() {
        let mut rate = ControlMessageRate::new();
        let mut now = rate.next_arrival;
        assert!((0..BURST).all(|_| rate.record(now).is_none()));
        for _ in 0..10 {
            let resume_at = rate.record(now).expect("the burst is used up");
            assert_eq!(resume_at, now + PERIOD);
            now = resume_at;
        }
        now += PERIOD * BURST * 2;
        assert!((0..BURST).all(|_| rate.record(now).is_none()));
        assert!(rate.record(now).is_some());
    }
}
