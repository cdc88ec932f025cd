//! The one source of time and ids. Everything else is told the time.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use jiff::Timestamp;
use uuid::Uuid;

/// Wall-clock time in Unix milliseconds, which tests can move forward.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicI64,
    made: AtomicU32,
}

impl Clock {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now_ms(&self) -> i64 {
        Timestamp::now().as_millisecond() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Moves time forward, for tests of what happens later.
    pub fn advance_ms(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// A random id, which tells nothing.
    #[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
    pub fn random_id(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// A new time-ordered id (UUID version 7, RFC 9562) of a given time. Ids of one process and one
    /// millisecond are in the order in which they were made: after the time comes a counter of 32
    /// bits, and then 42 random ones.
    #[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
    pub fn new_id(&self, now_ms: i64) -> Uuid {
        let ms = u64::try_from(now_ms).unwrap_or_default();
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        let random = Uuid::new_v4().as_u64_pair().1 & ((1 << 42) - 1);
        let (high, low) = (count >> 20, u64::from(count & 0xf_ffff));
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&high.to_be_bytes()[2..]);
        tail[2..].copy_from_slice(&(low << 42 | random).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(ms, &tail).into_uuid()
    }
}

/// The Unix milliseconds that a version 7 id carries.
pub fn id_ms(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits fit")
}

/// The smallest version 7 id of a millisecond, for ranges of time over ids.
pub fn first_id_at(ms: i64) -> Uuid {
    Uuid::from_u128(
        u128::from(u64::try_from(ms.clamp(0, (1 << 48) - 1)).expect("not negative")) << 80,
    )
}

/// A time as the API writes it: RFC 3339, UTC, milliseconds, `Z`.
pub fn rfc3339(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds() {
        assert_eq!(rfc3339(1_764_000_000_005), "2025-11-24T16:00:00.005Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn an_id_carries_the_time_it_was_made_for() {
        let clock = Clock::default();
        let now = clock.now_ms();
        assert_eq!(id_ms(clock.new_id(now)), now);
        assert_eq!(id_ms(clock.new_id(now + 5000)), now + 5000);
        let ids: Vec<Uuid> = (0..3000).map(|_| clock.new_id(now)).collect();
        assert!(ids.is_sorted());
        assert_eq!(
            (ids[0].get_version_num(), ids[0].get_variant()),
            (7, uuid::Variant::RFC4122)
        );
        assert!(first_id_at(now) < clock.new_id(now));
        assert!(clock.new_id(now) < first_id_at(now + 1));
    }
}
