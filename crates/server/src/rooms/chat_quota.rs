//! Storage quotas for chat. File uploads are rejected when they reserve their bytes; rooms are told
//! here, every few seconds, whether they may store more messages.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use parlor_live::{ChatFull, Command};
use parlor_protocol::ids::AppId;
use parlor_store::Error;
use uuid::Uuid;

use crate::disk::Disk;
use crate::rooms::LiveSessions;
use crate::usage::{self, ALL, Used};

/// Whether the rooms of each app may store more messages, as last sent to them. An app is absent if
/// a room was since opened with a different value.
#[derive(Debug, Default)]
pub(crate) struct ChatStates(Mutex<HashMap<AppId, Option<ChatFull>>>);

/// Updates the storage metrics and notifies the rooms of each app whether they may store more
/// messages.
///
/// # Errors
/// When the database fails. Rooms then keep their previous state.
pub(crate) async fn refresh(live: &LiveSessions) -> Result<(), Error> {
    let used = usage::read(&live.db, ALL, ALL).await?;
    let clamped = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let metrics = &live.metrics.storage;
    metrics.set_stored(clamped(used.files.all), clamped(used.chat.all));
    if let Some(free) = live.disk.as_ref().and_then(Disk::free) {
        metrics.set_free(free);
    }
    let apps = live.apps();
    live.chat_states.retain(&apps);
    for app in apps {
        let used = usage::read(&live.db, app.uuid(), ALL).await?;
        let full = full(live, used.chat);
        if live.chat_states.set(app, full) {
            live.send_to_app(app, &Command::ChatFull(full));
        }
    }
    Ok(())
}

/// Returns the stored bytes of a room's chat, and the reason why it may not store more, for opening
/// the room.
///
/// # Errors
/// When the database fails.
pub(crate) async fn of_room(
    live: &LiveSessions,
    app: Uuid,
    meeting: Uuid,
) -> Result<(u64, Option<ChatFull>), Error> {
    let used = usage::read(&live.db, app, meeting).await?.chat;
    let full = full(live, used);
    live.chat_states.opened_with(AppId::from_uuid(app), full);
    Ok((used.meeting, full))
}

fn full(live: &LiveSessions, used: Used) -> Option<ChatFull> {
    let quotas = &live.limits.quotas;
    let over = |used: u64, quota: u64| quota > 0 && used >= quota;
    let disk = live.disk.as_ref();
    if disk.is_some_and(|disk| disk.is_below_reserve(quotas.disk_reserve, 0)) {
        Some(ChatFull::Disk)
    } else if over(used.app, quotas.chat_per_app) {
        Some(ChatFull::App)
    } else if over(used.all, quotas.chat_total) {
        Some(ChatFull::Server)
    } else {
        None
    }
}

impl ChatStates {
    /// Removes apps that have no running room.
    fn retain(&self, apps: &HashSet<AppId>) {
        self.states().retain(|app, _| apps.contains(app));
    }

    /// Sets the state to send to an app's rooms. Returns whether any of them may have a different
    /// one.
    fn set(&self, app: AppId, full: Option<ChatFull>) -> bool {
        self.states().insert(app, full) != Some(full)
    }

    /// Notes that a room of an app was opened with this state, which may differ from what the
    /// others have or from the state at the time the room starts.
    fn opened_with(&self, app: AppId, full: Option<ChatFull>) {
        let mut states = self.states();
        if states.get(&app).is_some_and(|state| *state != full) {
            states.remove(&app);
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<AppId, Option<ChatFull>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_told_only_changes() {
        let states = ChatStates::default();
        let [one, two] = [1, 2].map(|id| AppId::from_uuid(Uuid::from_u128(id)));
        let full = Some(ChatFull::App);
        assert!(states.set(one, full) && !states.set(one, full));
        assert!(states.set(one, None) && !states.set(one, None));
        // Its last room ends, and another one opens when there is space again.
        assert!(states.set(one, full));
        states.retain(&HashSet::from([two]));
        states.opened_with(one, None);
        assert!(states.set(one, full), "the new room is told");
        // A room opens at the moment when the state changes.
        assert!(states.set(one, None));
        states.opened_with(one, full);
        assert!(states.set(one, None), "it is told that there is space");
        states.opened_with(one, None);
        assert!(!states.set(one, None));
        // The first room of its app opens, and there is space again before the next refresh.
        states.opened_with(two, full);
        assert!(states.set(two, None));
    }
}
