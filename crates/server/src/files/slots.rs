//! Limits concurrent uploads. Every upload holds memory for its parts, so the number of slots is
//! limited, and so is the share of each app, meeting and participant. While other uploads wait for
//! a slot, slow ones are aborted, the slowest first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shares::{Share, Shares};

/// How long an upload waits for a slot.
const SLOT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the paces of uploads are compared while an upload waits.
const COMPARE_PERIOD: Duration = Duration::from_millis(500);
/// How far an upload may lag behind [`FAIR_PACE`] while others wait.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Minimum pace of an upload, in bytes per second.
const MIN_PACE: u64 = 16 * 1024;
/// Minimum pace of an upload while others wait, in bytes per second.
const FAIR_PACE: u64 = 64 * 1024;

/// The number of slots in total, and for each app, meeting and participant; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotLimits {
    pub(crate) all: usize,
    pub(crate) app: usize,
    pub(crate) meeting: usize,
    pub(crate) participant: usize,
    /// How far an upload may lag behind [`FAIR_PACE`] while others wait.
    pub(crate) grace: Duration,
}

/// The owner of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) app: Uuid,
    pub(crate) meeting: Uuid,
    pub(crate) participant: Uuid,
}

/// The limit that prevents an upload from getting a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Participant,
    Meeting,
    App,
    All,
}

impl Full {
    /// The reason in metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Participant => "person_share",
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
    participants: Arc<Shares<Uuid>>,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    uploads: HashMap<u64, (Holder, Arc<Pace>)>,
}

/// A slot, which is free again when this is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    pace: Arc<Pace>,
    shares: Option<[Share<Uuid>; 3]>,
}

impl Slots {
    pub(crate) fn new(limits: SlotLimits) -> Arc<Self> {
        Arc::new(Self {
            all: limits.all,
            grace: limits.grace,
            apps: Shares::new(limits.app),
            meetings: Shares::new(limits.meeting),
            participants: Shares::new(limits.participant),
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits for a free slot. A waiting upload counts towards the participant's share.
    ///
    /// # Errors
    /// The limit that was reached: for the participant's share immediately, otherwise after
    /// [`SLOT_TIMEOUT`].
    pub(crate) async fn acquire(self: &Arc<Self>, holder: Holder) -> Result<Slot, Full> {
        let mut participant = self.participants.acquire(&holder.participant, 1);
        let deadline = Instant::now() + SLOT_TIMEOUT;
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let full = match self.try_acquire(holder, participant) {
                Ok(slot) => return Ok(slot),
                Err((full, kept)) => {
                    participant = kept;
                    full
                }
            };
            if full == Full::Participant || Instant::now() >= deadline {
                return Err(full);
            }
            self.abort_slowest(holder, full);
            let next_check = deadline.min(Instant::now() + COMPARE_PERIOD);
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(next_check) => {}
            }
        }
    }

    fn try_acquire(
        self: &Arc<Self>,
        holder: Holder,
        participant: Option<Share<Uuid>>,
    ) -> Result<Slot, (Full, Option<Share<Uuid>>)> {
        let Some(participant) = participant else {
            return Err((Full::Participant, None));
        };
        let Some(app) = self.apps.acquire(&holder.app, 1) else {
            return Err((Full::App, Some(participant)));
        };
        let Some(meeting) = self.meetings.acquire(&holder.meeting, 1) else {
            return Err((Full::Meeting, Some(participant)));
        };
        let mut open = self.open();
        if open.uploads.len() >= self.all {
            return Err((Full::All, Some(participant)));
        }
        let pace = Arc::new(Pace::new());
        let number = open.next;
        open.next += 1;
        open.uploads.insert(number, (holder, Arc::clone(&pace)));
        drop(open);
        Ok(Slot {
            slots: Arc::clone(self),
            number,
            pace,
            shares: Some([app, meeting, participant]),
        })
    }

    /// Aborts the slowest of the uploads that hold a slot `holder` could use, if it lags too far
    /// behind.
    fn abort_slowest(&self, holder: Holder, full: Full) {
        let open = self.open();
        let candidates = open.uploads.values().filter(|(candidate, pace)| {
            !pace.abort.is_cancelled()
                && match full {
                    Full::Participant => false,
                    Full::Meeting => candidate.meeting == holder.meeting,
                    Full::App => candidate.app == holder.app,
                    Full::All => true,
                }
        });
        let now = Instant::now();
        let slowest = candidates
            .map(|(_, pace)| (pace.behind_fair(now), pace))
            .max_by_key(|(behind, _)| *behind);
        if let Some((behind, pace)) = slowest
            && behind > self.grace
        {
            pace.abort.cancel();
        }
    }

    /// Number of slots in use.
    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        self.open().uploads.len()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The pace of the upload in this slot.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open().uploads.remove(&self.number);
        // Released before the waiting uploads are notified.
        drop(self.shares.take());
        self.slots.freed.notify_waiters();
    }
}

/// How far an upload lags behind the minimum paces. Only the time spent waiting for the sender
/// counts, not the time spent on the storage. Bytes received early do not make up for later pauses:
/// otherwise a fast start would allow minutes without a byte.
pub(crate) struct Pace {
    lag: Mutex<Lag>,
    abort: CancellationToken,
}

