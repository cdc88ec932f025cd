//! A semaphore that also limits the permits of each app.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlor_protocol::ids::AppId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// A semaphore with a limit for all apps together and one for each app.
pub(crate) struct AppSemaphore {
    all: Semaphore,
    per_app: usize,
    apps: Mutex<HashMap<AppId, Arc<Semaphore>>>,
}

/// A permit, released on drop.
pub(crate) struct AppPermit<'t> {
    _total: SemaphorePermit<'t>,
    _per_app: OwnedSemaphorePermit,
    // Dropped last: the permits above are released before it checks whether the app is still in
    // use.
    _share: Share<'t>,
}

/// Keeps the semaphore of an app for as long as it has permits or waiters.
struct Share<'t> {
    owner: &'t AppSemaphore,
    app: AppId,
    semaphore: Arc<Semaphore>,
}

impl AppSemaphore {
    /// Creates a semaphore with `all` permits in total and `per_app` permits for each app.
    pub(crate) fn new(all: usize, per_app: usize) -> Self {
        Self {
            all: Semaphore::new(all),
            per_app,
            apps: Mutex::default(),
        }
    }

    /// Waits for a permit of the app, and then for one of the total.
    pub(crate) async fn acquire(&self, app: AppId) -> AppPermit<'_> {
        const OPEN: &str = "the semaphore is never closed";
        let share = self.share(app);
        let per_app = Arc::clone(&share.semaphore).acquire_owned().await;
        AppPermit {
            _total: self.all.acquire().await.expect(OPEN),
            _per_app: per_app.expect(OPEN),
            _share: share,
        }
    }

    fn share(&self, app: AppId) -> Share<'_> {
        let mut apps = self.apps();
        let semaphore = apps
            .entry(app)
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_app)));
        Share {
            owner: self,
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
        let mut apps = self.owner.apps();
        // The map and this share hold one reference each. References are cloned only under the
        // lock.
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
    fn an_app_leaves_permits_to_others() {
        let (busy, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (busy, other) = (AppId::from_uuid(busy), AppId::from_uuid(other));
        let semaphore = AppSemaphore::new(4, 2);
        let first = semaphore.acquire(busy).now_or_never().unwrap();
        let second = semaphore.acquire(busy).now_or_never().unwrap();
        let mut third = Box::pin(semaphore.acquire(busy));
        assert!((&mut third).now_or_never().is_none());
        let others = [(); 2].map(|()| semaphore.acquire(other).now_or_never());
        assert!(others.iter().all(Option::is_some));
        drop(first);
        let third = third.now_or_never();
        assert!(third.is_some());
        // All permits are taken now.
        let third_app = AppId::from_uuid(Uuid::from_u128(3));
        assert!(semaphore.acquire(third_app).now_or_never().is_none());
        drop((others, third, second));
        assert!(
            semaphore.apps().is_empty(),
            "the semaphores of idle apps are removed"
        );
    }
}
