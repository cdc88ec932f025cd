//! The waiting room (docs/spec/signalling.md 6.5).

use bytes::Bytes;
use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::WaitingRoomType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, DenyWaitingRoomRequests, GetWaitingRoomRequests, WaitingRoomRequest,
};

use crate::frame::parse_ids;
use crate::input::ConnectionId;
use crate::output::{EntryKind, Refusal};
use crate::peer::{Peer, PeerState, Slot};
use crate::room::{Deadline, Outcome, RequestContext, Room, Step, Task};

/// Base cost of admitting a peer, in cost units.
const ADMIT_COST: usize = 20;

fn can_admit(peer: &Peer) -> bool {
    peer.has_joined() && !peer.removed && peer.permissions.accept_waiting_requests
}

impl Room {
    /// Whether the peer would have to wait if it joined now.
    pub(crate) fn must_wait(&self, slot: Slot) -> bool {
        let peer = &self.peers[slot];
        let admitted = self
            .participants
            .get(&peer.participant_id())
            .is_some_and(|state| state.admitted);
        // Peers that can admit others need no admission.
        if admitted || peer.state == PeerState::Admitted || peer.permissions.accept_waiting_requests
        {
            return false;
        }
        match peer.permissions.waiting_room_type {
            WaitingRoomType::Skip => false,
            WaitingRoomType::SkipOnAccept => true,
            WaitingRoomType::OnPrivilegedUserEntry => {
                !self.peers.iter().any(|(_, peer)| can_admit(peer))
            }
        }
    }

    pub(crate) fn put_in_waiting_room(&mut self, step: &mut Step<'_>, slot: Slot) {
        if self.peers[slot].state != PeerState::Waiting {
            self.peers.set_state(slot, PeerState::Waiting);
            self.waiting_list_changed(step);
        }
    }

    /// `getWaitingRoomRequests`.
    pub(crate) fn waiting_list(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.check_can_admit(ctx)?;
        ctx.reply(step, &self.waiting_requests());
        Ok(())
    }

    /// `acceptWaitingRoomRequests`.
    pub(crate) fn accept_waiting(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.check_can_admit(ctx)?;
        let request: AcceptWaitingRoomRequests = ctx.message()?;
        let participants = self.waiting_peers_of(&request.user_ids);
        self.check_task_quota(ctx.slot, participants.len())?;
        let tasks = participants.into_iter().map(Task::Admit);
        let tasks = tasks.chain([Task::PushWaitingList]);
        self.run_tasks(step, Some(ctx.slot), tasks);
        Ok(())
    }

    /// `denyWaitingRoomRequests`. The client leaves its socket open, so the server closes it after
    /// a while.
    pub(crate) fn deny_waiting(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.check_can_admit(ctx)?;
        let request: DenyWaitingRoomRequests = ctx.message()?;
        let participants = self.waiting_peers_of(&request.user_ids);
        self.check_task_quota(ctx.slot, participants.len())?;
        let tasks = participants.into_iter().map(Task::Reject);
        let tasks = tasks.chain([Task::PushWaitingList]);
        self.run_tasks(step, Some(ctx.slot), tasks);
        Ok(())
    }

    /// Admits a peer that waits, or that was rejected and is still connected.
    pub(crate) fn admit_waiting_peer(&mut self, step: &mut Step<'_>, slot: Slot) {
        let state = self.peers.get(slot).map(|peer| peer.state);
        if matches!(state, Some(PeerState::Waiting | PeerState::Rejected)) {
            self.admit(step, slot);
        }
    }

    /// Rejects a waiting peer.
    pub(crate) fn reject_waiting_peer(&mut self, step: &mut Step<'_>, slot: Slot) {
        if self
            .peers
            .get(slot)
            .is_none_or(|peer| peer.state != PeerState::Waiting)
        {
            return;
        }
        self.peers.set_state(slot, PeerState::Rejected);
        self.peers[slot].rejected_at = step.monotonic;
        let to = Vec::from_iter(self.peers[slot].connection);
        step.push(to, event::WAITING_ROOM_REQUEST_DENIED, &());
        let until = step.monotonic.after(self.limits.rejected_ms);
        self.schedule(until, Deadline::Grace(slot));
    }

    /// A privileged peer has entered: admits the peers that wait for one.
    pub(crate) fn privileged_entered(&mut self, step: &mut Step<'_>) {
        // One task is enough, even if many privileged peers enter at once.
        if !self.work.admit_due {
            self.work.admit_due = true;
            self.run_tasks(step, None, [Task::AdmitWaiting]);
        }
    }

