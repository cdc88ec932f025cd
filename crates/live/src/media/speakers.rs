//! Who speaks. A client shows and plays those at the head of a list of its own, and in a large room
//! nobody else: the list is the server's to keep (docs/spec/media.md 4.5).

use std::collections::BTreeMap;

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    SelectedPeersDiffEntry, SelectedPeersDiffResponse, SelectedPeersResponse,
};

use crate::input::ConnectionId;
use crate::peer::{MediaState, Seat, sees};
use crate::room::{Deadline, Room, Turn};

/// Peers on the list: more than a client shows and plays at once.
const LISTED: usize = 32;
/// Everybody is told at most so often.
const SPEAKERS_MS: i64 = 500;
/// A client connects its new transport, and then is reminded to subscribe.
const REMIND_MS: i64 = 2_000;
/// Of a peer in an entry: it goes off the list.
const OFF: i32 = 229_490_415;
/// Whoever is pinned comes before the list: it is on one of its own.
const PINNED: i32 = -1;
/// It goes off that one.
const UNPINNED: i32 = 246_267_631;

impl Room {
    /// The media plane says who speaks, the latest first.
    pub(crate) fn spoken(&mut self, turn: &mut Turn<'_>, latest: &[PeerId]) {
        let before = &self.tracks.speakers;
        let mut now: Vec<PeerId> = Vec::with_capacity(LISTED);
        for peer in latest.iter().take(LISTED).chain(before) {
            let seat = self.peers.seat_of(*peer);
            let inside = seat.is_some_and(|seat| self.peers[seat].is_inside());
            if inside && now.len() < LISTED && !now.contains(peer) {
                now.push(*peer);
            }
        }
        if now == *before {
            return;
        }
        self.tracks.speakers = now;
        self.speakers_changed(turn);
    }

    fn speakers_changed(&mut self, turn: &mut Turn<'_>) {
        if let Some(changed) = &mut self.tracks.speakers_told {
            *changed = true;
        } else {
            self.tracks.speakers_told = Some(false);
            self.at(turn.monotonic.after(SPEAKERS_MS), Deadline::Speakers);
            self.tell_speakers(turn);
        }
    }

    /// Everybody was told a moment ago: they are told what has changed since.
    pub(crate) fn tell_speakers_again(&mut self, turn: &mut Turn<'_>) {
        if self.tracks.speakers_told.take() == Some(true) {
            self.speakers_changed(turn);
        }
    }

    /// The list as a peer should have it: of those whom it sees.
    fn speakers_for(&self, seat: Seat) -> Vec<PeerId> {
        let viewer = &self.peers[seat];
        let listed = self.tracks.speakers.iter().copied();
        let seen = listed.filter(|peer| {
            let subject = self.peers.seat_of(*peer);
            subject.is_some_and(|subject| sees(viewer, &self.peers[subject]))
        });
        seen.collect()
    }

    /// Who comes before the list of a peer: whoever is pinned, if it sees them.
    fn pinned_for(&self, seat: Seat) -> Option<PeerId> {
        let subject = self.peers.seat_of(self.pinned?)?;
        sees(&self.peers[seat], &self.peers[subject]).then_some(self.pinned?)
    }

    /// Tells everybody what has changed of their list, and of who comes before it.
    pub(super) fn tell_speakers(&mut self, turn: &mut Turn<'_>) {
        // Most have the same list.
        let mut told = BTreeMap::<Vec<(PeerId, i32)>, Vec<ConnectionId>>::new();
        for seat in self.peers.seats(|peer| peer.media == MediaState::Complete) {
            let Some(socket) = self.peers[seat].connection else {
                continue;
            };
            let (wanted, pinned) = (self.speakers_for(seat), self.pinned_for(seat));
            let own = self.tracks.own(seat);
            let had = std::mem::replace(&mut own.speakers, wanted.clone());
            let mut entries = difference(had, &wanted);
            let had = std::mem::replace(&mut own.pinned, pinned);
            entries.extend(pins(&entries, had, pinned));
            if !entries.is_empty() {
                told.entry(entries).or_default().push(socket);
            }
        }
        for (entries, to) in told {
            turn.push_soon(to, event::SELECTED_PEERS_DIFF, &change(entries));
        }
    }

