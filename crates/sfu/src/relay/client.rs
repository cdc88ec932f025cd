//! A TURN client with its links, as whoever reads its messages drives it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};

use super::doorway::WAITING_EACH;
use super::turn::{Change, Session};
use super::{Inner, LinkId, OUTLET, Outlet, Via};

/// Datagrams that come out of links of one client, each with its link.
pub(super) type Outgoing = mpsc::Receiver<(LinkId, Vec<u8>)>;

/// The links that the engine knows of, which are closed when this is dropped, whatever ends the
/// task that has it.
pub(super) struct Links {
    relay: Arc<Inner>,
    /// Each with its places in the queue to the engine. As few as the media plane has addresses.
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
        let places = Arc::new(Semaphore::new(WAITING_EACH));
        let outlet = Outlet {
            link,
            source,
            via,
            queue,
            open: Arc::downgrade(&places),
        };
        self.open.push((link, places));
        self.relay.doorway.open(link, outlet);
    }

    /// Hands a datagram to the engine. False if it was dropped, as a full socket buffer would.
    pub(super) fn deliver(&self, link: LinkId, datagram: &[u8]) -> bool {
        let open = self.open.iter().find(|(open, _)| *open == link);
        open.is_some_and(|(_, places)| self.relay.doorway.deliver(link, places, datagram))
    }

    fn close(&mut self, link: LinkId) {
        self.open.retain(|(open, _)| *open != link);
        self.relay.doorway.close(link);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (link, _) in &self.open {
            self.relay.doorway.close(*link);
        }
    }
}

pub(super) struct Client {
    session: Session,
    links: Links,
    queue: mpsc::Sender<(LinkId, Vec<u8>)>,
}

impl Client {
    pub(super) fn new(relay: Arc<Inner>, client: SocketAddr) -> (Self, Outgoing) {
        let (queue, outgoing) = mpsc::channel(OUTLET);
        let client = Self {
            session: Session::new(Arc::clone(&relay.server), client),
            links: Links::new(relay),
            queue,
        };
        (client, outgoing)
    }

    /// Takes a message from the client: what is for the engine goes there, and what is to be
    /// answered behind what is in `out`.
    ///
    /// # Errors
    /// It is not a message.
    pub(super) fn take(
        &mut self,
        now: Instant,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ()> {
        let received = self.session.receive(now, message, out);
        self.heed_changes();
        if let Some((link, datagram)) = received? {
            self.links.deliver(link, datagram);
        }
        Ok(())
    }

    /// Wraps up what came out of a link.
    pub(super) fn give(&self, now: Instant, link: LinkId, datagram: &[u8], out: &mut Vec<u8>) {
        // False is a link that the client has just let go of.
        let _ = self.session.wrap(now, link, datagram, out);
    }

    /// When [`Client::timeout`] has something to do. `None` without an allocation.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.session.expires()
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.session.timeout(now);
        self.heed_changes();
    }

    fn heed_changes(&mut self) {
        while let Some(change) = self.session.poll_change() {
            match change {
                Change::Opened(link, relayed) => {
                    self.links
                        .open(link, self.queue.clone(), (relayed, Via::Relay));
                }
                Change::Closed(link) => self.links.close(link),
            }
        }
    }
}
