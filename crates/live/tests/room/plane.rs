//! A media plane in virtual time: it does what it is ordered, and answers when the test wants it to.

use std::collections::BTreeMap;

use parlor_live::{
    ConnectionId, Input, MediaAnswer, MediaOrder, Newcomer, OrderId, Refusal, Source,
};
use parlor_protocol::ids::{PeerId, ProducerId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeersRequest, PeerJoinCompleteResponse, ProducerCreateRequest,
    ProducerCreateResponse, ProducerToggleRequest,
};
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, SessionDescription, Simulcast,
};
use prost::Message;

use crate::world::{Asked, Done, World, join};

/// A transport that nobody offers anything good for.
pub(crate) const BAD: &str = "bad";

/// A track as the plane has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) peer: PeerId,
    pub(crate) transport: String,
    pub(crate) paused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Plane {
    /// By whose they are, and whether they are to publish on.
    pub(crate) transports: BTreeMap<(PeerId, bool), String>,
    pub(crate) producers: BTreeMap<ProducerId, Published>,
    /// Who receives which track, and on which line.
    pub(crate) consumers: BTreeMap<(PeerId, ProducerId), String>,
    pub(crate) layers: Vec<(PeerId, String, String)>,
    pub(crate) pinned: Option<PeerId>,
    /// Not answered yet.
    pub(crate) waiting: Vec<MediaOrder>,
    /// Transports that were ordered before this are not made any more.
    overtaken: BTreeMap<(PeerId, bool), OrderId>,
    made: u32,
}

impl Plane {
    /// An order: what needs no answer is done at once.
    pub(crate) fn take(&mut self, order: &MediaOrder) {
        match order {
            MediaOrder::CloseProducer {
                order: number,
                producer,
                ..
            } => {
                self.producers.remove(producer);
                self.consumers.retain(|(_, other), _| other != producer);
                if number.is_some() {
                    self.waiting.push(order.clone());
                }
            }
            MediaOrder::Pause {
                producer, paused, ..
            } => {
                if let Some(published) = self.producers.get_mut(producer) {
                    published.paused = *paused;
                }
            }
            MediaOrder::Prefer { peer, wishes } => {
                let wishes = wishes.iter().cloned();
                self.layers = wishes.map(|(mid, rid)| (*peer, mid, rid)).collect();
            }
            MediaOrder::Revoke { peer, producers } => {
                let revoked =
                    |(who, which): &(PeerId, ProducerId)| who == peer && producers.contains(which);
                self.consumers.retain(|consumer, _| !revoked(consumer));
            }
            MediaOrder::Pin { peer } => self.pinned = *peer,
            MediaOrder::Admit { .. } => {}
            MediaOrder::Close { peer, .. } => {
                for publishes in [true, false] {
                    self.free(*peer, publishes);
                }
                let orders = self.waiting.iter().filter_map(|order| match order {
                    MediaOrder::Open {
                        order,
                        peer: whose,
                        publishes,
                        ..
                    } if whose == peer => Some(((*whose, *publishes), *order)),
                    _ => None,
                });
                self.overtaken.extend(orders);
            }
            _ => self.waiting.push(order.clone()),
        }
    }

    fn free(&mut self, peer: PeerId, publishes: bool) {
        self.transports.remove(&(peer, publishes));
        if publishes {
            let theirs = |published: &Published| published.peer == peer;
            self.producers.retain(|_, published| !theirs(published));
            let left = &self.producers;
            self.consumers
                .retain(|(_, producer), _| left.contains_key(producer));
        } else {
            self.consumers.retain(|(viewer, _), _| *viewer != peer);
        }
    }

    fn mid(&mut self) -> String {
        self.made += 1;
        format!("m{}", self.made)
    }

