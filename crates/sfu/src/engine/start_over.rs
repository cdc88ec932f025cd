//! What is left of an engine that has panicked: who listens. Everything else is made anew by clients.

use std::sync::atomic::Ordering;

use super::{Engine, Hall};
use crate::events::Event;

impl Engine {
    /// Becomes an empty engine. A panic may have left anything half done, so nothing of what clients
    /// have is kept: whoever listens is told that each transport is gone, and clients that check
    /// one are told the same, as after a restart of the process.
    pub(crate) fn start_over(&mut self) {
        let empty = Self::new(self.settings.clone());
        let old = std::mem::replace(self, empty);
        let open = &self.settings.open;
        open.fetch_sub(old.entries.len(), Ordering::Relaxed);
        self.held.refused = old.held.refused;
        for (_, entry) in &old.entries {
            self.settings.apps.one_less(entry.owner.app);
            if let Some(hall) = old.halls.get(&entry.member.meeting) {
                hall.tell(&Event::Freed {
                    peer: entry.member.peer,
                    direction: entry.direction,
                    transport_id: entry.transport.id().to_owned(),
                });
            }
        }
        for (meeting, mut hall) in old.halls {
            if !hall.speaking.ranking().is_empty() {
                hall.tell(&Event::Speaking(Vec::new()));
            }
            hall.listeners.retain(|listener| !listener.is_closed());
            let kept = Hall {
                pinned: hall.pinned,
                listeners: hall.listeners,
                ..Hall::default()
            };
            if kept.is_of_use() {
                self.halls.insert(meeting, kept);
            }
        }
    }
}
