//! Who is there: sockets, joining, leaving, coming back (contract: signalling, 1.5, 6.2–6.4).

use parlor_protocol::preset::{MediaPermission, Permissions, ViewType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    GetPeerInfoRequest, GetWaitingRoomRequests, JoinRoomRequest, Peer as PeerInfo,
    PeerInfoResponse, PeerStatusUpdate, Room as RoomInfo, RoomInfoResponse, RoomPeersInfoRequest,
    RoomPeersInfoResponse, StageType,
};

use crate::input::{ConnectionId, Newcomer};
use crate::output::{Closing, EntryKind, MediaOrder, Output, Record, Refusal};
use crate::peer::{MediaState, Peer, Place, Seat, Stay, sees};
use crate::permissions::patched;
use crate::room::{Asked, Deadline, Outcome, Room, Turn};

impl Room {
    /// A socket opened: of somebody new, or of a peer that comes back.
    pub(crate) fn opened(&mut self, turn: &mut Turn<'_>, connection: ConnectionId, who: Newcomer) {
        let permissions = self.permissions_of(&who);
        let seat = match self.peers.seat_of(who.peer) {
            Some(seat) if self.peers[seat].user() != who.participant => {
                let closing = Closing::Final("this peer id is somebody else's");
                turn.emit(Output::Close {
                    connection,
                    closing,
                });
                return;
            }
            Some(seat) => {
                self.set_permissions(turn, seat, permissions);
                let peer = &mut self.peers[seat];
                peer.who = who;
                peer.reopened_ms = peer.is_inside().then_some(turn.now_ms);
                seat
            }
            None if self.peers.len() >= self.limits.peers => {
                let closing = Closing::Final("this meeting is full");
                turn.emit(Output::Close {
                    connection,
                    closing,
                });
                return;
            }
            None => self.peers.add(Peer::new(who, permissions, turn.now_ms)),
        };
        if let Some(old) = self.peers.connect(seat, connection) {
            let closing = Closing::Final("this peer has another socket");
            turn.emit(Output::Close {
                connection: old,
                closing,
            });
        }
        match self.peers[seat].place {
            // Its client joins again by itself, or is not inside as far as it knows.
            Place::Inside => self.at(turn.now_ms + self.limits.grace_ms, Deadline::Grace(seat)),
            // It may have missed that it was let in.
            Place::Invited => self.invite(turn, seat),
            Place::Lobby | Place::Waiting | Place::Rejected => {}
        }
    }

    fn permissions_of(&self, who: &Newcomer) -> Permissions {
        match self.people.get(&who.participant) {
            Some(standing) => patched(&who.permissions, &standing.patch),
            None => who.permissions.clone(),
        }
    }

    /// A socket is gone.
    pub(crate) fn closed(&mut self, turn: &mut Turn<'_>, connection: ConnectionId, goodbye: bool) {
        if self.forget_detached(connection) {
            return;
        }
        let Some(seat) = self.peers.seat_at(connection) else {
            return;
        };
        self.peers.disconnect(seat);
        let peer = &mut self.peers[seat];
        peer.lost_ms = Some(turn.now_ms);
        let stays = matches!(peer.place, Place::Inside | Place::Waiting | Place::Invited);
        if goodbye || !stays {
            self.depart(turn, seat);
        } else {
            self.at(turn.now_ms + self.limits.grace_ms, Deadline::Grace(seat));
        }
    }

    /// The grace of a peer is over, unless it came back.
    pub(crate) fn grace_over(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let Some(peer) = self.peers.get(seat) else {
            return;
        };
        // What happened later has a later deadline.
        let over = |since: i64| since + self.limits.grace_ms <= turn.now_ms;
        match (peer.lost_ms, peer.place) {
            (Some(lost_ms), _) => {
                if over(lost_ms) {
                    self.depart(turn, seat);
                }
            }
            (None, Place::Inside) if peer.reopened_ms.is_some_and(over) => self.leave(turn, seat),
            (None, Place::Rejected) => {
                if let Some(connection) = peer.connection {
                    let closing = Closing::Final("you were not let in");
                    turn.emit(Output::Close {
                        connection,
                        closing,
                    });
                }
                self.depart(turn, seat);
            }
            (None, _) => {}
        }
    }

