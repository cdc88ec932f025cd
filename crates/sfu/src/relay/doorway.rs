//! Between the links and the engine: datagrams both ways, each in a bounded queue.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Datagrams from links that may wait for the engine. More are dropped, as a full socket buffer
/// would.
pub(super) const WAITING_DATAGRAMS: usize = 4096;
/// Of these, the ones of one link, so that a flood on it costs the others nothing.
pub(super) const WAITING_EACH: usize = 64;

/// A way to a client that is not a UDP address. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// How a client comes on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    /// ICE over TCP (RFC 6544).
    Tcp,
    /// TURN (RFC 8656).
    Relay,
}

/// What the engine hears of links.
#[derive(Debug)]
pub(crate) enum FromLink {
    /// Before anything else of this link.
    Opened {
        /// The new link.
        link: LinkId,
        /// Where datagrams for its client go.
        outlet: Outlet,
    },
    /// From the client, as if it had come in a UDP datagram.
    Datagram {
        /// The link it came on.
        link: LinkId,
        /// What came.
        datagram: Vec<u8>,
        /// Its places in the queue, of those of its link and of those of all, to be dropped with
        /// it.
        waits: [OwnedSemaphorePermit; 2],
    },
    /// The last of this link.
    Closed {
        /// The link that is no more.
        link: LinkId,
    },
}

/// Where the engine puts datagrams for the client of a link.
///
/// Dropping it hangs up on a client that came with ICE over TCP, whose connection is for nothing
/// else. It does nothing to a TURN allocation: the client may make another transport through it.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    pub(super) link: LinkId,
    /// Where the client comes from as it knows it itself: its own address, or the one that it was
    /// told it is relayed from. A check that were answered with another would make it believe that
    /// it has found a way with an address of its own, better than any relay.
    pub(crate) source: SocketAddr,
    /// How it comes.
    pub(crate) via: Via,
    pub(super) queue: mpsc::Sender<(LinkId, Vec<u8>)>,
    /// There for as long as the link is.
    pub(super) open: Weak<Semaphore>,
}

impl Outlet {
    /// One to nobody, for tests, with what its link is open for as long as.
    #[cfg(test)]
    pub(crate) fn to_nobody(link: LinkId) -> (Self, Arc<Semaphore>) {
        let places = Arc::new(Semaphore::new(1));
        let outlet = Self {
            link,
            source: SocketAddr::from(([192, 0, 2, 1], 1)),
            via: Via::Tcp,
            queue: mpsc::channel(1).0,
            open: Arc::downgrade(&places),
        };
        (outlet, places)
    }

    /// Whether the link has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.open.strong_count() == 0
    }

    /// Sends a datagram to the client. False if it was dropped, because the client is gone or
    /// takes less than it is sent.
    pub(crate) fn send(&self, datagram: Vec<u8>) -> bool {
        self.queue.try_send((self.link, datagram)).is_ok()
    }
}

/// The way from links to the engine.
#[derive(Debug, Clone)]
pub(crate) struct Doorway {
    queue: mpsc::UnboundedSender<FromLink>,
    waiting: Arc<Semaphore>,
}

impl Doorway {
    /// A doorway and its other end. The queue behind it is bounded: by [`WAITING_DATAGRAMS`], and
    /// by the links that there may be, each of which opens and closes once.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<FromLink>) {
        let (queue, inbox) = mpsc::unbounded_channel();
        let waiting = Arc::new(Semaphore::new(WAITING_DATAGRAMS));
        (Self { queue, waiting }, inbox)
    }

    /// Tells of a new link.
    pub(super) fn open(&self, link: LinkId, outlet: Outlet) {
        // If the engine has stopped, so does the link, soon.
        let _ = self.queue.send(FromLink::Opened { link, outlet });
    }

    /// Hands over a datagram, for which `places` of its link has one free. False if it was
    /// dropped.
    pub(super) fn deliver(&self, link: LinkId, places: &Arc<Semaphore>, datagram: &[u8]) -> bool {
        let Ok(of_link) = Arc::clone(places).try_acquire_owned() else {
            return false;
        };
        let Ok(of_all) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return false;
        };
        let waits = [of_link, of_all];
        let datagram = datagram.to_vec();
        self.queue
            .send(FromLink::Datagram {
                link,
                datagram,
                waits,
            })
            .is_ok()
    }

    /// Tells of a link's end.
    pub(super) fn close(&self, link: LinkId) {
        // If the engine has stopped, it needs not know.
        let _ = self.queue.send(FromLink::Closed { link });
    }

    /// Waits until the engine has stopped.
    pub(super) async fn gone(&self) {
        self.queue.closed().await;
    }
}
