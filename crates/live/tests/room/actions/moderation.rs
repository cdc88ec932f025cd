//! Moderation.

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    GlobalPeerPinningRequest, KickAllPeersRequest, PeerDisplayNameEditRequest,
};
use parlor_protocol::signal::socket::preset::{
    PresetUpdates, UpdatePeerPreset, UpdatePeersPresetRequest,
};
use parlor_protocol::signal::socket::room::{AcceptWaitingRoomRequests, RemoveParticipantsRequest};

use super::reply_if;
use crate::model::PeerState;
use crate::participants::PERMISSIONS;
use crate::simulation::Simulation;

impl Simulation {
    pub(super) fn answer_waiting(&mut self, slot: usize, other: usize, let_in: bool) {
        let participant = self.model.peers[other].participant;
        let event = if let_in {
            event::ACCEPT_WAITING_ROOM_REQUESTS
        } else {
            event::DENY_WAITING_ROOM_REQUESTS
        };
        let request = AcceptWaitingRoomRequests {
            user_ids: vec![self.model.user(participant)],
        };
        let should = if self.model.can_admit(slot) {
            Ok(None)
        } else {
            Err(())
        };
        let Some((_, effects)) = self.request(slot, event, &request, should) else {
            return;
        };
        for waiting in self.model.slots_of(participant) {
            match (self.model.peers[waiting].state, let_in) {
                (PeerState::Waiting | PeerState::Rejected, true) => self.model.admit(waiting),
                (PeerState::Waiting, false) => {
                    let peer = &mut self.model.peers[waiting];
                    peer.state = PeerState::Rejected;
                    peer.rejected_ms = self.world.monotonic_ms;
                }
                _ => {}
            }
        }
        self.settle(&effects);
    }

    pub(super) fn kick(&mut self, slot: usize, other: usize) {
        let allowed = self.model.is_inside(slot) && self.model.permissions(slot).kick_participant;
        let kick = RemoveParticipantsRequest {
            peer_ids: vec![self.model.peer_id(other)],
        };
        for _ in 0..2 {
            // A peer that kicks itself has no connection the second time.
            let should = if allowed { Ok(None) } else { Err(()) };
            if self.model.peers[slot].socket.is_none() {
                return;
            }
            let Some((_, effects)) = self.request(slot, event::KICK, &kick, should) else {
                return;
            };
            let victim = self.model.peers[other].state;
            if !matches!(victim, PeerState::Absent | PeerState::Lobby) {
                self.check_kicked(&[other], event::KICK, &effects);
                // A kicked participant has to be admitted again.
                let participant = self.model.peers[other].participant;
                self.model.participants[participant].admitted = false;
            }
            self.settle(&effects);
        }
    }

    pub(super) fn kick_all(&mut self, slot: usize) {
        let allowed = self.model.is_inside(slot) && self.model.permissions(slot).kick_participant;
        let should = if allowed { Ok(None) } else { Err(()) };
        let request = KickAllPeersRequest::default();
        let Some((_, effects)) = self.request(slot, event::KICK_ALL, &request, should) else {
            return;
        };
        let those = self.kickable();
        self.check_kicked(&those, event::KICK_ALL, &effects);
        self.settle(&effects);
        assert!(!self.model.live, "the session is still live");
    }

    pub(super) fn change_permissions(&mut self, slot: usize, other: usize, c: u8) {
        let participant = self.model.peers[other].participant;
        let permission = PERMISSIONS[usize::from(c >> 1) % PERMISSIONS.len()];
        let on = c.is_multiple_of(2);
        let Some(set) = permission.patch else { return };
        let slots = self.model.slots_of(participant);
        let unseen = slots.iter().any(|slot| self.model.peers[*slot].unseen);
        let here = slots
            .iter()
            .any(|slot| self.model.peers[*slot].state != PeerState::Absent);
        if unseen || !here {
            return;
        }
        let mut patch = PresetUpdates::default();
        set(&mut patch, on);
        let request = UpdatePeersPresetRequest {
            update_peers_presets: vec![UpdatePeerPreset {
                user_ids: self.model.user(participant),
                patch: Some(patch),
            }],
        };
        let allowed = self.model.is_inside(slot)
            && self
                .model
                .permissions(slot)
                .can_change_participant_permissions;
        let event = event::UPDATE_USER_PRESET;
        let Some((_, effects)) = self.request(slot, event, &request, reply_if(allowed, event))
        else {
            return;
        };
        for changed in &slots {
            let socket = self.model.peers[*changed].socket;
            assert_eq!(
                socket.map_or(0, |socket| effects.frames_to(socket, event).len()),
                usize::from(socket.is_some())
            );
        }
        let decided = self.model.participants[participant]
            .permissions
            .accept_waiting_requests;
        (permission.set)(&mut self.model.participants[participant].permissions, on);
        if !decided {
            for changed in &slots {
                self.model.admit_for_privileged(*changed);
            }
        }
        for changed in slots {
            let waits = self.model.peers[changed].state == PeerState::Waiting;
            if waits && !self.model.must_wait(changed) {
                self.model.admit(changed);
            }
        }
        self.settle(&effects);
    }

    pub(super) fn pin(&mut self, slot: usize, other: usize) {
        // The specification leaves open whether a peer may pin another that it cannot see.
        if slot != other && !self.model.can_see(slot, other) && self.model.is_inside(other) {
            return;
        }
        let hidden =
            self.model.permissions(other).hidden_participant || self.model.peers[other].unseen;
        let allowed = self.model.is_inside(slot)
            && self.model.permissions(slot).pin_participant
            && self.model.is_inside(other);
        if hidden && allowed {
            return;
        }
        let pin = GlobalPeerPinningRequest {
            participant_id: self.model.peer_id(other),
        };
        let should = reply_if(allowed, event::PIN_PEER);
        let Some((_, effects)) = self.request(slot, event::PIN_PEER, &pin, should) else {
            return;
        };
        for inside in self.model.insiders() {
            if let Some(socket) = self.model.peers[inside].socket {
                assert_eq!(effects.frames_to(socket, event::PEER_PINNED).len(), 1);
            }
        }
        self.settle(&effects);
    }

    pub(super) fn rename(&mut self, slot: usize, c: u8) {
        let rename = PeerDisplayNameEditRequest {
            participant_id: self.model.peer_id(0),
            display_name: format!("Name {c}"),
        };
        let allowed =
            self.model.is_inside(slot) && self.model.permissions(slot).can_edit_display_name;
        let event = event::CHANGE_DISPLAY_NAME;
        let Some((_, effects)) = self.request(slot, event, &rename, reply_if(allowed, event))
        else {
            return;
        };
        self.settle(&effects);
    }
}