    fn open(
        &mut self,
        order: OrderId,
        place: (PeerId, bool),
        offer: &str,
    ) -> Result<MediaAnswer, Refusal> {
        if offer == BAD {
            return Err(Refusal::new(422, "this offer is bad"));
        }
        if self.overtaken.get(&place).is_some_and(|by| *by >= order) {
            return Err(Refusal::new(503, "overtaken"));
        }
        self.overtaken.insert(place, order);
        self.free(place.0, place.1);
        let transport = format!("t-{}", self.mid());
        self.transports.insert(place, transport.clone());
        let answer = "v=0".to_owned();
        Ok(MediaAnswer::Opened { transport, answer })
    }

    /// Does what waits, and says what came of it.
    fn answer(&mut self, order: MediaOrder) -> (OrderId, Result<MediaAnswer, Refusal>) {
        let gone = || Refusal::new(410, "there is no such transport");
        match order {
            MediaOrder::Open {
                order,
                peer,
                publishes,
                offer,
                ..
            } => (order, self.open(order, (peer, publishes), &offer)),
            MediaOrder::Produce {
                order,
                peer,
                transport,
                producer,
                paused,
                offer,
                ..
            } => {
                if self.transports.get(&(peer, true)) != Some(&transport) {
                    return (order, Err(gone()));
                }
                if offer == BAD {
                    return (order, Err(Refusal::new(422, "this offer is bad")));
                }
                let published = Published {
                    peer,
                    transport,
                    paused,
                };
                self.producers.insert(producer, published);
                (order, Ok(MediaAnswer::Produced("v=0".to_owned())))
            }
            MediaOrder::CloseProducer { order, offer, .. } => {
                let order = order.expect("only these wait");
                (
                    order,
                    Ok(MediaAnswer::ProducerClosed(offer.unwrap_or_default())),
                )
            }
            MediaOrder::Consume {
                order,
                peer,
                transport,
                wanted,
            } => {
                if self.transports.get(&(peer, false)) != Some(&transport) {
                    return (order, Err(gone()));
                }
                let mut mids = Vec::new();
                for wanted in wanted {
                    let there = self.producers.get(&wanted.producer);
                    let there = there.is_some_and(|there| there.peer == wanted.publisher);
                    let mid = there.then(|| self.mid());
                    if let Some(mid) = &mid {
                        let consumer = (peer, wanted.producer);
                        self.consumers.insert(consumer, mid.clone());
                    }
                    mids.push(mid);
                }
                let offer = mids.iter().any(Option::is_some);
                let offer = offer.then(|| "v=0".to_owned());
                (order, Ok(MediaAnswer::Consumed { mids, offer }))
            }
            MediaOrder::Answered {
                order,
                peer,
                transport,
                ..
            } => {
                let there = self.transports.get(&(peer, false)) == Some(&transport);
                let answer = if there {
                    Ok(MediaAnswer::Agreed)
                } else {
                    Err(gone())
                };
                (order, answer)
            }
            MediaOrder::CloseConsumers {
                order,
                peer,
                transport,
                mids,
                ..
            } => {
                if self.transports.get(&(peer, false)) != Some(&transport) {
                    return (order, Err(gone()));
                }
                self.consumers
                    .retain(|(viewer, _), mid| *viewer != peer || !mids.contains(mid));
                (order, Ok(MediaAnswer::ConsumersClosed("v=0".to_owned())))
            }
            order => panic!("{order:?} is not answered"),
        }
    }
}

impl World {
    /// The media plane answers the `n`th order that waits.
    pub(crate) fn answer(&mut self, n: usize) -> Done {
        let order = self.plane.waiting.remove(n);
        let (order, outcome) = self.plane.answer(order);
        self.take(Input::Media { order, outcome })
    }

    /// A request and, if it goes to the media plane, its answer.
    pub(crate) fn media(
        &mut self,
        from: ConnectionId,
        event: u32,
        message: &impl Message,
    ) -> Asked {
        let mut asked = self.ask(from, event, message);
        while !self.plane.waiting.is_empty() {
            let done = self.answer(0);
            let reply = |id: &Option<String>| id.as_deref() == Some(asked.id.as_str());
            let replies = done.frames.iter().filter(|frame| reply(&frame.id));
            let replies: Vec<_> = replies.cloned().collect();
            asked.replies.extend(replies);
            asked.done.frames.extend(done.frames);
            asked.done.media.extend(done.media);
        }
        asked
    }
}

