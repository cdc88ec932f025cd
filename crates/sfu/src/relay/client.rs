//! A TURN client on a stream, and its links.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};

use super::link::MAX_QUEUED_PER_LINK;
use super::turn::{ClientState, LinkChange};
use super::{Inner, LINK_QUEUE, LinkId, LinkSender, Via};

/// The queue of datagrams to one client, each with its link.
pub(super) type Outgoing = mpsc::Receiver<(LinkId, Vec<u8>)>;

/// The open links of one client. Dropping it closes all of them.
pub(super) struct Links {
    relay: Arc<Inner>,
    /// Each link with the permits for its datagrams in the queue to the engine. There is at most
    /// one link for each address of the media plane.
    open: Vec<(LinkId, Arc<Semaphore>)>,
}

impl Links {
    pub(super) fn new(relay: Arc<Inner>) -> Self {
        Self {
            relay,
            open: Vec::new(),
        }
    }

    pub(super) fn open(
        &mut self,
        link: LinkId,
        queue: mpsc::Sender<(LinkId, Vec<u8>)>,
        (source, via): (SocketAddr, Via),
    ) {
        let permits = Arc::new(Semaphore::new(MAX_QUEUED_PER_LINK));
        let sender = LinkSender {
            link,
            source,
            via,
            queue,
            open: Arc::downgrade(&permits),
        };
        self.open.push((link, permits));
        self.relay.link_events.open(link, sender);
    }

    /// Sends a datagram to the engine. Returns `false` if it was dropped because the queue is full.
    pub(super) fn deliver(&self, link: LinkId, datagram: &[u8]) -> bool {
        let open = self.open.iter().find(|(open, _)| *open == link);
        open.is_some_and(|(_, permits)| self.relay.link_events.deliver(link, permits, datagram))
    }

    fn close(&mut self, link: LinkId) {
        self.open.retain(|(open, _)| *open != link);
        self.relay.link_events.close(link);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (link, _) in &self.open {
            self.relay.link_events.close(*link);
        }
    }
}

/// A TURN client and its links.
pub(super) struct Client {
    state: ClientState,
    links: Links,
    queue: mpsc::Sender<(LinkId, Vec<u8>)>,
}

impl Client {
    pub(super) fn new(relay: Arc<Inner>, client: SocketAddr) -> (Self, Outgoing) {
        let (queue, outgoing) = mpsc::channel(LINK_QUEUE);
        let client = Self {
            state: ClientState::new(Arc::clone(&relay.server), client),
            links: Links::new(relay),
            queue,
        };
        (client, outgoing)
    }

    /// Processes a message from the client. Delivers relayed data to the engine, and appends the
    /// response to `out`.
    ///
    /// # Errors
    /// The message is malformed.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ()> {
        let received = self.state.receive(now, message, out);
        self.apply_changes();
        if let Some((link, datagram)) = received? {
            self.links.deliver(link, datagram);
        }
        Ok(())
    }

    /// Encapsulates a datagram from the engine and appends it to `out`.
    pub(super) fn send(&self, now: Instant, link: LinkId, datagram: &[u8], out: &mut Vec<u8>) {
        // Fails if the client has just released the link.
        let _ = self.state.encapsulate(now, link, datagram, out);
    }

    /// Returns when the allocation expires, which [`Client::timeout`] handles. `None` without an
    /// allocation.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.state.expires()
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.state.timeout(now);
        self.apply_changes();
    }

    fn apply_changes(&mut self) {
        while let Some(change) = self.state.poll_change() {
            match change {
                LinkChange::Opened(link, relayed) => {
                    self.links
                        .open(link, self.queue.clone(), (relayed, Via::Relay));
                }
                LinkChange::Closed(link) => self.links.close(link),
            }
        }
    }
}
