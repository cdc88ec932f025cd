//! Recovery of an engine after a panic. Only the listeners are kept; clients re-establish
//! everything else.

use std::sync::atomic::Ordering;

use super::{Engine, MeetingState};
use crate::events::Event;

impl Engine {
    /// Resets the engine to an empty one. A panic may have left any state inconsistent, so no
    /// client state is kept. Listeners are notified that each transport was freed, and connectivity
    /// checks are answered with an error, as after a restart of the process.
    pub(crate) fn reset(&mut self) {
        let empty = Self::new(self.settings.clone());
        let old = std::mem::replace(self, empty);
        let open = &self.settings.open;
        open.fetch_sub(old.entries.len(), Ordering::Relaxed);
        self.held.refused = old.held.refused;
        for (_, entry) in &old.entries {
            self.settings.apps.decrement(entry.owner.app);
            if let Some(state) = old.meetings.get(&entry.member.meeting) {
                state.notify(&Event::Freed {
                    peer: entry.member.peer,
                    direction: entry.direction,
                    transport_id: entry.transport.id().to_owned(),
                });
            }
        }
        for (meeting, mut state) in old.meetings {
            if !state.speakers.ranking().is_empty() {
                state.notify(&Event::Speaking(Vec::new()));
            }
            state.listeners.retain(|listener| !listener.is_closed());
            let kept = MeetingState {
                pinned: state.pinned,
                listeners: state.listeners,
                ..MeetingState::default()
            };
            if kept.is_in_use() {
                self.meetings.insert(meeting, kept);
            }
        }
    }
}