/// What a client says about a track.
pub(crate) fn app_data(mid: &str) -> String {
    format!("{{\"e2ee\":false,\"mid\":\"{mid}\"}}")
}

pub(crate) fn offer() -> SessionDescription {
    SessionDescription {
        sdp: "v=0".to_owned(),
        ..SessionDescription::default()
    }
}

/// A microphone, camera, screen or the sound of one.
pub(crate) fn track(source: Source) -> ProducerCreateRequest {
    let kind = if source.is_audio() { "audio" } else { "video" };
    ProducerCreateRequest {
        kind: kind.to_owned(),
        screen_share: source.is_screen(),
        description: Some(offer()),
        app_data: Some(app_data("2")),
        ..ProducerCreateRequest::default()
    }
}

impl World {
    /// A transport of whoever is on the socket.
    pub(crate) fn transport(&mut self, socket: ConnectionId, publishes: bool) -> String {
        let request = CreateTransportRequest {
            consuming: !publishes,
            description: Some(offer()),
            ..CreateTransportRequest::default()
        };
        let asked = self.media(socket, event::CREATE_TRANSPORT, &request);
        let made: CreateTransportResponse = asked.reply(event::CREATE_TRANSPORT);
        made.transport_id
    }

    /// What a client does before it can publish, in its order.
    pub(crate) fn connect_media(&mut self, socket: ConnectionId) -> PeerJoinCompleteResponse {
        self.ask(socket, event::MEDIA_JOIN, &());
        self.transport(socket, true);
        self.transport(socket, false);
        let asked = self.ask(socket, event::MEDIA_JOIN_COMPLETE, &());
        asked.reply(event::MEDIA_JOIN_COMPLETE)
    }

    /// Somebody who has joined, with media.
    pub(crate) fn present(&mut self, who: &Newcomer) -> ConnectionId {
        let socket = join(self, who);
        self.connect_media(socket);
        socket
    }

    /// Publishes a track; its id.
    pub(crate) fn publish(&mut self, socket: ConnectionId, source: Source) -> String {
        let asked = self.media(socket, event::PRODUCE, &track(source));
        let made: ProducerCreateResponse = asked.reply(event::PRODUCE);
        made.producer_id
    }

    /// Asks to receive tracks.
    pub(crate) fn subscribe(&mut self, socket: ConnectionId, producers: &[&str]) -> Asked {
        let one = |producer: &&str| ConsumePeerRequest {
            producer_id: Some((*producer).to_owned()),
            simulcast: Some(Simulcast {
                preferred_rid: Some("f".to_owned()),
                ..Simulcast::default()
            }),
            ..ConsumePeerRequest::default()
        };
        let request = ConsumePeersRequest {
            requests: producers.iter().map(one).collect(),
            consuming_transport_id: None,
        };
        self.media(socket, event::CONSUME, &request)
    }

    /// Pauses a track, or goes on with it.
    pub(crate) fn toggle(&mut self, socket: ConnectionId, producer: &str, pause: bool) -> Asked {
        let request = ProducerToggleRequest {
            producer_id: producer.to_owned(),
            pause,
        };
        self.ask(socket, event::TOGGLE_PRODUCER, &request)
    }

    /// Whether anything of a track goes through.
    pub(crate) fn flows(&self, producer: &str) -> bool {
        let id: ProducerId = producer.parse().expect("an id");
        let there = self.plane.producers.get(&id);
        there.is_some_and(|there| !there.paused)
    }

    /// Whether a peer is sent a track.
    pub(crate) fn receives(&self, viewer: PeerId, producer: &str) -> bool {
        let id = producer.parse().expect("an id");
        self.plane.consumers.contains_key(&(viewer, id))
    }
}
