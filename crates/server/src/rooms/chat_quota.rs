//! How much may be stored, and what is done when it is: uploads are refused where they reserve their
//! bytes; rooms are told here, every few seconds, whether they may keep more messages.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use parlor_live::{ChatFull, Command};
use parlor_protocol::ids::AppId;
use parlor_store::Error;
use uuid::Uuid;

use crate::disk::Disk;
use crate::rooms::LiveSessions;
use crate::usage::{self, ALL, Used};

/// Whether the rooms of each app may keep more messages, as they were told last. Of an app that is not
/// here it is not known: rooms were opened with something else since.
#[derive(Debug, Default)]
pub(crate) struct ChatStates(Mutex<HashMap<AppId, Option<ChatFull>>>);

/// Counts for the metrics, and tells the rooms of each app whether they may keep more messages.
///
/// # Errors
/// When the database fails; rooms go on with what they know.
pub(crate) async fn refresh(live: &LiveSessions) -> Result<(), Error> {
    let used = usage::of(&live.db, ALL, ALL).await?;
    let shown = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let metrics = &live.metrics.storage;
    metrics.set_stored(shown(used.files.all), shown(used.chat.all));
    if let Some(free) = live.disk.as_ref().and_then(Disk::free) {
        metrics.set_free(free);
    }
    let apps = live.apps();
    live.chat_states.retain(&apps);
    for app in apps {
        let used = usage::of(&live.db, app.uuid(), ALL).await?;
        let full = full(live, used.chat);
        if live.chat_states.set(app, full) {
            live.tell_app(app, &Command::ChatFull(full));
        }
    }
    Ok(())
}

/// What a room is opened with: bytes of its chat, and why it may keep no more for now.
///
/// # Errors
/// When the database fails.
pub(crate) async fn of_room(
    live: &LiveSessions,
    app: Uuid,
    meeting: Uuid,
) -> Result<(u64, Option<ChatFull>), Error> {
    let used = usage::of(&live.db, app, meeting).await?.chat;
    let full = full(live, used);
    live.chat_states.opened_with(AppId::from_uuid(app), full);
    Ok((used.meeting, full))
}

fn full(live: &LiveSessions, used: Used) -> Option<ChatFull> {
    let quotas = &live.limits.quotas;
    let over = |used: u64, quota: u64| quota > 0 && used >= quota;
    let disk = live.disk.as_ref();
    if disk.is_some_and(|disk| disk.is_short(quotas.disk_reserve, 0)) {
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
    /// Forgets apps that have no room any more.
    fn retain(&self, apps: &HashSet<AppId>) {
        self.states().retain(|app, _| apps.contains(app));
    }

    /// What the rooms of an app are to be told now; whether they may have been told something else.
    fn set(&self, app: AppId, full: Option<ChatFull>) -> bool {
        self.states().insert(app, full) != Some(full)
    }

    /// A room of an app was opened with what may not be what the others were told, or not be so any
    /// more when it runs.
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
    fn rooms_are_told_what_they_do_not_know() {
        let states = ChatStates::default();
        let [one, two] = [1, 2].map(|id| AppId::from_uuid(Uuid::from_u128(id)));
        let full = Some(ChatFull::App);
        assert!(states.set(one, full) && !states.set(one, full));
        assert!(states.set(one, None) && !states.set(one, None));
        // Its last room is over, and another one is opened when there is room again.
        assert!(states.set(one, full));
        states.retain(&HashSet::from([two]));
        states.opened_with(one, None);
        assert!(states.set(one, full), "the new room is told");
        // A room is opened in the moment in which that changes.
        assert!(states.set(one, None));
        states.opened_with(one, full);
        assert!(states.set(one, None), "it is told that there is room");
        states.opened_with(one, None);
        assert!(!states.set(one, None));
        // It is the first one of its app, and there is room again before anybody looks.
        states.opened_with(two, full);
        assert!(states.set(two, None));
    }
}
