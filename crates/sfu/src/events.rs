//! What happens in a meeting without anybody having asked for it, on its way to who wants to know.

use parlor_protocol::PeerId;
use tokio::sync::{mpsc, watch};

use crate::Direction;

/// Something that happened in a meeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Who speaks has changed: those who spoke last, the latest first.
    Speaking(Vec<PeerId>),
    /// A transport is gone, and with it what was published or received on it: its client hung up, or
    /// has not been heard of for too long, or never came, or was somebody else. Each transport once,
    /// and none of those that [`Media::close`](crate::Media::close) or a newer one freed.
    Freed {
        /// Whose it was.
        peer: PeerId,
        /// What it was for.
        direction: Direction,
        /// Its id. The peer may have a newer one of that direction by now.
        transport_id: String,
    },
}

/// What happens in a meeting, as it happens: see [`Media::listen`](crate::Media::listen).
#[derive(Debug)]
pub struct Events {
    speaking: watch::Receiver<Vec<PeerId>>,
    freed: mpsc::UnboundedReceiver<Event>,
}

impl Events {
    /// The next event. Who spoke is told as it is now, however long nobody asked; transports that
    /// were freed wait, and there are no more of them than were opened. `None` after the media plane
    /// has stopped. Nothing is lost if it is not awaited to the end.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            freed = self.freed.recv() => freed,
            Ok(()) = self.speaking.changed() => Some(self.speaking()),
        }
    }

    /// An event that is there already.
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

/// The other end of [`Events`].
#[derive(Debug)]
pub(crate) struct Listener {
    speaking: watch::Sender<Vec<PeerId>>,
    freed: mpsc::UnboundedSender<Event>,
}

impl Listener {
    /// Both ends.
    pub(crate) fn new() -> (Self, Events) {
        let (speaking, speakers) = watch::channel(Vec::new());
        let (freed, gone) = mpsc::unbounded_channel();
        let events = Events {
            speaking: speakers,
            freed: gone,
        };
        (Self { speaking, freed }, events)
    }

    /// Whether nobody listens any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.freed.is_closed()
    }

    pub(crate) fn tell(&self, event: Event) {
        // Whoever has stopped listening needs not know.
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
    async fn every_transport_is_told_of_and_of_the_speakers_the_latest() {
        let (listener, mut events) = Listener::new();
        let freed = |number: u128| Event::Freed {
            peer: peer(number),
            direction: Direction::Publish,
            transport_id: number.to_string(),
        };
        for number in 0..1000 {
            listener.tell(Event::Speaking(vec![peer(number)]));
            listener.tell(freed(number));
        }
        drop(listener);
        for number in 0..1000 {
            assert_eq!(events.recv().await, Some(freed(number)));
        }
        assert_eq!(events.recv().await, None);

        let (listener, mut events) = Listener::new();
        listener.tell(Event::Speaking(vec![peer(1)]));
        listener.tell(Event::Speaking(vec![peer(2)]));
        assert_eq!(events.recv().await, Some(Event::Speaking(vec![peer(2)])));
        assert_eq!(events.try_recv(), None);
        assert!(!listener.is_closed());
        drop(events);
        assert!(listener.is_closed());
    }
}
