//! The waiting room (docs/spec/signalling.md 6.5).

use bytes::Bytes;
use parlor_protocol::ids::ParticipantId;
use parlor_protocol::preset::WaitingRoomType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, DenyWaitingRoomRequests, GetWaitingRoomRequests, WaitingRoomRequest,
};

use crate::frame::named;
use crate::input::ConnectionId;
use crate::output::{EntryKind, Refusal};
use crate::peer::{Peer, Place, Seat};
use crate::room::{Act, Deadline, Outcome, RequestContext, Room, Turn};

/// What letting somebody in costs by itself, in steps.
const ADMIT_STEPS: usize = 20;

fn decides(peer: &Peer) -> bool {
    peer.is_inside() && !peer.removed && peer.permissions.accept_waiting_requests
}

impl Room {
    /// Whether the peer has to wait if it joins now.
    pub(crate) fn must_wait(&self, seat: Seat) -> bool {
        let peer = &self.peers[seat];
        let admitted = self
            .people
            .get(&peer.user())
            .is_some_and(|who| who.admitted);
        // Those who let others in need nobody to let them in.
        if admitted || peer.place == Place::Invited || peer.permissions.accept_waiting_requests {
            return false;
        }
        match peer.permissions.waiting_room_type {
            WaitingRoomType::Skip => false,
            WaitingRoomType::SkipOnAccept => true,
            WaitingRoomType::OnPrivilegedUserEntry => {
                !self.peers.iter().any(|(_, peer)| decides(peer))
            }
        }
    }

    pub(crate) fn wait(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        if self.peers[seat].place != Place::Waiting {
            self.peers.put(seat, Place::Waiting);
            self.waiting_list_changed(turn);
        }
    }

    /// `getWaitingRoomRequests`.
    pub(crate) fn waiting_list(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.must_decide(asked)?;
        asked.reply(turn, &self.waiting());
        Ok(())
    }

    /// `acceptWaitingRoomRequests`.
    pub(crate) fn let_in(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        self.must_decide(asked)?;
        let request: AcceptWaitingRoomRequests = asked.message()?;
        let people = self.waiting_among(&request.user_ids);
        self.may_add(asked.seat, people.len())?;
        let acts = people.into_iter().map(Act::Admit);
        let acts = acts.chain([Act::TellWaiting]);
        self.carry_out(turn, Some(asked.seat), acts);
        Ok(())
    }

    /// `denyWaitingRoomRequests`. The client leaves its socket open, so it is closed after a while.
    pub(crate) fn turn_away(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        self.must_decide(asked)?;
        let request: DenyWaitingRoomRequests = asked.message()?;
        let people = self.waiting_among(&request.user_ids);
        self.may_add(asked.seat, people.len())?;
        let acts = people.into_iter().map(Act::TurnAway);
        let acts = acts.chain([Act::TellWaiting]);
        self.carry_out(turn, Some(asked.seat), acts);
        Ok(())
    }

    /// Somebody who waits, or was turned away and is still there, is let in.
    pub(crate) fn admit_waiting(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let place = self.peers.get(seat).map(|peer| peer.place);
        if matches!(place, Some(Place::Waiting | Place::Rejected)) {
            self.admit(turn, seat);
        }
    }

    /// Somebody who waits is turned away.
    pub(crate) fn reject_waiting(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        if self
            .peers
            .get(seat)
            .is_none_or(|peer| peer.place != Place::Waiting)
        {
            return;
        }
        self.peers.put(seat, Place::Rejected);
        self.peers[seat].rejected = turn.monotonic;
        let to = Vec::from_iter(self.peers[seat].connection);
        turn.push(to, event::WAITING_ROOM_REQUEST_DENIED, &());
        let until = turn.monotonic.after(self.limits.rejected_ms);
        self.at(until, Deadline::Grace(seat));
    }

    /// Somebody who can let people in has come: those who only wait for that are let in.
    pub(crate) fn privileged_entered(&mut self, turn: &mut Turn<'_>) {
        // Many may come to decide at once: one act is enough for all of them.
        if !self.work.admit_due {
            self.work.admit_due = true;
            self.carry_out(turn, None, [Act::AdmitWaiting]);
        }
    }

