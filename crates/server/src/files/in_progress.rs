//! Tracks the files that this process is writing or removing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The files that this process is writing or removing.
#[derive(Debug, Default)]
pub(crate) struct InProgress(Mutex<HashSet<Uuid>>);

/// Marks a file as being written or removed until it is dropped.
pub(crate) struct InProgressGuard<'p>(&'p InProgress, Uuid);

impl InProgress {
    /// Marks a file. Returns `None` when it is marked already.
    pub(crate) fn begin(&self, id: Uuid) -> Option<InProgressGuard<'_>> {
        let is_new = self.ids().insert(id);
        is_new.then(|| InProgressGuard(self, id))
    }

    pub(crate) fn contains(&self, id: Uuid) -> bool {
        self.ids().contains(&id)
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InProgressGuard<'_> {
    fn drop(&mut self) {
        self.0.ids().remove(&self.1);
    }
}