    /// Admits the peers that wait for a privileged peer: as many as fit into a slice.
    pub(crate) fn admit_waiting_peers(&mut self, step: &mut Step<'_>) {
        self.work.admit_due = false;
        let waiting = self.peers.slots(|peer| {
            let kind = peer.permissions.waiting_room_type;
            peer.state == PeerState::Waiting && kind == WaitingRoomType::OnPrivilegedUserEntry
        });
        if waiting.is_empty() || !self.peers.iter().any(|(_, peer)| can_admit(peer)) {
            return;
        }
        let mut slice = self.start_slice(step);
        for slot in waiting {
            if self.slice_exhausted(step, &mut slice) {
                return self.privileged_entered(step);
            }
            self.cost_units.add(ADMIT_COST);
            self.admit_waiting_peer(step, slot);
        }
        self.waiting_list_changed(step);
    }

    /// Admits a waiting peer that no longer has to wait.
    pub(crate) fn admit_if_allowed(&mut self, step: &mut Step<'_>, slot: Slot) {
        if self.peers[slot].state == PeerState::Waiting && !self.must_wait(slot) {
            self.admit(step, slot);
            self.waiting_list_changed(step);
        }
    }

    fn admit(&mut self, step: &mut Step<'_>, slot: Slot) {
        // Without a live session, there is no record to store the admission in, and no host who
        // could revoke it.
        if self.session.live {
            let user = self.peers[slot].participant_id();
            self.participants.entry(user).or_default().admitted = true;
            let kept = Some(Bytes::new());
            self.persist_entry(step, EntryKind::Admitted, user.to_string(), kept);
        }
        self.peers.set_state(slot, PeerState::Admitted);
        self.push_admitted(step, slot);
    }

    /// Revokes a participant's admission.
    pub(crate) fn revoke_admission(&mut self, step: &mut Step<'_>, slot: Slot) {
        let user = self.peers[slot].participant_id();
        let state = self.participants.get_mut(&user);
        if let Some(state) = state.filter(|state| state.admitted) {
            state.admitted = false;
            self.persist_entry(step, EntryKind::Admitted, user.to_string(), None);
        }
    }

    /// Notifies a peer that it was admitted. Its client joins again.
    pub(crate) fn push_admitted(&self, step: &mut Step<'_>, slot: Slot) {
        let to = Vec::from_iter(self.peers[slot].connection);
        step.push(to, event::WAITING_ROOM_REQUEST_ACCEPTED, &());
    }

    fn check_can_admit(&self, ctx: &RequestContext<'_>) -> Outcome {
        if can_admit(&self.peers[ctx.slot]) {
            Ok(())
        } else {
            Err(Refusal::forbidden("accept_waiting_requests"))
        }
    }

    /// Returns the peers of these participants that are waiting, or that were rejected and are
    /// still connected.
    fn waiting_peers_of(&self, users: &[String]) -> Vec<Slot> {
        let users = parse_ids::<ParticipantId>(users);
        self.peers.slots(|peer| {
            let waits = matches!(peer.state, PeerState::Waiting | PeerState::Rejected);
            waits && users.contains(&peer.participant_id())
        })
    }

    fn waiting_requests(&self) -> GetWaitingRoomRequests {
        let waiting = self.peers.iter().map(|(_, peer)| peer);
        let waiting = waiting.filter(|peer| peer.state == PeerState::Waiting);
        let requests = waiting.map(|peer| WaitingRoomRequest {
            peer_id: peer.id().to_string(),
            user_id: peer.participant_id().to_string(),
            display_name: peer.name.clone(),
            picture: peer.profile.picture.clone(),
            custom_participant_id: Some(peer.profile.custom_id.clone()),
            preset_name: Some(peer.profile.preset_name.clone()),
        });
        GetWaitingRoomRequests {
            requests: requests.collect(),
        }
    }

    /// Pushes the complete waiting list to all peers that can admit.
    pub(crate) fn push_waiting_list(&self, step: &mut Step<'_>) {
        let deciding: Vec<ConnectionId> = self.peers.sockets(can_admit);
        if !deciding.is_empty() {
            step.push(
                deciding,
                event::GET_WAITING_ROOM_REQUESTS,
                &self.waiting_requests(),
            );
        }
    }
}
