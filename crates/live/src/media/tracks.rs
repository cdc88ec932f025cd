//! What each peer publishes and receives, and the pending orders.

use parlor_protocol::Source;
use std::collections::{BTreeMap, HashMap};

use parlor_protocol::ids::{PeerId, ProducerId};
use parlor_protocol::signal::media::{ProducerKind, ProducerState};

use crate::input::ConnectionId;
use crate::output::OrderId;
use crate::peer::Slot;

/// A track that a peer publishes, or is about to publish.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) id: ProducerId,
    pub(crate) source: Source,
    pub(crate) paused: bool,
    /// Whether the media plane has created it. Only then it is visible to others.
    pub(crate) live: bool,
    /// Metadata from the client for other clients.
    pub(crate) app_data: Option<String>,
    pub(crate) mime_type: String,
    pub(crate) transport: String,
}

impl Producer {
    /// The track as described to other clients.
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

/// A transport and the order that opened it. If two orders overlap, the later one wins.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) order: OrderId,
    pub(crate) id: String,
}

/// Media of one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerMedia {
    pub(crate) publish: Option<Transport>,
    pub(crate) receive: Option<Transport>,
    /// In order of creation.
    pub(crate) producers: Vec<Producer>,
    /// Received tracks, with the mid of each.
    pub(crate) consumes: BTreeMap<ProducerId, String>,
    /// The speakers as last pushed to the client.
    pub(crate) speakers: Vec<PeerId>,
    /// The pinned peer as last pushed to the client.
    pub(crate) pinned: Option<PeerId>,
    /// Number of remaining reminders to subscribe again.
    pub(crate) reminders: u32,
    /// Number of unanswered orders.
    orders: usize,
}

impl PeerMedia {
    pub(crate) fn producer(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.iter().find(|producer| producer.id == id)
    }
}

/// How to handle the answer to an order.
#[derive(Debug)]
pub(crate) enum OrderKind {
    Open {
        publishes: bool,
    },
    Produce {
        producer: ProducerId,
        paused: bool,
    },
    CloseProducer,
    Consume(ConsumeOrder),
    ApplyAnswer {
        transport: String,
    },
    CloseConsumers {
        transport: String,
        mids: Vec<String>,
    },
}

/// A pending subscription.
#[derive(Debug)]
pub(crate) struct ConsumeOrder {
    pub(crate) transport: String,
    /// In the same sequence as in the order.
    pub(crate) wanted: Vec<ProducerId>,
    /// Tracks that cannot be received, with the error code.
    pub(crate) missing: Vec<(String, &'static str)>,
}

/// An unanswered order, with the request behind it.
#[derive(Debug)]
pub(crate) struct PendingOrder {
    pub(crate) slot: Slot,
    pub(crate) connection: ConnectionId,
    pub(crate) event: u32,
    pub(crate) id: Option<String>,
    pub(crate) kind: OrderKind,
    /// Whether the peer's media was closed after the order.
    pub(crate) cancelled: bool,
}

/// Media of all peers.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    peers: BTreeMap<Slot, PeerMedia>,
    owners: HashMap<ProducerId, Slot>,
    pending: BTreeMap<OrderId, PendingOrder>,
    orders: u64,
    /// Active speakers, most recent first.
    pub(crate) speakers: Vec<PeerId>,
    /// `Some` within the push interval of the speakers; `true` when they have changed since the
    /// last push.
    pub(crate) speakers_pushed: Option<bool>,
}

impl Tracks {
    pub(crate) fn get(&self, slot: Slot) -> Option<&PeerMedia> {
        self.peers.get(&slot)
    }

