//! The roster: connecting, joining, leaving and reconnecting (docs/spec/signalling.md 1.5, 6.2 to
//! 6.4).

mod visibility;

use parlor_protocol::preset::{MediaPermission, Permissions, ViewType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    GetPeerInfoRequest, JoinRoomRequest, Peer as PeerInfo, PeerInfoResponse, Room as RoomInfo,
    RoomInfoResponse, RoomPeersInfoRequest, StageType,
};

use crate::input::{ConnectionId, PeerProfile};
use crate::output::{CloseReason, EntryKind, MediaOrder, Output, Record, Refusal};
use crate::peer::{Attendance, MediaState, Peer, PeerState, Slot, can_see};
use crate::permissions::patched;
use crate::room::{
    Admission, Deadline, Departed, Monotonic, Outcome, RequestContext, Room, Step, Task,
};

/// `RoomPeersInfoResponse` with peers that are already encoded. Identical on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct Roster {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    peers: Vec<bytes::Bytes>,
}

impl Room {
    /// Handles an opened socket, of a new or a reconnecting peer.
    pub(crate) fn socket_opened(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        profile: PeerProfile,
    ) {
        let slot = match self.slot_for(step, profile) {
            Ok(slot) => slot,
            Err(closing) => {
                step.emit(Output::Close {
                    connection,
                    closing,
                });
                return;
            }
        };
        if let Some(old) = self.peers.connect(slot, connection) {
            let closing = CloseReason::Final("this peer has connected with another socket");
            step.emit(Output::Close {
                connection: old,
                closing,
            });
        }
        match self.peers[slot].state {
            // The client may assume that the peer has not joined. Unless it joins again, the peer
            // leaves at the end of the grace period.
            PeerState::Joined => self.start_grace_period(step, slot),
            // It may have missed the push.
            PeerState::Admitted => self.push_admitted(step, slot),
            PeerState::Connected | PeerState::Waiting | PeerState::Rejected => {}
        }
    }

    /// Returns the slot of a reconnecting peer, or a slot for a new one.
    fn slot_for(&mut self, step: &mut Step<'_>, profile: PeerProfile) -> Result<Slot, CloseReason> {
        // This happens if the meeting is deleted just after the token was verified.
        if self.admission == Admission::Deleted {
            return Err(CloseReason::Final("this meeting was deleted"));
        }
        let (allowances, rate) = (
            self.peers.allowances_of(profile.participant),
            self.limits.openings,
        );
        if !allowances.openings.take(rate, step.monotonic) {
            return Err(CloseReason::Reconnect(
                "this participant connects too often",
            ));
        }
        let id_taken = CloseReason::Final("this peer id belongs to another participant");
        let permissions = self.permissions_of(&profile);
        if let Some(slot) = self.peers.slot_of(profile.peer) {
            if self.peers[slot].participant_id() != profile.participant {
                return Err(id_taken);
            }
            if self.peers[slot].removed {
                // It reconnects before its removal has finished.
                self.finish_removal(step, slot);
                return self.new_slot(step, profile, permissions);
            }
            self.update_peer(step, slot, |peer| {
                (peer.permissions, peer.profile) = (permissions, profile);
            });
            let peer = &mut self.peers[slot];
            peer.reopened_at = peer.has_joined().then_some(step.monotonic);
            // If its previous socket is still open, it is closed now, so the absence begins now.
            peer.absent_since.get_or_insert(step.moment());
            return Ok(slot);
        }
        self.new_slot(step, profile, permissions)
    }

    /// Adds a peer that is new or has left before.
    fn new_slot(
        &mut self,
        step: &Step<'_>,
        profile: PeerProfile,
        permissions: Permissions,
    ) -> Result<Slot, CloseReason> {
        if self.peers.len() >= self.limits.peers {
            return Err(CloseReason::Final("this meeting is full"));
        }
        if self.peers.slots_of(profile.participant).len() >= self.limits.peers_per_participant {
            return Err(CloseReason::Final("this participant has too many peers"));
        }
        let mut peer = Peer::new(profile, permissions, step.now_ms);
        if let Some(departed) = self.departed.get(&peer.id()) {
            if departed.participant != peer.participant_id() {
                return Err(CloseReason::Final(
                    "this peer id belongs to another participant",
                ));
            }
            // Continues its earlier attendance: a session has one record for each peer.
            peer.created_ms = departed.created_ms;
            peer.attendance = Some(departed.attendance);
        }
        Ok(self.peers.add(peer))
    }