    /// `joinRoom`: idempotent, because clients join again after every reconnect.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: JoinRoomRequest = asked.request.message()?;
        let seat = asked.seat;
        self.may_join(seat)?;
        if let Some(asked) = request.peer {
            self.name_before_join(seat, &asked);
        }
        if !self.peers[seat].is_inside() {
            if self.must_wait(seat) {
                self.wait(turn, seat);
            } else {
                self.enter(turn, seat);
            }
        }
        let peer = &mut self.peers[seat];
        peer.reopened_ms = None;
        let peer = Some(peer.info());
        asked.reply(turn, &PeerInfoResponse { peer });
        Ok(())
    }

    fn may_join(&self, seat: Seat) -> Outcome {
        let peer = &self.peers[seat];
        if peer.is_inside() {
            return Ok(());
        }
        if self.removed.contains(&peer.user()) {
            return Err(Refusal::new(403, "this participant was deleted"));
        }
        if !self.meeting.active {
            return Err(Refusal::new(403, "this meeting is inactive"));
        }
        Ok(())
    }

    /// Clients send the name that was set before the join.
    fn name_before_join(&mut self, seat: Seat, asked: &PeerInfo) {
        let longest = self.limits.name;
        let peer = &mut self.peers[seat];
        let name = asked.display_name.trim();
        let good = !name.is_empty()
            && name.chars().count() <= longest
            && !name.contains(char::is_control);
        if good && !peer.is_inside() && peer.permissions.can_edit_display_name {
            name.clone_into(&mut peer.name);
        }
    }

    /// The peer is inside from now on.
    fn enter(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        self.begin_session(turn);
        self.peers.put(seat, Place::Inside);
        let peer = &mut self.peers[seat];
        peer.stage = first_stage(peer);
        let first = peer.stay.is_none();
        let stay = peer.stay.get_or_insert(Stay {
            joined_ms: turn.now_ms,
            entered_ms: turn.now_ms,
            left_ms: None,
            consumed_ms: 0,
        });
        (stay.entered_ms, stay.left_ms) = (turn.now_ms, None);
        self.session.record.total += i64::from(first);
        self.keep_peer(turn, seat);
        self.keep_stage(turn, seat);
        self.keep_session(turn);
        let info = PeerInfoResponse {
            peer: Some(self.peers[seat].info()),
        };
        turn.push(self.peers.watching(seat), event::JOIN_ROOM, &info);
        if self.peers[seat].who.view == ViewType::Livestream {
            self.count_soon(turn);
        }
        if self.peers[seat].permissions.accept_waiting_requests {
            self.privileged_entered(turn);
        }
    }

    /// The peer is outside from now on; its socket may stay.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        self.stop_media(turn, seat);
        let peer = &self.peers[seat];
        let (was_inside, waited) = (
            peer.is_inside(),
            matches!(peer.place, Place::Waiting | Place::Invited),
        );
        if !was_inside {
            self.peers.put(seat, Place::Lobby);
            if waited {
                self.tell_waiting_list(turn);
            }
            return;
        }
        let watching = self.peers.watching(seat);
        let asked_for_stage = peer.stage == StageType::RequestedStage;
        let gone = PeerInfoResponse {
            peer: Some(peer.info()),
        };
        self.peers.put(seat, Place::Lobby);
        let peer = &mut self.peers[seat];
        peer.reopened_ms = None;
        peer.stage = StageType::OffStage;
        let left_ms = peer.lost_ms.unwrap_or(turn.now_ms);
        if let Some(stay) = &mut peer.stay {
            // A clock that was set back must not make time inside negative.
            let left_ms = left_ms.max(stay.entered_ms);
            stay.left_ms = Some(left_ms);
            stay.consumed_ms += left_ms - stay.entered_ms;
            self.session.record.consumed_ms += left_ms - stay.entered_ms;
        }
        let id = peer.id();
        if self.pinned == Some(id) {
            self.pinned = None;
        }
        self.keep_peer(turn, seat);
        let key = id.to_string();
        self.keep_entry(turn, EntryKind::Stage, key, None);
        self.keep_session(turn);
        turn.push(watching, event::LEAVE_ROOM, &gone);
        if asked_for_stage {
            self.tell_stage_requests(turn);
        }
        if self.peers[seat].who.view == ViewType::Livestream {
            self.count_soon(turn);
        }
        if self.peers.inside() == 0 {
            self.session_is_empty(turn);
        }
    }

    /// The peer leaves and is forgotten.
    pub(crate) fn depart(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        self.leave(turn, seat);
        if let Some(peer) = self.peers.remove(seat) {
            turn.emit(Output::Media(MediaOrder::Close { peer: peer.id() }));
        }
    }

    /// The peer is thrown out: it is told by `event`, after which its client closes the socket.
    pub(crate) fn throw_out(&mut self, turn: &mut Turn<'_>, seat: Seat, event: u32) {
        let socket = self.peers[seat].connection;
        turn.push(
            Vec::from_iter(socket),
            event,
            &GetWaitingRoomRequests::default(),
        );
        self.peers.disconnect(seat);
        if let Some(socket) = socket {
            self.detach(turn, socket);
        }
        self.depart(turn, seat);
    }

    fn keep_peer(&self, turn: &mut Turn<'_>, seat: Seat) {
        if let Some(record) = self.peers[seat].record(self.session_id()) {
            turn.keep(Record::Peer(record));
        }
    }

    /// `getRoomInfo`.
    pub(crate) fn room_info(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let started = self.session.record.started_ms / 1000;
        let room = RoomInfo {
            room_id: self.meeting.id.to_string(),
            title: self.meeting.title.clone(),
            created_at: u64::try_from(started).unwrap_or_default(),
            active_recordings: Vec::new(),
            room_uuid: Some(self.session_id().to_string()),
        };
        asked.reply(turn, &RoomInfoResponse { room: Some(room) });
        Ok(())
    }

    /// `getRoomPeersInfo`: everybody that the peer is told of, or a page of a search. Clients ask
    /// before they join as well; those who would have to wait are told of nobody.
    pub(crate) fn roster(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let page: RoomPeersInfoRequest = asked.request.message()?;
        let me = &self.peers[asked.seat];
        let looks_in = match me.place {
            Place::Inside => true,
            Place::Lobby => !self.must_wait(asked.seat) && self.may_join(asked.seat).is_ok(),
            Place::Waiting | Place::Invited | Place::Rejected => false,
        };
        let hidden = |peer: &Peer| peer.permissions.hidden_participant;
        let wanted = page.seach_query.to_lowercase();
        let found = self.peers.iter().map(|(_, peer)| peer).filter(|peer| {
            let seen = if me.is_inside() {
                sees(me, peer)
            } else {
                let audience = me.is_audience() && peer.stage != StageType::OnStage;
                looks_in && peer.is_inside() && !hidden(peer) && !audience
            };
            seen && (wanted.is_empty() || peer.name.to_lowercase().contains(&wanted))
        });
        let (skip, take) = (
            usize::try_from(page.offset).unwrap_or_default(),
            usize::try_from(page.limit).unwrap_or_default(),
        );
        let take = if take == 0 { usize::MAX } else { take };
        let peers = found.skip(skip).take(take).map(Peer::info).collect();
        asked.reply(turn, &RoomPeersInfoResponse { peers });
        Ok(())
    }

    /// `getPeerInfo`.
    pub(crate) fn peer_info(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: GetPeerInfoRequest = asked.request.message()?;
        let me = &self.peers[asked.seat];
        let found = self.peers.seat_named(&request.peer_id);
        let found = found.map(|seat| &self.peers[seat]);
        let seen = found.filter(|peer| peer.id() == me.id() || sees(me, peer));
        let peer = seen.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
        let peer = Some(peer.info());
        asked.reply(turn, &PeerInfoResponse { peer });
        Ok(())
    }

    /// Changes a peer, and tells everybody for whom it has come into sight or gone out of it, or
    /// whom it sees no more.
    pub(crate) fn change(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        change: impl FnOnce(&mut Peer),
    ) {
        let watchers = |room: &Self| {
            let subject = &room.peers[seat];
            room.peers.seats(|viewer| sees(viewer, subject))
        };
        let subject = &self.peers[seat];
        let audience = subject.is_audience();
        let (before, hidden) = (watchers(self), subject.permissions.hidden_participant);
        let saw = if audience {
            Vec::new()
        } else {
            self.peers.seats(|other| sees(subject, other))
        };
        change(&mut self.peers[seat]);
        let subject = &self.peers[seat];
        let livestream = subject.who.view == ViewType::Livestream;
        let unhid = hidden != subject.permissions.hidden_participant;
        if !unhid && !livestream {
            return;
        }
        let after = watchers(self);
        let sockets = |room: &Self, these: &[Seat], but: &[Seat]| {
            let new = these.iter().filter(|seat| !but.contains(seat));
            new.filter_map(|seat| room.peers[*seat].connection)
                .collect::<Vec<_>>()
        };
        let info = PeerInfoResponse {
            peer: Some(subject.info()),
        };
        turn.push(sockets(self, &after, &before), event::JOIN_ROOM, &info);
        turn.push(sockets(self, &before, &after), event::LEAVE_ROOM, &info);
        // On the way up a client asks for the roster itself.
        let subject = &self.peers[seat];
        if !audience && subject.is_audience() {
            let to = Vec::from_iter(subject.connection);
            for other in saw {
                let other = &self.peers[other];
                if !sees(subject, other) {
                    let peer = Some(other.info());
                    turn.push(to.clone(), event::LEAVE_ROOM, &PeerInfoResponse { peer });
                }
            }
        }
    }

    /// What others are told about where a peer stands with the stage.
    pub(crate) fn stage_status(&self, seat: Seat) -> PeerStatusUpdate {
        let peer = &self.peers[seat];
        PeerStatusUpdate {
            peer_id: peer.id().to_string(),
            user_id: peer.user().to_string(),
            stage_type: Some(peer.stage.into()),
        }
    }

    /// Keeps where a peer stands with the stage; where everybody starts is not kept.
    pub(crate) fn keep_stage(&self, turn: &mut Turn<'_>, seat: Seat) {
        let peer = &self.peers[seat];
        if peer.has_stage() {
            let stage = u8::try_from(i32::from(peer.stage)).unwrap_or_default();
            let key = peer.id().to_string();
            self.keep_entry(turn, EntryKind::Stage, key, Some(vec![stage]));
        }
    }

    /// The peer has no media any more; those who could subscribe to it are told.
    pub(crate) fn stop_media(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let was = std::mem::replace(&mut self.peers[seat].media, MediaState::Out);
        if was == MediaState::Complete {
            self.tell_media_left(turn, seat);
        }
    }
}

/// Where a peer stands with the stage when it joins (contract: signalling, 6.8).
fn first_stage(peer: &Peer) -> StageType {
    if !peer.has_stage() {
        return StageType::OnStage;
    }
    match peer.stage_access() {
        MediaPermission::Allowed => StageType::ApprovedStage,
        MediaPermission::CanRequest | MediaPermission::NotAllowed => StageType::OffStage,
    }
}
