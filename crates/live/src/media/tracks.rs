//! What each peer publishes and receives, and what the media plane has been asked for.

use std::collections::{BTreeMap, HashMap};

use parlor_protocol::ids::{PeerId, ProducerId};
use parlor_protocol::signal::media::{ProducerKind, ProducerState};

use crate::input::ConnectionId;
use crate::output::{OrderId, Source};
use crate::peer::Seat;

/// A track that a peer publishes, or is about to.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) id: ProducerId,
    pub(crate) source: Source,
    pub(crate) paused: bool,
    /// The media plane has it: others may know of it.
    pub(crate) live: bool,
    /// What the client says about it, for other clients.
    pub(crate) app_data: Option<String>,
    pub(crate) mime_type: String,
    pub(crate) transport: String,
}

impl Producer {
    /// What others are told of it.
    pub(crate) fn state(&self) -> ProducerState {
        let kind = if self.source.is_audio() {
            ProducerKind::Audio
        } else {
            ProducerKind::Video
        };
        ProducerState {
            producer_id: self.id.to_string(),
            kind: kind.into(),
            pause: self.paused,
            screen_share: self.source.is_screen(),
            app_data: self.app_data.clone(),
            producing_transport_id: Some(self.transport.clone()),
            mime_type: Some(self.mime_type.clone()),
            codec: None,
        }
    }
}

/// A transport, and the order that made it: of two answers the one to the later order holds.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) order: OrderId,
    pub(crate) id: String,
}

/// The media of one peer.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) publish: Option<Transport>,
    pub(crate) receive: Option<Transport>,
    /// In the order in which they came.
    pub(crate) producers: Vec<Producer>,
    /// What it receives, each with its line.
    pub(crate) consumes: BTreeMap<ProducerId, String>,
    /// Who has spoken, as its client has it.
    pub(crate) speakers: Vec<PeerId>,
    /// Who is pinned, as its client has it.
    pub(crate) pinned: Option<PeerId>,
    /// How often its client is still reminded to subscribe anew.
    pub(crate) reminders: u32,
    /// Orders that are not answered.
    orders: usize,
}

impl Own {
    pub(crate) fn producer(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.iter().find(|producer| producer.id == id)
    }
}

/// What to do when the media plane answers.
#[derive(Debug)]
pub(crate) enum Pending {
    Open {
        publishes: bool,
    },
    Produce {
        producer: ProducerId,
        paused: bool,
    },
    CloseProducer,
    Consume(Wish),
    Agree {
        transport: String,
    },
    CloseConsumers {
        transport: String,
        mids: Vec<String>,
    },
}

/// What a peer wants to receive.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) transport: String,
    /// In the order of the request to the media plane.
    pub(crate) wanted: Vec<ProducerId>,
    /// What it cannot have, with the error.
    pub(crate) missing: Vec<(String, &'static str)>,
}

/// An order that is not answered, and the request behind it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seat: Seat,
    pub(crate) connection: ConnectionId,
    pub(crate) event: u32,
    pub(crate) id: Option<String>,
    pub(crate) what: Pending,
    /// Everything of the peer was closed after the order.
    pub(crate) void: bool,
}

/// The media of everybody.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    own: BTreeMap<Seat, Own>,
    owners: HashMap<ProducerId, Seat>,
    waiting: BTreeMap<OrderId, Waiting>,
    orders: u64,
    /// Who has spoken, the latest first.
    pub(crate) speakers: Vec<PeerId>,
    /// They were told a moment ago; and whether they have changed since.
    pub(crate) speakers_told: Option<bool>,
}

impl Tracks {
    pub(crate) fn of(&self, seat: Seat) -> Option<&Own> {
        self.own.get(&seat)
    }

    pub(crate) fn own(&mut self, seat: Seat) -> &mut Own {
        self.own.entry(seat).or_default()
    }

    pub(crate) fn known(&mut self, seat: Seat) -> Option<&mut Own> {
        self.own.get_mut(&seat)
    }

    /// Who publishes a track, if others may know of it.
    pub(crate) fn publisher(&self, id: ProducerId) -> Option<Seat> {
        let seat = *self.owners.get(&id)?;
        self.own.get(&seat)?.producer(id).filter(|it| it.live)?;
        Some(seat)
    }

