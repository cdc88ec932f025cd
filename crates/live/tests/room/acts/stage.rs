//! Who speaks, and who watches.

use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::livestreaming::{GrantStageAccessRequest, LeaveStageRequest};
use parlor_protocol::signal::socket::room::{PeerStatusUpdate, StageType};

use super::when;
use crate::simulation::Simulation;

impl Simulation {
    pub(super) fn ask_for_stage(&mut self, slot: usize, cancel: bool) {
        let inside = self.truth.inside(slot) && self.truth.has_stage(slot);
        let (access, stage) = (self.truth.access(slot), self.truth.peers[slot].stage);
        let (event, may, now) = if cancel {
            let asked = matches!(stage, StageType::RequestedStage | StageType::ApprovedStage);
            let now = if asked { StageType::OffStage } else { stage };
            (event::CANCEL_STAGE_REQUEST, true, now)
        } else {
            let up = matches!(stage, StageType::OnStage | StageType::ApprovedStage);
            let now = match access {
                _ if up => stage,
                MediaPermission::Allowed => StageType::ApprovedStage,
                _ => StageType::RequestedStage,
            };
            (
                event::REQUEST_STAGE_ACCESS,
                access != MediaPermission::NotAllowed,
                now,
            )
        };
        let should = if inside && may { Ok(None) } else { Err(()) };
        let Some((_, done)) = self.ask(slot, event, &(), should) else {
            return;
        };
        self.truth.peers[slot].stage = now;
        self.settle(&done);
    }

    fn staged(&self, person: usize) -> Option<Vec<usize>> {
        let slots = self.truth.slots_of(person);
        if slots.iter().any(|slot| self.truth.peers[*slot].unseen) {
            return None;
        }
        Some(
            slots
                .into_iter()
                .filter(|slot| self.truth.inside(*slot) && self.truth.has_stage(*slot))
                .collect(),
        )
    }

    pub(super) fn decide_stage(&mut self, slot: usize, other: usize, grant: bool) {
        let person = self.truth.peers[other].person;
        let Some(those) = self.staged(person) else {
            return;
        };
        let event = if grant {
            event::GRANT_STAGE_ACCESS
        } else {
            event::DENY_STAGE_ACCESS
        };
        let request = GrantStageAccessRequest {
            user_ids: vec![self.truth.user(person)],
        };
        let should = if self.truth.accepts_stage(slot) {
            Ok(None)
        } else {
            Err(())
        };
        let Some((_, done)) = self.ask(slot, event, &request, should) else {
            return;
        };
        for other in those {
            let peer = &mut self.truth.peers[other];
            let told = peer.socket.map_or(0, |socket| done.of(socket, event).len());
            let waits = matches!(
                peer.stage,
                StageType::RequestedStage | StageType::ApprovedStage
            );
            let moves = if grant {
                matches!(peer.stage, StageType::RequestedStage | StageType::OffStage)
            } else {
                waits
            };
            assert_eq!(told, usize::from(moves && peer.socket.is_some()));
            if moves {
                peer.stage = if grant {
                    StageType::ApprovedStage
                } else {
                    StageType::OffStage
                };
            }
        }
        self.settle(&done);
    }

    pub(super) fn go_on_stage(&mut self, slot: usize) {
        let peer = &self.truth.peers[slot];
        let up = matches!(peer.stage, StageType::OnStage | StageType::ApprovedStage);
        let may = up || self.truth.access(slot) == MediaPermission::Allowed;
        let may = may && self.truth.inside(slot) && self.truth.has_stage(slot);
        let should = when(may, event::PEER_STAGE_STATUS_UPDATE);
        let Some((reply, done)) = self.ask(slot, event::JOIN_STAGE, &(), should) else {
            return;
        };
        assert_eq!(
            reply
                .expect("a reply")
                .read::<PeerStatusUpdate>()
                .stage_type(),
            StageType::OnStage
        );
        self.truth.peers[slot].stage = StageType::OnStage;
        // A viewer of a livestream joins again now, and learns who else is there.
        self.clients[slot].roster = None;
        self.clients[slot].tracks = None;
        self.settle(&done);
        self.join(slot);
    }

    pub(super) fn leave_stage(&mut self, slot: usize, other: usize, own: bool) {
        let mine = self.truth.peers[slot].person;
        let person = if own {
            mine
        } else {
            self.truth.peers[other].person
        };
        if !own && person == mine {
            return;
        }
        let Some(those) = self.staged(person) else {
            return;
        };
        let request = LeaveStageRequest {
            user_ids: vec![self.truth.user(person)],
        };
        let may = if own {
            self.truth.inside(slot) && self.truth.has_stage(slot)
        } else {
            self.truth.accepts_stage(slot)
        };
        let reply = if own {
            event::PEER_STAGE_STATUS_UPDATE
        } else {
            event::LEAVE_STAGE
        };
        let Some((_, done)) = self.ask(slot, event::LEAVE_STAGE, &request, when(may, reply)) else {
            return;
        };
        for down in if own { vec![slot] } else { those } {
            self.truth.peers[down].stage = StageType::OffStage;
        }
        self.settle(&done);
    }
}
