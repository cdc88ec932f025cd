//! What the room decides about media: who may have transports, who is told of whom, pins, names.
//! Tracks are the media plane's (contract: media, sections 0, 1 and 4).

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ErrorResponse, GetRoomStateResponse, GlobalPeerPinningBroadcastResponse,
    GlobalPeerPinningRequest, HostMediaControlForAllPeerRequest,
    HostMediaControlForAllPeerResponse, HostMediaControlForPeerRequest,
    HostMediaControlForPeerResponse, PeerDisplayNameEditRequest, PeerDisplayNameEditResponse,
    PeerJoinBroadcastResponse, PeerJoinCompleteResponse, PeerJoinRequest,
    PeerLeaveBroadcastResponse, PeerLeaveResponse, RoomParticipants, SelectedPeersResponse,
};
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, SessionDescription, Target,
};

use crate::input::{ConnectionId, Request};
use crate::output::{MediaOrder, Output, Record, Refusal};
use crate::peer::{MediaState, Peer, Place, Seat, sees};
use crate::room::{Asked, Outcome, Room, Turn};

/// What is read of a request to the media plane: an error reply names the event by its number.
fn media_error(asked_event: u32, id: Option<&str>, message: &str) -> bytes::Bytes {
    let response = ErrorResponse {
        // Clients parse the text of some of these replies as JSON.
        error_message: serde_json::json!({ "errorCode": "1000", "errorDescription": message })
            .to_string(),
        event_id: i32::try_from(asked_event & 0xFFFF).unwrap_or_default(),
    };
    crate::frame::frame(event::MEDIA_ERROR, id, &response)
}

fn success() -> String {
    "success".to_owned()
}

impl Room {
    /// Every media event. Refusals go out as the media plane's own error.
    pub(crate) fn media(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) {
        if let Err(refusal) = self.carry_out(turn, asked) {
            let id = asked.request.id.as_deref();
            let frame = media_error(asked.request.event, id, &refusal.message);
            turn.send(vec![asked.connection], frame);
        }
    }

    fn carry_out(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        self.within_rates(turn, asked)?;
        match asked.request.event {
            event::MEDIA_JOIN => self.media_join(turn, asked),
            event::CREATE_TRANSPORT => self.create_transport(turn, asked),
            event::MEDIA_JOIN_COMPLETE => self.media_join_complete(turn, asked),
            event::MEDIA_LEAVE => self.media_leave(turn, asked),
            event::PIN_PEER => self.pin(turn, asked),
            event::CHANGE_DISPLAY_NAME => self.rename(turn, asked),
            event::HOST_CONTROL_PEER => self.host_control(turn, asked),
            event::HOST_CONTROL_ALL => self.host_control_all(turn, asked),
            // Said every 400 ms by clients with a microphone; packets say it better.
            event::AUDIO_ACTIVITY => Ok(()),
            event::PRODUCE
            | event::CONSUME
            | event::TOGGLE_PRODUCER
            | event::CLOSE_PRODUCER
            | event::CLOSE_CONSUMER
            | event::UPDATE_SIMULCAST
            | event::RENEGOTIATE => Err(Refusal::new(501, "this server does not carry media yet")),
            _ => Err(Refusal::new(501, "this server does not know this event")),
        }
    }

    /// Clients prepare their media before they join the room, those who will have to wait as well.
    fn media_join(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: PeerJoinRequest = asked.request.message()?;
        let peer = &self.peers[asked.seat];
        let ready = peer.is_inside() && peer.media == MediaState::Complete;
        // After a reconnect it goes on with the transports that it has.
        if !(request.prejoined && ready) {
            self.stop_media(turn, asked.seat);
            self.peers[asked.seat].media = MediaState::Preparing;
        }
        asked.reply(turn, &());
        Ok(())
    }

    fn create_transport(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: CreateTransportRequest = asked.request.message()?;
        let offer = request.description.unwrap_or_default().sdp;
        if offer.is_empty() {
            return Err(Refusal::new(400, "a transport needs an SDP offer"));
        }
        if self.peers[asked.seat].place == Place::Rejected {
            return Err(Refusal::new(403, "you were not let in"));
        }
        turn.emit(Output::Media(MediaOrder::Open {
            peer: self.peers[asked.seat].id(),
            connection: asked.connection,
            request: asked.request.clone(),
            publishes: !request.consuming,
            offer,
        }));
        Ok(())
    }

    /// The media plane has answered.
    pub(crate) fn transport(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        request: &Request,
        outcome: Result<(String, String), String>,
    ) {
        if self.peers.seat_at(connection).is_none() {
            return;
        }
        let id = request.id.as_deref();
        let frame = match outcome {
            Ok((transport_id, sdp)) => {
                let asked = request.message::<CreateTransportRequest>();
                let consuming = asked.is_ok_and(|asked| asked.consuming);
                let target = if consuming {
                    Target::Subscriber
                } else {
                    Target::Publisher
                };
                let response = CreateTransportResponse {
                    transport_id,
                    description: Some(SessionDescription {
                        target: target.into(),
                        r#type: "answer".to_owned(),
                        sdp,
                    }),
                    transcription_enabled: None,
                    producer_ids: Vec::new(),
                };
                crate::frame::frame(request.event, id, &response)
            }
            Err(message) => media_error(request.event, id, &message),
        };
        turn.send(vec![connection], frame);
    }

