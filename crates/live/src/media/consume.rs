//! Receiving: nobody receives what they may not see, from the moment on at which that changes
//! (docs/spec/media.md 3).

use std::collections::{BTreeMap, BTreeSet};

use parlor_protocol::ids::ProducerId;
use parlor_protocol::signal::media::edge::{
    ConsumePeerResponse, ConsumePeersRequest, ConsumerCloseRequest,
    UpdateConsumersSimulcastConfigRequest,
};
use parlor_protocol::signal::media::{
    ConsumerState, ProducerIdToConsumerMap, ProducerTrack, RenegotiateRequest,
};

use super::orders::{gone, offer_to_subscriber, short, text};
use super::tracks::{Pending, Waiting, Wish};
use crate::output::{MediaOrder, Output, Refusal, Wanted};
use crate::peer::{MediaState, Seat, sees};
use crate::room::{Outcome, RequestContext, Room, Turn};

/// The track is not there, or not for this peer: clients do not ask again.
const NOT_FOUND: &str = "not_found_track_error";
/// No more than that: clients do not ask again either.
const TOO_MANY: &str = "backend_error";
/// How many tracks one request may name. Clients ask for 35 at most.
const AT_ONCE: usize = 256;

impl Room {
    /// `consume`.
    pub(crate) fn consume(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let seat = asked.seat;
        self.ready(seat)?;
        let request: ConsumePeersRequest = asked.message()?;
        if request.requests.len() > AT_ONCE {
            return Err(Refusal::new(413, "these are too many tracks at once"));
        }
        let transport = self.receiving(seat, request.consuming_transport_id.as_deref())?;
        let held = self.tracks.of(seat).map_or(0, |own| own.consumes.len());
        let (mut wanted, mut missing) = (Vec::<Wanted>::new(), Vec::new());
        let mut named = BTreeSet::new();
        for one in request.requests {
            let text = one.producer_id.unwrap_or_default();
            if !short(&text) {
                return Err(Refusal::new(413, "this is no producer's id"));
            }
            if !named.insert(text.clone()) {
                continue;
            }
            let found = text
                .parse()
                .ok()
                .and_then(|id| Some((id, self.receivable(seat, id)?)));
            let Some((producer, publisher)) = found else {
                missing.push((text, NOT_FOUND));
                continue;
            };
            if held + wanted.len() >= self.limits.consumers {
                missing.push((text, TOO_MANY));
                continue;
            }
            let rid = one.simulcast.and_then(|simulcast| simulcast.preferred_rid);
            wanted.push(Wanted {
                producer,
                publisher: self.peers[publisher].id(),
                preferred_rid: rid.filter(|rid| short(rid)),
            });
        }
        if wanted.is_empty() {
            asked.reply(turn, &response(states(missing), None));
            return Ok(());
        }
        let wish = Wish {
            transport: transport.clone(),
            wanted: wanted.iter().map(|wanted| wanted.producer).collect(),
            missing,
        };
        let order = self.order(asked, Pending::Consume(wish))?;
        turn.emit(Output::Media(MediaOrder::Consume {
            order,
            peer: self.peers[seat].id(),
            transport,
            wanted,
        }));
        Ok(())
    }

    /// Who publishes a track, if a peer may receive it.
    fn receivable(&self, viewer: Seat, id: ProducerId) -> Option<Seat> {
        let publisher = self.tracks.publisher(id)?;
        let subject = self.peers.get(publisher)?;
        let ready = subject.media == MediaState::Complete;
        (ready && sees(&self.peers[viewer], subject)).then_some(publisher)
    }

