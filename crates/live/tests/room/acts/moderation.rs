//! What some decide about others.

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    GlobalPeerPinningRequest, KickAllPeersRequest, PeerDisplayNameEditRequest,
};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{AcceptWaitingRoomRequests, RemoveParticipantsRequest};

use super::when;
use crate::people::RIGHTS;
use crate::simulation::Simulation;
use crate::truth::Place;

impl Simulation {
    pub(super) fn decide(&mut self, slot: usize, other: usize, let_in: bool) {
        let person = self.truth.peers[other].person;
        let event = if let_in {
            event::ACCEPT_WAITING_ROOM_REQUESTS
        } else {
            event::DENY_WAITING_ROOM_REQUESTS
        };
        let request = AcceptWaitingRoomRequests {
            user_ids: vec![self.truth.user(person)],
        };
        let should = if self.truth.decides(slot) {
            Ok(None)
        } else {
            Err(())
        };
        let Some((_, done)) = self.ask(slot, event, &request, should) else {
            return;
        };
        for waiting in self.truth.slots_of(person) {
            match (self.truth.peers[waiting].place, let_in) {
                (Place::Waiting | Place::Rejected, true) => self.truth.admit(waiting),
                (Place::Waiting, false) => {
                    let peer = &mut self.truth.peers[waiting];
                    peer.place = Place::Rejected;
                    peer.rejected_ms = self.world.monotonic_ms;
                }
                _ => {}
            }
        }
        self.settle(&done);
    }

    pub(super) fn kick(&mut self, slot: usize, other: usize) {
        let may = self.truth.inside(slot) && self.truth.may(slot).kick_participant;
        let kick = RemoveParticipantsRequest {
            peer_ids: vec![self.truth.peer_id(other)],
        };
        for _ in 0..2 {
            // Who kicks itself has no socket the second time.
            let should = if may { Ok(None) } else { Err(()) };
            if self.truth.peers[slot].socket.is_none() {
                return;
            }
            let Some((_, done)) = self.ask(slot, event::KICK, &kick, should) else {
                return;
            };
            let victim = self.truth.peers[other].place;
            if !matches!(victim, Place::Gone | Place::Lobby) {
                self.thrown_out(&[other], event::KICK, &done);
                // Whoever was let in once has to be let in again.
                let person = self.truth.peers[other].person;
                self.truth.people[person].admitted = false;
            }
            self.settle(&done);
        }
    }

    pub(super) fn kick_all(&mut self, slot: usize) {
        let may = self.truth.inside(slot) && self.truth.may(slot).kick_participant;
        let should = if may { Ok(None) } else { Err(()) };
        let request = KickAllPeersRequest::default();
        let Some((_, done)) = self.ask(slot, event::KICK_ALL, &request, should) else {
            return;
        };
        let those = self.known();
        self.thrown_out(&those, event::KICK_ALL, &done);
        self.settle(&done);
        assert!(!self.truth.live, "the session has ended");
    }

    pub(super) fn change_permissions(&mut self, slot: usize, other: usize, c: u8) {
        let person = self.truth.peers[other].person;
        let right = RIGHTS[usize::from(c >> 1) % RIGHTS.len()];
        let on = c.is_multiple_of(2);
        let Some(set) = right.patch else { return };
        let slots = self.truth.slots_of(person);
        let unseen = slots.iter().any(|slot| self.truth.peers[*slot].unseen);
        let here = slots
            .iter()
            .any(|slot| self.truth.peers[*slot].place != Place::Gone);
        if unseen || !here {
            return;
        }
        let mut patch = PresetUpdates::default();
        set(&mut patch, on);
        let request = UpdatePeersPresetRequest {
            update_peers_presets: vec![UpdatePeerPreset {
                user_ids: self.truth.user(person),
                patch: Some(patch),
            }],
        };
        let may =
            self.truth.inside(slot) && self.truth.may(slot).can_change_participant_permissions;
        let event = event::UPDATE_USER_PRESET;
        let Some((_, done)) = self.ask(slot, event, &request, when(may, event)) else {
            return;
        };
        for changed in &slots {
            let socket = self.truth.peers[*changed].socket;
            assert_eq!(
                socket.map_or(0, |socket| done.of(socket, event).len()),
                usize::from(socket.is_some())
            );
        }
        let decided = self.truth.people[person].may.accept_waiting_requests;
        (right.set)(&mut self.truth.people[person].may, on);
        if !decided {
            for changed in &slots {
                self.truth.somebody_decides(*changed);
            }
        }
        for changed in slots {
            let waits = self.truth.peers[changed].place == Place::Waiting;
            if waits && !self.truth.must_wait(changed) {
                self.truth.admit(changed);
            }
        }
        self.settle(&done);
    }

    pub(super) fn pin(&mut self, slot: usize, other: usize) {
        // Whether one may pin whom one does not see is open.
        if slot != other && !self.truth.sees(slot, other) && self.truth.inside(other) {
            return;
        }
        let hidden = self.truth.may(other).hidden_participant || self.truth.peers[other].unseen;
        let may = self.truth.inside(slot)
            && self.truth.may(slot).pin_participant
            && self.truth.inside(other);
        if hidden && may {
            return;
        }
        let pin = GlobalPeerPinningRequest {
            participant_id: self.truth.peer_id(other),
        };
        let should = when(may, event::PIN_PEER);
        let Some((_, done)) = self.ask(slot, event::PIN_PEER, &pin, should) else {
            return;
        };
        for inside in self.truth.insiders() {
            if let Some(socket) = self.truth.peers[inside].socket {
                assert_eq!(done.of(socket, event::PEER_PINNED).len(), 1);
            }
        }
        self.settle(&done);
    }

    pub(super) fn rename(&mut self, slot: usize, c: u8) {
        let rename = PeerDisplayNameEditRequest {
            participant_id: self.truth.peer_id(0),
            display_name: format!("Name {c}"),
        };
        let may = self.truth.inside(slot) && self.truth.may(slot).can_edit_display_name;
        let event = event::CHANGE_DISPLAY_NAME;
        let Some((_, done)) = self.ask(slot, event, &rename, when(may, event)) else {
            return;
        };
        self.settle(&done);
    }
}
