//! Orders to the media plane, and their answers. The room may change while an order is pending, so
//! each answer is validated against the current state.

use parlor_protocol::ids::PeerId;
use parlor_protocol::signal::media::edge::{ConsumerClosingResponse, ProducerClosingResponse};
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, RenegotiateResponse, SessionDescription,
    Target,
};
use prost::Message;

use super::media_error;
use super::tracks::{OrderKind, PendingOrder, Transport};
use crate::input::MediaAnswer;
use crate::output::{MediaOrder, OrderId, Output, Refusal};
use crate::peer::{MediaState, PeerState, Slot};
use crate::room::{Outcome, RequestContext, Room, Step};

/// The error for a transport that no longer exists.
pub(super) fn transport_gone() -> Refusal {
    Refusal::new(410, "this transport no longer exists")
}

/// Id of a peer's transport, if it exists and is the named one.
fn transport_id(transport: Option<&Transport>, named: Option<&str>) -> Result<String, Refusal> {
    let transport = transport.ok_or_else(transport_gone)?;
    match named {
        Some(named) if named != transport.id => Err(transport_gone()),
        _ => Ok(transport.id.clone()),
    }
}

/// The SDP of a description, if it has one.
pub(super) fn sdp_text(description: Option<SessionDescription>) -> Option<String> {
    let sdp = description.unwrap_or_default().sdp;
    (!sdp.is_empty()).then_some(sdp)
}

fn description_of(target: Target, kind: &str, sdp: String) -> SessionDescription {
    SessionDescription {
        target: target.into(),
        r#type: kind.to_owned(),
        sdp,
    }
}

/// An answer to an offer on the client's publishing transport.
pub(super) fn answer_to_publisher(sdp: String) -> SessionDescription {
    description_of(Target::Publisher, "answer", sdp)
}

/// An answer to an offer on the client's receiving transport.
pub(super) fn answer_to_subscriber(sdp: String) -> SessionDescription {
    description_of(Target::Subscriber, "answer", sdp)
}

/// An offer for the client's receiving transport.
pub(super) fn offer_to_subscriber(sdp: String) -> SessionDescription {
    description_of(Target::Subscriber, "offer", sdp)
}

impl Room {
    /// Allocates an order id and records how to handle the answer.
    pub(super) fn allocate_order(
        &mut self,
        ctx: &RequestContext<'_>,
        kind: OrderKind,
    ) -> Result<OrderId, Refusal> {
        if self.tracks.open_order_count(ctx.slot) >= self.limits.media_orders {
            return Err(Refusal::new(
                429,
                "too many pending requests: wait for the replies",
            ));
        }
        Ok(self.tracks.add_order(PendingOrder {
            slot: ctx.slot,
            connection: ctx.connection,
            event: ctx.request.event,
            id: ctx.request.id.clone(),
            kind,
            cancelled: false,
        }))
    }

    pub(crate) fn create_transport(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let request: CreateTransportRequest = ctx.message()?;
        let offer = sdp_text(request.description)
            .ok_or_else(|| Refusal::new(400, "a transport needs an SDP offer"))?;
        if self.peers[ctx.slot].state == PeerState::Rejected {
            return Err(Refusal::new(403, "you were not admitted"));
        }
        let publishes = !request.consuming;
        let order = self.allocate_order(ctx, OrderKind::Open { publishes })?;
        let peer = &self.peers[ctx.slot];
        step.emit(Output::Media(MediaOrder::Open {
            order,
            peer: peer.id(),
            participant: peer.participant_id(),
            admitted: peer.has_joined() || peer.attendance.is_some(),
            publishes,
            offer,
        }));
        Ok(())
    }

    /// Tells the media plane that a peer was admitted, if it may have transports from before.
    pub(crate) fn admit_media(&self, step: &mut Step<'_>, slot: Slot) {
        if self.tracks.get(slot).is_some() {
            let peer = self.peers[slot].id();
            step.emit(Output::Media(MediaOrder::Admit { peer }));
        }
    }

