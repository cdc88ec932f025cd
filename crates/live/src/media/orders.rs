//! What the media plane is asked for, and what is done with its answers. In between anything may
//! have happened: an answer is looked at in the light of what is true when it comes.

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::media::edge::{ConsumerClosingResponse, ProducerClosingResponse};
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, RenegotiateResponse, SessionDescription,
    Target,
};
use prost::Message;

use super::media_error;
use super::tracks::{Pending, Transport, Waiting};
use crate::input::MediaAnswer;
use crate::output::{MediaOrder, OrderId, Output, Refusal};
use crate::peer::{MediaState, Place, Seat};
use crate::room::{Outcome, RequestContext, Room, Turn};

/// What a refusal to use a transport says that is there no more.
pub(super) fn gone() -> Refusal {
    Refusal::new(410, "this transport is gone")
}

/// The SDP that a client sent, if it sent any.
pub(super) fn text(description: Option<SessionDescription>) -> Option<String> {
    let text = description.unwrap_or_default().sdp;
    (!text.is_empty()).then_some(text)
}

fn described(target: Target, kind: &str, sdp: String) -> SessionDescription {
    SessionDescription {
        target: target.into(),
        r#type: kind.to_owned(),
        sdp,
    }
}

/// An answer to what the client offered on the transport that it publishes on.
pub(super) fn answer_to_publisher(sdp: String) -> SessionDescription {
    described(Target::Publisher, "answer", sdp)
}

/// An answer to what the client offered on the transport that it receives on.
pub(super) fn answer_to_subscriber(sdp: String) -> SessionDescription {
    described(Target::Subscriber, "answer", sdp)
}

/// An offer for the transport that the client receives on.
pub(super) fn offer_to_subscriber(sdp: String) -> SessionDescription {
    described(Target::Subscriber, "offer", sdp)
}

impl Room {
    /// A number for an order, and what is to be done when it is answered.
    pub(super) fn order(
        &mut self,
        asked: &RequestContext<'_>,
        what: Pending,
    ) -> Result<OrderId, Refusal> {
        if self.tracks.open_orders(asked.seat) >= self.limits.media_orders {
            return Err(Refusal::new(
                429,
                "too many requests at once: wait for the answers",
            ));
        }
        Ok(self.tracks.wait(Waiting {
            seat: asked.seat,
            connection: asked.connection,
            event: asked.request.event,
            id: asked.request.id.clone(),
            what,
            void: false,
        }))
    }

    pub(crate) fn create_transport(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: CreateTransportRequest = asked.message()?;
        let offer = text(request.description)
            .ok_or_else(|| Refusal::new(400, "a transport needs an SDP offer"))?;
        if self.peers[asked.seat].place == Place::Rejected {
            return Err(Refusal::new(403, "you were not let in"));
        }
        let publishes = !request.consuming;
        let order = self.order(asked, Pending::Open { publishes })?;
        let peer = &self.peers[asked.seat];
        turn.emit(Output::Media(MediaOrder::Open {
            order,
            peer: peer.id(),
            person: peer.user(),
            admitted: peer.is_inside() || peer.stay.is_some(),
            publishes,
            offer,
        }));
        Ok(())
    }

    /// The peer was let in: the media plane is told, if it may have transports from before.
    pub(crate) fn admit_media(&self, turn: &mut Turn<'_>, seat: Seat) {
        if self.tracks.of(seat).is_some() {
            let peer = self.peers[seat].id();
            turn.emit(Output::Media(MediaOrder::Admit { peer }));
        }
    }

    /// The media plane has answered.
    pub(crate) fn media_answered(
        &mut self,
        turn: &mut Turn<'_>,
        order: OrderId,
        outcome: Result<MediaAnswer, Refusal>,
    ) {
        let Some(mut waiting) = self.tracks.answered(order) else {
            return;
        };
        let outcome = if waiting.void { Err(gone()) } else { outcome };
        let what = std::mem::replace(&mut waiting.what, Pending::CloseProducer);
        let done = match what {
            Pending::Open { publishes } => {
                self.opened_transport(turn, &waiting, order, publishes, outcome)
            }
            Pending::Produce { producer, paused } => {
                let answer = outcome.and_then(|answer| match answer {
                    MediaAnswer::Produced(sdp) => Ok(sdp),
                    _ => Err(unexpected()),
                });
                self.produced(turn, &waiting, producer, paused, answer)
            }
            Pending::CloseProducer => outcome.and_then(|answer| match answer {
                MediaAnswer::ProducerClosed(sdp) => {
                    let description = Some(answer_to_publisher(sdp));
                    self.answer(turn, &waiting, &ProducerClosingResponse { description });
                    Ok(())
                }
                _ => Err(unexpected()),
            }),
            Pending::Consume(wish) => {
                let answer = outcome.and_then(|answer| match answer {
                    MediaAnswer::Consumed { mids, offer } => Ok((mids, offer)),
                    _ => Err(unexpected()),
                });
                self.consumed(turn, &waiting, wish, answer)
            }
            Pending::Agree { transport } => outcome.and_then(|answer| match answer {
                MediaAnswer::Agreed => {
                    let response = RenegotiateResponse {
                        transport_id: transport,
                        description: None,
                    };
                    self.answer(turn, &waiting, &response);
                    Ok(())
                }
                _ => Err(unexpected()),
            }),
            Pending::CloseConsumers { transport, mids } => {
                outcome.and_then(|answer| match answer {
                    MediaAnswer::ConsumersClosed(sdp) => {
                        self.forget_lines(waiting.seat, &transport, &mids);
                        let description = Some(answer_to_subscriber(sdp));
                        self.answer(turn, &waiting, &ConsumerClosingResponse { description });
                        Ok(())
                    }
                    _ => Err(unexpected()),
                })
            }
        };
        if let Err(refusal) = done
            && self.hears(&waiting)
        {
            let frame = media_error(waiting.event, waiting.id.as_deref(), &refusal);
            turn.send(vec![waiting.connection], frame);
        }
    }

