//! Publishing: which tracks a peer has, who is told of them, and what becomes of them when it may
//! not publish any more (docs/spec/media.md 2 and 5).

use parlor_protocol::ids::{PeerId, ProducerId};
use parlor_protocol::preset::MediaPermission;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::ProducerState;
use parlor_protocol::signal::media::edge::{
    PeerProducerCloseBroadcastResponse, PeerProducerCreateBroadcastResponse,
    PeerProducerToggleBroadcastResponse, ProducerCloseRequest, ProducerClosingResponse,
    ProducerCreateRequest, ProducerCreateResponse, ProducerToggleRequest, ProducerToggleResponse,
};
use parlor_protocol::signal::socket::room::StageType;
use serde_json::Value;

use super::orders::{answer_to_publisher, short, text};
use super::tracks::{Pending, Producer, Waiting};
use crate::output::{MediaOrder, Output, Refusal, Source};
use crate::peer::{Peer, Seat};
use crate::room::{Outcome, RequestContext, Room, Turn};

/// Whether a peer may publish such a track now. Who may only ask may while it is on the stage.
fn may_produce(peer: &Peer, source: Source) -> bool {
    let media = &peer.permissions.media;
    let kind = match source {
        Source::Microphone => &media.audio,
        Source::Camera => &media.video,
        Source::Screen | Source::ScreenAudio => &media.screenshare,
    };
    let staged = peer.has_stage();
    peer.is_inside()
        && (!staged || peer.stage == StageType::OnStage)
        && match kind.can_produce {
            MediaPermission::Allowed => true,
            MediaPermission::CanRequest => staged,
            MediaPermission::NotAllowed => false,
        }
}

fn permission(source: Source) -> &'static str {
    match source {
        Source::Microphone => "media.audio.can_produce",
        Source::Camera => "media.video.can_produce",
        Source::Screen | Source::ScreenAudio => "media.screenshare.can_produce",
    }
}

fn source(kind: &str, screen: bool) -> Result<Source, Refusal> {
    match (kind, screen) {
        ("audio", false) => Ok(Source::Microphone),
        ("video", false) => Ok(Source::Camera),
        ("audio", true) => Ok(Source::ScreenAudio),
        ("video", true) => Ok(Source::Screen),
        _ => Err(Refusal::new(400, "kind must be audio or video")),
    }
}

/// The line of the track in the offer: clients say it beside what they say about the track.
fn line(app_data: Option<&str>) -> Result<String, Refusal> {
    let said = app_data.and_then(|said| serde_json::from_str::<Value>(said).ok());
    let mid = said.as_ref().and_then(|said| said.get("mid")?.as_str());
    let mid = mid.filter(|mid| !mid.is_empty() && short(mid));
    let mid = mid.ok_or_else(|| Refusal::new(400, "app_data must be JSON with the mid"))?;
    Ok(mid.to_owned())
}

impl Room {
    /// `produce`.
    pub(crate) fn produce(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let seat = asked.seat;
        self.ready(seat)?;
        let request: ProducerCreateRequest = asked.message()?;
        let source = source(&request.kind, request.screen_share)?;
        if !may_produce(&self.peers[seat], source) {
            return Err(Refusal::forbidden(permission(source)));
        }
        let said = request.app_data.as_ref().map_or(0, String::len);
        let mime_type = request.mime_type.unwrap_or_else(|| {
            let usual = if source.is_audio() {
                "audio/opus"
            } else {
                "video/VP8"
            };
            usual.to_owned()
        });
        if said > self.limits.track_bytes || !short(&mime_type) {
            return Err(Refusal::new(413, "too much is said about this track"));
        }
        let mid = line(request.app_data.as_deref())?;
        let offer = text(request.description)
            .ok_or_else(|| Refusal::new(400, "a track needs an SDP offer"))?;
        let transport = self.publishing(seat, request.producing_transport_id.as_deref())?;
        let (producer, paused) = (ProducerId::from_uuid(turn.id()), request.paused);
        let order = self.order(asked, Pending::Produce { producer, paused })?;
        // Of two that are asked for at once the later one is meant.
        self.end_producers(turn, seat, |older| older.source == source && !older.live);
        self.tracks.add(
            seat,
            Producer {
                id: producer,
                source,
                paused,
                live: false,
                app_data: request.app_data,
                mime_type,
                transport: transport.clone(),
            },
        );
        turn.emit(Output::Media(MediaOrder::Produce {
            order,
            peer: self.peers[seat].id(),
            transport,
            producer,
            mid,
            source,
            paused,
            offer,
        }));
        Ok(())
    }

