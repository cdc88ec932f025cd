//! Who may upload at a time. Every upload holds memory for its parts, so there is a bounded number of
//! slots. An app, a meeting and a person may have a share of them each; while others wait, uploads
//! that come slowly are cut off, the slowest first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shares::{Share, Shares};

/// How long an upload waits for a slot.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the pace of uploads is compared while somebody waits.
const COMPARE_PERIOD: Duration = Duration::from_millis(500);
/// How far an upload may be behind [`FAIR_PACE`] while others wait.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Bytes a second at which a file has to come, whether others wait or not.
const LEAST_PACE: u64 = 16 * 1024;
/// Bytes a second at which it has to come while others wait.
const FAIR_PACE: u64 = 64 * 1024;

/// Slots, and how many of them each may have; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) all: usize,
    pub(crate) app: usize,
    pub(crate) meeting: usize,
    pub(crate) person: usize,
    /// How far an upload may be behind the pace that is wanted while others wait.
    pub(crate) grace: Duration,
}

/// Whose upload it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) app: Uuid,
    pub(crate) meeting: Uuid,
    pub(crate) person: Uuid,
}

/// What there is no slot of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Person,
    Meeting,
    App,
    All,
}

impl Full {
    /// For metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Person => "person_share",
            Self::Meeting => "meeting_share",
            Self::App => "app_share",
            Self::All => "busy",
        }
    }
}

/// The slots of a server.
pub(crate) struct Slots {
    all: usize,
    grace: Duration,
    apps: Arc<Shares<Uuid>>,
    meetings: Arc<Shares<Uuid>>,
    people: Arc<Shares<Uuid>>,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    uploads: HashMap<u64, (Holder, Arc<Pace>)>,
}

/// A slot, free again when it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    pace: Arc<Pace>,
    shares: Option<[Share<Uuid>; 3]>,
}

impl Slots {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            all: bounds.all,
            grace: bounds.grace,
            apps: Shares::new(bounds.app),
            meetings: Shares::new(bounds.meeting),
            people: Shares::new(bounds.person),
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a slot, as soon as there is one. Those of a person who wait count as theirs.
    ///
    /// # Errors
    /// What there was none of: of a person's share at once, otherwise after some seconds.
    pub(crate) async fn take(self: &Arc<Self>, who: Holder) -> Result<Slot, Full> {
        let mut person = self.people.take(&who.person, 1);
        let patience = Instant::now() + PATIENCE;
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let full = match self.try_take(who, person) {
                Ok(slot) => return Ok(slot),
                Err((full, kept)) => {
                    person = kept;
                    full
                }
            };
            if full == Full::Person || Instant::now() >= patience {
                return Err(full);
            }
            self.cut_slowest(who, full);
            let again = patience.min(Instant::now() + COMPARE_PERIOD);
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    fn try_take(
        self: &Arc<Self>,
        who: Holder,
        person: Option<Share<Uuid>>,
    ) -> Result<Slot, (Full, Option<Share<Uuid>>)> {
        let Some(person) = person else {
            return Err((Full::Person, None));
        };
        let Some(app) = self.apps.take(&who.app, 1) else {
            return Err((Full::App, Some(person)));
        };
        let Some(meeting) = self.meetings.take(&who.meeting, 1) else {
            return Err((Full::Meeting, Some(person)));
        };
        let mut open = self.open();
        if open.uploads.len() >= self.all {
            return Err((Full::All, Some(person)));
        }
        let pace = Arc::new(Pace::new());
        let number = open.next;
        open.next += 1;
        open.uploads.insert(number, (who, Arc::clone(&pace)));
        drop(open);
        Ok(Slot {
            slots: Arc::clone(self),
            number,
            pace,
            shares: Some([app, meeting, person]),
        })
    }

    /// Cuts off the slowest of those that hold what somebody waits for, if it is too slow for that.
    fn cut_slowest(&self, who: Holder, full: Full) {
        let open = self.open();
        let in_the_way = open.uploads.values().filter(|(holder, pace)| {
            !pace.cut.is_cancelled()
                && match full {
                    Full::Person => false,
                    Full::Meeting => holder.meeting == who.meeting,
                    Full::App => holder.app == who.app,
                    Full::All => true,
                }
        });
        let now = Instant::now();
        let slowest = in_the_way
            .map(|(_, pace)| (pace.behind_fair(now), pace))
            .max_by_key(|(behind, _)| *behind);
        if let Some((behind, pace)) = slowest
            && behind > self.grace
        {
            pace.cut.cancel();
        }
    }

    /// How many are taken.
    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        self.open().uploads.len()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// How its upload comes along.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open().uploads.remove(&self.number);
        // Before whoever waits looks again.
        drop(self.shares.take());
        self.slots.freed.notify_waiters();
    }
}

/// How far an upload is behind the paces. Only the time counts in which its sender is waited for, not the
/// storage. Bytes that came faster than needed do not make up for later pauses: otherwise a fast start
/// would allow minutes without a byte.
pub(crate) struct Pace {
    lag: Mutex<Lag>,
    cut: CancellationToken,
}