    /// The media plane offers the tracks, or not.
    pub(super) fn consumed(
        &mut self,
        turn: &mut Turn<'_>,
        waiting: &Waiting,
        wish: Wish,
        answer: Result<(Vec<Option<String>>, Option<String>), Refusal>,
    ) -> Outcome {
        let seat = waiting.seat;
        let (mids, offer) = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                // Its client gives up until something else changes.
                if refusal.code != 410 {
                    self.remind_soon(turn, seat, 1);
                }
                return Err(refusal);
            }
        };
        if self.receiving(seat, Some(&wish.transport)).is_err() {
            return Err(gone());
        }
        let mut map = states(wish.missing);
        let mut lost = Vec::new();
        let mids = mids.into_iter().chain(std::iter::repeat(None));
        for (id, mid) in wish.wanted.into_iter().zip(mids) {
            let state = match (mid, self.receivable(seat, id)) {
                (Some(mid), Some(_)) => {
                    let state = self.received_state(id, &mid);
                    self.tracks.own(seat).consumes.insert(id, mid);
                    state
                }
                (mid, _) => {
                    // It may not be received any more, and was not known to be when that changed.
                    lost.extend(mid.map(|_| id));
                    failed(NOT_FOUND)
                }
            };
            map.insert(id.to_string(), state);
        }
        if !lost.is_empty() {
            let peer = self.peers[seat].id();
            let producers = lost;
            turn.emit(Output::Media(MediaOrder::Revoke { peer, producers }));
        }
        self.answer(turn, waiting, &response(map, offer));
        Ok(())
    }

    /// What a client is told of a track that it receives on a line. It looks consumers up by the
    /// producer's id, and tracks by the line's.
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

    /// `renegotiateSessionDescription`: packets flow from the answer on.
    pub(crate) fn renegotiate(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let seat = asked.seat;
        self.inside(seat)?;
        let request: RenegotiateRequest = asked.message()?;
        let answer = text(request.description)
            .ok_or_else(|| Refusal::new(400, "an SDP answer is missing"))?;
        let transport = self.receiving(seat, Some(&request.transport_id))?;
        let pending = Pending::Agree {
            transport: transport.clone(),
        };
        let order = self.order(asked, pending)?;
        turn.emit(Output::Media(MediaOrder::Answered {
            order,
            peer: self.peers[seat].id(),
            transport,
            answer,
        }));
        Ok(())
    }

    /// `closeConsumer`: what clients call consumer ids here are the lines.
    pub(crate) fn close_consumers(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let seat = asked.seat;
        self.inside(seat)?;
        let request: ConsumerCloseRequest = asked.message()?;
        let mut mids = request.consumer_ids;
        if mids.len() > AT_ONCE || !mids.iter().all(|mid| short(mid)) {
            return Err(Refusal::new(413, "these are too many tracks at once"));
        }
        let mut named = BTreeSet::new();
        mids.retain(|mid| named.insert(mid.clone()));
        let offer = text(request.description)
            .ok_or_else(|| Refusal::new(400, "an SDP offer is missing"))?;
        let transport = self.receiving(seat, request.consuming_transport_id.as_deref())?;
        let pending = Pending::CloseConsumers {
            transport: transport.clone(),
            mids: mids.clone(),
        };
        let order = self.order(asked, pending)?;
        turn.emit(Output::Media(MediaOrder::CloseConsumers {
            order,
            peer: self.peers[seat].id(),
            transport,
            mids,
            offer,
        }));
        Ok(())
    }

    /// A peer receives nothing on these lines any more.
    pub(super) fn forget_lines(&mut self, seat: Seat, transport: &str, mids: &[String]) {
        if self.receiving(seat, Some(transport)).is_ok() {
            let consumes = &mut self.tracks.own(seat).consumes;
            consumes.retain(|_, mid| !mids.contains(mid));
        }
    }

    /// `updateConsumersSimulcastConfig`.
    pub(crate) fn prefer_layers(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let seat = asked.seat;
        self.inside(seat)?;
        let request: UpdateConsumersSimulcastConfigRequest = asked.message()?;
        if request.requests.len() > AT_ONCE {
            return Err(Refusal::new(413, "these are too many tracks at once"));
        }
        self.receiving(seat, request.consuming_transport_id.as_deref())?;
        let wish = request.requests.into_iter().filter_map(|wish| {
            let rid = wish.simulcast?.preferred_rid?;
            (short(&wish.mid) && short(&rid)).then_some((wish.mid, rid))
        });
        // The last wish for a line holds.
        let wishes: BTreeMap<String, String> = wish.collect();
        let wishes: Vec<_> = wishes.into_iter().collect();
        if !wishes.is_empty() {
            let peer = self.peers[seat].id();
            turn.emit(Output::Media(MediaOrder::Prefer { peer, wishes }));
        }
        asked.reply(turn, &());
        Ok(())
    }

    /// Peers that do not see somebody any more receive nothing of them either.
    pub(crate) fn revoke<'s>(
        &mut self,
        turn: &mut Turn<'_>,
        viewer: Seat,
        publishers: impl Iterator<Item = &'s Seat>,
    ) {
        let received = publishers.flat_map(|publisher| self.tracks.received(viewer, *publisher));
        let producers: Vec<ProducerId> = received.collect();
        if producers.is_empty() {
            return;
        }
        if let Some(own) = self.tracks.known(viewer) {
            own.consumes.retain(|id, _| !producers.contains(id));
        }
        let peer = self.peers[viewer].id();
        turn.emit(Output::Media(MediaOrder::Revoke { peer, producers }));
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
