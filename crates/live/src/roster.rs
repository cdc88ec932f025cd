//! Who is there: sockets, joining, leaving, coming back (docs/spec/signalling.md 1.5, 6.2 to 6.4).

mod sight;

use parlor_protocol::preset::{MediaPermission, Permissions, ViewType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    GetPeerInfoRequest, JoinRoomRequest, Peer as PeerInfo, PeerInfoResponse, Room as RoomInfo,
    RoomInfoResponse, RoomPeersInfoRequest, StageType,
};

use crate::input::{ConnectionId, Newcomer};
use crate::output::{Closing, EntryKind, MediaOrder, Output, Record, Refusal};
use crate::peer::{MediaState, Peer, Place, Seat, Stay, sees};
use crate::permissions::patched;
use crate::room::{Act, Deadline, Door, Gone, Monotonic, Outcome, RequestContext, Room, Turn};

/// `RoomPeersInfoResponse` of peers that are encoded already: the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct Roster {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    peers: Vec<bytes::Bytes>,
}

impl Room {
    /// A socket opened: of somebody new, or of a peer that comes back.
    pub(crate) fn opened(&mut self, turn: &mut Turn<'_>, connection: ConnectionId, who: Newcomer) {
        let seat = match self.seat_for(turn, who) {
            Ok(seat) => seat,
            Err(closing) => {
                turn.emit(Output::Close {
                    connection,
                    closing,
                });
                return;
            }
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
            Place::Inside => self.grace(turn, seat),
            // It may have missed that it was let in.
            Place::Invited => self.invite(turn, seat),
            Place::Lobby | Place::Waiting | Place::Rejected => {}
        }
    }

    /// The seat of a peer that comes back, or one for somebody new.
    fn seat_for(&mut self, turn: &mut Turn<'_>, who: Newcomer) -> Result<Seat, Closing> {
        // Their token was checked before the meeting was deleted.
        if self.door == Door::Deleted {
            return Err(Closing::Final("this meeting is gone"));
        }
        let (left, rate) = (self.peers.left_of(who.participant), self.limits.openings);
        if !left.openings.take(rate, turn.monotonic) {
            return Err(Closing::Again("this person connects too often"));
        }
        let theirs = Closing::Final("this peer id is somebody else's");
        let permissions = self.permissions_of(&who);
        if let Some(seat) = self.peers.seat_of(who.peer) {
            if self.peers[seat].user() != who.participant {
                return Err(theirs);
            }
            if self.peers[seat].removed {
                // It comes back before everything of it is gone.
                self.thrown_out(turn, seat);
                return self.new_seat(turn, who, permissions);
            }
            self.turn_into(turn, seat, |peer| {
                (peer.permissions, peer.who) = (permissions, who);
            });
            let peer = &mut self.peers[seat];
            peer.reopened = peer.is_inside().then_some(turn.monotonic);
            // Its older socket may still be open, and is closed now.
            peer.absent.get_or_insert(turn.moment());
            return Ok(seat);
        }
        self.new_seat(turn, who, permissions)
    }

    /// A seat for somebody new, or who has left before.
    fn new_seat(
        &mut self,
        turn: &Turn<'_>,
        who: Newcomer,
        permissions: Permissions,
    ) -> Result<Seat, Closing> {
        if self.peers.len() >= self.limits.peers {
            return Err(Closing::Final("this meeting is full"));
        }
        if self.peers.seats_of(who.participant).len() >= self.limits.peers_per_person {
            return Err(Closing::Final("this person is here too often"));
        }
        let mut peer = Peer::new(who, permissions, turn.now_ms);
        if let Some(gone) = self.gone.get(&peer.id()) {
            if gone.participant != peer.user() {
                return Err(Closing::Final("this peer id is somebody else's"));
            }
            // It goes on with what it had: a session has one record of each peer.
            peer.created_ms = gone.created_ms;
            peer.stay = Some(gone.stay);
        }
        Ok(self.peers.add(peer))
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
        peer.lost = Some(turn.monotonic);
        peer.absent.get_or_insert(turn.moment());
        // Those who have not joined keep their transports over a gap as well.
        if goodbye || peer.place == Place::Rejected {
            self.depart(turn, seat, false);
        } else {
            self.grace(turn, seat);
        }
    }

    /// The peer has the grace period from now on.
    fn grace(&mut self, turn: &Turn<'_>, seat: Seat) {
        let until = turn.monotonic.after(self.limits.grace_ms);
        self.at(until, Deadline::Grace(seat));
    }

