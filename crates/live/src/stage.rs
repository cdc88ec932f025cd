//! The stage of webinars and livestreams (docs/spec/signalling.md 6.8).

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::livestreaming::{
    DenyStageAccessRequest, GetStageRequestsResponse, GrantStageAccessRequest, LeaveStageRequest,
    StageRequest,
};
use parlor_protocol::signal::socket::room::{GetRoomStageStateResponse, StageType};

use crate::frame::named;
use crate::output::Refusal;
use crate::peer::{Peer, Seat};
use crate::room::{Act, Outcome, RequestContext, Room, Turn};

impl Room {
    /// `requestStageAccess`.
    pub(crate) fn request_stage(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let peer = self.staged(asked.seat)?;
        match (peer.stage_access(), peer.stage) {
            (MediaPermission::NotAllowed, _) => Err(Refusal::forbidden("stage_access")),
            (_, StageType::OnStage | StageType::ApprovedStage) => Ok(()),
            // Its own client lets it go up without asking.
            (MediaPermission::Allowed, _) => {
                self.set_stage(turn, asked.seat, StageType::ApprovedStage);
                Ok(())
            }
            (MediaPermission::CanRequest, _) => {
                self.set_stage(turn, asked.seat, StageType::RequestedStage);
                self.tell_stage_requests(turn);
                Ok(())
            }
        }
    }

    /// `cancelStageRequest`.
    pub(crate) fn cancel_stage_request(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let peer = self.staged(asked.seat)?;
        if matches!(
            peer.stage,
            StageType::RequestedStage | StageType::ApprovedStage
        ) {
            self.set_stage(turn, asked.seat, StageType::OffStage);
            self.tell_stage_requests(turn);
        }
        Ok(())
    }

    /// `getStageRequests`.
    pub(crate) fn stage_requests(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.must_accept_stage(asked)?;
        asked.reply(turn, &self.requests());
        Ok(())
    }

    /// `grantStageAccess`: also to people who have not asked.
    pub(crate) fn grant_stage(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.must_accept_stage(asked)?;
        let request: GrantStageAccessRequest = asked.message()?;
        let people = self.staged_among(&request.user_ids);
        self.decide(turn, asked, people, Act::Grant)
    }

    /// Somebody is let on the stage, and is told so.
    pub(crate) fn grant_to(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let stage = self
            .peers
            .get(seat)
            .filter(|peer| peer.is_inside() && peer.has_stage());
        let decided = |stage| matches!(stage, StageType::OnStage | StageType::ApprovedStage);
        if stage.is_none_or(|peer| decided(peer.stage)) {
            return;
        }
        self.set_stage(turn, seat, StageType::ApprovedStage);
        let user_ids = vec![self.peers[seat].user().to_string()];
        let to = Vec::from_iter(self.peers[seat].connection);
        turn.push(
            to,
            event::GRANT_STAGE_ACCESS,
            &GrantStageAccessRequest { user_ids },
        );
    }

    /// Those who decide learn of it once it is done for all.
    fn decide(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
        people: Vec<Seat>,
        act: fn(Seat) -> Act,
    ) -> Outcome {
        self.may_add(asked.seat, people.len())?;
        let acts = people.into_iter().map(act);
        let acts = acts.chain([Act::TellStageRequests]);
        self.carry_out(turn, Some(asked.seat), acts);
        Ok(())
    }

    /// `denyStageAccess`.
    pub(crate) fn deny_stage(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.must_accept_stage(asked)?;
        let request: DenyStageAccessRequest = asked.message()?;
        let people = self.staged_among(&request.user_ids);
        self.decide(turn, asked, people, Act::DenyStage)
    }

    /// Somebody is not let on the stage. They are told before the others: a status of its own would
    /// make their client leave the stage.
    pub(crate) fn deny_to(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let peer = self.peers.get(seat);
        let asks = peer.is_some_and(|peer| {
            matches!(
                peer.stage,
                StageType::RequestedStage | StageType::ApprovedStage
            )
        });
        if asks {
            let user_ids = vec![self.peers[seat].user().to_string()];
            let to = Vec::from_iter(self.peers[seat].connection);
            turn.push(
                to,
                event::DENY_STAGE_ACCESS,
                &DenyStageAccessRequest { user_ids },
            );
            self.set_stage(turn, seat, StageType::OffStage);
        }
    }

    /// `joinStage`, answered on the status event.
    pub(crate) fn join_stage(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let peer = self.staged(asked.seat)?;
        let up = matches!(peer.stage, StageType::OnStage | StageType::ApprovedStage);
        if !up && peer.stage_access() != MediaPermission::Allowed {
            return Err(Refusal::forbidden("stage_access"));
        }
        self.set_stage(turn, asked.seat, StageType::OnStage);
        let status = self.stage_status(asked.seat);
        asked.reply_on(turn, event::PEER_STAGE_STATUS_UPDATE, &status);
        Ok(())
    }

