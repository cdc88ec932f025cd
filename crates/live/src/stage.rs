//! The stage of webinars and livestreams (docs/spec/signalling.md 6.8).

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::livestreaming::{
    DenyStageAccessRequest, GetStageRequestsResponse, GrantStageAccessRequest, LeaveStageRequest,
    StageRequest,
};
use parlor_protocol::signal::socket::room::{GetRoomStageStateResponse, StageType};

use crate::frame::parse_ids;
use crate::output::Refusal;
use crate::peer::{Peer, Slot};
use crate::room::{Outcome, RequestContext, Room, Step, Task};

impl Room {
    /// `requestStageAccess`.
    pub(crate) fn request_stage(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let peer = self.peer_with_stage(ctx.slot)?;
        match (peer.stage_access(), peer.stage) {
            (MediaPermission::NotAllowed, _) => Err(Refusal::forbidden("stage_access")),
            (_, StageType::OnStage | StageType::ApprovedStage) => Ok(()),
            // The client joins the stage without an approval.
            (MediaPermission::Allowed, _) => {
                self.set_stage(step, ctx.slot, StageType::ApprovedStage);
                Ok(())
            }
            (MediaPermission::CanRequest, _) => {
                self.set_stage(step, ctx.slot, StageType::RequestedStage);
                self.push_stage_requests(step);
                Ok(())
            }
        }
    }

    /// `cancelStageRequest`.
    pub(crate) fn cancel_stage_request(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let peer = self.peer_with_stage(ctx.slot)?;
        if matches!(
            peer.stage,
            StageType::RequestedStage | StageType::ApprovedStage
        ) {
            self.set_stage(step, ctx.slot, StageType::OffStage);
            self.push_stage_requests(step);
        }
        Ok(())
    }

    /// `getStageRequests`.
    pub(crate) fn stage_requests(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.check_can_accept_stage(ctx)?;
        ctx.reply(step, &self.stage_request_list());
        Ok(())
    }

    /// `grantStageAccess`. Also applies to participants who have not requested access.
    pub(crate) fn grant_stage(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.check_can_accept_stage(ctx)?;
        let request: GrantStageAccessRequest = ctx.message()?;
        let participants = self.staged_peers_of(&request.user_ids);
        self.run_stage_tasks(step, ctx, participants, Task::GrantStage)
    }

    /// Grants a peer stage access and notifies it.
    pub(crate) fn grant_stage_to(&mut self, step: &mut Step<'_>, slot: Slot) {
        let stage = self
            .peers
            .get(slot)
            .filter(|peer| peer.has_joined() && peer.has_stage());
        let decided = |stage| matches!(stage, StageType::OnStage | StageType::ApprovedStage);
        if stage.is_none_or(|peer| decided(peer.stage)) {
            return;
        }
        self.set_stage(step, slot, StageType::ApprovedStage);
        let user_ids = vec![self.peers[slot].participant_id().to_string()];
        let to = Vec::from_iter(self.peers[slot].connection);
        step.push(
            to,
            event::GRANT_STAGE_ACCESS,
            &GrantStageAccessRequest { user_ids },
        );
    }

    /// Runs stage tasks, then pushes the stage requests once.
    fn run_stage_tasks(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
        participants: Vec<Slot>,
        task: fn(Slot) -> Task,
    ) -> Outcome {
        self.check_task_quota(ctx.slot, participants.len())?;
        let tasks = participants.into_iter().map(task);
        let tasks = tasks.chain([Task::PushStageRequests]);
        self.run_tasks(step, Some(ctx.slot), tasks);
        Ok(())
    }

    /// `denyStageAccess`.
    pub(crate) fn deny_stage(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.check_can_accept_stage(ctx)?;
        let request: DenyStageAccessRequest = ctx.message()?;
        let participants = self.staged_peers_of(&request.user_ids);
        self.run_stage_tasks(step, ctx, participants, Task::DenyStage)
    }

    /// Denies a peer stage access. It is notified before the others: a status push about itself
    /// would make its client leave the stage.
    pub(crate) fn deny_stage_to(&mut self, step: &mut Step<'_>, slot: Slot) {
        let peer = self.peers.get(slot);
        let asks = peer.is_some_and(|peer| {
            matches!(
                peer.stage,
                StageType::RequestedStage | StageType::ApprovedStage
            )
        });
        if asks {
            let user_ids = vec![self.peers[slot].participant_id().to_string()];
            let to = Vec::from_iter(self.peers[slot].connection);
            step.push(
                to,
                event::DENY_STAGE_ACCESS,
                &DenyStageAccessRequest { user_ids },
            );
            self.set_stage(step, slot, StageType::OffStage);
        }
    }

    /// `joinStage`. The reply is on the status event.
    pub(crate) fn join_stage(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let peer = self.peer_with_stage(ctx.slot)?;
        let up = matches!(peer.stage, StageType::OnStage | StageType::ApprovedStage);
        if !up && peer.stage_access() != MediaPermission::Allowed {
            return Err(Refusal::forbidden("stage_access"));
        }
        self.set_stage(step, ctx.slot, StageType::OnStage);
        let status = self.stage_status(ctx.slot);
        ctx.reply_on(step, event::PEER_STAGE_STATUS_UPDATE, &status);
        Ok(())
    }