#[derive(Default)]
struct Lag {
    least: Duration,
    fair: Duration,
    waits_since: Option<Instant>,
}

impl Pace {
    fn new() -> Self {
        Self {
            lag: Mutex::default(),
            cut: CancellationToken::new(),
        }
    }

    /// The next bytes are waited for.
    pub(crate) fn waits(&self) {
        self.lag().waits_since = Some(Instant::now());
    }

    /// So many have come. How far the upload is behind [`LEAST_PACE`].
    pub(crate) fn came(&self, bytes: usize) -> Duration {
        let mut lag = self.lag();
        let waited = lag
            .waits_since
            .take()
            .map_or(Duration::ZERO, |at| at.elapsed());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let behind = |before: Duration, pace| (before + waited).saturating_sub(paced(bytes, pace));
        lag.least = behind(lag.least, LEAST_PACE);
        lag.fair = behind(lag.fair, FAIR_PACE);
        lag.least
    }

    /// Ends when the upload is to end because others wait for its slot.
    pub(crate) async fn cut_off(&self) {
        self.cut.cancelled().await;
    }

    fn behind_fair(&self, now: Instant) -> Duration {
        let lag = self.lag();
        let waits = lag.waits_since;
        lag.fair + waits.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    fn lag(&self) -> MutexGuard<'_, Lag> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long so many bytes may take at a pace.
fn paced(bytes: u64, pace: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(all: usize, app: usize, meeting: usize, person: usize) -> Arc<Slots> {
        Slots::new(Bounds {
            all,
            app,
            meeting,
            person,
            grace: GRACE,
        })
    }

    fn holder(app: u128, meeting: u128, person: u128) -> Holder {
        Holder {
            app: Uuid::from_u128(app),
            meeting: Uuid::from_u128(meeting),
            person: Uuid::from_u128(person),
        }
    }

    fn try_take(slots: &Arc<Slots>, who: Holder) -> Result<Slot, Full> {
        let person = slots.people.take(&who.person, 1);
        slots.try_take(who, person).map_err(|(full, _)| full)
    }

    #[tokio::test]
    async fn nobody_has_more_than_their_share() {
        let slots = slots(8, 6, 4, 2);
        let mut held = Vec::new();
        let mut taken = |app, meeting, person| {
            let taken = try_take(&slots, holder(app, meeting, person));
            taken.map(|slot| held.push(slot))
        };
        for person in [1, 1, 2, 2] {
            assert_eq!(taken(1, 1, person), Ok(()));
        }
        assert_eq!(taken(1, 1, 1), Err(Full::Person));
        assert_eq!(taken(1, 1, 3), Err(Full::Meeting));
        assert_eq!(taken(1, 2, 3), Ok(()));
        assert_eq!(taken(1, 2, 3), Ok(()));
        assert_eq!(taken(1, 2, 4), Err(Full::App));
        assert_eq!(taken(2, 3, 5), Ok(()));
        assert_eq!(taken(2, 3, 5), Ok(()));
        assert_eq!(taken(2, 3, 6), Err(Full::All));
        held.clear();
        assert!(slots.open().uploads.is_empty());
        assert!(try_take(&slots, holder(2, 3, 6)).is_ok());
    }

    #[tokio::test]
    async fn of_slow_ones_the_slowest_is_cut_and_of_fast_ones_none() {
        let slots = slots(3, 0, 0, 0);
        let held: Vec<Slot> = (0..3)
            .map(|person| try_take(&slots, holder(1, 1, person)).unwrap())
            .collect();
        let is_cut = || held.iter().map(|slot| slot.pace.cut.is_cancelled());
        let cut = || slots.cut_slowest(holder(1, 1, 9), Full::All);
        cut();
        assert_eq!(is_cut().filter(|cut| *cut).count(), 0, "within the grace");
        held[1].pace.lag().fair = GRACE * 2;
        held[2].pace.lag().fair = GRACE * 3;
        for wanted in [[false, false, true], [false, true, true]] {
            cut();
            assert!(is_cut().eq(wanted));
        }
        cut();
        assert!(is_cut().eq([false, true, true]));
        held[1].pace.cut_off().await;
    }

    #[tokio::test]
    async fn only_those_in_the_way_are_cut() {
        let slots = slots(3, 0, 1, 0);
        let first = try_take(&slots, holder(1, 1, 1)).unwrap();
        let second = try_take(&slots, holder(1, 2, 2)).unwrap();
        first.pace.lag().fair = GRACE * 2;
        second.pace.lag().fair = GRACE * 3;
        slots.cut_slowest(holder(1, 1, 3), Full::Meeting);
        assert!(first.pace.cut.is_cancelled() && !second.pace.cut.is_cancelled());
    }

    #[tokio::test]
    async fn who_was_fast_has_no_credit() {
        let pace = Pace::new();
        assert_eq!(pace.came(100 << 20), Duration::ZERO);
        assert_eq!(pace.came(0), Duration::ZERO);
        pace.lag().least = Duration::from_secs(3);
        assert_eq!(pace.came(16 * 1024), Duration::from_secs(2));
    }
}
