//! The only source of time and IDs. Other modules receive the time as an argument.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use uuid::Uuid;

/// How long a forward step of the wall clock must last before [`Clock::settled_ms`] follows it.
pub(crate) const SETTLES_MS: i64 = 24 * 60 * 60 * 1000;
/// Smallest change that counts as a step of the wall clock: clocks always drift a little.
const STEP_MS: i64 = 30_000;

/// Two clocks: the wall clock, which an operator or NTP may set forward or back, and a monotonic
/// one (docs/adr/0014-two-times.md). Tests can advance both and set the wall clock.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    /// How far tests have advanced both clocks.
    ahead_ms: AtomicI64,
    /// How far tests have set the wall clock.
    set_ms: AtomicI64,
    made: AtomicU32,
    /// Latest time of the wall clock since it was last set back.
    latest_ms: AtomicI64,
    set_back: AtomicU32,
    settled: Mutex<Settled>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            ahead_ms: AtomicI64::default(),
            set_ms: AtomicI64::default(),
            made: AtomicU32::default(),
            latest_ms: AtomicI64::default(),
            set_back: AtomicU32::default(),
            settled: Mutex::default(),
        }
    }
}

impl Clock {
    /// The time of the wall clock, in Unix milliseconds. Used for times that are stored, sent or
    /// signed, and for expiry dates.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now_ms(&self) -> i64 {
        let set_ms = self.set_ms.load(Ordering::Relaxed);
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        let now_ms = Timestamp::now().as_millisecond() + ahead_ms + set_ms;
        if self.latest_ms.fetch_max(now_ms, Ordering::Relaxed) > now_ms + STEP_MS {
            self.latest_ms.store(now_ms, Ordering::Relaxed);
            self.set_back.fetch_add(1, Ordering::Relaxed);
        }
        now_ms
    }

    /// How often the wall clock was set back. While this does not change, new IDs sort after older
    /// ones.
    pub fn set_back(&self) -> u32 {
        self.set_back.load(Ordering::Relaxed)
    }

    /// Milliseconds since the process started. Used for limits, timers and durations. It never goes
    /// back or jumps, and stops while the machine is suspended.
    pub fn monotonic_ms(&self) -> i64 {
        let passed_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        passed_ms.saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// The time used to decide which records are old enough to remove, in Unix milliseconds. It is
    /// the time of the wall clock, but ignores a step forward until it has lasted for a day:
    /// records that are removed because of a wrong clock are lost even if the clock is corrected.
    pub fn settled_ms(&self) -> i64 {
        let passed_ms = self.monotonic_ms();
        let offset_ms = self.now_ms().saturating_sub(passed_ms);
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        passed_ms.saturating_add(settled.least(passed_ms, offset_ms))
    }

    /// Advances both clocks, for tests.
    pub fn advance_ms(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets the wall clock forward or back, for tests.
    pub fn step_ms(&self, ms: i64) {
        self.set_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Returns a random ID, which reveals nothing.
    #[expect(clippy::disallowed_methods, reason = "this is where ids come from")]
    pub fn random_id(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// Returns a new time-ordered ID (UUID version 7, RFC 9562) for the given time. IDs of one
    /// process with the same millisecond sort in the order of creation: the time is followed by a
    /// 32-bit counter and 42 random bits.
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

/// The smallest offset of the wall clock from the monotonic clock in the current and in the
/// previous period of [`SETTLES_MS`].
#[derive(Debug, Default)]
struct Settled {
    period: i64,
    present_ms: Option<i64>,
    before_ms: Option<i64>,
}

impl Settled {
    fn least(&mut self, passed_ms: i64, offset_ms: i64) -> i64 {
        let period = passed_ms / SETTLES_MS;
        if period != self.period {
            let follows = period == self.period + 1;
            self.before_ms = self.present_ms.take().filter(|_| follows);
            self.period = period;
        }
        let present_ms = self.present_ms.map_or(offset_ms, |ms| ms.min(offset_ms));
        self.present_ms = Some(present_ms);
        let least_ms = self.before_ms.map_or(present_ms, |ms| ms.min(present_ms));
        if offset_ms - least_ms < STEP_MS {
            offset_ms
        } else {
            least_ms
        }
    }
}

/// Returns the Unix milliseconds of a version 7 ID.
pub fn id_ms(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits fit")
}

/// Returns the smallest version 7 ID of a millisecond, to select IDs by time range.
pub fn first_id_at(ms: i64) -> Uuid {
    Uuid::from_u128(
        u128::from(u64::try_from(ms.clamp(0, (1 << 48) - 1)).expect("not negative")) << 80,
    )
}

/// Formats a time for the API: RFC 3339 in UTC with milliseconds and `Z`.
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

    #[test]
    fn setting_the_wall_clock_does_not_change_the_monotonic_one() {
        let clock = Clock::default();
        let (now, passed) = (clock.now_ms(), clock.monotonic_ms());
        clock.step_ms(-3_600_000);
        assert!(clock.now_ms() < now && clock.monotonic_ms() >= passed);
        clock.advance_ms(7_200_000);
        assert!(clock.now_ms() > now && clock.monotonic_ms() >= passed + 7_200_000);
    }

    #[test]
    fn a_step_forward_counts_after_it_has_lasted_for_a_day() {
        const HOUR: i64 = SETTLES_MS / 24;
        let mut settled = Settled::default();
        assert_eq!(settled.least(0, 1_000), 1_000);
        // A small change is not a step.
        assert_eq!(settled.least(1, 1_500), 1_500);
        // A short glitch is ignored.
        assert_eq!(settled.least(HOUR, 400 * SETTLES_MS), 1_000);
        assert_eq!(settled.least(2 * HOUR, 1_000), 1_000);
        // A lasting step counts after one to two days.
        for hour in 3..=47 {
            assert_eq!(settled.least(hour * HOUR, HOUR), 1_000, "{hour}");
        }
        assert_eq!(settled.least(48 * HOUR, HOUR), HOUR);
        // A step back counts immediately.
        assert_eq!(settled.least(49 * HOUR, 500), 500);
        // A gap of days between calls.
        assert_eq!(settled.least(300 * HOUR, HOUR), HOUR);
    }

    #[test]
    fn steps_back_are_counted() {
        let clock = Clock::default();
        clock.now_ms();
        for (step_ms, times) in [(3_600_000, 0), (-1_000, 0), (-3_600_000, 1), (-60_000, 2)] {
            clock.step_ms(step_ms);
            clock.now_ms();
            assert_eq!(clock.set_back(), times, "{step_ms}");
        }
    }
}
