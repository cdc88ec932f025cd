//! The list of active speakers. In a large room, clients show and play only the first peers of this
//! list (docs/spec/media.md 4.5).

use std::collections::BTreeMap;

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    SelectedPeersDiffEntry, SelectedPeersDiffResponse, SelectedPeersResponse,
};

use crate::input::ConnectionId;
use crate::peer::{MediaState, Slot, can_see};
use crate::room::{Deadline, Room, Step};

/// Maximum length of the list. It is longer than what a client shows and plays at once.
const LIST_SIZE: usize = 32;
/// Minimum interval between pushes, in milliseconds.
const SPEAKERS_MS: i64 = 500;
/// Delay before a client with a new transport is reminded to subscribe, in milliseconds.
const REMIND_MS: i64 = 2_000;
/// Priority that removes a peer from the list.
const OFF: i32 = 229_490_415;
/// Priority that pins a peer. Pinned peers are on a separate list, before the speakers.
const PINNED: i32 = -1;
/// Priority that unpins a peer.
const UNPINNED: i32 = 246_267_631;

impl Room {
    /// Handles an update of the active speakers. `latest` starts with the most recent speaker.
    pub(crate) fn speakers_updated(&mut self, step: &mut Step<'_>, latest: &[PeerId]) {
        let before = &self.tracks.speakers;
        let mut now: Vec<PeerId> = Vec::with_capacity(LIST_SIZE);
        for peer in latest.iter().take(LIST_SIZE).chain(before) {
            let slot = self.peers.slot_of(*peer);
            let has_joined = slot.is_some_and(|slot| self.peers[slot].has_joined());
            if has_joined && now.len() < LIST_SIZE && !now.contains(peer) {
                now.push(*peer);
            }
        }
        if now == *before {
            return;
        }
        self.tracks.speakers = now;
        self.speakers_changed(step);
    }

    fn speakers_changed(&mut self, step: &mut Step<'_>) {
        if let Some(changed) = &mut self.tracks.speakers_pushed {
            *changed = true;
        } else {
            self.tracks.speakers_pushed = Some(false);
            self.schedule(step.monotonic.after(SPEAKERS_MS), Deadline::Speakers);
            self.push_speakers(step);
        }
    }

    /// Pushes changes that were deferred by the minimum interval.
    pub(crate) fn flush_speakers(&mut self, step: &mut Step<'_>) {
        if self.tracks.speakers_pushed.take() == Some(true) {
            self.speakers_changed(step);
        }
    }

    /// Returns the list for a peer: the speakers that it can see.
    fn speakers_for(&self, slot: Slot) -> Vec<PeerId> {
        let viewer = &self.peers[slot];
        let listed = self.tracks.speakers.iter().copied();
        let seen = listed.filter(|peer| {
            let subject = self.peers.slot_of(*peer);
            subject.is_some_and(|subject| can_see(viewer, &self.peers[subject]))
        });
        seen.collect()
    }

    /// Returns the pinned peer if this peer can see it.
    fn pinned_for(&self, slot: Slot) -> Option<PeerId> {
        let subject = self.peers.slot_of(self.pinned?)?;
        can_see(&self.peers[slot], &self.peers[subject]).then_some(self.pinned?)
    }

    /// Pushes to each peer what has changed in its lists.
    pub(super) fn push_speakers(&mut self, step: &mut Step<'_>) {
        // Most peers have the same list.
        let mut pushes = BTreeMap::<Vec<(PeerId, i32)>, Vec<ConnectionId>>::new();
        for slot in self.peers.slots(|peer| peer.media == MediaState::Ready) {
            let Some(socket) = self.peers[slot].connection else {
                continue;
            };
            let (wanted, pinned) = (self.speakers_for(slot), self.pinned_for(slot));
            let media = self.tracks.get_or_insert(slot);
            let previous = std::mem::replace(&mut media.speakers, wanted.clone());
            let mut entries = difference(previous, &wanted);
            let previous = std::mem::replace(&mut media.pinned, pinned);
            entries.extend(pin_entries(&entries, previous, pinned));
            if !entries.is_empty() {
                pushes.entry(entries).or_default().push(socket);
            }
        }
        for (entries, to) in pushes {
            step.push_soon(to, event::SELECTED_PEERS_DIFF, &diff_push(entries));
        }
    }

    /// Returns the full lists for a peer, and the changes for a client that already has lists.
    pub(super) fn initial_speakers(
        &mut self,
        slot: Slot,
    ) -> (SelectedPeersResponse, SelectedPeersDiffResponse) {
        let (list, pinned) = (self.speakers_for(slot), self.pinned_for(slot));
        let first = SelectedPeersResponse {
            audio_peers: list.iter().map(ToString::to_string).collect(),
            compulsory_peers: pinned.iter().map(ToString::to_string).collect(),
        };
        let media = self.tracks.get_or_insert(slot);
        media.speakers = list;
        let previous = std::mem::replace(&mut media.pinned, pinned);
        (first, diff_push(pin_entries(&[], previous, pinned)))
    }

