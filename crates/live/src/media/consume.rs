//! Subscribing. Peers receive only what they can see; when visibility is lost, forwarding stops at
//! once (docs/spec/media.md 3).

use std::collections::{BTreeMap, BTreeSet};

use parlor_protocol::ids::ProducerId;
use parlor_protocol::signal::media::edge::{
    ConsumePeerResponse, ConsumePeersRequest, ConsumerCloseRequest,
    UpdateConsumersSimulcastConfigRequest,
};
use parlor_protocol::signal::media::{
    ConsumerState, ProducerIdToConsumerMap, ProducerTrack, RenegotiateRequest,
};

use super::orders::{is_short, offer_to_subscriber, sdp_text, transport_gone};
use super::tracks::{ConsumeOrder, OrderKind, PendingOrder};
use crate::output::{MediaOrder, Output, Refusal, Subscription};
use crate::peer::{MediaState, Slot, can_see};
use crate::room::{Outcome, RequestContext, Room, Step};

/// Error code for a track that does not exist or is not visible. Clients do not retry.
const NOT_FOUND: &str = "not_found_track_error";
/// Error code when the peer has too many consumers. Clients do not retry.
const TOO_MANY: &str = "backend_error";
/// Maximum number of tracks in one request. Clients send up to 35.
const MAX_TRACKS: usize = 256;

