//! The two clocks of a room (docs/adr/0014-two-times.md).
//!
//! Records and messages to clients carry wall-clock time, which an operator or NTP may set forward
//! or back. Durations are measured on a monotonic clock.

use uuid::Uuid;

use super::Step;

/// Monotonic time in milliseconds since an arbitrary start. Used for limits, timers and durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(i64);

impl Monotonic {
    /// The time `ms` milliseconds after the start.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the start.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// The time `ms` milliseconds later.
    #[must_use]
    pub const fn after(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The time `ms` milliseconds earlier.
    #[must_use]
    pub const fn before(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this time.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time and the id generator for one input.
pub struct InputContext<'a> {
    /// Wall-clock time, in Unix milliseconds. May go backwards between inputs.
    pub now_ms: i64,
    /// The time of the input on the monotonic clock. Never goes backwards.
    pub monotonic: Monotonic,
    /// Generates an id (UUID version 7) for a time in Unix milliseconds. Of two ids with the same
    /// time, the later one is greater.
    pub ids: &'a mut dyn FnMut(i64) -> Uuid,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Wall-clock time, in Unix milliseconds.
    pub(crate) now_ms: i64,
    pub(crate) monotonic: Monotonic,
}

impl Moment {
    /// The later time on each clock.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            now_ms: self.now_ms.max(other.now_ms),
            monotonic: self.monotonic.max(other.monotonic),
        }
    }

    /// Converts a recorded time, seen from this moment. The result is not in the future and at most
    /// `longest_ms` ago, because the clock may have been set in between.
    pub(crate) fn past(self, now_ms: i64, longest_ms: i64) -> Self {
        let ago_ms = self.now_ms.saturating_sub(now_ms).clamp(0, longest_ms);
        Self {
            now_ms,
            monotonic: self.monotonic.before(ago_ms),
        }
    }
}

/// The time of an id (UUID version 7), in Unix milliseconds.
pub(crate) fn time_of(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits")
}

/// The latest time and the latest id that the room has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latest {
    pub(super) now_ms: i64,
    pub(super) id: Uuid,
}

impl Step<'_> {
    /// The current moment on both clocks.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now_ms: self.now_ms,
            monotonic: self.monotonic,
        }
    }

    /// Advances the room's wall-clock time to at least `now_ms`.
    pub(crate) fn not_before(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Generates an id greater than all earlier ids of the room.
    pub(crate) fn id(&mut self) -> Uuid {
        let mut id = (self.ids)(self.now_ms);
        if id <= self.last_id {
            // The generator has restarted its counter, or the clock is behind the last id.
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
    fn recorded_times_are_clamped_to_the_recent_past() {
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
    fn ids_increase_when_the_generator_restarts_its_counter() {
        let mut count = 10_u128;
        let mut ids = |ms: i64| {
            count = count.checked_sub(1).unwrap_or(10);
            Uuid::from_u128(u128::try_from(ms).unwrap() << 80 | count)
        };
        let mut step = Step {
            now_ms: 7,
            monotonic: Monotonic::default(),
            last_id: Uuid::nil(),
            ids: &mut ids,
            out: &mut Vec::new(),
        };
        let drawn: Vec<Uuid> = (0..100).map(|_| step.id()).collect();
        assert!(drawn.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn ids_increase_when_the_last_id_has_a_later_time() {
        let mut ids = |ms: i64| Uuid::from_u128(u128::try_from(ms).unwrap() << 80);
        let last_id = ids(1_000);
        let mut step = Step {
            now_ms: 7,
            monotonic: Monotonic::default(),
            last_id,
            ids: &mut ids,
            out: &mut Vec::new(),
        };
        assert!(step.id() > last_id);
        assert_eq!(step.now_ms, 1_001);
    }
}
