//! Suppresses duplicate retransmissions.
//!
//! A receive-only client cannot measure the round-trip time, assumes a short one and sends a NACK
//! for a packet every 100 ms until it arrives. On a path whose queue is longer than that, each
//! further retransmission adds to the queue that the first one waits in, which causes more loss and
//! so more NACKs.

use std::time::{Duration, Instant};

/// Number of packets remembered: a power of two.
const CAPACITY: usize = 256;

/// The retransmitted packets of one consumer, as a ring indexed by sequence number. Empty before
/// the first retransmission.
#[derive(Debug, Default)]
pub(super) struct NackThrottle {
    ring: Vec<Option<(u64, Instant)>>,
}

impl NackThrottle {
    /// Whether an earlier retransmission of this packet may still be in flight.
    pub(super) fn is_in_flight(&self, now: Instant, index: u64, round_trip: Duration) -> bool {
        self.ring
            .get(slot_of(index))
            .copied()
            .flatten()
            .is_some_and(|(held, at)| {
                held == index && now.saturating_duration_since(at) < round_trip
            })
    }

    /// Records a retransmission.
    pub(super) fn record(&mut self, now: Instant, index: u64) {
        if self.ring.is_empty() {
            self.ring.resize(CAPACITY, None);
        }
        self.ring[slot_of(index)] = Some((index, now));
    }
}

fn slot_of(index: u64) -> usize {
    usize::try_from(index % CAPACITY as u64).expect("less than the capacity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retransmission_is_in_flight_for_a_round_trip() {
        let (now, trip) = (Instant::now(), Duration::from_millis(300));
        let mut throttle = NackThrottle::default();
        assert!(!throttle.is_in_flight(now, 7, trip));
        throttle.record(now, 7);
        assert!(throttle.is_in_flight(now + trip / 2, 7, trip));
        assert!(!throttle.is_in_flight(now + trip / 2, 8, trip));
        assert!(!throttle.is_in_flight(now + trip, 7, trip));
        // A packet that is no longer remembered is retransmitted again.
        throttle.record(now, 7 + CAPACITY as u64);
        assert!(!throttle.is_in_flight(now, 7, trip));
    }
}
