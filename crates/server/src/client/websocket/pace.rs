//! How often a socket may say what is not for the room: texts and pings.

use std::time::Duration;

use tokio::time::Instant;

/// How many at once.
const BURST: u32 = 20;
/// One more after each of these. Clients send one every 12 to 15 seconds.
const PERIOD: Duration = Duration::from_millis(500);

/// What a socket has said lately: the generic cell rate algorithm.
#[derive(Debug)]
pub(super) struct ControlMessageRate {
    /// When everything that was said is made up for.
    settled: Instant,
}

impl ControlMessageRate {
    pub(super) fn nothing() -> Self {
        Self {
            settled: Instant::now(),
        }
    }

    /// Something was said. When the socket may be read again, if not at once.
    pub(super) fn one_more(&mut self, now: Instant) -> Option<Instant> {
        self.settled = self.settled.max(now) + PERIOD;
        let again = self.settled.checked_sub(PERIOD * BURST)?;
        (again > now).then_some(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_one_in_each_period() {
        let mut said = ControlMessageRate::nothing();
        let mut now = said.settled;
        assert!((0..BURST).all(|_| said.one_more(now).is_none()));
        for _ in 0..10 {
            let again = said.one_more(now).expect("it is too much");
            assert_eq!(again, now + PERIOD);
            now = again;
        }
        now += PERIOD * BURST * 2;
        assert!((0..BURST).all(|_| said.one_more(now).is_none()));
        assert!(said.one_more(now).is_some());
    }
}
