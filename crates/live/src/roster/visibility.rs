//! Visibility between peers, and the pushes when it changes.

use bytes::Bytes;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{PeerInfoResponse, PeerStatusUpdate};

use crate::input::ConnectionId;
use crate::output::EntryKind;
use crate::peer::{MediaState, Peer, Slot, can_see};
use crate::room::{Room, Step};

/// `PeerInfoResponse` with a peer that is already encoded. Identical on the wire. Avoids encoding
/// the same peer for each member of an audience.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedPeerResponse {
    #[prost(bytes = "bytes", tag = "1")]
    peer: Bytes,
}

impl Room {
    /// Changes a peer and pushes the consequences: to peers that start or stop seeing it, to peers
    /// that see its stage status change, and to the peer itself for each peer that it starts or
    /// stops seeing. Media that may no longer be published or received stops.
    pub(crate) fn apply_change(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        change: impl FnOnce(&mut Peer),
    ) {
        let visibility = |peer: &Peer| {
            let hidden = peer.permissions.hidden_participant;
            (hidden, peer.is_audience(), peer.stage)
        };
        let mut changed = self.peers[slot].clone();
        change(&mut changed);
        if visibility(&changed) == visibility(&self.peers[slot]) {
            self.peers[slot] = changed;
        } else {
            self.apply_visibility_change(step, slot, changed);
        }
        self.mute_forbidden_producers(step, slot);
    }

    /// Replaces a peer whose visibility changes.
    fn apply_visibility_change(&mut self, step: &mut Step<'_>, slot: Slot, changed: Peer) {
        let moves = self.peers[slot].stage != changed.stage;
        let (viewers_before, visible_before) = self.visibility_of(slot);
        self.peers[slot] = changed;
        let (viewers_after, visible_after) = self.visibility_of(slot);
        if moves {
            self.persist_stage(step, slot);
        }
        let subject = &self.peers[slot];
        let info = PeerInfoResponse {
            peer: Some(subject.info()),
        };
        let appears = without(&viewers_after, &viewers_before);
        step.push(self.sockets_of(appears, |_| true), event::JOIN_ROOM, &info);
        let vanishes = without(&viewers_before, &viewers_after);
        step.push(
            self.sockets_of(vanishes, |_| true),
            event::LEAVE_ROOM,
            &info,
        );
        if moves {
            let still = viewers_after.iter();
            let still = still.filter(|it| viewers_before.binary_search(it).is_ok());
            let status = self.stage_status(slot);
            let to = self.sockets_of(still, |_| true);
            step.push(to, event::PEER_STAGE_STATUS_UPDATE, &status);
        }
        if has_media(subject) {
            let appears = without(&viewers_after, &viewers_before);
            let to = self.sockets_of(appears, has_media);
            step.push(to, event::MEDIA_PEER_JOINED, &self.peer_joined_push(slot));
            let to = self.sockets_of(without(&viewers_before, &viewers_after), has_media);
            self.push_media_left(step, slot, to);
        }
        // A client that goes on the stage requests the roster itself.
        let come = without(&visible_after, &visible_before).filter(|_| !moves);
        self.push_appeared(step, slot, come.collect());
        let lost: Vec<&Slot> = without(&visible_before, &visible_after).collect();
        self.push_disappeared(step, slot, &lost);
        self.hide(step, slot, lost.into_iter());
        for viewer in without(&viewers_before, &viewers_after) {
            self.hide(step, *viewer, std::iter::once(&slot));
        }
    }

    /// Hides peers from a viewer.
    fn hide<'s>(
        &mut self,
        step: &mut Step<'_>,
        viewer: Slot,
        lost: impl Iterator<Item = &'s Slot> + Clone,
    ) {
        for subject in lost.clone() {
            let id = self.peers[*subject].id();
            self.tracks.forget_speaker_for(viewer, id);
        }
        self.revoke(step, viewer, lost);
    }

    /// Pushes peers that have become visible to a viewer. If there are too many, nothing is pushed,
    /// because one frame for each would overflow the socket's queue. The client then reads them
    /// from the roster.
    fn push_appeared(&self, step: &mut Step<'_>, slot: Slot, those: Vec<&Slot>) {
        let viewer = &self.peers[slot];
        let Some(socket) = viewer
            .connection
            .filter(|_| those.len() <= self.limits.individual_pushes)
        else {
            return;
        };
        for slot in &those {
            let peer = self.peers[**slot].encoded();
            step.push(
                vec![socket],
                event::JOIN_ROOM,
                &EncodedPeerResponse { peer },
            );
        }
        let with_media = those
            .into_iter()
            .filter(|slot| has_media(&self.peers[**slot]));
        for slot in with_media.filter(|_| has_media(viewer)) {
            step.push(
                vec![socket],
                event::MEDIA_PEER_JOINED,
                &self.peer_joined_push(*slot),
            );
        }
    }

    /// Pushes peers that are no longer visible to a viewer, with the same bound.
    fn push_disappeared(&self, step: &mut Step<'_>, slot: Slot, those: &[&Slot]) {
        let viewer = &self.peers[slot];
        let Some(socket) = viewer
            .connection
            .filter(|_| those.len() <= self.limits.individual_pushes)
        else {
            return;
        };
        for slot in those {
            let peer = self.peers[**slot].encoded();
            step.push(
                vec![socket],
                event::LEAVE_ROOM,
                &EncodedPeerResponse { peer },
            );
        }
        let with_media = those.iter().filter(|slot| has_media(&self.peers[***slot]));
        for slot in with_media.filter(|_| has_media(viewer)) {
            self.push_media_left(step, **slot, vec![socket]);
        }
    }

    /// The peers that can see a peer and the peers that it can see, both in slot order.
    fn visibility_of(&self, slot: Slot) -> (Vec<Slot>, Vec<Slot>) {
        let subject = &self.peers[slot];
        (
            self.peers.slots(|viewer| can_see(viewer, subject)),
            self.peers.slots(|other| can_see(subject, other)),
        )
    }

    /// Returns the sockets of the given peers that match `which`.
    fn sockets_of<'s>(
        &self,
        these: impl Iterator<Item = &'s Slot>,
        which: impl Fn(&Peer) -> bool,
    ) -> Vec<ConnectionId> {
        let peers = these.map(|slot| &self.peers[*slot]);
        let picked = peers.filter(|peer| which(peer));
        picked.filter_map(|peer| peer.connection).collect()
    }

    /// The push about a peer's stage status.
    pub(crate) fn stage_status(&self, slot: Slot) -> PeerStatusUpdate {
        let peer = &self.peers[slot];
        PeerStatusUpdate {
            peer_id: peer.id().to_string(),
            user_id: peer.participant_id().to_string(),
            stage_type: Some(peer.stage.into()),
        }
    }

    /// Persists a peer's stage status if the call has a stage for it.
    pub(super) fn persist_stage(&self, step: &mut Step<'_>, slot: Slot) {
        let peer = &self.peers[slot];
        let stage = u8::try_from(i32::from(peer.stage)).unwrap_or_default();
        let kept = peer.has_stage().then(|| vec![stage].into());
        self.persist_entry(step, EntryKind::Stage, peer.id().to_string(), kept);
    }
}

/// Whether the peer's media is ready.
fn has_media(peer: &Peer) -> bool {
    peer.media == MediaState::Ready
}

/// Returns the elements of `slots` that are not in `excluded`, which must be sorted.
fn without<'s>(slots: &'s [Slot], excluded: &'s [Slot]) -> impl Iterator<Item = &'s Slot> + Clone {
    slots
        .iter()
        .filter(|slot| excluded.binary_search(slot).is_err())
}
