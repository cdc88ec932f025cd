//! The queues between links and the engine, one for each direction. Both are bounded.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Maximum number of datagrams from all links that are queued for the engine. Further datagrams are
/// dropped, as with a full socket buffer.
pub(super) const MAX_QUEUED: usize = 4096;
/// Maximum number of queued datagrams from one link, so that a flood on it does not affect others.
pub(super) const MAX_QUEUED_PER_LINK: usize = 64;

/// Id of a path to a client that is not a UDP address. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// The protocol of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    /// ICE over TCP (RFC 6544).
    Tcp,
    /// TURN (RFC 8656).
    Relay,
}

/// An event on a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A link was opened. This is the first event of a link.
    Opened {
        /// The new link.
        link: LinkId,
        /// The queue for datagrams to the client.
        sender: LinkSender,
    },
    /// The client sent a datagram.
    Datagram {
        /// The link on which the datagram arrived.
        link: LinkId,
        /// The content of the datagram.
        datagram: Vec<u8>,
        /// Permits of the queue limits per link and in total. Drop them with the datagram.
        permits: [OwnedSemaphorePermit; 2],
    },
    /// The link was closed. This is the last event of a link.
    Closed {
        /// The closed link.
        link: LinkId,
    },
}

/// The queue for datagrams to the client of a link.
///
/// Dropping it closes a connection of ICE over TCP, which serves a single transport. It does not
/// close a TURN allocation, since the client may use it for another transport.
#[derive(Debug, Clone)]
pub(crate) struct LinkSender {
    pub(super) link: LinkId,
    /// The client's address as the client knows it: its own address, or its relayed address. If a
    /// check were answered with any other address, the client would take it for a peer-reflexive
    /// candidate, which has a higher priority than a relayed one.
    pub(crate) source: SocketAddr,
    /// The protocol of the link.
    pub(crate) via: Via,
    pub(super) queue: mpsc::Sender<(LinkId, Vec<u8>)>,
    /// Alive as long as the link is open.
    pub(super) open: Weak<Semaphore>,
}

impl LinkSender {
    /// Creates a sender without a client. The link is open as long as the semaphore is alive.
    #[cfg(test)]
    pub(crate) fn disconnected(link: LinkId) -> (Self, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(1));
        let sender = Self {
            link,
            source: SocketAddr::from(([192, 0, 2, 1], 1)),
            via: Via::Tcp,
            queue: mpsc::channel(1).0,
            open: Arc::downgrade(&permits),
        };
        (sender, permits)
    }

    /// Returns whether the link is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.open.strong_count() == 0
    }

    /// Queues a datagram for the client. Returns `false` if it was dropped because the link is
    /// closed or the queue is full.
    pub(crate) fn send(&self, datagram: Vec<u8>) -> bool {
        self.queue.try_send((self.link, datagram)).is_ok()
    }
}

/// The sending half of the queue of link events to the engine.
#[derive(Debug, Clone)]
pub(crate) struct LinkEvents {
    queue: mpsc::UnboundedSender<LinkEvent>,
    queued: Arc<Semaphore>,
}

impl LinkEvents {
    /// Creates both halves of the queue. Its length is bounded by [`MAX_QUEUED`] datagrams, plus
    /// one open and one close event per link.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<LinkEvent>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(Semaphore::new(MAX_QUEUED));
        (Self { queue, queued }, receiver)
    }

    /// Sends the event that a link was opened.
    pub(super) fn open(&self, link: LinkId, sender: LinkSender) {
        // If the engine has stopped, the link will close soon.
        let _ = self.queue.send(LinkEvent::Opened { link, sender });
    }

    /// Sends a datagram to the engine. `permits` limits the queued datagrams of the link. Returns
    /// `false` if the datagram was dropped.
    pub(super) fn deliver(&self, link: LinkId, permits: &Arc<Semaphore>, datagram: &[u8]) -> bool {
        let Ok(of_link) = Arc::clone(permits).try_acquire_owned() else {
            return false;
        };
        let Ok(of_all) = Arc::clone(&self.queued).try_acquire_owned() else {
            return false;
        };
        let permits = [of_link, of_all];
        let datagram = datagram.to_vec();
        self.queue
            .send(LinkEvent::Datagram {
                link,
                datagram,
                permits,
            })
            .is_ok()
    }

    /// Sends the event that a link was closed.
    pub(super) fn close(&self, link: LinkId) {
        // If the engine has stopped, it does not need the event.
        let _ = self.queue.send(LinkEvent::Closed { link });
    }

    /// Waits until the engine has stopped.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}
