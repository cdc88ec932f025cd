//! What was sent again lately.
//!
//! A client that only receives cannot measure the round trip, takes it for short and asks for a
//! packet every 100 ms until it is there. On a path whose queue is longer than that, each answer
//! fills the queue that the first is waiting in, which loses more, which is asked for again.

use std::time::{Duration, Instant};

/// So many packets are remembered: a power of two.
const PLACES: usize = 256;

/// The packets of one consumer that were sent again, by their numbers. Nothing before the first.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    ring: Vec<Option<(u64, Instant)>>,
}

impl Repeated {
    /// Whether the client may still be about to get this packet from the last time it was sent
    /// again.
    pub(super) fn is_on_its_way(&self, now: Instant, index: u64, round_trip: Duration) -> bool {
        self.ring
            .get(place(index))
            .copied()
            .flatten()
            .is_some_and(|(held, at)| {
                held == index && now.saturating_duration_since(at) < round_trip
            })
    }

    /// This packet is sent again.
    pub(super) fn note(&mut self, now: Instant, index: u64) {
        if self.ring.is_empty() {
            self.ring.resize(PLACES, None);
        }
        self.ring[place(index)] = Some((index, now));
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index % PLACES as u64).expect("less than the number of places")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_on_its_way_for_a_round_trip() {
        let (now, trip) = (Instant::now(), Duration::from_millis(300));
        let mut repeated = Repeated::default();
        assert!(!repeated.is_on_its_way(now, 7, trip));
        repeated.note(now, 7);
        assert!(repeated.is_on_its_way(now + trip / 2, 7, trip));
        assert!(!repeated.is_on_its_way(now + trip / 2, 8, trip));
        assert!(!repeated.is_on_its_way(now + trip, 7, trip));
        // One that is not remembered is sent again.
        repeated.note(now, 7 + PLACES as u64);
        assert!(!repeated.is_on_its_way(now, 7, trip));
    }
}
