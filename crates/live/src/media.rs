//! Media signalling: authorizes transports, publishing and subscribing, and pushes tracks, pins and
//! names. The media plane handles the packets (docs/spec/media.md 0 to 5).
//!
//! | module | contents |
//! |---|---|
//! | `media` | joining and leaving media, pins, display names |
//! | `media/orders` | orders to the media plane, and their answers |
//! | `media/produce` | publishing, pausing and closing tracks; loss of the permission to publish |
//! | `media/consume` | subscribing; loss of visibility |
//! | `media/host` | muting other peers |
//! | `media/speakers` | active speakers |
//! | `media/tracks` | what each peer publishes and receives |

mod consume;
mod host;
mod orders;
mod produce;
mod speakers;
mod tracks;

pub(crate) use produce::MutedBy;
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
use crate::peer::{MediaState, Peer, Slot, can_see};
use crate::room::{Outcome, RequestContext, Room, Step};

/// Encodes the media plane's error reply. Clients parse it as JSON, and recreate their transport
/// for two of its codes (docs/spec/media.md 0.3).
pub(crate) fn media_error(asked_event: u32, id: Option<&str>, refusal: &Refusal) -> bytes::Bytes {
    let (code, description) = match refusal.code {
        // Clients retry a failed transport by themselves.
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
    /// Clients with a microphone send it every 400 ms. Ignored, because the media plane measures
    /// audio levels from the packets.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "all handlers have the same signature"
    )]
    pub(crate) fn audio_activity(
        &mut self,
        _step: &mut Step<'_>,
        _ctx: &RequestContext<'_>,
    ) -> Outcome {
        Ok(())
    }

    /// Clients prepare their media before they join the room, even if they will have to wait.
    pub(crate) fn media_join(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: PeerJoinRequest = ctx.message()?;
        let slot = ctx.slot;
        let peer = &self.peers[slot];
        let ready = peer.has_joined() && peer.media == MediaState::Ready;
        if request.prejoined && ready {
            // After a reconnect the client keeps its transports and publishes again
            // (docs/spec/media.md 5.1).
            self.end_producers(step, slot, |_| true);
        } else {
            self.stop_media(step, slot);
            self.peers[slot].media = MediaState::Preparing;
        }
        ctx.reply(step, &());
        Ok(())
    }

    /// The peer's transports are connected: replies with the other peers, and announces it to them.
    pub(crate) fn media_join_complete(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let slot = ctx.slot;
        self.joined_peer(slot)?;
        let was = std::mem::replace(&mut self.peers[slot].media, MediaState::Ready);
        let (selected_peers, change) = self.initial_speakers(slot);
        let pinned = self
            .pin_known_to(&self.peers[slot])
            .map(|peer| peer.to_string());
        let me = &self.peers[slot];
        let others = self.peers.iter();
        let others =
            others.filter(|(_, peer)| peer.media == MediaState::Ready && can_see(me, peer));
        let response = PeerJoinCompleteResponse {
            room_state: Some(GetRoomStateResponse {
                display_title: self.meeting.title.clone(),
                room_uuid: self.session_id().to_string(),
                room_name: self.meeting.id.to_string(),
                current_peer_id: me.id().to_string(),
                pinned_peer_ids: pinned.into_iter().collect(),
                ..GetRoomStateResponse::default()
            }),
            participants: others
                .map(|(slot, _)| self.media_participant(slot))
                .collect(),
            selected_peers: Some(selected_peers),
            max_preferred_streams: 0,
        };
        ctx.reply(step, &response);
        if !change.entries.is_empty() {
            step.push(vec![ctx.connection], event::SELECTED_PEERS_DIFF, &change);
        }
        // Clients treat each announcement as a new peer.
        if was != MediaState::Ready {
            let to = self.media_viewers_of(slot);
            step.push(to, event::MEDIA_PEER_JOINED, &self.peer_joined_push(slot));
        }
        Ok(())
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "all handlers have the same signature"
    )]
    pub(crate) fn media_leave(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        self.stop_media(step, ctx.slot);
        self.free_media(step, ctx.slot, false);
        ctx.reply(step, &PeerLeaveResponse { closed: false });
        Ok(())
    }

    /// Closes all transports and tracks of a peer, without a push. `client_offline` is whether the
    /// client has lost its connection and does not know.
    pub(crate) fn free_media(&mut self, step: &mut Step<'_>, slot: Slot, client_offline: bool) {
        self.tracks.forget(slot);
        let peer = self.peers[slot].id();
        step.emit(Output::Media(MediaOrder::Close {
            peer,
            client_offline,
        }));
    }

    /// Ends everything that a peer publishes, and pushes it to possible subscribers. Clients keep
    /// the tracks of a peer that stays in the room until each is closed (docs/spec/media.md 2.5).
    fn stop_media(&mut self, step: &mut Step<'_>, slot: Slot) {
        self.end_producers(step, slot, |_| true);
        let watching = self.media_viewers_of(slot);
        let was = std::mem::replace(&mut self.peers[slot].media, MediaState::Idle);
        if was == MediaState::Ready {
            self.push_media_left(step, slot, watching);
        }
    }

    /// Pushes that a peer has left the media room.
    pub(crate) fn push_media_left(&self, step: &mut Step<'_>, slot: Slot, to: Vec<ConnectionId>) {
        let push = PeerLeaveBroadcastResponse {
            participant_id: self.peers[slot].id().to_string(),
        };
        step.push(to, event::MEDIA_PEER_LEFT, &push);
    }

    pub(crate) fn media_viewers_of(&self, slot: Slot) -> Vec<ConnectionId> {
        let subject = &self.peers[slot];
        self.peers
            .sockets(|viewer| viewer.media == MediaState::Ready && can_see(viewer, subject))
    }

    /// Pushes to all possible subscribers of a peer, if its media is ready.
    fn push_to_subscribers(
        &self,
        step: &mut Step<'_>,
        slot: Slot,
        event: u32,
        push: &impl Message,
    ) {
        if self.peers[slot].media == MediaState::Ready {
            step.push(self.media_viewers_of(slot), event, push);
        }
    }

    /// The push when a peer's transports are connected.
    pub(crate) fn peer_joined_push(&self, slot: Slot) -> PeerJoinBroadcastResponse {
        PeerJoinBroadcastResponse {
            participant: Some(self.media_participant(slot)),
        }
    }

    /// A peer and its tracks, as described to other clients.
    fn media_participant(&self, slot: Slot) -> RoomParticipants {
        let peer = &self.peers[slot];
        RoomParticipants {
            peer_id: peer.id().to_string(),
            producer_states: self.tracks.states(slot),
            display_name: peer.name.clone(),
            user_id: Some(peer.participant_id().to_string()),
            capabilities: None,
        }
    }

    /// Sets the pinned peer.
    pub(crate) fn set_pinned(&mut self, step: &mut Step<'_>, peer: Option<PeerId>) {
        if self.pinned != peer {
            self.pinned = peer;
            step.emit(Output::Media(MediaOrder::Pin { peer }));
        }
    }

    /// Returns the pinned peer if `viewer` can see it.
    pub(crate) fn pin_known_to(&self, viewer: &Peer) -> Option<PeerId> {
        let pinned = &self.peers[self.peers.slot_of(self.pinned?)?];
        let knows = pinned.id() == viewer.id() || can_see(viewer, pinned);
        knows.then(|| pinned.id())
    }

    /// Pins one peer for everyone, including the requester; an empty id unpins.
    pub(crate) fn pin(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let me = &self.peers[ctx.slot];
        if !me.has_joined() || !me.permissions.pin_participant {
            return Err(Refusal::forbidden("pin_participant"));
        }
        let request: GlobalPeerPinningRequest = ctx.message()?;
        let pinned = if request.participant_id.is_empty() {
            None
        } else {
            let slot = self.peers.slot_by_id_text(&request.participant_id);
            let subject = slot.map(|slot| &self.peers[slot]);
            let seen = subject.filter(|subject| subject.id() == me.id() || can_see(me, subject));
            let seen = seen.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
            Some(seen.id())
        };
        self.set_pinned(step, pinned);
        ctx.reply(step, &());
        for shown in [true, false] {
            let to = self.peers.sockets(|viewer| {
                viewer.has_joined() && shown == self.pin_known_to(viewer).is_some()
            });
            let pinned = pinned.filter(|_| shown);
            let push = GlobalPeerPinningBroadcastResponse {
                participant_id: pinned.map(|peer| peer.to_string()).unwrap_or_default(),
            };
            step.push(to, event::PEER_PINNED, &push);
        }
        // Clients apply a pin only when the list of speakers changes.
        self.push_speakers(step);
        Ok(())
    }

    /// Changes the display name during the call. Always applies to the requesting peer, whatever id
    /// it sends.
    pub(crate) fn rename(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: PeerDisplayNameEditRequest = ctx.message()?;
        let longest = self.limits.name_chars;
        let peer = &mut self.peers[ctx.slot];
        if !peer.has_joined() || !peer.permissions.can_edit_display_name {
            return Err(Refusal::forbidden("can_edit_display_name"));
        }
        let name = request.display_name.trim();
        if name.is_empty() || name.chars().count() > longest || name.contains(char::is_control) {
            let message =
                format!("a name has 1 to {longest} characters, none of them control characters");
            return Err(Refusal::new(400, message));
        }
        name.clone_into(&mut peer.name);
        if let Some(record) = self.peers[ctx.slot].record(self.session_id()) {
            step.persist(Record::Peer(record));
        }
        ctx.reply(step, &PeerDisplayNameEditResponse { status: success() });
        Ok(())
    }
}