    /// Schedules reminders for a client whose subscription failed or whose transport was recreated.
    /// Such clients do not retry until the speakers change; an empty change makes them check.
    pub(super) fn schedule_reminder(&mut self, step: &Step<'_>, slot: Slot, times: u32) {
        let media = self.tracks.get_or_insert(slot);
        if media.reminders == 0 {
            self.schedule(
                step.monotonic.after(REMIND_MS),
                Deadline::SubscribeReminder(slot),
            );
        }
        let media = self.tracks.get_or_insert(slot);
        media.reminders = media.reminders.max(times);
    }

    pub(crate) fn send_reminder(&mut self, step: &mut Step<'_>, slot: Slot) {
        let ready = self.peers.get(slot);
        let ready = ready.filter(|peer| peer.media == MediaState::Ready);
        let (Some(media), Some(peer)) = (self.tracks.get_mut(slot), ready) else {
            if let Some(media) = self.tracks.get_mut(slot) {
                media.reminders = 0;
            }
            return;
        };
        media.reminders = match media.reminders {
            left if media.consumes.is_empty() => left.saturating_sub(1),
            _ => 0,
        };
        let again = media.reminders > 0;
        let to = Vec::from_iter(peer.connection);
        let push = SelectedPeersDiffResponse::default();
        step.push(to, event::SELECTED_PEERS_DIFF, &push);
        if again {
            self.schedule(
                step.monotonic.after(REMIND_MS),
                Deadline::SubscribeReminder(slot),
            );
        }
    }
}

fn diff_push(entries: Vec<(PeerId, i32)>) -> SelectedPeersDiffResponse {
    let entry = |(peer, priority): (PeerId, i32)| SelectedPeersDiffEntry {
        peer_id: peer.to_string(),
        priority,
    };
    SelectedPeersDiffResponse {
        entries: entries.into_iter().map(entry).collect(),
    }
}

/// Returns the entries that change the pinned peer. They follow the entries in `after`, which unpin
/// each peer that they name.
fn pin_entries(
    after: &[(PeerId, i32)],
    previous: Option<PeerId>,
    now: Option<PeerId>,
) -> Vec<(PeerId, i32)> {
    let unpinned = previous.filter(|previous| now != Some(*previous));
    let named = |pinned: &PeerId| after.iter().any(|(peer, _)| peer == pinned);
    let pinned = now.filter(|now| previous != Some(*now) || named(now));
    let entries = [(unpinned, UNPINNED), (pinned, PINNED)];
    let entries = entries.into_iter();
    entries
        .filter_map(|(peer, priority)| Some((peer?, priority)))
        .collect()
}

/// Returns the changes from one list to another, which clients apply in order: an entry moves a
/// peer to a position, counted from 1, or removes it.
fn difference(previous: Vec<PeerId>, wanted: &[PeerId]) -> Vec<(PeerId, i32)> {
    let mut entries = Vec::new();
    let mut list = previous;
    list.retain(|peer| {
        let stays = wanted.contains(peer);
        if !stays {
            entries.push((*peer, OFF));
        }
        stays
    });
    for (at, peer) in wanted.iter().enumerate() {
        if list.get(at) != Some(peer) {
            list.retain(|other| other != peer);
            list.insert(at.min(list.len()), *peer);
            entries.push((*peer, i32::try_from(at + 1).unwrap_or(OFF - 1)));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// Applies changes like a client.
    fn apply(list: &mut Vec<PeerId>, entries: &[(PeerId, i32)]) {
        for (peer, priority) in entries {
            list.retain(|other| other != peer);
            if *priority != OFF {
                let at = usize::try_from(priority - 1).unwrap();
                list.insert(at.min(list.len()), *peer);
            }
        }
    }

    fn list() -> impl Strategy<Value = Vec<PeerId>> {
        let peers = prop::collection::btree_set(0_u128..12, 0..10);
        let peers = peers.prop_map(|peers| peers.into_iter().collect::<Vec<_>>());
        let shuffled = peers.prop_shuffle();
        shuffled.prop_map(|peers| {
            let id = |peer| PeerId::from_uuid(Uuid::from_u128(peer));
            peers.into_iter().map(id).collect()
        })
    }

    proptest! {
        #[test]
        fn applying_every_change_yields_the_new_list(previous in list(), wanted in list()) {
            let entries = difference(previous.clone(), &wanted);
            let mut list = previous.clone();
            apply(&mut list, &entries);
            prop_assert_eq!(&list, &wanted);
            prop_assert_eq!(entries.is_empty(), previous == wanted);
        }

        #[test]
        fn a_new_speaker_is_one_entry(previous in list(), at in any::<prop::sample::Index>()) {
            prop_assume!(previous.len() > 1);
            let mut wanted = previous.clone();
            let speaker = wanted.remove(at.index(previous.len()));
            wanted.insert(0, speaker);
            prop_assert!(difference(previous, &wanted).len() <= 1);
        }
    }
}
