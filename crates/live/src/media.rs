//! What the room decides about media: who may have transports, publish and receive, who is told of
//! whom, pins, names. The bytes are the media plane's (docs/spec/media.md 0 to 5).
//!
//! | where | what |
//! |---|---|
//! | `media` | the events; joining and leaving; pins and names |
//! | `media/orders` | what the media plane is asked for, and what is done with its answers |
//! | `media/produce` | publishing, pausing, ending; who may no more |
//! | `media/consume` | receiving; who sees whom no more |
//! | `media/host` | silencing others |
//! | `media/speakers` | who speaks |
//! | `media/tracks` | what everybody publishes and receives |

mod consume;
mod host;
mod orders;
mod produce;
mod speakers;
mod tracks;

pub(crate) use produce::Silencer;
pub(crate) use tracks::Tracks;

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ErrorResponse, GetRoomStateResponse, GlobalPeerPinningBroadcastResponse,
    GlobalPeerPinningRequest, PeerDisplayNameEditRequest, PeerDisplayNameEditResponse,
    PeerJoinBroadcastResponse, PeerJoinCompleteResponse, PeerJoinRequest,
    PeerLeaveBroadcastResponse, PeerLeaveResponse, RoomParticipants,
};
use prost::Message;

use crate::input::ConnectionId;
use crate::output::{MediaOrder, Output, Record, Refusal};
use crate::peer::{MediaState, Peer, Seat, sees};
use crate::room::{Outcome, RequestContext, Room, Turn};

/// The error reply of the media plane. Clients read it as JSON, and make their transport anew when
/// it says one of two things (docs/spec/media.md 0.3).
pub(crate) fn media_error(asked_event: u32, id: Option<&str>, refusal: &Refusal) -> bytes::Bytes {
    let (code, description) = match refusal.code {
        // Clients try a transport that was not made again by themselves.
        _ if asked_event == event::CREATE_TRANSPORT => ("1000", refusal.message.as_str()),
        410 => ("internal_error", "Backend error"),
        422 => ("invalid_session_description", refusal.message.as_str()),
        _ => ("1000", refusal.message.as_str()),
    };
    let response = ErrorResponse {
        error_message: serde_json::json!({ "errorCode": code, "errorDescription": description })
            .to_string(),
        event_id: i32::try_from(asked_event & 0xFFFF).unwrap_or_default(),
    };
    crate::frame::frame(event::MEDIA_ERROR, id, &response)
}

fn success() -> String {
    "success".to_owned()
}