    /// `leaveStage`: for the requester, or for other participants.
    pub(crate) fn leave_stage(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.peer_with_stage(ctx.slot)?;
        let request: LeaveStageRequest = ctx.message()?;
        let me = self.peer_with_stage(ctx.slot)?;
        let mine = me.participant_id().to_string();
        let (id, own) = (
            me.id(),
            request.user_ids.is_empty() || request.user_ids.contains(&mine),
        );
        if request.user_ids.iter().any(|user| *user != mine) {
            self.check_can_accept_stage(ctx)?;
            let mut participants = self.staged_peers_of(&request.user_ids);
            participants.retain(|slot| self.peers[*slot].id() != id);
            self.run_stage_tasks(step, ctx, participants, Task::RemoveFromStage)?;
            ctx.reply(step, &request);
        }
        if own {
            let asks = self.peers[ctx.slot].stage == StageType::RequestedStage;
            self.set_stage(step, ctx.slot, StageType::OffStage);
            if asks {
                self.push_stage_requests(step);
            }
            let status = self.stage_status(ctx.slot);
            ctx.reply_on(step, event::PEER_STAGE_STATUS_UPDATE, &status);
        }
        Ok(())
    }

    /// Removes a peer from the stage. Its client leaves the stage on a status push about itself.
    pub(crate) fn remove_from_stage(&mut self, step: &mut Step<'_>, slot: Slot) {
        let peer = self.peers.get(slot);
        if peer.is_some_and(|peer| peer.has_joined() && peer.stage != StageType::OffStage) {
            self.set_stage(step, slot, StageType::OffStage);
            let to = Vec::from_iter(self.peers[slot].connection);
            let status = self.stage_status(slot);
            step.push(to, event::PEER_STAGE_STATUS_UPDATE, &status);
        }
    }

    /// `getRoomStageState`.
    pub(crate) fn stage_state(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.peer_with_stage(ctx.slot)?;
        let me = &self.peers[ctx.slot];
        let at = |stage| {
            let peers = self.peers.iter().map(|(_, peer)| peer);
            let seen = peers.filter(|peer| peer.id() == me.id() || crate::peer::can_see(me, peer));
            let on_stage_type = seen.filter(|peer| peer.stage == stage);
            on_stage_type.map(|peer| peer.id().to_string()).collect()
        };
        let state = GetRoomStageStateResponse {
            on_stage_peers: at(StageType::OnStage),
            approved_stage_peers: at(StageType::ApprovedStage),
            requested_stage_peers: at(StageType::RequestedStage),
        };
        ctx.reply(step, &state);
        Ok(())
    }

    /// Pushes the complete list of stage requests to peers that can grant stage access and may go
    /// on the stage themselves.
    pub(crate) fn push_stage_requests(&self, step: &mut Step<'_>) {
        let deciding = self.peers.sockets(|peer| {
            let may = peer.accepts_stage() && peer.stage_access() == MediaPermission::Allowed;
            peer.has_joined() && peer.has_stage() && may
        });
        if !deciding.is_empty() {
            step.push(
                deciding,
                event::GET_STAGE_REQUESTS,
                &self.stage_request_list(),
            );
        }
    }

    /// Sets a peer's stage status and pushes it.
    fn set_stage(&mut self, step: &mut Step<'_>, slot: Slot, stage: StageType) {
        self.apply_change(step, slot, |peer| peer.stage = stage);
    }

    /// The peer, if it has joined and the call has a stage for it.
    fn peer_with_stage(&self, slot: Slot) -> Result<&Peer, Refusal> {
        let peer = self.joined_peer(slot)?;
        if peer.has_stage() {
            Ok(peer)
        } else {
            Err(Refusal::new(400, "this call has no stage"))
        }
    }

    fn staged_peers_of(&self, users: &[String]) -> Vec<Slot> {
        let users = parse_ids::<ParticipantId>(users);
        self.peers.slots(|peer| {
            let staged = peer.has_joined() && peer.has_stage();
            staged && users.contains(&peer.participant_id())
        })
    }

    fn check_can_accept_stage(&self, ctx: &RequestContext<'_>) -> Outcome {
        if self.peer_with_stage(ctx.slot)?.accepts_stage() {
            Ok(())
        } else {
            Err(Refusal::forbidden("accept_stage_requests"))
        }
    }

    fn stage_request_list(&self) -> GetStageRequestsResponse {
        let asking = self.peers.iter().map(|(_, peer)| peer);
        let asking =
            asking.filter(|peer| peer.has_joined() && peer.stage == StageType::RequestedStage);
        let stage_requests = asking.map(|peer| StageRequest {
            display_name: peer.name.clone(),
            user_id: peer.participant_id().to_string(),
            peer_id: peer.id().to_string(),
        });
        GetStageRequestsResponse {
            stage_requests: stage_requests.collect(),
        }
    }
}
