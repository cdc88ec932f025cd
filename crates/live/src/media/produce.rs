//! Publishing: the tracks of a peer, the pushes about them, and the loss of the permission to
//! publish (docs/spec/media.md 2 and 5).

use parlor_protocol::Source;
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

use super::orders::{answer_to_publisher, is_short, sdp_text};
use super::tracks::{OrderKind, PendingOrder, Producer};
use crate::output::{MediaOrder, Output, Refusal};
use crate::peer::{Peer, Slot};
use crate::room::{Outcome, RequestContext, Room, Step};

/// Whether a peer may publish a source now. With `CAN_REQUEST` it may while it is on the stage.
fn can_produce_now(peer: &Peer, source: Source) -> bool {
    let media = &peer.permissions.media;
    let kind = match source {
        Source::Microphone => &media.audio,
        Source::Camera => &media.video,
        Source::Screen | Source::ScreenAudio => &media.screenshare,
    };
    let staged = peer.has_stage();
    peer.has_joined()
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

/// The mid of the track in the offer. Clients send it in `app_data`.
fn mid_from(app_data: Option<&str>) -> Result<String, Refusal> {
    let parsed = app_data.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mid = parsed.as_ref().and_then(|value| value.get("mid")?.as_str());
    let mid = mid.filter(|mid| !mid.is_empty() && is_short(mid));
    let mid = mid.ok_or_else(|| Refusal::new(400, "app_data must be JSON with the mid"))?;
    Ok(mid.to_owned())
}

impl Room {
    /// `produce`.
    pub(crate) fn produce(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let slot = ctx.slot;
        self.check_media_ready(slot)?;
        let request: ProducerCreateRequest = ctx.message()?;
        let source = source(&request.kind, request.screen_share)?;
        if !can_produce_now(&self.peers[slot], source) {
            return Err(Refusal::forbidden(permission(source)));
        }
        let app_data_bytes = request.app_data.as_ref().map_or(0, String::len);
        let mime_type = request.mime_type.unwrap_or_else(|| {
            let usual = if source.is_audio() {
                "audio/opus"
            } else {
                "video/VP8"
            };
            usual.to_owned()
        });
        if app_data_bytes > self.limits.track_bytes || !is_short(&mime_type) {
            return Err(Refusal::new(413, "the metadata of this track is too large"));
        }
        let mid = mid_from(request.app_data.as_deref())?;
        let offer = sdp_text(request.description)
            .ok_or_else(|| Refusal::new(400, "a track needs an SDP offer"))?;
        let transport = self.publish_transport(slot, request.producing_transport_id.as_deref())?;
        let (producer, paused) = (ProducerId::from_uuid(step.id()), request.paused);
        let order = self.allocate_order(ctx, OrderKind::Produce { producer, paused })?;
        // Of two concurrent requests the later one wins.
        self.end_producers(step, slot, |older| older.source == source && !older.live);
        self.tracks.add(
            slot,
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
        step.emit(Output::Media(MediaOrder::Produce {
            order,
            peer: self.peers[slot].id(),
            transport,
            producer,
            mid,
            source,
            paused,
            offer,
        }));
        Ok(())
    }

    /// Handles the media plane's answer to a publication.
    pub(super) fn produced(
        &mut self,
        step: &mut Step<'_>,
        pending: &PendingOrder,
        id: ProducerId,
        ordered_paused: bool,
        answer: Result<String, Refusal>,
    ) -> Outcome {
        let peer = self.peers[pending.slot].id();
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                self.tracks.remove(id);
                return Err(refusal);
            }
        };
        let Some((slot, producer)) = self.tracks.producer(id) else {
            // The track was ended while the order was pending, perhaps before the media plane had
            // created it.
            emit_close_producer(step, peer, id);
            return Err(Refusal::new(410, "this track has ended in the meantime"));
        };
        producer.live = true;
        let (source, paused, state) = (producer.source, producer.paused, producer.state());
        if paused != ordered_paused {
            emit_pause(step, peer, id, paused);
        }
        self.end_producers(step, slot, |older| older.source == source && older.id != id);
        let response = ProducerCreateResponse {
            status: true,
            producer_id: id.to_string(),
            description: Some(answer_to_publisher(answer)),
        };
        self.reply_pending(step, pending, &response);
        let push = PeerProducerCreateBroadcastResponse {
            participant_id: peer.to_string(),
            producer_state: Some(state.clone()),
        };
        self.push_to_subscribers(step, slot, event::PRODUCER_CREATED, &push);
        if paused && !ordered_paused {
            // The client does not know that it was muted while the order was pending.
            let to = Vec::from_iter(self.peers[slot].connection);
            let push = toggled(peer, state, None);
            step.push(to, event::PRODUCER_TOGGLED, &push);
        }
        Ok(())
    }

    /// `toggleProducer`. Clients do not wait for a reply. Muting oneself must always succeed, so it
    /// is not rate-limited.
    pub(crate) fn toggle_producer(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let request: ProducerToggleRequest = ctx.message()?;
        let (id, source) = self.own_producer(ctx.slot, &request.producer_id)?;
        if !request.pause {
            let rate = self.limits.changes;
            let allowances = self.peers.allowances(ctx.slot);
            let refusal = "too many requests: slow down";
            allowances.changes.spend(rate, step.monotonic, refusal)?;
            if !can_produce_now(&self.peers[ctx.slot], source) {
                return Err(Refusal::forbidden(permission(source)));
            }
        }
        ctx.reply(step, &ProducerToggleResponse {});
        self.set_paused(step, id, request.pause, None);
        Ok(())
    }

    /// A live track of the peer.
    fn own_producer(&mut self, slot: Slot, id: &str) -> Result<(ProducerId, Source), Refusal> {
        let id = id.parse().ok();
        let found = id.and_then(|id| self.tracks.producer(id));
        let mine = found.filter(|(owner, producer)| *owner == slot && producer.live);
        let found = mine.map(|(_, producer)| (producer.id, producer.source));
        found.ok_or_else(|| Refusal::new(404, "there is no such producer"))
    }

    /// Pauses or resumes a track, and pushes it. If another peer or the server pauses it, the
    /// publisher receives the push as well, on which its client mutes itself (docs/spec/media.md
    /// 3.8).
    pub(super) fn set_paused(
        &mut self,
        step: &mut Step<'_>,
        id: ProducerId,
        paused: bool,
        by: Option<MutedBy>,
    ) {
        let Some((slot, producer)) = self.tracks.producer(id) else {
            return;
        };
        if producer.paused == paused {
            return;
        }
        producer.paused = paused;
        let (live, state) = (producer.live, producer.state());
        let peer = self.peers[slot].id();
        emit_pause(step, peer, id, paused);
        if !live {
            return;
        }
        let push = toggled(peer, state, by);
        let mut to = self.media_viewers_of(slot);
        if by.is_some() {
            to.extend(self.peers[slot].connection);
        }
        step.push(to, event::PRODUCER_TOGGLED, &push);
    }

    /// `closeProducer`.
    pub(crate) fn close_own_producer(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let slot = ctx.slot;
        self.joined_peer(slot)?;
        let request: ProducerCloseRequest = ctx.message()?;
        let producer: ProducerId = request
            .producer_id
            .parse()
            .map_err(|_| Refusal::new(404, "there is no such producer"))?;
        let owner = self.tracks.producer(producer).map(|(owner, _)| owner);
        if owner.is_some_and(|owner| owner != slot) {
            return Err(Refusal::new(404, "there is no such producer"));
        }
        let offer = sdp_text(request.description);
        let order = match &offer {
            Some(_) => Some(self.allocate_order(ctx, OrderKind::CloseProducer)?),
            None => None,
        };
        if let Some(ended) = self.tracks.remove(producer) {
            self.push_producer_closed(step, slot, &ended);
        }
        // Even if the track has already ended here, its media section must be closed.
        step.emit(Output::Media(MediaOrder::CloseProducer {
            order,
            peer: self.peers[slot].id(),
            producer,
            offer,
        }));
        if order.is_none() {
            ctx.reply(step, &ProducerClosingResponse { description: None });
        }
        Ok(())
    }

    /// Ends the tracks of a peer that match `which`, and pushes it.
    pub(crate) fn end_producers(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        which: impl Fn(&Producer) -> bool,
    ) {
        let peer = self.peers[slot].id();
        for id in self.tracks.producers(slot, which) {
            if let Some(ended) = self.tracks.remove(id) {
                emit_close_producer(step, peer, id);
                self.push_producer_closed(step, slot, &ended);
            }
        }
    }

    fn push_producer_closed(&self, step: &mut Step<'_>, slot: Slot, ended: &Producer) {
        if ended.live {
            let push = PeerProducerCloseBroadcastResponse {
                participant_id: self.peers[slot].id().to_string(),
                producer_state: Some(ended.state()),
            };
            self.push_to_subscribers(step, slot, event::PRODUCER_CLOSED, &push);
        }
    }

    /// Mutes tracks that the peer may no longer publish. Its client keeps the microphone and camera
    /// tracks, muted, and resumes them when it may publish again, so they are only paused. It ends
    /// screen shares itself.
    pub(crate) fn mute_forbidden_producers(&mut self, step: &mut Step<'_>, slot: Slot) {
        let peer = &self.peers[slot];
        let forbidden = self
            .tracks
            .producers(slot, |producer| !can_produce_now(peer, producer.source));
        for id in forbidden {
            self.mute_track(step, id, MutedBy::Server);
        }
    }

    /// Mutes a track of another peer. Microphone and camera are paused; a screen share ends,
    /// because clients ignore the pausing of a screen share.
    pub(super) fn mute_track(&mut self, step: &mut Step<'_>, id: ProducerId, by: MutedBy) {
        let Some((slot, producer)) = self.tracks.producer(id) else {
            return;
        };
        if producer.source.is_screen() {
            self.end_producers(step, slot, |producer| producer.id == id);
        } else {
            self.set_paused(step, id, true, Some(by));
        }
    }
}

/// Initiator of a mute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MutedBy {
    /// Another peer.
    Peer(PeerId),
    /// The server: the REST API, or the loss of a permission.
    Server,
}

fn emit_close_producer(step: &mut Step<'_>, peer: PeerId, producer: ProducerId) {
    step.emit(Output::Media(MediaOrder::CloseProducer {
        order: None,
        peer,
        producer,
        offer: None,
    }));
}

fn emit_pause(step: &mut Step<'_>, peer: PeerId, producer: ProducerId, paused: bool) {
    step.emit(Output::Media(MediaOrder::Pause {
        peer,
        producer,
        paused,
    }));
}

fn toggled(
    peer: PeerId,
    state: ProducerState,
    by: Option<MutedBy>,
) -> PeerProducerToggleBroadcastResponse {
    let initiator = match by {
        Some(MutedBy::Peer(initiator)) => Some(initiator.to_string()),
        Some(MutedBy::Server) | None => None,
    };
    PeerProducerToggleBroadcastResponse {
        participant_id: peer.to_string(),
        producer_state: Some(state),
        initiator_participant_id: initiator,
    }
}