    /// Handles an answer of the media plane.
    pub(crate) fn media_answered(
        &mut self,
        step: &mut Step<'_>,
        order: OrderId,
        outcome: Result<MediaAnswer, Refusal>,
    ) {
        let Some(mut pending) = self.tracks.take_order(order) else {
            return;
        };
        let outcome = if pending.cancelled {
            Err(transport_gone())
        } else {
            outcome
        };
        let kind = std::mem::replace(&mut pending.kind, OrderKind::CloseProducer);
        let done = match kind {
            OrderKind::Open { publishes } => {
                self.opened_transport(step, &pending, order, publishes, outcome)
            }
            OrderKind::Produce { producer, paused } => {
                let answer = outcome.and_then(|answer| match answer {
                    MediaAnswer::Produced(sdp) => Ok(sdp),
                    _ => Err(unexpected_answer()),
                });
                self.produced(step, &pending, producer, paused, answer)
            }
            OrderKind::CloseProducer => outcome.and_then(|answer| match answer {
                MediaAnswer::ProducerClosed(sdp) => {
                    let description = Some(answer_to_publisher(sdp));
                    self.reply_pending(step, &pending, &ProducerClosingResponse { description });
                    Ok(())
                }
                _ => Err(unexpected_answer()),
            }),
            OrderKind::Consume(consume) => {
                let answer = outcome.and_then(|answer| match answer {
                    MediaAnswer::Consumed { mids, offer } => Ok((mids, offer)),
                    _ => Err(unexpected_answer()),
                });
                self.consumed(step, &pending, consume, answer)
            }
            OrderKind::ApplyAnswer { transport } => outcome.and_then(|answer| match answer {
                MediaAnswer::AnswerApplied => {
                    let response = RenegotiateResponse {
                        transport_id: transport,
                        description: None,
                    };
                    self.reply_pending(step, &pending, &response);
                    Ok(())
                }
                _ => Err(unexpected_answer()),
            }),
            OrderKind::CloseConsumers { transport, mids } => {
                outcome.and_then(|answer| match answer {
                    MediaAnswer::ConsumersClosed(sdp) => {
                        self.forget_consumers(pending.slot, &transport, &mids);
                        let description = Some(answer_to_subscriber(sdp));
                        self.reply_pending(
                            step,
                            &pending,
                            &ConsumerClosingResponse { description },
                        );
                        Ok(())
                    }
                    _ => Err(unexpected_answer()),
                })
            }
        };
        if let Err(refusal) = done
            && self.is_still_connected(&pending)
        {
            let frame = media_error(pending.event, pending.id.as_deref(), &refusal);
            step.send(vec![pending.connection], frame);
        }
    }

    /// Whether the requester is still connected with the socket of the request.
    fn is_still_connected(&self, pending: &PendingOrder) -> bool {
        self.peers.slot_by_connection(pending.connection) == Some(pending.slot)
    }

    /// Replies to the request behind an order.
    pub(super) fn reply_pending(
        &self,
        step: &mut Step<'_>,
        pending: &PendingOrder,
        message: &impl Message,
    ) {
        if self.is_still_connected(pending) {
            let frame = crate::frame::frame(pending.event, pending.id.as_deref(), message);
            step.send(vec![pending.connection], frame);
        }
    }

    fn opened_transport(
        &mut self,
        step: &mut Step<'_>,
        pending: &PendingOrder,
        order: OrderId,
        publishes: bool,
        outcome: Result<MediaAnswer, Refusal>,
    ) -> Outcome {
        let MediaAnswer::Opened { transport, answer } = outcome? else {
            return Err(unexpected_answer());
        };
        let slot = pending.slot;
        let media = self.tracks.get_or_insert(slot);
        let current = if publishes {
            &mut media.publish
        } else {
            &mut media.receive
        };
        let later = current.as_ref().is_none_or(|older| older.order < order);
        if later {
            *current = Some(Transport {
                order,
                id: transport.clone(),
            });
            if publishes {
                // Tracks on the previous transport were closed with it (docs/spec/media.md 2.5).
                self.end_producers(step, slot, |producer| producer.transport != transport);
            } else {
                media.consumes.clear();
                if self.peers[slot].media == MediaState::Ready {
                    self.schedule_reminder(step, slot, 3);
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
        self.reply_pending(step, pending, &response);
        Ok(())
    }

    /// Handles a transport that the media plane has closed by itself. Ends its tracks, so that no
    /// client shows a frozen image.
    pub(crate) fn transport_freed(
        &mut self,
        step: &mut Step<'_>,
        peer: PeerId,
        publishes: bool,
        id: &str,
    ) {
        let Some(slot) = self.peers.slot_of(peer) else {
            return;
        };
        let Some(media) = self.tracks.get_mut(slot) else {
            return;
        };
        if publishes {
            media.publish.take_if(|transport| transport.id == id);
            self.end_producers(step, slot, |producer| producer.transport == id);
        } else if media
            .receive
            .take_if(|transport| transport.id == id)
            .is_some()
        {
            media.consumes.clear();
        }
    }

    /// Id of the peer's publishing transport, if it is the named one.
    pub(super) fn publish_transport(
        &self,
        slot: Slot,
        named: Option<&str>,
    ) -> Result<String, Refusal> {
        let media = self.tracks.get(slot);
        transport_id(media.and_then(|media| media.publish.as_ref()), named)
    }

    /// Id of the peer's receiving transport, if it is the named one.
    pub(super) fn receive_transport(
        &self,
        slot: Slot,
        named: Option<&str>,
    ) -> Result<String, Refusal> {
        let media = self.tracks.get(slot);
        transport_id(media.and_then(|media| media.receive.as_ref()), named)
    }

    /// Checks that the peer has joined the room and its media is ready.
    pub(super) fn check_media_ready(&self, slot: Slot) -> Outcome {
        if self.joined_peer(slot)?.media == MediaState::Ready {
            Ok(())
        } else {
            Err(Refusal::new(403, "join the media room first"))
        }
    }
}

fn unexpected_answer() -> Refusal {
    Refusal::new(503, "unexpected answer from the media plane")
}

/// Whether a short field of untrusted input has a valid length.
pub(super) fn is_short(text: &str) -> bool {
    text.len() <= 128
}
