//! The outgoing queue of one socket, bounded in frames and in bytes. The total of all queues is
//! bounded in `unsent`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use parlor_live::{CloseReason, ConnectionId, Pace};

use super::unsent::{Frame, Unsent};

/// Maximum number of frames queued for a slow client.
const MAX_FRAMES: usize = 1024;
/// Maximum queued bytes. One longer frame may be queued alone.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Size in bytes from which a frame counts as unsent until it is written.
const LARGE_FRAME_BYTES: usize = 4 * 1024;
/// Capacity that an empty queue keeps.
const IDLE_CAPACITY: usize = 16;

/// An item for a socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A binary frame, and whether it may be delayed to be sent together with others.
    Frame(Frame, Pace),
    /// Closes the socket after everything queued before.
    Close(CloseReason),
}

/// The result of queuing an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendStatus {
    /// It was queued.
    Queued,
    /// The queue was full, so the slow socket is being closed.
    Overflowed,
    /// The socket is closed.
    Closed,
}

/// The queue shared by both ends.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    /// The frame being written and the frame before it, which may be partly unwritten. The socket
    /// takes the next frame once all frames before the last one are written.
    writing: [Writing; 2],
    /// Total bytes of all of these.
    bytes: usize,
    /// Whether the room has dropped its sender. Queued items are still sent, but no more are
    /// accepted.
    ended: bool,
    /// Whether the socket is too slow or closed, so that nothing more is sent.
    abandoned: bool,
    /// Wakes the socket when it waits for an item.
    idle: Option<Waker>,
    /// Wakes the socket when it waits for the client to read.
    blocked: Option<Waker>,
}

/// A frame that the socket writes.
#[derive(Debug, Default)]
struct Writing {
    bytes: usize,
    /// Held so that it counts as unsent. Most frames are small and have many recipients; holding
    /// those would cost more in reference counting than the bytes are worth.
    #[expect(dead_code, reason = "held for its drop when it is written")]
    large: Option<Frame>,
}

impl Writing {
    fn of(frame: &Frame) -> Self {
        Self {
            bytes: frame.len(),
            large: (frame.len() >= LARGE_FRAME_BYTES).then(|| frame.clone()),
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of queued bytes.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn send(&self, outgoing: Outgoing) -> SendStatus {
        let mut state = self.state();
        if state.abandoned || state.ended {
            return SendStatus::Closed;
        }
        let bytes = outgoing.bytes();
        // A frame of any length may be queued alone.
        let fits = state.bytes == 0 || state.bytes.saturating_add(bytes) <= MAX_BYTES;
        if !fits || state.waiting.len() >= MAX_FRAMES {
            drop(state);
            self.abandon();
            return SendStatus::Overflowed;
        }
        state.bytes += bytes;
        state.waiting.push_back(outgoing);
        if let Some(idle) = state.idle.take() {
            idle.wake();
        }
        SendStatus::Queued
    }

    /// Discards the queue and stops sending. Returns `false` if it was abandoned already.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state();
        let first = !std::mem::replace(&mut state.abandoned, true);
        let writing = std::mem::take(&mut state.writing);
        let left = (std::mem::take(&mut state.waiting), writing);
        state.bytes = 0;
        for socket in [state.idle.take(), state.blocked.take()]
            .into_iter()
            .flatten()
        {
            socket.wake();
        }
        drop(state);
        drop(left);
        first
    }
}

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame, _) => frame.len(),
            Self::Close(_) => 0,
        }
    }
}

/// Creates a queue and its two ends.
pub(super) fn new_queue(
    connection: ConnectionId,
    unsent: &Arc<Unsent>,
) -> (Arc<Queue>, Outbox, Inbox) {
    let queue = Arc::<Queue>::default();
    let inbox = Inbox {
        queue: Arc::clone(&queue),
        connection,
        unsent: Arc::clone(unsent),
    };
    let outbox = Outbox(Arc::clone(&queue));
    (queue, outbox, inbox)
}

/// The room's end of the queue. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Queue>);

impl Outbox {
    /// Queues an item.
    pub(crate) fn send(&self, outgoing: Outgoing) -> SendStatus {
        self.0.send(outgoing)
    }

    /// Returns another sender for the queue, which does not keep the socket open.
    pub(crate) fn reply_sender(&self) -> ReplySender {
        ReplySender(Arc::clone(&self.0))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        if let Some(idle) = state.idle.take() {
            idle.wake();
        }
    }
}

/// A sender for the queue that works for as long as the room holds the [`Outbox`].
#[derive(Debug)]
pub(crate) struct ReplySender(Arc<Queue>);

impl ReplySender {
    /// Queues an item.
    pub(crate) fn send(&self, outgoing: Outgoing) -> SendStatus {
        self.0.send(outgoing)
    }
}

/// The socket's end of the queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Arc<Queue>,
    connection: ConnectionId,
    unsent: Arc<Unsent>,
}

impl Inbox {
    /// Waits for the next item. Returns `None` if the room has dropped or abandoned the queue. A
    /// frame counts as unsent until [`Inbox::written`] is called or two more frames have been
    /// taken.
    pub(crate) async fn next(&self) -> Option<Outgoing> {
        poll_fn(|context| {
            let mut state = self.queue.state();
            match state.take() {
                Some(outgoing) => Poll::Ready(Some(outgoing)),
                None if state.ended || state.abandoned => Poll::Ready(None),
                None => {
                    state.idle = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Returns the next queued item, if any. Returns `Err` if the queue is empty and has ended.
    pub(crate) fn ready(&self) -> Result<Option<Outgoing>, ()> {
        let mut state = self.queue.state();
        match state.take() {
            None if state.ended || state.abandoned => Err(()),
            next => Ok(next),
        }
    }

    /// Marks every frame that was taken as written.
    pub(crate) fn written(&self) {
        self.queue.state().written();
    }

    /// Waits until the queue is abandoned.
    pub(crate) async fn abandoned(&self) {
        poll_fn(|context| {
            let mut state = self.queue.state();
            if state.abandoned {
                return Poll::Ready(());
            }
            state.blocked = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.queue.abandon();
        self.unsent.remove(self.connection);
    }
}

impl State {
    fn take(&mut self) -> Option<Outgoing> {
        let next = self.waiting.pop_front()?;
        if let Outgoing::Frame(frame, _) = &next {
            let [last, before] = &mut self.writing;
            let done = std::mem::replace(before, std::mem::replace(last, Writing::of(frame)));
            self.bytes -= done.bytes;
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 4 * IDLE_CAPACITY {
            self.waiting.shrink_to(IDLE_CAPACITY);
        }
        Some(next)
    }

    fn written(&mut self) {
        for frame in std::mem::take(&mut self.writing) {
            self.bytes -= frame.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
