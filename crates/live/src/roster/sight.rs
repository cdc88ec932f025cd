//! Who sees whom, and who is told when that changes.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{PeerInfoResponse, PeerStatusUpdate};

use crate::input::ConnectionId;
use crate::media::described;
use crate::output::EntryKind;
use crate::peer::{MediaState, Peer, Seat, sees};
use crate::room::{Room, Turn};

impl Room {
    /// Changes a peer, and tells those for whom it comes into sight or goes out of it, or who see it
    /// take another place on the stage; and the peer itself whom it sees now, or sees no more.
    pub(crate) fn change(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        change: impl FnOnce(&mut Peer),
    ) {
        let sight = |peer: &Peer| {
            let hidden = peer.permissions.hidden_participant;
            (hidden, peer.is_audience(), peer.stage)
        };
        let stage = self.peers[seat].stage;
        let mut changed = self.peers[seat].clone();
        change(&mut changed);
        if sight(&changed) == sight(&self.peers[seat]) {
            self.peers[seat] = changed;
            return;
        }
        let (watched, saw) = self.sights(seat);
        self.peers[seat] = changed;
        let (watching, sees) = self.sights(seat);
        let moves = self.peers[seat].stage != stage;
        if moves {
            self.keep_stage(turn, seat);
        }
        let appears = self.sockets_of(&watching, &watched);
        let vanishes = self.sockets_of(&watched, &watching);
        let subject = &self.peers[seat];
        let info = PeerInfoResponse {
            peer: Some(subject.info()),
        };
        turn.push(appears, event::JOIN_ROOM, &info);
        turn.push(vanishes, event::LEAVE_ROOM, &info);
        if moves {
            let still = watching
                .iter()
                .filter(|it| watched.binary_search(it).is_ok());
            let told = still.filter_map(|viewer| self.peers[*viewer].connection);
            let status = self.stage_status(seat);
            turn.push(told.collect(), event::PEER_STAGE_STATUS_UPDATE, &status);
        }
        if subject.media == MediaState::Complete {
            let new = without(&watching, &watched);
            let ready = new.filter(|viewer| self.peers[**viewer].media == MediaState::Complete);
            let to: Vec<_> = ready
                .filter_map(|viewer| self.peers[*viewer].connection)
                .collect();
            turn.push(to, event::MEDIA_PEER_JOINED, &described(subject));
        }
        let Some(socket) = subject.connection else {
            return;
        };
        // On its way up the stage a client asks for the whole roster itself.
        if !moves {
            self.tell_one_by_one(turn, socket, event::JOIN_ROOM, without(&sees, &saw));
        }
        self.tell_one_by_one(turn, socket, event::LEAVE_ROOM, without(&saw, &sees));
    }

    /// Tells a socket of these peers. Of too many it is told nothing: a client takes a frame for each,
    /// and they would be more than may wait for it. It learns of them when it asks for the roster.
    fn tell_one_by_one<'s>(
        &self,
        turn: &mut Turn<'_>,
        socket: ConnectionId,
        event: u32,
        those: impl Iterator<Item = &'s Seat>,
    ) {
        let those: Vec<&Seat> = those.collect();
        if those.len() <= self.limits.one_by_one {
            for seat in those {
                let peer = Some(self.peers[*seat].info());
                turn.push(vec![socket], event, &PeerInfoResponse { peer });
            }
        }
    }

    /// Who sees a peer and whom it sees, each in the order of seats.
    fn sights(&self, seat: Seat) -> (Vec<Seat>, Vec<Seat>) {
        let subject = &self.peers[seat];
        (
            self.peers.seats(|viewer| sees(viewer, subject)),
            self.peers.seats(|other| sees(subject, other)),
        )
    }

    fn sockets_of(&self, these: &[Seat], but: &[Seat]) -> Vec<ConnectionId> {
        let seats = without(these, but);
        seats
            .filter_map(|seat| self.peers[*seat].connection)
            .collect()
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

    /// Keeps where a peer stands with the stage, if the call has one for it.
    pub(super) fn keep_stage(&self, turn: &mut Turn<'_>, seat: Seat) {
        let peer = &self.peers[seat];
        let stage = u8::try_from(i32::from(peer.stage)).unwrap_or_default();
        let kept = peer.has_stage().then(|| vec![stage]);
        self.keep_entry(turn, EntryKind::Stage, peer.id().to_string(), kept);
    }
}

/// Those of some seats that are not among others; both are in order.
fn without<'s>(these: &'s [Seat], but: &'s [Seat]) -> impl Iterator<Item = &'s Seat> {
    these.iter().filter(|seat| but.binary_search(seat).is_err())
}