    /// The media plane has the track, or not.
    pub(super) fn produced(
        &mut self,
        turn: &mut Turn<'_>,
        waiting: &Waiting,
        id: ProducerId,
        ordered_paused: bool,
        answer: Result<String, Refusal>,
    ) -> Outcome {
        let peer = self.peers[waiting.seat].id();
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                self.tracks.remove(id);
                return Err(refusal);
            }
        };
        let Some((seat, producer)) = self.tracks.producer(id) else {
            // It was ended meanwhile, perhaps before the media plane had it.
            order_close(turn, peer, id);
            return Err(Refusal::new(410, "this track was ended meanwhile"));
        };
        producer.live = true;
        let (source, paused, state) = (producer.source, producer.paused, producer.state());
        if paused != ordered_paused {
            order_pause(turn, peer, id, paused);
        }
        self.end_producers(turn, seat, |older| older.source == source && older.id != id);
        let response = ProducerCreateResponse {
            status: true,
            producer_id: id.to_string(),
            description: Some(answer_to_publisher(answer)),
        };
        self.answer(turn, waiting, &response);
        let push = PeerProducerCreateBroadcastResponse {
            participant_id: peer.to_string(),
            producer_state: Some(state.clone()),
        };
        self.tell_watching(turn, seat, event::PRODUCER_CREATED, &push);
        if paused && !ordered_paused {
            // Its client does not know that it was muted before it had the track.
            let to = Vec::from_iter(self.peers[seat].connection);
            let push = toggled(peer, state, None);
            turn.push(to, event::PRODUCER_TOGGLED, &push);
        }
        Ok(())
    }

    /// `toggleProducer`. Nobody waits for an answer, and whoever mutes itself must be muted: that
    /// costs nothing of any rate.
    pub(crate) fn toggle_producer(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: ProducerToggleRequest = asked.message()?;
        let (id, source) = self.own_producer(asked.seat, &request.producer_id)?;
        if !request.pause {
            let rate = self.limits.changes;
            let left = self.peers.left(asked.seat);
            let refusal = "too many requests: slow down";
            left.changes.spend(rate, turn.monotonic, refusal)?;
            if !may_produce(&self.peers[asked.seat], source) {
                return Err(Refusal::forbidden(permission(source)));
            }
        }
        asked.reply(turn, &ProducerToggleResponse {});
        self.set_paused(turn, id, request.pause, None);
        Ok(())
    }

    /// A track of the peer that others may know of.
    fn own_producer(&mut self, seat: Seat, id: &str) -> Result<(ProducerId, Source), Refusal> {
        let id = id.parse().ok();
        let found = id.and_then(|id| self.tracks.producer(id));
        let mine = found.filter(|(owner, producer)| *owner == seat && producer.live);
        let found = mine.map(|(_, producer)| (producer.id, producer.source));
        found.ok_or_else(|| Refusal::new(404, "there is no such producer"))
    }

    /// Pauses a track or goes on with it, and tells everybody. Whoever is paused by somebody else is
    /// told as well: its client mutes itself then (docs/spec/media.md 3.8).
    pub(super) fn set_paused(
        &mut self,
        turn: &mut Turn<'_>,
        id: ProducerId,
        paused: bool,
        by: Option<Silencer>,
    ) {
        let Some((seat, producer)) = self.tracks.producer(id) else {
            return;
        };
        if producer.paused == paused {
            return;
        }
        producer.paused = paused;
        let (live, state) = (producer.live, producer.state());
        let peer = self.peers[seat].id();
        order_pause(turn, peer, id, paused);
        if !live {
            return;
        }
        let push = toggled(peer, state, by);
        let mut to = self.media_watching(seat);
        if by.is_some() {
            to.extend(self.peers[seat].connection);
        }
        turn.push(to, event::PRODUCER_TOGGLED, &push);
    }

    /// `closeProducer`.
    pub(crate) fn close_own_producer(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let seat = asked.seat;
        self.inside(seat)?;
        let request: ProducerCloseRequest = asked.message()?;
        let producer: ProducerId = request
            .producer_id
            .parse()
            .map_err(|_| Refusal::new(404, "there is no such producer"))?;
        let owner = self.tracks.producer(producer).map(|(owner, _)| owner);
        if owner.is_some_and(|owner| owner != seat) {
            return Err(Refusal::new(404, "there is no such producer"));
        }
        let offer = text(request.description);
        let order = match &offer {
            Some(_) => Some(self.order(asked, Pending::CloseProducer)?),
            None => None,
        };
        if let Some(ended) = self.tracks.remove(producer) {
            self.tell_ended(turn, seat, &ended);
        }
        // Of a track that was ended here before, the client's line is still to be closed.
        turn.emit(Output::Media(MediaOrder::CloseProducer {
            order,
            peer: self.peers[seat].id(),
            producer,
            offer,
        }));
        if order.is_none() {
            asked.reply(turn, &ProducerClosingResponse { description: None });
        }
        Ok(())
    }

    /// Ends those tracks of a peer that `which` picks, and tells those who knew of them.
    pub(crate) fn end_producers(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        which: impl Fn(&Producer) -> bool,
    ) {
        let peer = self.peers[seat].id();
        for id in self.tracks.producers(seat, which) {
            if let Some(ended) = self.tracks.remove(id) {
                order_close(turn, peer, id);
                self.tell_ended(turn, seat, &ended);
            }
        }
    }

    fn tell_ended(&self, turn: &mut Turn<'_>, seat: Seat, ended: &Producer) {
        if ended.live {
            let push = PeerProducerCloseBroadcastResponse {
                participant_id: self.peers[seat].id().to_string(),
                producer_state: Some(ended.state()),
            };
            self.tell_watching(turn, seat, event::PRODUCER_CLOSED, &push);
        }
    }

    /// What a peer may or may not publish has changed. Its client keeps its microphone and camera,
    /// muted, and goes on with the same tracks when it may again, so these are only paused; a shared
    /// screen it ends itself.
    pub(crate) fn hold_producers(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let peer = &self.peers[seat];
        let forbidden = self
            .tracks
            .producers(seat, |producer| !may_produce(peer, producer.source));
        for id in forbidden {
            self.silence(turn, id, Silencer::Server);
        }
    }

    /// Somebody else stops a track: sound and camera pause, a screen ends, because clients take no
    /// notice of a screen that pauses.
    pub(super) fn silence(&mut self, turn: &mut Turn<'_>, id: ProducerId, by: Silencer) {
        let Some((seat, producer)) = self.tracks.producer(id) else {
            return;
        };
        if producer.source.is_screen() {
            self.end_producers(turn, seat, |producer| producer.id == id);
        } else {
            self.set_paused(turn, id, true, Some(by));
        }
    }
}

/// Who silences somebody.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Silencer {
    /// Another peer.
    Peer(PeerId),
    /// The server: by the REST API, or because the peer may not publish any more.
    Server,
}

fn order_close(turn: &mut Turn<'_>, peer: PeerId, producer: ProducerId) {
    turn.emit(Output::Media(MediaOrder::CloseProducer {
        order: None,
        peer,
        producer,
        offer: None,
    }));
}

fn order_pause(turn: &mut Turn<'_>, peer: PeerId, producer: ProducerId, paused: bool) {
    turn.emit(Output::Media(MediaOrder::Pause {
        peer,
        producer,
        paused,
    }));
}

fn toggled(
    peer: PeerId,
    state: ProducerState,
    by: Option<Silencer>,
) -> PeerProducerToggleBroadcastResponse {
    let initiator = match by {
        Some(Silencer::Peer(initiator)) => Some(initiator.to_string()),
        Some(Silencer::Server) | None => None,
    };
    PeerProducerToggleBroadcastResponse {
        participant_id: peer.to_string(),
        producer_state: Some(state),
        initiator_participant_id: initiator,
    }
}
