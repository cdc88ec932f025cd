//! What a room wants of the media plane, and the way back.

use std::collections::HashSet;
use std::sync::Arc;

use parlor_live::{Input, MediaAnswer, MediaOrder, OrderId, Refusal, Source, Wanted};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PeerId};
use parlor_sfu::{Consumed, Direction, Error, Event, Events, Media, Member, Owner, Produce, Want};

use super::Letter;
use crate::rooms::LiveSessions;

/// One room's side of the media plane. When it goes, for whatever reason, so does everything that
/// the room's peers have there: another room of the meeting would know nothing of it.
pub(super) struct MediaDesk {
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    /// Absent on servers that have none.
    media: Option<Media>,
    events: Option<Events>,
    /// Who may have something there.
    members: HashSet<PeerId>,
}

impl MediaDesk {
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

    /// What the media plane says next by itself; nothing, where there is none.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            let Some(events) = &mut self.events else {
                return std::future::pending().await;
            };
            match events.recv().await {
                Some(Event::Speaking(peers)) => return Input::Speaking(peers),
                Some(Event::Freed {
                    peer,
                    direction,
                    transport_id,
                }) => {
                    return Input::Freed {
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

    /// Begins an order. Its answer comes to the room as a letter.
    pub(super) fn carry_out(&mut self, order: MediaOrder) {
        let Some(media) = self.media.clone() else {
            return self.refuse(&order);
        };
        match order {
            MediaOrder::Open {
                order,
                peer,
                person,
                admitted,
                publishes,
                offer,
            } => self.open(&media, order, (peer, person, admitted), publishes, offer),
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
                    source: source_of(source),
                    paused,
                    offer,
                };
                let producing = media.produce(self.member(peer), produce);
                self.answer(
                    order,
                    async move { producing.await.map(MediaAnswer::Produced) },
                );
            }
            MediaOrder::CloseProducer {
                order,
                peer,
                producer,
                offer,
            } => {
                let closing = media.close_producer(self.member(peer), producer, offer);
                // Without an offer it is done by the call.
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
            MediaOrder::Answered {
                order,
                peer,
                transport,
                answer,
            } => {
                let agreeing = media.answered(self.member(peer), transport, answer);
                self.answer(order, async move {
                    agreeing.await?;
                    Ok(MediaAnswer::Agreed)
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
            MediaOrder::Prefer { peer, wishes } => media.prefer(self.member(peer), wishes),
            MediaOrder::Revoke { peer, producers } => media.revoke(self.member(peer), producers),
            MediaOrder::Pin { peer } => media.pin(self.meeting, peer),
            MediaOrder::Close { peer, away } => self.close(&media, peer, away),
        }
    }

    fn close(&mut self, media: &Media, peer: PeerId, away: bool) {
        let had_any = self.members.remove(&peer);
        media.close(self.member(peer), away);
        if away && had_any {
            self.live.gave_up(self.meeting, peer);
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
            person,
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

    /// Without a media plane nobody waits for an answer that never comes.
    fn refuse(&self, order: &MediaOrder) {
        let order = match order {
            MediaOrder::Open { order, .. }
            | MediaOrder::Produce { order, .. }
            | MediaOrder::Consume { order, .. }
            | MediaOrder::Answered { order, .. }
            | MediaOrder::CloseConsumers { order, .. } => Some(*order),
            MediaOrder::CloseProducer { order, .. } => *order,
            MediaOrder::Admit { .. }
            | MediaOrder::Pause { .. }
            | MediaOrder::Prefer { .. }
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
        let Some(mailbox) = self.live.running(self.app, self.meeting) else {
            return;
        };
        self.live.spawn(async move {
            let outcome = outcome.await;
            // The room may be over by then.
            let _ = mailbox.send(Letter::Media { order, outcome });
        });
    }
}

impl Drop for MediaDesk {
    fn drop(&mut self) {
        let Some(media) = &self.media else { return };
        for peer in &self.members {
            media.close(self.member(*peer), true);
            self.live.gave_up(self.meeting, *peer);
        }
    }
}

fn source_of(source: Source) -> parlor_sfu::Source {
    match source {
        Source::Microphone => parlor_sfu::Source::Microphone,
        Source::Camera => parlor_sfu::Source::Camera,
        Source::Screen => parlor_sfu::Source::Screen,
        Source::ScreenAudio => parlor_sfu::Source::ScreenAudio,
    }
}

fn consumed(Consumed { mids, offer }: Consumed) -> MediaAnswer {
    MediaAnswer::Consumed { mids, offer }
}

fn want_of(wanted: Wanted) -> Want {
    Want {
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