    /// `leaveStage`: the own place on it, or somebody else's.
    pub(crate) fn leave_stage(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.staged(asked.seat)?;
        let request: LeaveStageRequest = asked.message()?;
        let me = self.staged(asked.seat)?;
        let mine = me.user().to_string();
        let (id, own) = (
            me.id(),
            request.user_ids.is_empty() || request.user_ids.contains(&mine),
        );
        if request.user_ids.iter().any(|user| *user != mine) {
            self.must_accept_stage(asked)?;
            let mut people = self.staged_among(&request.user_ids);
            people.retain(|seat| self.peers[*seat].id() != id);
            self.decide(turn, asked, people, Act::OffStage)?;
            asked.reply(turn, &request);
        }
        if own {
            let asks = self.peers[asked.seat].stage == StageType::RequestedStage;
            self.set_stage(turn, asked.seat, StageType::OffStage);
            if asks {
                self.tell_stage_requests(turn);
            }
            let status = self.stage_status(asked.seat);
            asked.reply_on(turn, event::PEER_STAGE_STATUS_UPDATE, &status);
        }
        Ok(())
    }

    /// Somebody is sent off the stage: their client leaves it when it hears of itself.
    pub(crate) fn put_off_stage(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let peer = self.peers.get(seat);
        if peer.is_some_and(|peer| peer.is_inside() && peer.stage != StageType::OffStage) {
            self.set_stage(turn, seat, StageType::OffStage);
            let to = Vec::from_iter(self.peers[seat].connection);
            let status = self.stage_status(seat);
            turn.push(to, event::PEER_STAGE_STATUS_UPDATE, &status);
        }
    }

    /// `getRoomStageState`.
    pub(crate) fn stage_state(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.staged(asked.seat)?;
        let me = &self.peers[asked.seat];
        let at = |stage| {
            let peers = self.peers.iter().map(|(_, peer)| peer);
            let seen = peers.filter(|peer| peer.id() == me.id() || crate::peer::sees(me, peer));
            let there = seen.filter(|peer| peer.stage == stage);
            there.map(|peer| peer.id().to_string()).collect()
        };
        let state = GetRoomStageStateResponse {
            on_stage_peers: at(StageType::OnStage),
            approved_stage_peers: at(StageType::ApprovedStage),
            requested_stage_peers: at(StageType::RequestedStage),
        };
        asked.reply(turn, &state);
        Ok(())
    }

    /// Those who decide and are on the stage themselves get the complete list after every change.
    pub(crate) fn tell_stage_requests(&self, turn: &mut Turn<'_>) {
        let deciding = self.peers.sockets(|peer| {
            let may = peer.accepts_stage() && peer.stage_access() == MediaPermission::Allowed;
            peer.is_inside() && peer.has_stage() && may
        });
        if !deciding.is_empty() {
            turn.push(deciding, event::GET_STAGE_REQUESTS, &self.requests());
        }
    }

    /// Moves a peer and tells the others.
    fn set_stage(&mut self, turn: &mut Turn<'_>, seat: Seat, stage: StageType) {
        self.change(turn, seat, |peer| peer.stage = stage);
    }

    /// The peer, if it is inside and the call has a stage for it.
    fn staged(&self, seat: Seat) -> Result<&Peer, Refusal> {
        let peer = self.inside(seat)?;
        if peer.has_stage() {
            Ok(peer)
        } else {
            Err(Refusal::new(400, "this call has no stage"))
        }
    }

    fn staged_among(&self, users: &[String]) -> Vec<Seat> {
        let users = named::<ParticipantId>(users);
        self.peers.seats(|peer| {
            let staged = peer.is_inside() && peer.has_stage();
            staged && users.contains(&peer.user())
        })
    }

    fn must_accept_stage(&self, asked: &RequestContext<'_>) -> Outcome {
        if self.staged(asked.seat)?.accepts_stage() {
            Ok(())
        } else {
            Err(Refusal::forbidden("accept_stage_requests"))
        }
    }

    fn requests(&self) -> GetStageRequestsResponse {
        let asking = self.peers.iter().map(|(_, peer)| peer);
        let asking =
            asking.filter(|peer| peer.is_inside() && peer.stage == StageType::RequestedStage);
        let stage_requests = asking.map(|peer| StageRequest {
            display_name: peer.name.clone(),
            user_id: peer.user().to_string(),
            peer_id: peer.id().to_string(),
        });
        GetStageRequestsResponse {
            stage_requests: stage_requests.collect(),
        }
    }
}
