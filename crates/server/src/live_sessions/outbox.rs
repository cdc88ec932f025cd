//! What waits to be sent to one socket: a queue that is bounded in frames and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parlor_live::{Closing, Pace};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// Frames that may wait for a client that reads slowly.
const FRAMES: usize = 1024;
/// Bytes that may wait beside one frame, which may be longer.
const BYTES: usize = 16 * 1024 * 1024;

/// What is sent to a socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A binary frame, and whether more may be waited for to be sent with it.
    Frame(Bytes, Pace),
    /// Close, after what was sent before.
    Close(Closing),
}

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame, _) => frame.len(),
            Self::Close(_) => 0,
        }
    }
}

/// The room's end of the queue. When the last one is dropped, the socket is closed.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Outgoing>,
    waiting: Arc<AtomicUsize>,
}

/// The socket's end of the queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: mpsc::Receiver<Outgoing>,
    waiting: Arc<AtomicUsize>,
}

/// The queue in front of a socket.
pub(crate) fn outbox() -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(FRAMES);
    let waiting = Arc::<AtomicUsize>::default();
    let outbox = Outbox {
        sender,
        waiting: Arc::clone(&waiting),
    };
    (outbox, Inbox { receiver, waiting })
}

impl Outbox {
    /// Puts something into the queue. `false` when the queue is full or the socket is gone.
    #[must_use]
    pub(crate) fn put(&self, outgoing: Outgoing) -> bool {
        let bytes = outgoing.bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        // However long a frame is, it may wait alone.
        let fits = before == 0 || before.saturating_add(bytes) <= BYTES;
        if fits && self.sender.try_send(outgoing).is_ok() {
            return true;
        }
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        false
    }
}

impl Inbox {
    /// The next of the queue; `None` when the room has dropped the socket.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        let outgoing = self.receiver.recv().await?;
        Some(self.taken(outgoing))
    }

    /// What waits already.
    pub(crate) fn ready(&mut self) -> Result<Outgoing, TryRecvError> {
        let outgoing = self.receiver.try_recv()?;
        Ok(self.taken(outgoing))
    }

    fn taken(&self, outgoing: Outgoing) -> Outgoing {
        self.waiting.fetch_sub(outgoing.bytes(), Ordering::Relaxed);
        outgoing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Outgoing {
        Outgoing::Frame(Bytes::from(vec![0; bytes]), Pace::Now)
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let (outbox, mut inbox) = outbox();
        assert!(outbox.put(frame(BYTES / 2)) && outbox.put(frame(BYTES / 2)));
        assert!(!outbox.put(frame(1)));
        assert!(inbox.ready().is_ok());
        assert!(outbox.put(frame(1)));
    }

    #[test]
    fn a_long_frame_may_wait_alone() {
        let (outbox, _inbox) = outbox();
        assert!(outbox.put(frame(BYTES + 1)));
        assert!(!outbox.put(frame(1)));
    }

    #[test]
    fn what_waits_is_bounded_in_frames() {
        let (outbox, _inbox) = outbox();
        assert!((0..FRAMES).all(|_| outbox.put(frame(1))));
        assert!(!outbox.put(frame(1)));
    }
}