    /// Those who wait for somebody who can let people in are let in, as many as fit into a slice.
    pub(crate) fn admit_all_who_wait(&mut self, turn: &mut Turn<'_>) {
        self.work.admit_due = false;
        let waiting = self.peers.seats(|peer| {
            let kind = peer.permissions.waiting_room_type;
            peer.place == Place::Waiting && kind == WaitingRoomType::OnPrivilegedUserEntry
        });
        if waiting.is_empty() || !self.peers.iter().any(|(_, peer)| decides(peer)) {
            return;
        }
        let mut slice = self.slice(turn);
        for seat in waiting {
            if self.is_over_after(turn, &mut slice) {
                return self.privileged_entered(turn);
            }
            self.steps.add(ADMIT_STEPS);
            self.admit_waiting(turn, seat);
        }
        self.waiting_list_changed(turn);
    }

    /// A peer that waits is let in once it need not wait any more.
    pub(crate) fn admit_if_free(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        if self.peers[seat].place == Place::Waiting && !self.must_wait(seat) {
            self.admit(turn, seat);
            self.waiting_list_changed(turn);
        }
    }

    fn admit(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        // Before the session there is nothing to keep it with, and nobody who could take it back.
        if self.session.live {
            let user = self.peers[seat].user();
            self.people.entry(user).or_default().admitted = true;
            let kept = Some(Bytes::new());
            self.keep_entry(turn, EntryKind::Admitted, user.to_string(), kept);
        }
        self.peers.put(seat, Place::Invited);
        self.invite(turn, seat);
    }

    /// The person has to be let in again.
    pub(crate) fn forget_admission(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let user = self.peers[seat].user();
        let standing = self.people.get_mut(&user);
        if let Some(standing) = standing.filter(|standing| standing.admitted) {
            standing.admitted = false;
            self.keep_entry(turn, EntryKind::Admitted, user.to_string(), None);
        }
    }

    /// Tells a peer that it was let in; its client joins again.
    pub(crate) fn invite(&self, turn: &mut Turn<'_>, seat: Seat) {
        let to = Vec::from_iter(self.peers[seat].connection);
        turn.push(to, event::WAITING_ROOM_REQUEST_ACCEPTED, &());
    }

    fn must_decide(&self, asked: &RequestContext<'_>) -> Outcome {
        if decides(&self.peers[asked.seat]) {
            Ok(())
        } else {
            Err(Refusal::forbidden("accept_waiting_requests"))
        }
    }

    /// The peers of these people that wait, or were turned away and are still there.
    fn waiting_among(&self, users: &[String]) -> Vec<Seat> {
        let users = named::<ParticipantId>(users);
        self.peers.seats(|peer| {
            let waits = matches!(peer.place, Place::Waiting | Place::Rejected);
            waits && users.contains(&peer.user())
        })
    }

    fn waiting(&self) -> GetWaitingRoomRequests {
        let waiting = self.peers.iter().map(|(_, peer)| peer);
        let waiting = waiting.filter(|peer| peer.place == Place::Waiting);
        let requests = waiting.map(|peer| WaitingRoomRequest {
            peer_id: peer.id().to_string(),
            user_id: peer.user().to_string(),
            display_name: peer.name.clone(),
            picture: peer.who.picture.clone(),
            custom_participant_id: Some(peer.who.custom_id.clone()),
            preset_name: Some(peer.who.preset_name.clone()),
        });
        GetWaitingRoomRequests {
            requests: requests.collect(),
        }
    }

    /// Those who decide get the complete list after every change.
    pub(crate) fn tell_waiting_list(&self, turn: &mut Turn<'_>) {
        let deciding: Vec<ConnectionId> = self.peers.sockets(decides);
        if !deciding.is_empty() {
            turn.push(deciding, event::GET_WAITING_ROOM_REQUESTS, &self.waiting());
        }
    }
}
