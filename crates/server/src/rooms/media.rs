//! A room's orders to the media plane, and their results.

use std::collections::HashSet;
use std::sync::Arc;

use parlor_live::{Input, MediaAnswer, MediaOrder, OrderId, Refusal, Subscription};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PeerId};
use parlor_sfu::{
    ConsumeRequest, Consumed, Direction, Error, Event, Events, Media, Member, Owner, Produce,
};

use super::RoomMessage;
use crate::rooms::LiveSessions;

/// A room's handle to the media plane. Dropping it closes all transports of the room's peers,
/// because another room instance of the meeting would not know of them.
pub(super) struct MediaClient {
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    /// `None` on servers without a media plane.
    media: Option<Media>,
    events: Option<Events>,
    /// Peers that may have transports.
    members: HashSet<PeerId>,
}

impl MediaClient {
    pub(super) fn new(live: &Arc<LiveSessions>, app: AppId, meeting: MeetingId) -> Self {
        let media = live.media.get().cloned();
        Self {
            live: Arc::clone(live),
            app,
            meeting,
            events: media.as_ref().map(|media| media.listen(meeting)),
            media,
            members: HashSet::new(),
        }
    }

    /// Waits for the next event of the media plane. Never returns without one.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            let Some(events) = &mut self.events else {
                return std::future::pending().await;
            };
            match events.recv().await {
                Some(Event::Speaking(peers)) => return Input::ActiveSpeakers(peers),
                Some(Event::Freed {
                    peer,
                    direction,
                    transport_id,
                }) => {
                    return Input::TransportFreed {
                        peer,
                        publishes: direction == Direction::Publish,
                        transport: transport_id,
                    };
                }
                // The media plane has stopped.
                None => self.events = None,
            }
        }
    }

    /// Starts an order. Its result arrives in the room's mailbox.
    #[expect(clippy::too_many_lines, reason = "one arm per kind of order")]
    pub(super) fn start(&mut self, order: MediaOrder) {
        let Some(media) = self.media.clone() else {
            return self.reject(&order);
        };
        match order {
            MediaOrder::Open {
                order,
                peer,
                participant,
                admitted,
                publishes,
                offer,
            } => self.open(
                &media,
                order,
                (peer, participant, admitted),
                publishes,
                offer,
            ),
            MediaOrder::Admit { peer } => media.admit(self.member(peer)),
            MediaOrder::Produce {
                order,
                peer,
                transport,
                producer,
                mid,
                source,
                paused,
                offer,
            } => {
                let produce = Produce {
                    transport,
                    producer,
                    mid,
                    source,
                    paused,
                    offer,
                };
                let produced = media.produce(self.member(peer), produce);
                self.answer(order, async { produced.await.map(MediaAnswer::Produced) });
            }
            MediaOrder::CloseProducer {
                order,
                peer,
                producer,
                offer,
            } => {
                let closing = media.close_producer(self.member(peer), producer, offer);
                // Without an offer, the call itself completes it.
                if let Some(order) = order {
                    self.answer(order, async move {
                        let answer = closing.await?.unwrap_or_default();
                        Ok(MediaAnswer::ProducerClosed(answer))
                    });
                }
            }
            MediaOrder::Consume {
                order,
                peer,
                transport,
                wanted,
            } => {
                let wanted = wanted.into_iter().map(want_of).collect();
                let consuming = media.consume(self.member(peer), transport, wanted);
                self.answer(order, async move { consuming.await.map(consumed) });
            }
            MediaOrder::ApplyAnswer {
                order,
                peer,
                transport,
                answer,
            } => {
                let agreeing = media.apply_answer(self.member(peer), transport, answer);
                self.answer(order, async move {
                    agreeing.await?;
                    Ok(MediaAnswer::AnswerApplied)
                });
            }
            MediaOrder::CloseConsumers {
                order,
                peer,
                transport,
                mids,
                offer,
            } => {
                let closing = media.close_consumers(self.member(peer), transport, mids, offer);
                self.answer(order, async move {
                    closing.await.map(MediaAnswer::ConsumersClosed)
                });
            }
            MediaOrder::Pause {
                peer,
                producer,
                paused,
            } => media.pause(self.member(peer), producer, paused),
            MediaOrder::PreferLayers { peer, layers } => media.prefer(self.member(peer), layers),
            MediaOrder::Revoke { peer, producers } => media.revoke(self.member(peer), producers),
            MediaOrder::Pin { peer } => media.pin(self.meeting, peer),
            MediaOrder::Close {
                peer,
                client_offline,
            } => self.close(&media, peer, client_offline),
        }
    }

    fn close(&mut self, media: &Media, peer: PeerId, client_offline: bool) {
        let had_any = self.members.remove(&peer);
        media.close(self.member(peer), client_offline);
        if client_offline && had_any {
            self.live.set_evicted(self.meeting, peer);
        }
    }

    fn open(
        &mut self,
        media: &Media,
        order: OrderId,
        (peer, person, admitted): (PeerId, ParticipantId, bool),
        publishes: bool,
        offer: String,
    ) {
        self.members.insert(peer);
        let direction = if publishes {
            Direction::Publish
        } else {
            Direction::Receive
        };
        let owner = Owner {
            app: self.app,
            participant: person,
            admitted,
        };
        let opening = media.open(owner, self.member(peer), direction, offer);
        self.answer(order, async move {
            let opened = opening.await?;
            Ok(MediaAnswer::Opened {
                transport: opened.transport_id,
                answer: opened.answer,
            })
        });
    }

    fn member(&self, peer: PeerId) -> Member {
        Member {
            meeting: self.meeting,
            peer,
        }
    }

    /// Rejects an order on a server without a media plane, so that no caller waits for an answer.
    fn reject(&self, order: &MediaOrder) {
        let order = match order {
            MediaOrder::Open { order, .. }
            | MediaOrder::Produce { order, .. }
            | MediaOrder::Consume { order, .. }
            | MediaOrder::ApplyAnswer { order, .. }
            | MediaOrder::CloseConsumers { order, .. } => Some(*order),
            MediaOrder::CloseProducer { order, .. } => *order,
            MediaOrder::Admit { .. }
            | MediaOrder::Pause { .. }
            | MediaOrder::PreferLayers { .. }
            | MediaOrder::Revoke { .. }
            | MediaOrder::Pin { .. }
            | MediaOrder::Close { .. } => None,
        };
        if let Some(order) = order {
            self.send(order, async {
                Err(Refusal::new(503, "this server has no media plane"))
            });
        }
    }

    fn answer(
        &self,
        order: OrderId,
        outcome: impl Future<Output = Result<MediaAnswer, Error>> + Send + 'static,
    ) {
        self.send(order, async move {
            outcome.await.map_err(|error| refusal(&error))
        });
    }

    fn send(
        &self,
        order: OrderId,
        outcome: impl Future<Output = Result<MediaAnswer, Refusal>> + Send + 'static,
    ) {
        let Some(mailbox) = self.live.mailbox(self.app, self.meeting) else {
            return;
        };
        self.live.spawn(async move {
            let outcome = outcome.await;
            // The room may have ended by then.
            let _ = mailbox.send(RoomMessage::Media { order, outcome });
        });
    }
}

impl Drop for MediaClient {
    fn drop(&mut self) {
        let Some(media) = &self.media else { return };
        for peer in &self.members {
            media.close(self.member(*peer), true);
            self.live.set_evicted(self.meeting, *peer);
        }
    }
}

fn consumed(Consumed { mids, offer }: Consumed) -> MediaAnswer {
    MediaAnswer::Consumed { mids, offer }
}

fn want_of(wanted: Subscription) -> ConsumeRequest {
    ConsumeRequest {
        producer: wanted.producer,
        publisher: wanted.publisher,
        preferred_rid: wanted.preferred_rid,
    }
}

fn refusal(error: &Error) -> Refusal {
    let code = match error {
        Error::BadOffer(_) => 422,
        Error::NoTransport => 410,
        Error::NoProducer => 404,
        Error::Share(_) => 429,
        Error::Full | Error::Stopped => 503,
    };
    Refusal::new(code, error.to_string())
}