    /// The lists that a peer begins with; and what its client has to change if it had others.
    pub(super) fn speakers_from_now(
        &mut self,
        seat: Seat,
    ) -> (SelectedPeersResponse, SelectedPeersDiffResponse) {
        let (list, pinned) = (self.speakers_for(seat), self.pinned_for(seat));
        let first = SelectedPeersResponse {
            audio_peers: list.iter().map(ToString::to_string).collect(),
            compulsory_peers: pinned.iter().map(ToString::to_string).collect(),
        };
        let own = self.tracks.own(seat);
        own.speakers = list;
        let had = std::mem::replace(&mut own.pinned, pinned);
        (first, change(pins(&[], had, pinned)))
    }

    /// Clients whose request to receive failed, or who had to make their transport anew, do not ask
    /// again before somebody else speaks; an empty change of the list makes them look.
    pub(super) fn remind_soon(&mut self, turn: &Turn<'_>, seat: Seat, times: u32) {
        let own = self.tracks.own(seat);
        if own.reminders == 0 {
            self.at(turn.monotonic.after(REMIND_MS), Deadline::Remind(seat));
        }
        let own = self.tracks.own(seat);
        own.reminders = own.reminders.max(times);
    }

    pub(crate) fn remind(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let ready = self.peers.get(seat);
        let ready = ready.filter(|peer| peer.media == MediaState::Complete);
        let (Some(own), Some(peer)) = (self.tracks.known(seat), ready) else {
            if let Some(own) = self.tracks.known(seat) {
                own.reminders = 0;
            }
            return;
        };
        own.reminders = match own.reminders {
            left if own.consumes.is_empty() => left.saturating_sub(1),
            _ => 0,
        };
        let again = own.reminders > 0;
        let to = Vec::from_iter(peer.connection);
        let push = SelectedPeersDiffResponse::default();
        turn.push(to, event::SELECTED_PEERS_DIFF, &push);
        if again {
            self.at(turn.monotonic.after(REMIND_MS), Deadline::Remind(seat));
        }
    }
}

fn change(entries: Vec<(PeerId, i32)>) -> SelectedPeersDiffResponse {
    let entry = |(peer, priority): (PeerId, i32)| SelectedPeersDiffEntry {
        peer_id: peer.to_string(),
        priority,
    };
    SelectedPeersDiffResponse {
        entries: entries.into_iter().map(entry).collect(),
    }
}

/// What clients are told of who is pinned, after other entries: these take a peer that they name off
/// the list of those who are.
fn pins(after: &[(PeerId, i32)], had: Option<PeerId>, now: Option<PeerId>) -> Vec<(PeerId, i32)> {
    let unpinned = had.filter(|had| now != Some(*had));
    let named = |pinned: &PeerId| after.iter().any(|(peer, _)| peer == pinned);
    let pinned = now.filter(|now| had != Some(*now) || named(now));
    let entries = [(unpinned, UNPINNED), (pinned, PINNED)];
    let entries = entries.into_iter();
    entries
        .filter_map(|(peer, priority)| Some((peer?, priority)))
        .collect()
}

/// What makes one list of the other, as clients read it: each entry puts a peer at its place, counted
/// from 1, or takes it off the list.
fn difference(had: Vec<PeerId>, wanted: &[PeerId]) -> Vec<(PeerId, i32)> {
    let mut entries = Vec::new();
    let mut list = had;
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

    /// What a client does with a change.
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
        fn a_client_that_takes_every_change_has_the_list(had in list(), wanted in list()) {
            let entries = difference(had.clone(), &wanted);
            let mut list = had.clone();
            apply(&mut list, &entries);
            prop_assert_eq!(&list, &wanted);
            prop_assert_eq!(entries.is_empty(), had == wanted);
        }

        #[test]
        fn a_new_speaker_is_one_entry(had in list(), at in any::<prop::sample::Index>()) {
            prop_assume!(had.len() > 1);
            let mut wanted = had.clone();
            let speaker = wanted.remove(at.index(had.len()));
            wanted.insert(0, speaker);
            prop_assert!(difference(had, &wanted).len() <= 1);
        }
    }
}
