//! The stage.

use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::livestreaming::{GrantStageAccessRequest, LeaveStageRequest};
use parlor_protocol::signal::socket::room::{PeerStatusUpdate, StageType};

use super::reply_if;
use crate::simulation::Simulation;

impl Simulation {
    pub(super) fn request_stage(&mut self, slot: usize, cancel: bool) {
        let inside = self.model.is_inside(slot) && self.model.has_stage(slot);
        let (access, stage) = (self.model.access(slot), self.model.peers[slot].stage);
        let (event, allowed, now) = if cancel {
            let pending = matches!(stage, StageType::RequestedStage | StageType::ApprovedStage);
            let now = if pending { StageType::OffStage } else { stage };
            (event::CANCEL_STAGE_REQUEST, true, now)
        } else {
            let on_stage = matches!(stage, StageType::OnStage | StageType::ApprovedStage);
            let now = match access {
                _ if on_stage => stage,
                MediaPermission::Allowed => StageType::ApprovedStage,
                _ => StageType::RequestedStage,
            };
            (
                event::REQUEST_STAGE_ACCESS,
                access != MediaPermission::NotAllowed,
                now,
            )
        };
        let should = if inside && allowed { Ok(None) } else { Err(()) };
        let Some((_, effects)) = self.request(slot, event, &(), should) else {
            return;
        };
        self.model.peers[slot].stage = now;
        self.settle(&effects);
    }

    fn slots_with_stage(&self, participant: usize) -> Option<Vec<usize>> {
        let slots = self.model.slots_of(participant);
        if slots.iter().any(|slot| self.model.peers[*slot].unseen) {
            return None;
        }
        Some(
            slots
                .into_iter()
                .filter(|slot| self.model.is_inside(*slot) && self.model.has_stage(*slot))
                .collect(),
        )
    }

    pub(super) fn answer_stage_request(&mut self, slot: usize, other: usize, grant: bool) {
        let participant = self.model.peers[other].participant;
        let Some(those) = self.slots_with_stage(participant) else {
            return;
        };
        let event = if grant {
            event::GRANT_STAGE_ACCESS
        } else {
            event::DENY_STAGE_ACCESS
        };
        let request = GrantStageAccessRequest {
            user_ids: vec![self.model.user(participant)],
        };
        let should = if self.model.accepts_stage(slot) {
            Ok(None)
        } else {
            Err(())
        };
        let Some((_, effects)) = self.request(slot, event, &request, should) else {
            return;
        };
        for other in those {
            let peer = &mut self.model.peers[other];
            let received = peer
                .socket
                .map_or(0, |socket| effects.frames_to(socket, event).len());
            let waits = matches!(
                peer.stage,
                StageType::RequestedStage | StageType::ApprovedStage
            );
            let moves = if grant {
                matches!(peer.stage, StageType::RequestedStage | StageType::OffStage)
            } else {
                waits
            };
            assert_eq!(received, usize::from(moves && peer.socket.is_some()));
            if moves {
                peer.stage = if grant {
                    StageType::ApprovedStage
                } else {
                    StageType::OffStage
                };
            }
        }
        self.settle(&effects);
    }

    pub(super) fn join_stage(&mut self, slot: usize) {
        let peer = &self.model.peers[slot];
        let on_stage = matches!(peer.stage, StageType::OnStage | StageType::ApprovedStage);
        let allowed = on_stage || self.model.access(slot) == MediaPermission::Allowed;
        let allowed = allowed && self.model.is_inside(slot) && self.model.has_stage(slot);
        let should = reply_if(allowed, event::PEER_STAGE_STATUS_UPDATE);
        let Some((reply, effects)) = self.request(slot, event::JOIN_STAGE, &(), should) else {
            return;
        };
        assert_eq!(
            reply
                .expect("a reply")
                .decode::<PeerStatusUpdate>()
                .stage_type(),
            StageType::OnStage
        );
        self.model.peers[slot].stage = StageType::OnStage;
        // A viewer of a livestream now joins again and receives the joined peers.
        self.clients[slot].roster = None;
        self.clients[slot].tracks = None;
        self.settle(&effects);
        self.join(slot);
    }

    pub(super) fn leave_stage(&mut self, slot: usize, other: usize, own: bool) {
        let mine = self.model.peers[slot].participant;
        let participant = if own {
            mine
        } else {
            self.model.peers[other].participant
        };
        if !own && participant == mine {
            return;
        }
        let Some(those) = self.slots_with_stage(participant) else {
            return;
        };
        let request = LeaveStageRequest {
            user_ids: vec![self.model.user(participant)],
        };
        let allowed = if own {
            self.model.is_inside(slot) && self.model.has_stage(slot)
        } else {
            self.model.accepts_stage(slot)
        };
        let reply = if own {
            event::PEER_STAGE_STATUS_UPDATE
        } else {
            event::LEAVE_STAGE
        };
        let Some((_, effects)) =
            self.request(slot, event::LEAVE_STAGE, &request, reply_if(allowed, reply))
        else {
            return;
        };
        for down in if own { vec![slot] } else { those } {
            self.model.peers[down].stage = StageType::OffStage;
        }
        self.settle(&effects);
    }
}
