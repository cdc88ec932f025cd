//! Events that the engine emits about a meeting, and the channel that delivers them.

use parlor_protocol::PeerId;
use tokio::sync::{mpsc, watch};

use crate::Direction;

/// An event in a meeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The active speakers have changed. Contains the most recent speakers, the latest first.
    Speaking(Vec<PeerId>),
    /// A transport and its tracks were freed because the client closed the connection, timed out,
    /// never connected, or presented the wrong certificate. Emitted once per transport, but not for
    /// transports that [`Media::close`](crate::Media::close) freed or a newer one replaced.
    Freed {
        /// The client of the transport.
        peer: PeerId,
        /// The direction of the transport.
        direction: Direction,
        /// The id of the transport. The peer may already have a newer one of the same direction.
        transport_id: String,
    },
}

/// The events of one meeting. See [`Media::listen`](crate::Media::listen).
#[derive(Debug)]
pub struct Events {
    speaking: watch::Receiver<Vec<PeerId>>,
    freed: mpsc::UnboundedReceiver<Event>,
}

impl Events {
    /// Receives the next event, or `None` after the media plane has stopped.
    ///
    /// Only the latest list of speakers is kept. Freed transports are queued; the queue never holds
    /// more of them than were opened. This method is cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            freed = self.freed.recv() => freed,
            Ok(()) = self.speaking.changed() => Some(self.speaking()),
        }
    }

    /// Returns an event if one is available.
    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Option<Event> {
        let has_changed = self.speaking.has_changed().is_ok_and(|changed| changed);
        let freed = self.freed.try_recv().ok();
        freed.or_else(|| has_changed.then(|| self.speaking()))
    }

    fn speaking(&mut self) -> Event {
        Event::Speaking(self.speaking.borrow_and_update().clone())
    }
}

/// The sending half of [`Events`].
#[derive(Debug)]
pub(crate) struct Listener {
    speaking: watch::Sender<Vec<PeerId>>,
    freed: mpsc::UnboundedSender<Event>,
}

impl Listener {
    /// Creates both halves of a channel.
    pub(crate) fn new() -> (Self, Events) {
        let (speaking, speakers) = watch::channel(Vec::new());
        let (freed, freed_events) = mpsc::unbounded_channel();
        let events = Events {
            speaking: speakers,
            freed: freed_events,
        };
        (Self { speaking, freed }, events)
    }

    /// Returns whether the [`Events`] half was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.freed.is_closed()
    }

    pub(crate) fn notify(&self, event: Event) {
        // An error only means that the receiving half was dropped.
        match event {
            Event::Speaking(ranking) => drop(self.speaking.send(ranking)),
            Event::Freed { .. } => drop(self.freed.send(event)),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn peer(number: u128) -> PeerId {
        PeerId::from_uuid(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn every_freed_transport_is_delivered_but_only_the_latest_speakers() {
        let (listener, mut events) = Listener::new();
        let freed = |number: u128| Event::Freed {
            peer: peer(number),
            direction: Direction::Publish,
            transport_id: number.to_string(),
        };
        for number in 0..1000 {
            listener.notify(Event::Speaking(vec![peer(number)]));
            listener.notify(freed(number));
        }
        drop(listener);
        for number in 0..1000 {
            assert_eq!(events.recv().await, Some(freed(number)));
        }
        assert_eq!(events.recv().await, None);

        let (listener, mut events) = Listener::new();
        listener.notify(Event::Speaking(vec![peer(1)]));
        listener.notify(Event::Speaking(vec![peer(2)]));
        assert_eq!(events.recv().await, Some(Event::Speaking(vec![peer(2)])));
        assert_eq!(events.try_recv(), None);
        assert!(!listener.is_closed());
        drop(events);
        assert!(listener.is_closed());
    }
}