    /// The grace of a peer is over, unless it came back.
    pub(crate) fn grace_over(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let Some(peer) = self.peers.get(seat) else {
            return;
        };
        // What happened later has a later deadline.
        let over = |since: Monotonic| since.after(self.limits.grace_ms) <= turn.monotonic;
        match (peer.lost, peer.place) {
            (Some(lost), _) => {
                if over(lost) {
                    self.depart(turn, seat, true);
                } else {
                    let until = lost.after(self.limits.grace_ms);
                    self.at(until, Deadline::Grace(seat));
                }
            }
            (None, Place::Inside) if peer.reopened.is_some_and(over) => {
                self.leave(turn, seat);
                self.free_media(turn, seat, true);
            }
            (None, Place::Rejected)
                if peer.rejected.after(self.limits.rejected_ms) <= turn.monotonic =>
            {
                if let Some(connection) = peer.connection {
                    let closing = Closing::Final("you were not let in");
                    turn.emit(Output::Close {
                        connection,
                        closing,
                    });
                }
                self.depart(turn, seat, false);
            }
            (None, _) => {}
        }
    }

    /// `joinRoom`: idempotent, because clients join again after every reconnect.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let request: JoinRoomRequest = asked.message()?;
        let seat = asked.seat;
        self.may_join(seat)?;
        if let Some(asked) = request.peer {
            self.name_before_join(seat, &asked);
        }
        if !self.peers[seat].is_inside() {
            if self.must_wait(seat) {
                self.wait(turn, seat);
            } else {
                // A client that joins for the first time leaves a row behind.
                if self.peers[seat].stay.is_none() {
                    let rate = self.limits.new_peers;
                    let refusal = "this person has come with too many clients";
                    let left = &mut self.peers.left(seat).new_peers;
                    left.spend(rate, turn.monotonic, refusal)?;
                }
                self.enter(turn, seat);
            }
        }
        let peer = &mut self.peers[seat];
        (peer.reopened, peer.absent) = (None, None);
        let peer = Some(peer.info());
        asked.reply(turn, &PeerInfoResponse { peer });
        Ok(())
    }

    /// Whether the peer may see what is inside: it is there, or would be at once if it joined.
    pub(crate) fn looks_in(&self, seat: Seat) -> bool {
        match self.peers[seat].place {
            Place::Inside => true,
            Place::Lobby => !self.must_wait(seat) && self.may_join(seat).is_ok(),
            Place::Waiting | Place::Invited | Place::Rejected => false,
        }
    }

    /// The peer, if it has joined.
    pub(crate) fn inside(&self, seat: Seat) -> Result<&Peer, Refusal> {
        let peer = &self.peers[seat];
        if peer.is_inside() {
            Ok(peer)
        } else {
            Err(Refusal::new(403, "join the meeting first"))
        }
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
        if peer.place == Place::Rejected {
            return Err(Refusal::new(403, "you were not let in"));
        }
        Ok(())
    }

    /// Clients send the name that was set before the join.
    fn name_before_join(&mut self, seat: Seat, asked: &PeerInfo) {
        let longest = self.limits.name;
        let peer = &mut self.peers[seat];
        let name = asked.display_name.trim();
        let good =
            !name.is_empty() && name.chars().count() <= longest && !name.contains(char::is_control);
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
            since: turn.monotonic,
        });
        (stay.entered_ms, stay.left_ms) = (turn.now_ms, None);
        stay.since = turn.monotonic;
        self.session.record.total += i64::from(first);
        self.admit_media(turn, seat);
        self.keep_peer(turn, seat);
        if self.peers[seat].has_stage() {
            self.keep_stage(turn, seat);
        }
        self.keep_session(turn);
        let info = PeerInfoResponse {
            peer: Some(self.peers[seat].info()),
        };
        turn.push_soon(self.peers.watching(seat), event::JOIN_ROOM, &info);
        self.tell_connected_soon(turn);
        if self.peers[seat].who.view == ViewType::Livestream {
            self.count_soon(turn);
        }
        if self.peers[seat].permissions.accept_waiting_requests {
            self.privileged_entered(turn);
        }
    }

    /// The peer is outside from now on; its socket may stay.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let was = self.peers[seat].place;
        if was != Place::Inside {
            self.peers[seat].media = MediaState::Out;
            self.peers.put(seat, Place::Lobby);
            if was == Place::Waiting {
                self.waiting_list_changed(turn);
            }
            return;
        }
        let watching = self.peers.watching(seat);
        let media_watching = self.media_watching(seat);
        let had_media = self.peers[seat].media == MediaState::Complete;
        self.peers[seat].media = MediaState::Out;
        self.peers.put(seat, Place::Lobby);
        let peer = &mut self.peers[seat];
        let info = peer.info();
        peer.reopened = None;
        let asked_for_stage = peer.stage == StageType::RequestedStage;
        peer.stage = StageType::OffStage;
        let (id, viewer) = (peer.id(), peer.who.view == ViewType::Livestream);
        let left = peer.absent.take().unwrap_or_else(|| turn.moment());
        if let Some(stay) = &mut peer.stay {
            stay.left_ms = Some(left.now_ms);
            // However the clock was set meanwhile.
            let stayed_ms = left.monotonic.since(stay.since);
            stay.consumed_ms += stayed_ms;
            self.session.record.consumed_ms += stayed_ms;
        }
        self.session.left = self.session.left.max(left);
        if self.pinned == Some(id) {
            self.set_pinned(turn, None);
        }
        self.tracks.forget(seat);
        self.tracks.forget_speaker(id);
        self.keep_peer(turn, seat);
        self.keep_entry(turn, EntryKind::Stage, id.to_string(), None);
        self.keep_session(turn);
        let gone = PeerInfoResponse { peer: Some(info) };
        turn.push_soon(watching, event::LEAVE_ROOM, &gone);
        if had_media {
            self.tell_media_left(turn, seat, media_watching);
        }
        if asked_for_stage {
            self.tell_stage_requests(turn);
        }
        if viewer {
            self.count_soon(turn);
        }
        self.tell_connected_soon(turn);
        if self.peers.inside() == 0 {
            self.session_is_empty();
        }
    }

    /// The peer leaves; what is left of it is its time in the session. `away` when its client does
    /// not know.
    pub(crate) fn depart(&mut self, turn: &mut Turn<'_>, seat: Seat, away: bool) {
        self.leave(turn, seat);
        let Some(peer) = self.peers.remove(seat) else {
            return;
        };
        self.tracks.depart(seat);
        turn.emit(Output::Media(MediaOrder::Close {
            peer: peer.id(),
            away,
        }));
        if let Some(stay) = peer.stay {
            let gone = Gone {
                participant: peer.user(),
                created_ms: peer.created_ms,
                stay,
            };
            self.gone.insert(peer.id(), gone);
        }
    }

    /// Peers are thrown out: each is told by `event`, after which its client closes the socket. They
    /// have none from now on; that they leave takes some slices if they are many.
    pub(crate) fn throw_out(&mut self, turn: &mut Turn<'_>, seats: &[Seat], event: u32) {
        // None of them hears of the others.
        let sockets: Vec<ConnectionId> = seats
            .iter()
            .filter_map(|seat| self.peers.disconnect(*seat))
            .collect();
        for socket in &sockets {
            self.detach(turn, *socket);
        }
        for seat in seats {
            self.peers[*seat].removed = true;
        }
        self.remove_in_order(turn, seats.iter().copied().map(Act::ThrowOut));
        turn.push(sockets, event, &());
    }

    /// A peer that was removed leaves, unless it has left already.
    pub(crate) fn thrown_out(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        if let Some(peer) = self.peers.get(seat) {
            let away = peer.lost.is_some();
            self.depart(turn, seat, away);
        }
    }

    fn keep_peer(&self, turn: &mut Turn<'_>, seat: Seat) {
        if let Some(record) = self.peers[seat].record(self.session_id()) {
            turn.keep(Record::Peer(record));
        }
    }

    /// `getRoomInfo`.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "handlers of the event table have one shape"
    )]
    pub(crate) fn room_info(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        // Before the first join nothing has started; clients keep the first time they are told.
        let live = self.session.live;
        let started = i64::from(live) * self.session.record.started_ms / 1000;
        let room = RoomInfo {
            room_id: self.meeting.id.to_string(),
            title: self.meeting.title.clone(),
            created_at: u64::try_from(started).unwrap_or_default(),
            active_recordings: Vec::new(),
            room_uuid: live.then(|| self.session_id().to_string()),
        };
        asked.reply(turn, &RoomInfoResponse { room: Some(room) });
        Ok(())
    }

    /// `getRoomPeersInfo`: everybody that the peer is told of, or a page of a search. Clients ask
    /// before they join as well; those who would have to wait are told of nobody.
    pub(crate) fn roster(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let page: RoomPeersInfoRequest = asked.message()?;
        let me = &self.peers[asked.seat];
        let looks_in = self.looks_in(asked.seat);
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
        let peers = found.skip(skip).take(take).map(Peer::card).collect();
        asked.reply(turn, &Roster { peers });
        Ok(())
    }

    /// `getPeerInfo`.
    pub(crate) fn peer_info(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let request: GetPeerInfoRequest = asked.message()?;
        let me = &self.peers[asked.seat];
        let found = self.peers.seat_named(&request.peer_id);
        let found = found.map(|seat| &self.peers[seat]);
        let seen = found.filter(|peer| peer.id() == me.id() || sees(me, peer));
        let peer = seen.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
        let peer = Some(peer.info());
        asked.reply(turn, &PeerInfoResponse { peer });
        Ok(())
    }
}

/// Where a peer stands with the stage when it joins (docs/spec/signalling.md 6.8).
pub(crate) fn first_stage(peer: &Peer) -> StageType {
    if !peer.has_stage() {
        return StageType::OnStage;
    }
    match peer.stage_access() {
        MediaPermission::Allowed => StageType::ApprovedStage,
        MediaPermission::CanRequest | MediaPermission::NotAllowed => StageType::OffStage,
    }
}