    fn permissions_of(&self, profile: &PeerProfile) -> Permissions {
        match self.participants.get(&profile.participant) {
            Some(state) => patched(&profile.permissions, &state.patch),
            None => profile.permissions.clone(),
        }
    }

    /// Handles a closed socket.
    pub(crate) fn socket_closed(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        leaving: bool,
    ) {
        if self.forget_detached(connection) {
            return;
        }
        let Some(slot) = self.peers.slot_by_connection(connection) else {
            return;
        };
        self.peers.disconnect(slot);
        let peer = &mut self.peers[slot];
        peer.disconnected_at = Some(step.monotonic);
        peer.absent_since.get_or_insert(step.moment());
        // The grace period also applies to peers that have not joined, so that they keep their
        // transports when they reconnect.
        if leaving || peer.state == PeerState::Rejected {
            self.depart(step, slot, false);
        } else {
            self.start_grace_period(step, slot);
        }
    }

    /// Starts the peer's grace period.
    fn start_grace_period(&mut self, step: &Step<'_>, slot: Slot) {
        let until = step.monotonic.after(self.limits.grace_ms);
        self.schedule(until, Deadline::Grace(slot));
    }

    /// Handles the end of a grace period, unless the peer has reconnected.
    pub(crate) fn grace_period_expired(&mut self, step: &mut Step<'_>, slot: Slot) {
        let Some(peer) = self.peers.get(slot) else {
            return;
        };
        // An event after the one that set this deadline may have started a new grace period.
        let over = |since: Monotonic| since.after(self.limits.grace_ms) <= step.monotonic;
        match (peer.disconnected_at, peer.state) {
            (Some(lost), _) => {
                if over(lost) {
                    self.depart(step, slot, true);
                } else {
                    let until = lost.after(self.limits.grace_ms);
                    self.schedule(until, Deadline::Grace(slot));
                }
            }
            (None, PeerState::Joined) if peer.reopened_at.is_some_and(over) => {
                self.leave(step, slot);
                self.free_media(step, slot, true);
            }
            (None, PeerState::Rejected)
                if peer.rejected_at.after(self.limits.rejected_ms) <= step.monotonic =>
            {
                if let Some(connection) = peer.connection {
                    let closing = CloseReason::Final("you were not admitted");
                    step.emit(Output::Close {
                        connection,
                        closing,
                    });
                }
                self.depart(step, slot, false);
            }
            (None, _) => {}
        }
    }

    /// `joinRoom`. Idempotent, because clients join again after every reconnect.
    pub(crate) fn join(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: JoinRoomRequest = ctx.message()?;
        let slot = ctx.slot;
        self.check_can_join(slot)?;
        if let Some(info) = request.peer {
            self.set_name_before_join(slot, &info);
        }
        if !self.peers[slot].has_joined() {
            if self.must_wait(slot) {
                self.put_in_waiting_room(step, slot);
            } else {
                // The first join of a peer adds a row to the database.
                if self.peers[slot].attendance.is_none() {
                    let rate = self.limits.new_peers;
                    let refusal = "this participant has joined with too many clients";
                    let allowance = &mut self.peers.allowances(slot).new_peers;
                    allowance.spend(rate, step.monotonic, refusal)?;
                }
                self.enter(step, slot);
            }
        }
        let peer = &mut self.peers[slot];
        (peer.reopened_at, peer.absent_since) = (None, None);
        let peer = Some(peer.info());
        ctx.reply(step, &PeerInfoResponse { peer });
        Ok(())
    }

    /// Whether the peer may see the room's contents: it has joined, or could join without waiting.
    pub(crate) fn can_view_room(&self, slot: Slot) -> bool {
        match self.peers[slot].state {
            PeerState::Joined => true,
            PeerState::Connected => !self.must_wait(slot) && self.check_can_join(slot).is_ok(),
            PeerState::Waiting | PeerState::Admitted | PeerState::Rejected => false,
        }
    }

    /// The peer, if it has joined.
    pub(crate) fn joined_peer(&self, slot: Slot) -> Result<&Peer, Refusal> {
        let peer = &self.peers[slot];
        if peer.has_joined() {
            Ok(peer)
        } else {
            Err(Refusal::new(403, "join the meeting first"))
        }
    }

    fn check_can_join(&self, slot: Slot) -> Outcome {
        let peer = &self.peers[slot];
        if peer.has_joined() {
            return Ok(());
        }
        if self.deleted_participants.contains(&peer.participant_id()) {
            return Err(Refusal::new(403, "this participant was deleted"));
        }
        if !self.meeting.active {
            return Err(Refusal::new(403, "this meeting is inactive"));
        }
        if peer.state == PeerState::Rejected {
            return Err(Refusal::new(403, "you were not admitted"));
        }
        Ok(())
    }

