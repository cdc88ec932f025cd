//! Telling the breakout rooms of a meeting who is where, one round at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use parlor_protocol::ids::{AppId, MeetingId};

/// Meetings whose breakout rooms are being told who is where.
///
/// One task tells those of a meeting, so that what it has read later is also told later. Whether
/// something has changed since it began is all that must be remembered for it.
#[derive(Default)]
pub(crate) struct RosterNotifier(Mutex<HashMap<(AppId, MeetingId), bool>>);

impl RosterNotifier {
    /// Something has changed. Whether nobody tells of it yet.
    pub(crate) fn begin(&self, family: (AppId, MeetingId)) -> bool {
        match self.families().entry(family) {
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

    /// Tells a family until nothing has changed in it meanwhile. However this ends, the next change
    /// begins anew.
    pub(crate) async fn rounds<T: Future<Output = ()>>(
        &self,
        family: (AppId, MeetingId),
        tell: impl Fn() -> T,
    ) {
        let mut unfinished = Unfinished(Some((self, family)));
        loop {
            tell().await;
            if !self.again(family) {
                // From here on another task may tell this family.
                unfinished.0 = None;
                return;
            }
        }
    }

    /// A round of telling is over. Whether something has changed since it began.
    fn again(&self, family: (AppId, MeetingId)) -> bool {
        let mut families = self.families();
        let again = families.get_mut(&family).is_some_and(std::mem::take);
        if !again {
            families.remove(&family);
        }
        again
    }

    fn families(&self) -> MutexGuard<'_, HashMap<(AppId, MeetingId), bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the entry of a family when the task that tells it panics or is cancelled.
struct Unfinished<'t>(Option<(&'t RosterNotifier, (AppId, MeetingId))>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some((telling, family)) = self.0.take() {
            telling.families().remove(&family);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whatever_changes_while_a_family_is_told_is_told_in_one_round_after_it() {
        let id = uuid::Uuid::from_u128;
        let family = (AppId::from_uuid(id(1)), MeetingId::from_uuid(id(2)));
        let other = (family.0, MeetingId::from_uuid(id(3)));
        let telling = RosterNotifier::default();
        assert!(telling.begin(family) && telling.begin(other));
        // They are being told: nobody else begins to.
        assert!(!telling.begin(family) && !telling.begin(family));
        assert!(telling.again(family) && !telling.again(family));
        // It is over, so the next change begins anew.
        assert!(telling.begin(family));
        assert!(!telling.again(other));
    }

    #[tokio::test]
    async fn a_family_is_told_again_after_telling_it_has_panicked() {
        let id = uuid::Uuid::from_u128;
        let family = (AppId::from_uuid(id(1)), MeetingId::from_uuid(id(2)));
        let telling = RosterNotifier::default();
        assert!(telling.begin(family));
        let rounds = telling.rounds(family, || async { panic!("this is a test") });
        assert!(AssertUnwindSafe(rounds).catch_unwind().await.is_err());
        assert!(telling.begin(family));
        telling.rounds(family, || async {}).await;
        assert!(telling.begin(family));
    }
}