    /// Whether whoever asked is still on the socket that it asked on.
    fn hears(&self, waiting: &Waiting) -> bool {
        self.peers.seat_at(waiting.connection) == Some(waiting.seat)
    }

    /// Answers the request behind an order.
    pub(super) fn answer(&self, turn: &mut Turn<'_>, waiting: &Waiting, message: &impl Message) {
        if self.hears(waiting) {
            let frame = crate::frame::frame(waiting.event, waiting.id.as_deref(), message);
            turn.send(vec![waiting.connection], frame);
        }
    }

    fn opened_transport(
        &mut self,
        turn: &mut Turn<'_>,
        waiting: &Waiting,
        order: OrderId,
        publishes: bool,
        outcome: Result<MediaAnswer, Refusal>,
    ) -> Outcome {
        let MediaAnswer::Opened { transport, answer } = outcome? else {
            return Err(unexpected());
        };
        let seat = waiting.seat;
        let own = self.tracks.own(seat);
        let place = if publishes {
            &mut own.publish
        } else {
            &mut own.receive
        };
        let later = place.as_ref().is_none_or(|older| older.order < order);
        if later {
            *place = Some(Transport {
                order,
                id: transport.clone(),
            });
            if publishes {
                // What was published on the older one is gone with it (docs/spec/media.md 2.5).
                self.end_producers(turn, seat, |producer| producer.transport != transport);
            } else {
                own.consumes.clear();
                if self.peers[seat].media == MediaState::Complete {
                    self.remind_soon(turn, seat, 3);
                }
            }
        }
        let description = if publishes {
            answer_to_publisher(answer)
        } else {
            answer_to_subscriber(answer)
        };
        let response = CreateTransportResponse {
            transport_id: transport,
            description: Some(description),
            transcription_enabled: None,
            producer_ids: Vec::new(),
        };
        self.answer(turn, waiting, &response);
        Ok(())
    }

    /// The media plane has freed a transport: nobody keeps a picture that stands still.
    pub(crate) fn transport_freed(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        publishes: bool,
        id: &str,
    ) {
        let Some(seat) = self.peers.seat_of(peer) else {
            return;
        };
        let Some(own) = self.tracks.known(seat) else {
            return;
        };
        if publishes {
            own.publish.take_if(|transport| transport.id == id);
            self.end_producers(turn, seat, |producer| producer.transport == id);
        } else if own
            .receive
            .take_if(|transport| transport.id == id)
            .is_some()
        {
            own.consumes.clear();
        }
    }

    /// The transport that a peer publishes on, if the client means that one.
    pub(super) fn publishing(&self, seat: Seat, named: Option<&str>) -> Result<String, Refusal> {
        let own = self.tracks.of(seat);
        let transport = own.and_then(|own| own.publish.as_ref()).ok_or_else(gone)?;
        match named {
            Some(named) if named != transport.id => Err(gone()),
            _ => Ok(transport.id.clone()),
        }
    }

    /// The transport that a peer receives on, if the client means that one.
    pub(super) fn receiving(&self, seat: Seat, named: Option<&str>) -> Result<String, Refusal> {
        let own = self.tracks.of(seat);
        let transport = own.and_then(|own| own.receive.as_ref()).ok_or_else(gone)?;
        match named {
            Some(named) if named != transport.id => Err(gone()),
            _ => Ok(transport.id.clone()),
        }
    }

    /// The peer, if it has joined the room and its media is ready.
    pub(super) fn ready(&self, seat: Seat) -> Outcome {
        if self.inside(seat)?.media == MediaState::Complete {
            Ok(())
        } else {
            Err(Refusal::new(403, "join the media first"))
        }
    }
}

fn unexpected() -> Refusal {
    Refusal::new(503, "the media plane gave the answer to another question")
}

/// Fields of foreign text that must be short.
pub(super) fn short(text: &str) -> bool {
    text.len() <= 128
}