    /// What others may know of a peer's tracks.
    pub(crate) fn states(&self, seat: Seat) -> Vec<ProducerState> {
        let own = self.of(seat).into_iter();
        let producers = own.flat_map(|own| &own.producers);
        let live = producers.filter(|producer| producer.live);
        live.map(Producer::state).collect()
    }

    /// The tracks of a peer that `which` picks.
    pub(crate) fn producers(
        &self,
        seat: Seat,
        which: impl Fn(&Producer) -> bool,
    ) -> Vec<ProducerId> {
        let own = self.of(seat).into_iter();
        let producers = own.flat_map(|own| &own.producers);
        let picked = producers.filter(|producer| which(producer));
        picked.map(|producer| producer.id).collect()
    }

    pub(crate) fn add(&mut self, seat: Seat, producer: Producer) {
        self.owners.insert(producer.id, seat);
        self.own(seat).producers.push(producer);
    }

    pub(crate) fn producer(&mut self, id: ProducerId) -> Option<(Seat, &mut Producer)> {
        let seat = *self.owners.get(&id)?;
        let producers = &mut self.own.get_mut(&seat)?.producers;
        let found = producers.iter_mut().find(|producer| producer.id == id)?;
        Some((seat, found))
    }

    /// Takes a track out, and from all who receive it.
    pub(crate) fn remove(&mut self, id: ProducerId) -> Option<Producer> {
        let seat = self.owners.remove(&id)?;
        let producers = &mut self.own.get_mut(&seat)?.producers;
        let at = producers.iter().position(|producer| producer.id == id)?;
        let removed = producers.remove(at);
        for own in self.own.values_mut() {
            own.consumes.remove(&id);
        }
        Some(removed)
    }

    /// Forgets everything of a peer; what it waits for is answered with a refusal.
    pub(crate) fn forget(&mut self, seat: Seat) {
        for id in self.producers(seat, |_| true) {
            self.remove(id);
        }
        let orders = self.of(seat).map_or(0, |own| own.orders);
        self.own.remove(&seat);
        if orders > 0 {
            self.own(seat).orders = orders;
            let theirs = self.waiting.values_mut().filter(|it| it.seat == seat);
            theirs.for_each(|waiting| waiting.void = true);
        }
    }

    /// The peer itself is gone.
    pub(crate) fn depart(&mut self, seat: Seat) {
        self.forget(seat);
        self.own.remove(&seat);
        self.waiting.retain(|_, waiting| waiting.seat != seat);
    }

    /// How many orders of a peer are not answered.
    pub(crate) fn open_orders(&self, seat: Seat) -> usize {
        self.of(seat).map_or(0, |own| own.orders)
    }

    pub(crate) fn wait(&mut self, waiting: Waiting) -> OrderId {
        let order = OrderId(self.orders);
        self.orders += 1;
        self.own(waiting.seat).orders += 1;
        self.waiting.insert(order, waiting);
        order
    }

    pub(crate) fn answered(&mut self, order: OrderId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&order)?;
        if let Some(own) = self.own.get_mut(&waiting.seat) {
            own.orders = own.orders.saturating_sub(1);
        }
        Some(waiting)
    }

    /// What a peer receives that `publisher` publishes.
    pub(crate) fn received(&self, viewer: Seat, publisher: Seat) -> Vec<ProducerId> {
        let own = self.of(viewer).into_iter();
        let consumes = own.flat_map(|own| own.consumes.keys()).copied();
        consumes
            .filter(|id| self.owners.get(id) == Some(&publisher))
            .collect()
    }

    /// A peer goes off the lists of those who speak and are pinned: clients take it off when they
    /// are told that it has left.
    pub(crate) fn forget_speaker(&mut self, speaker: PeerId) {
        self.speakers.retain(|peer| *peer != speaker);
        for own in self.own.values_mut() {
            own.speakers.retain(|peer| *peer != speaker);
            own.pinned = own.pinned.filter(|peer| *peer != speaker);
        }
    }

    /// A peer goes off one client's lists.
    pub(crate) fn unlist(&mut self, viewer: Seat, speaker: PeerId) {
        if let Some(own) = self.own.get_mut(&viewer) {
            own.speakers.retain(|peer| *peer != speaker);
            own.pinned = own.pinned.filter(|peer| *peer != speaker);
        }
    }
}
