//! Serializes roster updates: a meeting and its breakout rooms receive one at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use parlor_protocol::ids::{AppId, MeetingId};

/// The meetings whose connected rooms are currently being notified, by parent.
///
/// One task per parent sends the updates, so that a later state is never overtaken by an earlier
/// one. Only whether something has changed since the update began needs to be remembered.
#[derive(Default)]
pub(crate) struct RosterNotifier(Mutex<HashMap<(AppId, MeetingId), bool>>);

impl RosterNotifier {
    /// Marks a meeting as changed. Returns whether the caller must run the updates because no task
    /// does.
    pub(crate) fn mark_changed(&self, parent: (AppId, MeetingId)) -> bool {
        match self.changed().entry(parent) {
            Entry::Occupied(mut changed) => {
                changed.insert(true);
                false
            }
            Entry::Vacant(new) => {
                new.insert(false);
                true
            }
        }
    }

    /// Sends updates until nothing has changed during the last one. The next change then starts a
    /// new run, even if this run was cancelled.
    pub(crate) async fn run<T: Future<Output = ()>>(
        &self,
        parent: (AppId, MeetingId),
        notify: impl Fn() -> T,
    ) {
        let mut unfinished = Unfinished(Some((self, parent)));
        loop {
            notify().await;
            if !self.finish_update(parent) {
                // From here on another task may notify these rooms.
                unfinished.0 = None;
                return;
            }
        }
    }

    /// Ends an update. Returns whether something has changed since it began.
    fn finish_update(&self, parent: (AppId, MeetingId)) -> bool {
        let mut changed = self.changed();
        let again = changed.get_mut(&parent).is_some_and(std::mem::take);
        if !again {
            changed.remove(&parent);
        }
        again
    }

    fn changed(&self) -> MutexGuard<'_, HashMap<(AppId, MeetingId), bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the entry of a meeting when the task that notifies it panics or is cancelled.
struct Unfinished<'t>(Option<(&'t RosterNotifier, (AppId, MeetingId))>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some((notifier, parent)) = self.0.take() {
            notifier.changed().remove(&parent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn changes_during_an_update_are_sent_in_one_update_after_it() {
        let id = uuid::Uuid::from_u128;
        let parent = (AppId::from_uuid(id(1)), MeetingId::from_uuid(id(2)));
        let other = (parent.0, MeetingId::from_uuid(id(3)));
        let notifier = RosterNotifier::default();
        assert!(notifier.mark_changed(parent) && notifier.mark_changed(other));
        // Updates are running, so no other task starts.
        assert!(!notifier.mark_changed(parent) && !notifier.mark_changed(parent));
        assert!(notifier.finish_update(parent) && !notifier.finish_update(parent));
        // The run has ended, so the next change starts a new one.
        assert!(notifier.mark_changed(parent));
        assert!(!notifier.finish_update(other));
    }

    #[tokio::test]
    async fn updates_restart_after_a_panic() {
        let id = uuid::Uuid::from_u128;
        let parent = (AppId::from_uuid(id(1)), MeetingId::from_uuid(id(2)));
        let notifier = RosterNotifier::default();
        assert!(notifier.mark_changed(parent));
        let run = notifier.run(parent, || async { panic!("this is a test") });
        assert!(AssertUnwindSafe(run).catch_unwind().await.is_err());
        assert!(notifier.mark_changed(parent));
        notifier.run(parent, || async {}).await;
        assert!(notifier.mark_changed(parent));
    }
}