    /// Takes the display name from a join request: clients send the name that was set before the
    /// join.
    fn set_name_before_join(&mut self, slot: Slot, info: &PeerInfo) {
        let longest = self.limits.name_chars;
        let peer = &mut self.peers[slot];
        let name = info.display_name.trim();
        let good =
            !name.is_empty() && name.chars().count() <= longest && !name.contains(char::is_control);
        if good && !peer.has_joined() && peer.permissions.can_edit_display_name {
            name.clone_into(&mut peer.name);
        }
    }

    /// Moves the peer into the meeting.
    fn enter(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.begin_session(step);
        self.peers.set_state(slot, PeerState::Joined);
        let peer = &mut self.peers[slot];
        peer.stage = first_stage(peer);
        let first = peer.attendance.is_none();
        let attendance = peer.attendance.get_or_insert(Attendance {
            joined_ms: step.now_ms,
            entered_ms: step.now_ms,
            left_ms: None,
            consumed_ms: 0,
            since: step.monotonic,
        });
        (attendance.entered_ms, attendance.left_ms) = (step.now_ms, None);
        attendance.since = step.monotonic;
        self.session.record.total += i64::from(first);
        self.admit_media(step, slot);
        self.persist_peer(step, slot);
        if self.peers[slot].has_stage() {
            self.persist_stage(step, slot);
        }
        self.persist_session(step);
        let info = PeerInfoResponse {
            peer: Some(self.peers[slot].info()),
        };
        step.push_soon(self.peers.viewers_of(slot), event::JOIN_ROOM, &info);
        self.schedule_breakout_update(step);
        if self.peers[slot].profile.view == ViewType::Livestream {
            self.schedule_viewer_count(step);
        }
        if self.peers[slot].permissions.accept_waiting_requests {
            self.privileged_entered(step);
        }
    }

    /// Moves the peer out of the meeting. It may keep its socket.
    pub(crate) fn leave(&mut self, step: &mut Step<'_>, slot: Slot) {
        let was = self.peers[slot].state;
        if was != PeerState::Joined {
            self.peers[slot].media = MediaState::Idle;
            self.peers.set_state(slot, PeerState::Connected);
            if was == PeerState::Waiting {
                self.waiting_list_changed(step);
            }
            return;
        }
        let watching = self.peers.viewers_of(slot);
        let media_watching = self.media_viewers_of(slot);
        let had_media = self.peers[slot].media == MediaState::Ready;
        self.peers[slot].media = MediaState::Idle;
        self.peers.set_state(slot, PeerState::Connected);
        let peer = &mut self.peers[slot];
        let info = peer.info();
        peer.reopened_at = None;
        let asked_for_stage = peer.stage == StageType::RequestedStage;
        peer.stage = StageType::OffStage;
        let (id, viewer) = (peer.id(), peer.profile.view == ViewType::Livestream);
        let left = peer.absent_since.take().unwrap_or_else(|| step.moment());
        if let Some(attendance) = &mut peer.attendance {
            attendance.left_ms = Some(left.now_ms);
            // Monotonic, so that clock changes do not matter.
            let stayed_ms = left.monotonic.since(attendance.since);
            attendance.consumed_ms += stayed_ms;
            self.session.record.consumed_ms += stayed_ms;
        }
        self.session.left = self.session.left.max(left);
        if self.pinned == Some(id) {
            self.set_pinned(step, None);
        }
        self.tracks.forget(slot);
        self.tracks.forget_speaker(id);
        self.persist_peer(step, slot);
        self.persist_entry(step, EntryKind::Stage, id.to_string(), None);
        self.persist_session(step);
        let push = PeerInfoResponse { peer: Some(info) };
        step.push_soon(watching, event::LEAVE_ROOM, &push);
        if had_media {
            self.push_media_left(step, slot, media_watching);
        }
        if asked_for_stage {
            self.push_stage_requests(step);
        }
        if viewer {
            self.schedule_viewer_count(step);
        }
        self.schedule_breakout_update(step);
        if self.peers.joined_count() == 0 {
            self.session_became_empty();
        }
    }

