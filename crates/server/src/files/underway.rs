//! The files that this process is writing or removing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The files that this process is writing or removing.
#[derive(Debug, Default)]
pub(crate) struct Underway(Mutex<HashSet<Uuid>>);

/// A file that is being written or removed, for as long as this is held.
pub(crate) struct Writing<'p>(&'p Underway, Uuid);

impl Underway {
    pub(crate) fn begin(&self, id: Uuid) -> Option<Writing<'_>> {
        let is_new = self.ids().insert(id);
        is_new.then(|| Writing(self, id))
    }

    pub(crate) fn has(&self, id: Uuid) -> bool {
        self.ids().contains(&id)
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.ids().remove(&self.1);
    }
}
