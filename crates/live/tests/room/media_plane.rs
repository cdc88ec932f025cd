//! A fake media plane: executes orders, and replies when the test asks for it.

use std::collections::BTreeMap;

use parlor_live::{
    ConnectionId, Input, MediaAnswer, MediaOrder, OrderId, PeerProfile, Refusal, Source,
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

use crate::world::{Effects, RequestOutcome, World, join};

/// An offer that the media plane rejects.
pub(crate) const INVALID_OFFER: &str = "bad";

/// A producer on the media plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) peer: PeerId,
    pub(crate) transport: String,
    pub(crate) paused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct MediaPlane {
    /// Keyed by peer and whether the transport is for publishing.
    pub(crate) transports: BTreeMap<(PeerId, bool), String>,
    pub(crate) producers: BTreeMap<ProducerId, Published>,
    /// Mids of consumers, keyed by subscriber and producer.
    pub(crate) consumers: BTreeMap<(PeerId, ProducerId), String>,
    pub(crate) layers: Vec<(PeerId, String, String)>,
    pub(crate) pinned: Option<PeerId>,
    /// Orders without a reply.
    pub(crate) waiting: Vec<MediaOrder>,
    /// The latest order that superseded earlier ones, per transport.
    superseded: BTreeMap<(PeerId, bool), OrderId>,
    made: u32,
}

impl MediaPlane {
    /// Accepts an order. Orders without a reply are executed at once.
    pub(crate) fn accept(&mut self, order: &MediaOrder) {
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
            MediaOrder::PreferLayers { peer, layers } => {
                let layers = layers.iter().cloned();
                self.layers = layers.map(|(mid, rid)| (*peer, mid, rid)).collect();
            }
            MediaOrder::Revoke { peer, producers } => {
                let revoked = |(subscriber, producer): &(PeerId, ProducerId)| {
                    subscriber == peer && producers.contains(producer)
                };
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
                self.superseded.extend(orders);
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
        key: (PeerId, bool),
        offer: &str,
    ) -> Result<MediaAnswer, Refusal> {
        if offer == INVALID_OFFER {
            return Err(Refusal::new(422, "this offer is bad"));
        }
        if self.superseded.get(&key).is_some_and(|by| *by >= order) {
            return Err(Refusal::new(503, "overtaken"));
        }
        self.superseded.insert(key, order);
        self.free(key.0, key.1);
        let transport = format!("t-{}", self.mid());
        self.transports.insert(key, transport.clone());
        let answer = "v=0".to_owned();
        Ok(MediaAnswer::Opened { transport, answer })
    }

    /// Executes a pending order and returns its result.
    fn answer(&mut self, order: MediaOrder) -> (OrderId, Result<MediaAnswer, Refusal>) {
        let not_found = || Refusal::new(410, "there is no such transport");
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
                    return (order, Err(not_found()));
                }
                if offer == INVALID_OFFER {
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
                let order = order.expect("only orders with a number are pending");
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
                    return (order, Err(not_found()));
                }
                let mut mids = Vec::new();
                for wanted in wanted {
                    let existing = self.producers.get(&wanted.producer);
                    let existing =
                        existing.is_some_and(|existing| existing.peer == wanted.publisher);
                    let mid = existing.then(|| self.mid());
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
            MediaOrder::ApplyAnswer {
                order,
                peer,
                transport,
                ..
            } => {
                let existing = self.transports.get(&(peer, false)) == Some(&transport);
                let answer = if existing {
                    Ok(MediaAnswer::AnswerApplied)
                } else {
                    Err(not_found())
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
                    return (order, Err(not_found()));
                }
                self.consumers
                    .retain(|(viewer, _), mid| *viewer != peer || !mids.contains(mid));
                (order, Ok(MediaAnswer::ConsumersClosed("v=0".to_owned())))
            }
            order => panic!("{order:?} has no reply"),
        }
    }
}

impl World {
    /// The media plane replies to the `n`th pending order.
    pub(crate) fn answer_order(&mut self, n: usize) -> Effects {
        let order = self.media_plane.waiting.remove(n);
        let (order, outcome) = self.media_plane.answer(order);
        self.handle(Input::Media { order, outcome })
    }

    /// Sends a request, and completes its orders on the media plane.
    pub(crate) fn request_media(
        &mut self,
        from: ConnectionId,
        event: u32,
        message: &impl Message,
    ) -> RequestOutcome {
        let mut outcome = self.request(from, event, message);
        while !self.media_plane.waiting.is_empty() {
            let effects = self.answer_order(0);
            let reply = |id: &Option<String>| id.as_deref() == Some(outcome.id.as_str());
            let replies = effects.frames.iter().filter(|frame| reply(&frame.id));
            let replies: Vec<_> = replies.cloned().collect();
            outcome.replies.extend(replies);
            outcome.effects.frames.extend(effects.frames);
            outcome.effects.media.extend(effects.media);
        }
        outcome
    }
}

/// The app data of a producer.
pub(crate) fn app_data(mid: &str) -> String {
    format!("{{\"e2ee\":false,\"mid\":\"{mid}\"}}")
}

pub(crate) fn offer() -> SessionDescription {
    SessionDescription {
        sdp: "v=0".to_owned(),
        ..SessionDescription::default()
    }
}

/// A request to publish a microphone, camera, screen or screen audio.
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
    /// Creates a transport for the peer of a connection.
    pub(crate) fn transport(&mut self, socket: ConnectionId, publishes: bool) -> String {
        let request = CreateTransportRequest {
            consuming: !publishes,
            description: Some(offer()),
            ..CreateTransportRequest::default()
        };
        let outcome = self.request_media(socket, event::CREATE_TRANSPORT, &request);
        let made: CreateTransportResponse = outcome.reply(event::CREATE_TRANSPORT);
        made.transport_id
    }

    /// Joins the media plane in the order of the official client.
    pub(crate) fn connect_media(&mut self, socket: ConnectionId) -> PeerJoinCompleteResponse {
        self.request(socket, event::MEDIA_JOIN, &());
        self.transport(socket, true);
        self.transport(socket, false);
        let outcome = self.request(socket, event::MEDIA_JOIN_COMPLETE, &());
        outcome.reply(event::MEDIA_JOIN_COMPLETE)
    }

    /// Connects a participant, joins the room and the media plane.
    pub(crate) fn join_with_media(&mut self, profile: &PeerProfile) -> ConnectionId {
        let socket = join(self, profile);
        self.connect_media(socket);
        socket
    }

    /// Publishes a track and returns its producer id.
    pub(crate) fn publish(&mut self, socket: ConnectionId, source: Source) -> String {
        let outcome = self.request_media(socket, event::PRODUCE, &track(source));
        let made: ProducerCreateResponse = outcome.reply(event::PRODUCE);
        made.producer_id
    }

    /// Subscribes to producers.
    pub(crate) fn subscribe(&mut self, socket: ConnectionId, producers: &[&str]) -> RequestOutcome {
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
        self.request_media(socket, event::CONSUME, &request)
    }

    /// Pauses or resumes a producer.
    pub(crate) fn toggle(
        &mut self,
        socket: ConnectionId,
        producer: &str,
        pause: bool,
    ) -> RequestOutcome {
        let request = ProducerToggleRequest {
            producer_id: producer.to_owned(),
            pause,
        };
        self.request(socket, event::TOGGLE_PRODUCER, &request)
    }

    /// Whether a producer exists and is not paused.
    pub(crate) fn is_forwarded(&self, producer: &str) -> bool {
        let id: ProducerId = producer.parse().expect("an id");
        let existing = self.media_plane.producers.get(&id);
        existing.is_some_and(|existing| !existing.paused)
    }

    /// Whether a peer receives a producer.
    pub(crate) fn receives(&self, viewer: PeerId, producer: &str) -> bool {
        let id = producer.parse().expect("an id");
        self.media_plane.consumers.contains_key(&(viewer, id))
    }
}