    /// The transports of a peer are connected: it learns who else is there, and they of it.
    fn media_join_complete(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let seat = asked.seat;
        self.inside(seat)?;
        let was = std::mem::replace(&mut self.peers[seat].media, MediaState::Complete);
        let me = &self.peers[seat];
        let others = self.peers.iter().map(|(_, peer)| peer);
        let others = others.filter(|peer| peer.media == MediaState::Complete && sees(me, peer));
        let response = PeerJoinCompleteResponse {
            room_state: Some(GetRoomStateResponse {
                display_title: self.meeting.title.clone(),
                room_uuid: self.session_id().to_string(),
                room_name: self.meeting.id.to_string(),
                current_peer_id: me.id().to_string(),
                pinned_peer_ids: self.pinned.iter().map(ToString::to_string).collect(),
                ..GetRoomStateResponse::default()
            }),
            participants: others.map(participant).collect(),
            selected_peers: Some(SelectedPeersResponse::default()),
            max_preferred_streams: 0,
        };
        asked.reply(turn, &response);
        // Clients forget what a peer publishes when they are told again that it came.
        if was != MediaState::Complete {
            let to = self.media_watching(seat);
            turn.push(to, event::MEDIA_PEER_JOINED, &described(me));
        }
        Ok(())
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "handlers of the event table have one shape"
    )]
    fn media_leave(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        self.stop_media(turn, asked.seat);
        let peer = self.peers[asked.seat].id();
        turn.emit(Output::Media(MediaOrder::Close { peer }));
        asked.reply(turn, &PeerLeaveResponse { closed: false });
        Ok(())
    }

    /// The peer has no media any more; those who could subscribe to it are told.
    fn stop_media(&mut self, turn: &mut Turn<'_>, seat: Seat) {
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

    /// Keeps one peer in view for everybody, the sender included; nobody when the id is empty.
    fn pin(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let me = &self.peers[asked.seat];
        if !me.is_inside() || !me.permissions.pin_participant {
            return Err(Refusal::forbidden("pin_participant"));
        }
        let request: GlobalPeerPinningRequest = asked.request.message()?;
        let pinned = if request.participant_id.is_empty() {
            None
        } else {
            let seat = self.peers.seat_named(&request.participant_id);
            let subject = seat.map(|seat| &self.peers[seat]);
            let seen = subject.filter(|subject| subject.id() == me.id() || sees(me, subject));
            let seen = seen.ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
            Some(seen.id())
        };
        self.pinned = pinned;
        asked.reply(turn, &());
        let push = GlobalPeerPinningBroadcastResponse {
            participant_id: request.participant_id,
        };
        let everybody = self.peers.sockets(Peer::is_inside);
        turn.push(everybody, event::PEER_PINNED, &push);
        Ok(())
    }

    /// A new name in the middle of a call: of the peer itself, whatever id it sends.
    fn rename(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: PeerDisplayNameEditRequest = asked.request.message()?;
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

    fn host_control(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: HostMediaControlForPeerRequest = asked.request.message()?;
        self.may_silence(asked, request.audio, request.video, request.scree_share)?;
        let seat = self.peers.seat_named(&request.participant_id);
        seat.filter(|seat| self.peers[*seat].is_inside())
            .ok_or_else(|| Refusal::new(404, "there is no such peer here"))?;
        asked.reply(turn, &HostMediaControlForPeerResponse { status: success() });
        Ok(())
    }

    fn host_control_all(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: HostMediaControlForAllPeerRequest = asked.request.message()?;
        self.may_silence(asked, request.audio, request.video, request.screen_share)?;
        asked.reply(
            turn,
            &HostMediaControlForAllPeerResponse { status: success() },
        );
        Ok(())
    }

    fn may_silence(&self, asked: &Asked<'_>, audio: bool, video: bool, screen: bool) -> Outcome {
        let peer = &self.peers[asked.seat];
        let may = &peer.permissions;
        let missing = [
            (
                audio,
                may.disable_participant_audio,
                "disable_participant_audio",
            ),
            (
                video,
                may.disable_participant_video,
                "disable_participant_video",
            ),
            (
                screen,
                may.disable_participant_screensharing,
                "disable_participant_screensharing",
            ),
        ]
        .into_iter()
        .find(|(asked, may, _)| *asked && !may);
        match missing {
            _ if !peer.is_inside() => Err(Refusal::new(403, "join the meeting first")),
            Some((_, _, permission)) => Err(Refusal::forbidden(permission)),
            None if !(audio || video || screen) => {
                Err(Refusal::new(400, "say what is to be turned off"))
            }
            None => Ok(()),
        }
    }
}

/// What others are told when a peer's transports are connected.
pub(crate) fn described(peer: &Peer) -> PeerJoinBroadcastResponse {
    PeerJoinBroadcastResponse {
        participant: Some(participant(peer)),
    }
}

/// A peer as the media plane describes it. It publishes nothing yet.
fn participant(peer: &Peer) -> RoomParticipants {
    RoomParticipants {
        peer_id: peer.id().to_string(),
        producer_states: Vec::new(),
        display_name: peer.name.clone(),
        user_id: Some(peer.user().to_string()),
        capabilities: None,
    }
}