    pub(crate) fn get_or_insert(&mut self, slot: Slot) -> &mut PeerMedia {
        self.peers.entry(slot).or_default()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut PeerMedia> {
        self.peers.get_mut(&slot)
    }

    /// The publisher of a live track.
    pub(crate) fn publisher(&self, id: ProducerId) -> Option<Slot> {
        let slot = *self.owners.get(&id)?;
        self.peers.get(&slot)?.producer(id).filter(|it| it.live)?;
        Some(slot)
    }

    /// The live tracks of a peer.
    pub(crate) fn states(&self, slot: Slot) -> Vec<ProducerState> {
        let media = self.get(slot).into_iter();
        let producers = media.flat_map(|media| &media.producers);
        let live = producers.filter(|producer| producer.live);
        live.map(Producer::state).collect()
    }

    /// The tracks of a peer that match `which`.
    pub(crate) fn producers(
        &self,
        slot: Slot,
        which: impl Fn(&Producer) -> bool,
    ) -> Vec<ProducerId> {
        let media = self.get(slot).into_iter();
        let producers = media.flat_map(|media| &media.producers);
        let picked = producers.filter(|producer| which(producer));
        picked.map(|producer| producer.id).collect()
    }

    pub(crate) fn add(&mut self, slot: Slot, producer: Producer) {
        self.owners.insert(producer.id, slot);
        self.get_or_insert(slot).producers.push(producer);
    }

    pub(crate) fn producer(&mut self, id: ProducerId) -> Option<(Slot, &mut Producer)> {
        let slot = *self.owners.get(&id)?;
        let producers = &mut self.peers.get_mut(&slot)?.producers;
        let found = producers.iter_mut().find(|producer| producer.id == id)?;
        Some((slot, found))
    }

    /// Removes a track, also from all of its subscribers.
    pub(crate) fn remove(&mut self, id: ProducerId) -> Option<Producer> {
        let slot = self.owners.remove(&id)?;
        let producers = &mut self.peers.get_mut(&slot)?.producers;
        let at = producers.iter().position(|producer| producer.id == id)?;
        let removed = producers.remove(at);
        for media in self.peers.values_mut() {
            media.consumes.remove(&id);
        }
        Some(removed)
    }

    /// Forgets a peer's media. Its pending orders fail.
    pub(crate) fn forget(&mut self, slot: Slot) {
        for id in self.producers(slot, |_| true) {
            self.remove(id);
        }
        let orders = self.get(slot).map_or(0, |media| media.orders);
        self.peers.remove(&slot);
        if orders > 0 {
            self.get_or_insert(slot).orders = orders;
            let theirs = self.pending.values_mut().filter(|it| it.slot == slot);
            theirs.for_each(|pending| pending.cancelled = true);
        }
    }

    /// Forgets a peer that leaves, including its pending orders.
    pub(crate) fn depart(&mut self, slot: Slot) {
        self.forget(slot);
        self.peers.remove(&slot);
        self.pending.retain(|_, pending| pending.slot != slot);
    }

    /// Number of unanswered orders of a peer.
    pub(crate) fn open_order_count(&self, slot: Slot) -> usize {
        self.get(slot).map_or(0, |media| media.orders)
    }

    pub(crate) fn add_order(&mut self, pending: PendingOrder) -> OrderId {
        let order = OrderId(self.orders);
        self.orders += 1;
        self.get_or_insert(pending.slot).orders += 1;
        self.pending.insert(order, pending);
        order
    }

    pub(crate) fn take_order(&mut self, order: OrderId) -> Option<PendingOrder> {
        let pending = self.pending.remove(&order)?;
        if let Some(media) = self.peers.get_mut(&pending.slot) {
            media.orders = media.orders.saturating_sub(1);
        }
        Some(pending)
    }

    /// The tracks of `publisher` that `viewer` receives.
    pub(crate) fn received(&self, viewer: Slot, publisher: Slot) -> Vec<ProducerId> {
        let media = self.get(viewer).into_iter();
        let consumes = media.flat_map(|media| media.consumes.keys()).copied();
        consumes
            .filter(|id| self.owners.get(id) == Some(&publisher))
            .collect()
    }

    /// Removes a peer that leaves from all lists. Clients remove it themselves when it leaves.
    pub(crate) fn forget_speaker(&mut self, speaker: PeerId) {
        self.speakers.retain(|peer| *peer != speaker);
        for media in self.peers.values_mut() {
            media.speakers.retain(|peer| *peer != speaker);
            media.pinned = media.pinned.filter(|peer| *peer != speaker);
        }
    }

    /// Removes a peer from the lists of one client.
    pub(crate) fn forget_speaker_for(&mut self, viewer: Slot, speaker: PeerId) {
        if let Some(media) = self.peers.get_mut(&viewer) {
            media.speakers.retain(|peer| *peer != speaker);
            media.pinned = media.pinned.filter(|peer| *peer != speaker);
        }
    }
}