impl Room {
    /// Said every 400 ms by clients with a microphone; packets say it better.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "handlers of the event table have one shape"
    )]
    pub(crate) fn audio_activity(
        &mut self,
        _turn: &mut Turn<'_>,
        _asked: &RequestContext<'_>,
    ) -> Outcome {
        Ok(())
    }

    /// Clients prepare their media before they join the room, those who will have to wait as well.
    pub(crate) fn media_join(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: PeerJoinRequest = asked.message()?;
        let seat = asked.seat;
        let peer = &self.peers[seat];
        let ready = peer.is_inside() && peer.media == MediaState::Complete;
        if request.prejoined && ready {
            // After a reconnect it goes on with the transports that it has, and publishes anew
            // (docs/spec/media.md 5.1).
            self.end_producers(turn, seat, |_| true);
        } else {
            self.stop_media(turn, seat);
            self.peers[seat].media = MediaState::Preparing;
        }
        asked.reply(turn, &());
        Ok(())
    }

    /// The transports of a peer are connected: it learns who else is there, and they of it.
    pub(crate) fn media_join_complete(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let seat = asked.seat;
        self.inside(seat)?;
        let was = std::mem::replace(&mut self.peers[seat].media, MediaState::Complete);
        let (selected_peers, change) = self.speakers_from_now(seat);
        let pinned = self
            .pin_known_to(&self.peers[seat])
            .map(|peer| peer.to_string());
        let me = &self.peers[seat];
        let others = self.peers.iter();
        let others =
            others.filter(|(_, peer)| peer.media == MediaState::Complete && sees(me, peer));
        let response = PeerJoinCompleteResponse {
            room_state: Some(GetRoomStateResponse {
                display_title: self.meeting.title.clone(),
                room_uuid: self.session_id().to_string(),
                room_name: self.meeting.id.to_string(),
                current_peer_id: me.id().to_string(),
                pinned_peer_ids: pinned.into_iter().collect(),
                ..GetRoomStateResponse::default()
            }),
            participants: others.map(|(seat, _)| self.participant(seat)).collect(),
            selected_peers: Some(selected_peers),
            max_preferred_streams: 0,
        };
        asked.reply(turn, &response);
        if !change.entries.is_empty() {
            turn.push(vec![asked.connection], event::SELECTED_PEERS_DIFF, &change);
        }
        // Clients take what they are told of a peer that came for new, each time.
        if was != MediaState::Complete {
            let to = self.media_watching(seat);
            turn.push(to, event::MEDIA_PEER_JOINED, &self.described(seat));
        }
        Ok(())
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "handlers of the event table have one shape"
    )]
    pub(crate) fn media_leave(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.stop_media(turn, asked.seat);
        self.free_media(turn, asked.seat, false);
        asked.reply(turn, &PeerLeaveResponse { closed: false });
        Ok(())
    }

    /// Everything that a peer has in the media plane is freed. No other peer is told. `away` when its
    /// client does not know.
    pub(crate) fn free_media(&mut self, turn: &mut Turn<'_>, seat: Seat, away: bool) {
        self.tracks.forget(seat);
        let peer = self.peers[seat].id();
        turn.emit(Output::Media(MediaOrder::Close { peer, away }));
    }

    /// The peer publishes nothing any more; those who could subscribe to it are told. Clients keep
    /// the tracks of somebody who stays in the room until they are told of each (docs/spec/media.md 2.5).
    fn stop_media(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        self.end_producers(turn, seat, |_| true);
        let watching = self.media_watching(seat);
        let was = std::mem::replace(&mut self.peers[seat].media, MediaState::Out);
        if was == MediaState::Complete {
            self.tell_media_left(turn, seat, watching);
        }
    }

    /// Tells those who could subscribe to a peer that it publishes no more.
    pub(crate) fn tell_media_left(&self, turn: &mut Turn<'_>, seat: Seat, to: Vec<ConnectionId>) {
        let gone = PeerLeaveBroadcastResponse {
            participant_id: self.peers[seat].id().to_string(),
        };
        turn.push(to, event::MEDIA_PEER_LEFT, &gone);
    }

    pub(crate) fn media_watching(&self, seat: Seat) -> Vec<ConnectionId> {
        let subject = &self.peers[seat];
        self.peers
            .sockets(|viewer| viewer.media == MediaState::Complete && sees(viewer, subject))
    }

    /// Tells those who can subscribe to a peer, as long as it has any media.
    fn tell_watching(&self, turn: &mut Turn<'_>, seat: Seat, event: u32, push: &impl Message) {
        if self.peers[seat].media == MediaState::Complete {
            turn.push(self.media_watching(seat), event, push);
        }
    }

    /// What others are told when a peer's transports are connected.
    pub(crate) fn described(&self, seat: Seat) -> PeerJoinBroadcastResponse {
        PeerJoinBroadcastResponse {
            participant: Some(self.participant(seat)),
        }
    }

    /// A peer as the media plane describes it, with what it publishes.
    fn participant(&self, seat: Seat) -> RoomParticipants {
        let peer = &self.peers[seat];
        RoomParticipants {
            peer_id: peer.id().to_string(),
            producer_states: self.tracks.states(seat),
            display_name: peer.name.clone(),
            user_id: Some(peer.user().to_string()),
            capabilities: None,
        }
    }

    /// Whose picture comes first from now on.
    pub(crate) fn set_pinned(&mut self, turn: &mut Turn<'_>, peer: Option<PeerId>) {
        if self.pinned != peer {
            self.pinned = peer;
            turn.emit(Output::Media(MediaOrder::Pin { peer }));
        }
    }

    /// Who is pinned, for somebody who may know of them.
    pub(crate) fn pin_known_to(&self, viewer: &Peer) -> Option<PeerId> {
        let pinned = &self.peers[self.peers.seat_of(self.pinned?)?];
        let knows = pinned.id() == viewer.id() || sees(viewer, pinned);
        knows.then(|| pinned.id())
    }

    /// Keeps one peer in view for everybody, the sender included; nobody when the id is empty.
    pub(crate) fn pin(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let me = &self.peers[asked.seat];
        if !me.is_inside() || !me.permissions.pin_participant {
            return Err(Refusal::forbidden("pin_participant"));
        }
        let request: GlobalPeerPinningRequest = asked.message()?;
        let pinned = if request.participant_id.is_empty() {
            None
        } else {
            let seat = self.peers.seat_named(&request.participant_id);
            let subject = seat.map(|seat| &self.peers[seat]);
            let seen = subject.filter(|subject| subject.id() == me.id() || sees(me, subject));
            let seen = seen.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
            Some(seen.id())
        };
        self.set_pinned(turn, pinned);
        asked.reply(turn, &());
        for shown in [true, false] {
            let to = self.peers.sockets(|viewer| {
                viewer.is_inside() && shown == self.pin_known_to(viewer).is_some()
            });
            let pinned = pinned.filter(|_| shown);
            let push = GlobalPeerPinningBroadcastResponse {
                participant_id: pinned.map(|peer| peer.to_string()).unwrap_or_default(),
            };
            turn.push(to, event::PEER_PINNED, &push);
        }
        // Of the push alone clients take no notice before they look for another reason.
        self.tell_speakers(turn);
        Ok(())
    }

    /// A new name in the middle of a call: of the peer itself, whatever id it sends.
    pub(crate) fn rename(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let request: PeerDisplayNameEditRequest = asked.message()?;
        let longest = self.limits.name;
        let peer = &mut self.peers[asked.seat];
        if !peer.is_inside() || !peer.permissions.can_edit_display_name {
            return Err(Refusal::forbidden("can_edit_display_name"));
        }
        let name = request.display_name.trim();
        if name.is_empty() || name.chars().count() > longest || name.contains(char::is_control) {
            let message =
                format!("a name has 1 to {longest} characters, none of them control characters");
            return Err(Refusal::new(400, message));
        }
        name.clone_into(&mut peer.name);
        if let Some(record) = self.peers[asked.seat].record(self.session_id()) {
            turn.keep(Record::Peer(record));
        }
        asked.reply(turn, &PeerDisplayNameEditResponse { status: success() });
        Ok(())
    }
}