impl Room {
    /// `consume`.
    pub(crate) fn consume(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let slot = ctx.slot;
        self.check_media_ready(slot)?;
        let request: ConsumePeersRequest = ctx.message()?;
        if request.requests.len() > MAX_TRACKS {
            return Err(Refusal::new(413, "too many tracks in one request"));
        }
        let transport = self.receive_transport(slot, request.consuming_transport_id.as_deref())?;
        let held = self
            .tracks
            .get(slot)
            .map_or(0, |media| media.consumes.len());
        let (mut wanted, mut missing) = (Vec::<Subscription>::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for track in request.requests {
            let text = track.producer_id.unwrap_or_default();
            if !is_short(&text) {
                return Err(Refusal::new(413, "this is not a producer id"));
            }
            if !seen.insert(text.clone()) {
                continue;
            }
            let found = text
                .parse()
                .ok()
                .and_then(|id| Some((id, self.receivable(slot, id)?)));
            let Some((producer, publisher)) = found else {
                missing.push((text, NOT_FOUND));
                continue;
            };
            if held + wanted.len() >= self.limits.consumers {
                missing.push((text, TOO_MANY));
                continue;
            }
            let rid = track
                .simulcast
                .and_then(|simulcast| simulcast.preferred_rid);
            wanted.push(Subscription {
                producer,
                publisher: self.peers[publisher].id(),
                preferred_rid: rid.filter(|rid| is_short(rid)),
            });
        }
        if wanted.is_empty() {
            ctx.reply(step, &response(states(missing), None));
            return Ok(());
        }
        let consume = ConsumeOrder {
            transport: transport.clone(),
            wanted: wanted.iter().map(|wanted| wanted.producer).collect(),
            missing,
        };
        let order = self.allocate_order(ctx, OrderKind::Consume(consume))?;
        step.emit(Output::Media(MediaOrder::Consume {
            order,
            peer: self.peers[slot].id(),
            transport,
            wanted,
        }));
        Ok(())
    }

    /// Returns the publisher of a track if `viewer` may receive it.
    fn receivable(&self, viewer: Slot, id: ProducerId) -> Option<Slot> {
        let publisher = self.tracks.publisher(id)?;
        let subject = self.peers.get(publisher)?;
        let ready = subject.media == MediaState::Ready;
        (ready && can_see(&self.peers[viewer], subject)).then_some(publisher)
    }

    /// Handles the result of a subscription from the media plane.
    pub(super) fn consumed(
        &mut self,
        step: &mut Step<'_>,
        pending: &PendingOrder,
        consume: ConsumeOrder,
        result: Result<(Vec<Option<String>>, Option<String>), Refusal>,
    ) -> Outcome {
        let slot = pending.slot;
        let (mids, offer) = match result {
            Ok(subscribed) => subscribed,
            Err(refusal) => {
                // The client does not retry by itself.
                if refusal.code != 410 {
                    self.schedule_reminder(step, slot, 1);
                }
                return Err(refusal);
            }
        };
        if self
            .receive_transport(slot, Some(&consume.transport))
            .is_err()
        {
            return Err(transport_gone());
        }
        let mut map = states(consume.missing);
        let mut lost = Vec::new();
        let mids = mids.into_iter().chain(std::iter::repeat(None));
        for (id, mid) in consume.wanted.into_iter().zip(mids) {
            let state = match (mid, self.receivable(slot, id)) {
                (Some(mid), Some(_)) => {
                    let state = self.received_state(id, &mid);
                    self.tracks.get_or_insert(slot).consumes.insert(id, mid);
                    state
                }
                (mid, _) => {
                    // The track was closed or hidden while the order was pending.
                    lost.extend(mid.map(|_| id));
                    failed(NOT_FOUND)
                }
            };
            map.insert(id.to_string(), state);
        }
        if !lost.is_empty() {
            let peer = self.peers[slot].id();
            let producers = lost;
            step.emit(Output::Media(MediaOrder::Revoke { peer, producers }));
        }
        self.reply_pending(step, pending, &response(map, offer));
        Ok(())
    }

    /// Describes a received track. Clients look up consumers by producer id, and tracks by mid.
    fn received_state(&mut self, id: ProducerId, mid: &str) -> ConsumerState {
        let producer = self.tracks.producer(id);
        ConsumerState {
            consumer_id: id.to_string(),
            producer_state: producer.map(|(_, producer)| producer.state()),
            producer_track: Some(ProducerTrack {
                track_id: id.to_string(),
                producer_id: id.to_string(),
                stream_id: mid.to_owned(),
            }),
            error_code: None,
        }
    }

    /// `renegotiateSessionDescription`: packets flow once the answer is applied.
    pub(crate) fn renegotiate(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let slot = ctx.slot;
        self.joined_peer(slot)?;
        let request: RenegotiateRequest = ctx.message()?;
        let answer = sdp_text(request.description)
            .ok_or_else(|| Refusal::new(400, "an SDP answer is missing"))?;
        let transport = self.receive_transport(slot, Some(&request.transport_id))?;
        let kind = OrderKind::ApplyAnswer {
            transport: transport.clone(),
        };
        let order = self.allocate_order(ctx, kind)?;
        step.emit(Output::Media(MediaOrder::ApplyAnswer {
            order,
            peer: self.peers[slot].id(),
            transport,
            answer,
        }));
        Ok(())
    }

    /// `closeConsumer`. The consumer ids in the request are mids.
    pub(crate) fn close_consumers(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let slot = ctx.slot;
        self.joined_peer(slot)?;
        let request: ConsumerCloseRequest = ctx.message()?;
        let mut mids = request.consumer_ids;
        if mids.len() > MAX_TRACKS || !mids.iter().all(|mid| is_short(mid)) {
            return Err(Refusal::new(413, "too many tracks in one request"));
        }
        let mut seen = BTreeSet::new();
        mids.retain(|mid| seen.insert(mid.clone()));
        let offer = sdp_text(request.description)
            .ok_or_else(|| Refusal::new(400, "an SDP offer is missing"))?;
        let transport = self.receive_transport(slot, request.consuming_transport_id.as_deref())?;
        let kind = OrderKind::CloseConsumers {
            transport: transport.clone(),
            mids: mids.clone(),
        };
        let order = self.allocate_order(ctx, kind)?;
        step.emit(Output::Media(MediaOrder::CloseConsumers {
            order,
            peer: self.peers[slot].id(),
            transport,
            mids,
            offer,
        }));
        Ok(())
    }

    /// Removes the consumers of closed media sections.
    pub(super) fn forget_consumers(&mut self, slot: Slot, transport: &str, mids: &[String]) {
        if self.receive_transport(slot, Some(transport)).is_ok() {
            let consumes = &mut self.tracks.get_or_insert(slot).consumes;
            consumes.retain(|_, mid| !mids.contains(mid));
        }
    }

    /// `updateConsumersSimulcastConfig`.
    pub(crate) fn prefer_layers(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let slot = ctx.slot;
        self.joined_peer(slot)?;
        let request: UpdateConsumersSimulcastConfigRequest = ctx.message()?;
        if request.requests.len() > MAX_TRACKS {
            return Err(Refusal::new(413, "too many tracks in one request"));
        }
        self.receive_transport(slot, request.consuming_transport_id.as_deref())?;
        let preferences = request.requests.into_iter().filter_map(|preference| {
            let rid = preference.simulcast?.preferred_rid?;
            (is_short(&preference.mid) && is_short(&rid)).then_some((preference.mid, rid))
        });
        // The last preference for a mid wins.
        let layers: BTreeMap<String, String> = preferences.collect();
        let layers: Vec<_> = layers.into_iter().collect();
        if !layers.is_empty() {
            let peer = self.peers[slot].id();
            step.emit(Output::Media(MediaOrder::PreferLayers { peer, layers }));
        }
        ctx.reply(step, &());
        Ok(())
    }

    /// Revokes the tracks of publishers that a viewer no longer sees.
    pub(crate) fn revoke<'s>(
        &mut self,
        step: &mut Step<'_>,
        viewer: Slot,
        publishers: impl Iterator<Item = &'s Slot>,
    ) {
        let received = publishers.flat_map(|publisher| self.tracks.received(viewer, *publisher));
        let producers: Vec<ProducerId> = received.collect();
        if producers.is_empty() {
            return;
        }
        if let Some(media) = self.tracks.get_mut(viewer) {
            media.consumes.retain(|id, _| !producers.contains(id));
        }
        let peer = self.peers[viewer].id();
        step.emit(Output::Media(MediaOrder::Revoke { peer, producers }));
    }
}

fn failed(code: &str) -> ConsumerState {
    ConsumerState {
        error_code: Some(code.to_owned()),
        ..ConsumerState::default()
    }
}

fn states(missing: Vec<(String, &'static str)>) -> BTreeMap<String, ConsumerState> {
    let failed = missing.into_iter().map(|(id, code)| (id, failed(code)));
    failed.collect()
}

fn response(map: BTreeMap<String, ConsumerState>, offer: Option<String>) -> ConsumePeerResponse {
    ConsumePeerResponse {
        status: true,
        consumer_ids_map: Some(ProducerIdToConsumerMap { map }),
        description: offer.map(offer_to_subscriber),
    }
}
