//! The two times of a room (docs/adr/0014-two-times.md).
//!
//! What is recorded, and what clients are told, has the time of the clock. An operator or NTP may set
//! that clock forward or back. How long something lasts is measured on a time that nobody sets.

use uuid::Uuid;

use super::Turn;

/// A time that only goes forward, one second in each second, from a start that means nothing. Limits,
/// timers and durations go by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(i64);

impl Monotonic {
    /// So many milliseconds after the start.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the start.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn after(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// So many milliseconds earlier.
    #[must_use]
    pub const fn before(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// The milliseconds between an earlier time and this one.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time and the source of ids, for one input.
pub struct At<'a> {
    /// What the clock shows, Unix milliseconds. It may be less than the last time.
    pub now_ms: i64,
    /// The same moment on a time that nobody sets. It is never less than the last time.
    pub monotonic: Monotonic,
    /// Draws an id of a time in Unix milliseconds (UUID version 7). Of two ids of one time, the one
    /// that was drawn later is the larger one.
    pub ids: &'a mut dyn FnMut(i64) -> Uuid,
}

/// One moment on both times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The time of the records, Unix milliseconds.
    pub(crate) now_ms: i64,
    pub(crate) monotonic: Monotonic,
}

impl Moment {
    /// The later one on each of the two times.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            now_ms: self.now_ms.max(other.now_ms),
            monotonic: self.monotonic.max(other.monotonic),
        }
    }

    /// A moment that the records name, as seen from this one. It is not in the future, and at most
    /// `longest_ms` ago: the clock may have been set in between.
    pub(crate) fn past(self, now_ms: i64, longest_ms: i64) -> Self {
        let ago_ms = self.now_ms.saturating_sub(now_ms).clamp(0, longest_ms);
        Self {
            now_ms,
            monotonic: self.monotonic.before(ago_ms),
        }
    }
}

/// The time of an id (UUID version 7), Unix milliseconds.
pub(crate) fn time_of(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits")
}

/// The latest time and the latest id that a room has given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latest {
    pub(super) now_ms: i64,
    pub(super) id: Uuid,
}

impl Turn<'_> {
    /// This moment on both times.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now_ms: self.now_ms,
            monotonic: self.monotonic,
        }
    }

    /// What comes from now on in the room is not earlier than this.
    pub(crate) fn not_before(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A new id, greater than every other that the room has drawn.
    pub(crate) fn id(&mut self) -> Uuid {
        let mut id = (self.ids)(self.now_ms);
        if id <= self.last_id {
            // The source has begun to count anew, or the clock is behind the last id.
            self.now_ms = self.now_ms.max(time_of(self.last_id)) + 1;
            id = (self.ids)(self.now_ms);
        }
        self.last_id = id;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_the_records_is_not_in_the_future_and_not_too_long_ago() {
        let now = Moment {
            now_ms: 1_000_000,
            monotonic: Monotonic::from_ms(50),
        };
        let ago = |now_ms| now.monotonic.since(now.past(now_ms, 45_000).monotonic);
        assert_eq!(ago(999_000), 1_000);
        assert_eq!(ago(0), 45_000);
        assert_eq!(ago(i64::MIN), 45_000);
        assert_eq!(ago(2_000_000), 0);
        assert_eq!(ago(i64::MAX), 0);
    }

    #[test]
    fn ids_grow_though_their_source_counts_anew() {
        let mut count = 10_u128;
        let mut ids = |ms: i64| {
            count = count.checked_sub(1).unwrap_or(10);
            Uuid::from_u128(u128::try_from(ms).unwrap() << 80 | count)
        };
        let mut turn = Turn {
            now_ms: 7,
            monotonic: Monotonic::default(),
            last_id: Uuid::nil(),
            ids: &mut ids,
            out: &mut Vec::new(),
        };
        let drawn: Vec<Uuid> = (0..100).map(|_| turn.id()).collect();
        assert!(drawn.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn ids_grow_though_the_last_one_is_of_a_later_time() {
        let mut ids = |ms: i64| Uuid::from_u128(u128::try_from(ms).unwrap() << 80);
        let last_id = ids(1_000);
        let mut turn = Turn {
            now_ms: 7,
            monotonic: Monotonic::default(),
            last_id,
            ids: &mut ids,
            out: &mut Vec::new(),
        };
        assert!(turn.id() > last_id);
        assert_eq!(turn.now_ms, 1_001);
    }
}