#[derive(Default)]
struct Lag {
    min: Duration,
    fair: Duration,
    waits_since: Option<Instant>,
}

impl Pace {
    fn new() -> Self {
        Self {
            lag: Mutex::default(),
            abort: CancellationToken::new(),
        }
    }

    /// Starts to wait for the next bytes.
    pub(crate) fn start_waiting(&self) {
        self.lag().waits_since = Some(Instant::now());
    }

    /// Records received bytes. Returns how far the upload lags behind [`MIN_PACE`].
    pub(crate) fn received(&self, bytes: usize) -> Duration {
        let mut lag = self.lag();
        let waited = lag
            .waits_since
            .take()
            .map_or(Duration::ZERO, |at| at.elapsed());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let behind = |before: Duration, pace| (before + waited).saturating_sub(paced(bytes, pace));
        lag.min = behind(lag.min, MIN_PACE);
        lag.fair = behind(lag.fair, FAIR_PACE);
        lag.min
    }

    /// Completes when the upload must be aborted because others wait for its slot.
    pub(crate) async fn aborted(&self) {
        self.abort.cancelled().await;
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

/// Returns how long `bytes` take at `pace` bytes per second.
fn paced(bytes: u64, pace: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(all: usize, app: usize, meeting: usize, participant: usize) -> Arc<Slots> {
        Slots::new(SlotLimits {
            all,
            app,
            meeting,
            participant,
            grace: GRACE,
        })
    }

    fn holder(app: u128, meeting: u128, participant: u128) -> Holder {
        Holder {
            app: Uuid::from_u128(app),
            meeting: Uuid::from_u128(meeting),
            participant: Uuid::from_u128(participant),
        }
    }

    fn try_acquire(slots: &Arc<Slots>, holder: Holder) -> Result<Slot, Full> {
        let participant = slots.participants.acquire(&holder.participant, 1);
        slots
            .try_acquire(holder, participant)
            .map_err(|(full, _)| full)
    }

    #[tokio::test]
    async fn shares_cannot_be_exceeded() {
        let slots = slots(8, 6, 4, 2);
        let mut held = Vec::new();
        let mut taken = |app, meeting, participant| {
            let taken = try_acquire(&slots, holder(app, meeting, participant));
            taken.map(|slot| held.push(slot))
        };
        for participant in [1, 1, 2, 2] {
            assert_eq!(taken(1, 1, participant), Ok(()));
        }
        assert_eq!(taken(1, 1, 1), Err(Full::Participant));
        assert_eq!(taken(1, 1, 3), Err(Full::Meeting));
        assert_eq!(taken(1, 2, 3), Ok(()));
        assert_eq!(taken(1, 2, 3), Ok(()));
        assert_eq!(taken(1, 2, 4), Err(Full::App));
        assert_eq!(taken(2, 3, 5), Ok(()));
        assert_eq!(taken(2, 3, 5), Ok(()));
        assert_eq!(taken(2, 3, 6), Err(Full::All));
        held.clear();
        assert!(slots.open().uploads.is_empty());
        assert!(try_acquire(&slots, holder(2, 3, 6)).is_ok());
    }

    #[tokio::test]
    async fn the_slowest_upload_is_aborted_and_fast_ones_are_not() {
        let slots = slots(3, 0, 0, 0);
        let held: Vec<Slot> = (0..3)
            .map(|participant| try_acquire(&slots, holder(1, 1, participant)).unwrap())
            .collect();
        let is_aborted = || held.iter().map(|slot| slot.pace.abort.is_cancelled());
        let abort = || slots.abort_slowest(holder(1, 1, 9), Full::All);
        abort();
        assert_eq!(
            is_aborted().filter(|aborted| *aborted).count(),
            0,
            "within the grace"
        );
        held[1].pace.lag().fair = GRACE * 2;
        held[2].pace.lag().fair = GRACE * 3;
        for wanted in [[false, false, true], [false, true, true]] {
            abort();
            assert!(is_aborted().eq(wanted));
        }
        abort();
        assert!(is_aborted().eq([false, true, true]));
        held[1].pace.aborted().await;
    }

    #[tokio::test]
    async fn only_uploads_that_hold_a_usable_slot_are_aborted() {
        let slots = slots(3, 0, 1, 0);
        let first = try_acquire(&slots, holder(1, 1, 1)).unwrap();
        let second = try_acquire(&slots, holder(1, 2, 2)).unwrap();
        first.pace.lag().fair = GRACE * 2;
        second.pace.lag().fair = GRACE * 3;
        slots.abort_slowest(holder(1, 1, 3), Full::Meeting);
        assert!(first.pace.abort.is_cancelled() && !second.pace.abort.is_cancelled());
    }

    #[tokio::test]
    async fn a_fast_start_gives_no_credit() {
        let pace = Pace::new();
        assert_eq!(pace.received(100 << 20), Duration::ZERO);
        assert_eq!(pace.received(0), Duration::ZERO);
        pace.lag().min = Duration::from_secs(3);
        assert_eq!(pace.received(16 * 1024), Duration::from_secs(2));
    }
}
