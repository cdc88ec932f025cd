//! Turns at something that only a few may do at once, with a share for each app.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlor_protocol::ids::AppId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How many may do it at once, in all and of each app.
pub(crate) struct Turns {
    all: Semaphore,
    of_app: usize,
    apps: Mutex<HashMap<AppId, Arc<Semaphore>>>,
}

/// A turn, which ends when it is dropped.
pub(crate) struct Turn<'t> {
    _one: SemaphorePermit<'t>,
    _of_app: OwnedSemaphorePermit,
    // The last to be dropped: the permits above are given back before it looks who is left.
    _share: Share<'t>,
}

/// Keeps the share of an app for as long as somebody has a turn or waits for one.
struct Share<'t> {
    turns: &'t Turns,
    app: AppId,
    semaphore: Arc<Semaphore>,
}

impl Turns {
    /// This many turns at once, and so many of one app.
    pub(crate) fn new(all: usize, of_app: usize) -> Self {
        Self {
            all: Semaphore::new(all),
            of_app,
            apps: Mutex::default(),
        }
    }

    /// Waits for a turn: first among those of the app, then among all.
    pub(crate) async fn take(&self, app: AppId) -> Turn<'_> {
        const OPEN: &str = "the semaphore is never closed";
        let share = self.share(app);
        let of_app = Arc::clone(&share.semaphore).acquire_owned().await;
        Turn {
            _one: self.all.acquire().await.expect(OPEN),
            _of_app: of_app.expect(OPEN),
            _share: share,
        }
    }

    fn share(&self, app: AppId) -> Share<'_> {
        let mut apps = self.apps();
        let semaphore = apps
            .entry(app)
            .or_insert_with(|| Arc::new(Semaphore::new(self.of_app)));
        Share {
            turns: self,
            app,
            semaphore: Arc::clone(semaphore),
        }
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, Arc<Semaphore>>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut apps = self.turns.apps();
        // The one in the map, and this one. New ones are made only under the lock.
        if Arc::strong_count(&self.semaphore) <= 2 {
            apps.remove(&self.app);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_app_leaves_turns_to_others() {
        let (busy, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (busy, other) = (AppId::from_uuid(busy), AppId::from_uuid(other));
        let turns = Turns::new(4, 2);
        let first = turns.take(busy).now_or_never().unwrap();
        let second = turns.take(busy).now_or_never().unwrap();
        let mut third = Box::pin(turns.take(busy));
        assert!((&mut third).now_or_never().is_none());
        let others = [(); 2].map(|()| turns.take(other).now_or_never());
        assert!(others.iter().all(Option::is_some));
        drop(first);
        let third = third.now_or_never();
        assert!(third.is_some());
        // All turns are taken now.
        let third_app = AppId::from_uuid(Uuid::from_u128(3));
        assert!(turns.take(third_app).now_or_never().is_none());
        drop((others, third, second));
        assert!(turns.apps().is_empty(), "nothing is left of those who left");
    }
}