    /// Removes the peer and keeps only its attendance. `client_offline` is whether the client has
    /// lost its connection and so does not know that the peer has left.
    pub(crate) fn depart(&mut self, step: &mut Step<'_>, slot: Slot, client_offline: bool) {
        self.leave(step, slot);
        let Some(peer) = self.peers.remove(slot) else {
            return;
        };
        self.tracks.depart(slot);
        step.emit(Output::Media(MediaOrder::Close {
            peer: peer.id(),
            client_offline,
        }));
        if let Some(attendance) = peer.attendance {
            let departed = Departed {
                participant: peer.participant_id(),
                created_ms: peer.created_ms,
                attendance,
            };
            self.departed.insert(peer.id(), departed);
        }
    }

    /// Removes peers. Each receives `event`, on which its client closes the socket. Their sockets
    /// are detached at once; many removals take several slices to finish.
    pub(crate) fn remove_peers(&mut self, step: &mut Step<'_>, slots: &[Slot], event: u32) {
        // Detached first, so that they receive no pushes about each other.
        let sockets: Vec<ConnectionId> = slots
            .iter()
            .filter_map(|slot| self.peers.disconnect(*slot))
            .collect();
        for socket in &sockets {
            self.detach(step, *socket);
        }
        for slot in slots {
            self.peers[*slot].removed = true;
        }
        self.run_removals(step, slots.iter().copied().map(Task::FinishRemoval));
        step.push(sockets, event, &());
    }

    /// Finishes the removal of a peer, unless it has already left.
    pub(crate) fn finish_removal(&mut self, step: &mut Step<'_>, slot: Slot) {
        if let Some(peer) = self.peers.get(slot) {
            let client_offline = peer.disconnected_at.is_some();
            self.depart(step, slot, client_offline);
        }
    }

    fn persist_peer(&self, step: &mut Step<'_>, slot: Slot) {
        if let Some(record) = self.peers[slot].record(self.session_id()) {
            step.persist(Record::Peer(record));
        }
    }

    /// `getRoomInfo`.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "all handlers have the same signature"
    )]
    pub(crate) fn room_info(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        // Clients keep the first start time they receive, so none is sent before the first join.
        let live = self.session.live;
        let started = i64::from(live) * self.session.record.started_ms / 1000;
        let room = RoomInfo {
            room_id: self.meeting.id.to_string(),
            title: self.meeting.title.clone(),
            created_at: u64::try_from(started).unwrap_or_default(),
            active_recordings: Vec::new(),
            room_uuid: live.then(|| self.session_id().to_string()),
        };
        ctx.reply(step, &RoomInfoResponse { room: Some(room) });
        Ok(())
    }

    /// `getRoomPeersInfo`: all peers visible to the requester, or a page of a search. Clients also
    /// send it before they join; those that would have to wait receive no peers.
    pub(crate) fn roster(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let page: RoomPeersInfoRequest = ctx.message()?;
        let me = &self.peers[ctx.slot];
        let can_view_room = self.can_view_room(ctx.slot);
        let hidden = |peer: &Peer| peer.permissions.hidden_participant;
        let wanted = page.seach_query.to_lowercase();
        let found = self.peers.iter().map(|(_, peer)| peer).filter(|peer| {
            let seen = if me.has_joined() {
                can_see(me, peer)
            } else {
                let audience = me.is_audience() && peer.stage != StageType::OnStage;
                can_view_room && peer.has_joined() && !hidden(peer) && !audience
            };
            seen && (wanted.is_empty() || peer.name.to_lowercase().contains(&wanted))
        });
        let (skip, take) = (
            usize::try_from(page.offset).unwrap_or_default(),
            usize::try_from(page.limit).unwrap_or_default(),
        );
        let take = if take == 0 { usize::MAX } else { take };
        let peers = found.skip(skip).take(take).map(Peer::encoded).collect();
        ctx.reply(step, &Roster { peers });
        Ok(())
    }

    /// `getPeerInfo`.
    pub(crate) fn peer_info(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: GetPeerInfoRequest = ctx.message()?;
        let me = &self.peers[ctx.slot];
        let found = self.peers.slot_by_id_text(&request.peer_id);
        let found = found.map(|slot| &self.peers[slot]);
        let seen = found.filter(|peer| peer.id() == me.id() || can_see(me, peer));
        let peer = seen.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
        let peer = Some(peer.info());
        ctx.reply(step, &PeerInfoResponse { peer });
        Ok(())
    }
}

/// Stage status of a peer that joins (docs/spec/signalling.md 6.8).
pub(crate) fn first_stage(peer: &Peer) -> StageType {
    if !peer.has_stage() {
        return StageType::OnStage;
    }
    match peer.stage_access() {
        MediaPermission::Allowed => StageType::ApprovedStage,
        MediaPermission::CanRequest | MediaPermission::NotAllowed => StageType::OffStage,
    }
}
