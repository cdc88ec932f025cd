//! Who sees whom, and who is told when that changes.

use bytes::Bytes;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{PeerInfoResponse, PeerStatusUpdate};

use crate::input::ConnectionId;
use crate::output::EntryKind;
use crate::peer::{MediaState, Peer, Seat, sees};
use crate::room::{Room, Turn};

/// `PeerInfoResponse` of a peer that is encoded already: the same on the wire. An audience is told of
/// the same people, each of it one by one.
#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(bytes = "bytes", tag = "1")]
    peer: Bytes,
}

impl Room {
    /// Changes a peer, and tells those for whom it comes into sight or goes out of it, or who see it
    /// take another place on the stage; and the peer itself whom it sees now, or sees no more. What
    /// may not be published or received any more is not, from now on.
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
        let mut changed = self.peers[seat].clone();
        change(&mut changed);
        if sight(&changed) == sight(&self.peers[seat]) {
            self.peers[seat] = changed;
        } else {
            self.show(turn, seat, changed);
        }
        self.hold_producers(turn, seat);
    }

    /// The peer is seen, or sees, otherwise from now on.
    fn show(&mut self, turn: &mut Turn<'_>, seat: Seat, changed: Peer) {
        let moves = self.peers[seat].stage != changed.stage;
        let (watched, saw) = self.sights(seat);
        self.peers[seat] = changed;
        let (watching, sees) = self.sights(seat);
        if moves {
            self.keep_stage(turn, seat);
        }
        let subject = &self.peers[seat];
        let info = PeerInfoResponse {
            peer: Some(subject.info()),
        };
        let appears = without(&watching, &watched);
        turn.push(self.sockets_of(appears, |_| true), event::JOIN_ROOM, &info);
        let vanishes = without(&watched, &watching);
        turn.push(
            self.sockets_of(vanishes, |_| true),
            event::LEAVE_ROOM,
            &info,
        );
        if moves {
            let still = watching.iter();
            let still = still.filter(|it| watched.binary_search(it).is_ok());
            let status = self.stage_status(seat);
            let to = self.sockets_of(still, |_| true);
            turn.push(to, event::PEER_STAGE_STATUS_UPDATE, &status);
        }
        if has_media(subject) {
            let appears = without(&watching, &watched);
            let to = self.sockets_of(appears, has_media);
            turn.push(to, event::MEDIA_PEER_JOINED, &self.described(seat));
            let to = self.sockets_of(without(&watched, &watching), has_media);
            self.tell_media_left(turn, seat, to);
        }
        // On its way up the stage a client asks for everybody itself.
        let come = without(&sees, &saw).filter(|_| !moves);
        self.tell_coming(turn, seat, come.collect());
        let lost: Vec<&Seat> = without(&saw, &sees).collect();
        self.tell_going(turn, seat, &lost);
        self.unsee(turn, seat, lost.into_iter());
        for viewer in without(&watched, &watching) {
            self.unsee(turn, *viewer, std::iter::once(&seat));
        }
    }

    /// A peer does not see these any more.
    fn unsee<'s>(
        &mut self,
        turn: &mut Turn<'_>,
        viewer: Seat,
        lost: impl Iterator<Item = &'s Seat> + Clone,
    ) {
        for subject in lost.clone() {
            let id = self.peers[*subject].id();
            self.tracks.unlist(viewer, id);
        }
        self.revoke(turn, viewer, lost);
    }

    /// Tells a peer whom it sees now. Of too many it is told nothing: a client takes a frame for each,
    /// and they would be more than may wait for it. It learns of them when it asks for the roster.
    fn tell_coming(&self, turn: &mut Turn<'_>, seat: Seat, those: Vec<&Seat>) {
        let viewer = &self.peers[seat];
        let Some(socket) = viewer
            .connection
            .filter(|_| those.len() <= self.limits.one_by_one)
        else {
            return;
        };
        for seat in &those {
            let peer = self.peers[**seat].card();
            turn.push(vec![socket], event::JOIN_ROOM, &Told { peer });
        }
        let with_media = those
            .into_iter()
            .filter(|seat| has_media(&self.peers[**seat]));
        for seat in with_media.filter(|_| has_media(viewer)) {
            turn.push(
                vec![socket],
                event::MEDIA_PEER_JOINED,
                &self.described(*seat),
            );
        }
    }

    /// Tells a peer whom it sees no more, in the same way.
    fn tell_going(&self, turn: &mut Turn<'_>, seat: Seat, those: &[&Seat]) {
        let viewer = &self.peers[seat];
        let Some(socket) = viewer
            .connection
            .filter(|_| those.len() <= self.limits.one_by_one)
        else {
            return;
        };
        for seat in those {
            let peer = self.peers[**seat].card();
            turn.push(vec![socket], event::LEAVE_ROOM, &Told { peer });
        }
        let with_media = those.iter().filter(|seat| has_media(&self.peers[***seat]));
        for seat in with_media.filter(|_| has_media(viewer)) {
            self.tell_media_left(turn, **seat, vec![socket]);
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

    /// The sockets of those of some peers that `which` picks.
    fn sockets_of<'s>(
        &self,
        these: impl Iterator<Item = &'s Seat>,
        which: impl Fn(&Peer) -> bool,
    ) -> Vec<ConnectionId> {
        let peers = these.map(|seat| &self.peers[*seat]);
        let picked = peers.filter(|peer| which(peer));
        picked.filter_map(|peer| peer.connection).collect()
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
        let kept = peer.has_stage().then(|| vec![stage].into());
        self.keep_entry(turn, EntryKind::Stage, peer.id().to_string(), kept);
    }
}

/// Its media is ready.
fn has_media(peer: &Peer) -> bool {
    peer.media == MediaState::Complete
}

/// Those of some seats that are not among others; both are in order.
fn without<'s>(these: &'s [Seat], but: &'s [Seat]) -> impl Iterator<Item = &'s Seat> + Clone {
    these.iter().filter(|seat| but.binary_search(seat).is_err())
}
