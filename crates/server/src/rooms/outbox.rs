//! What waits to be sent to one socket: a queue that is bounded in frames and in bytes. What waits for
//! all of them is bounded in `unsent`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use parlor_live::{Closing, ConnectionId, Pace};

use super::unsent::{Frame, Unsent};

/// Frames that may wait for a client that reads slowly.
const FRAMES: usize = 1024;
/// Bytes that may wait beside one frame, which may be longer.
const BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a frame that counts among the unsent ones of the server until it is written.
const LARGE: usize = 4 * 1024;
/// Places that a queue keeps when it is empty.
const PLACES: usize = 16;

/// What is sent to a socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A binary frame, and whether more may be waited for to be sent with it.
    Frame(Frame, Pace),
    /// Close, after what was sent before.
    Close(Closing),
}

/// What has become of something that was put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It will be sent.
    Taken,
    /// The queue is full: its socket does not read, and is closed.
    Overflowed,
    /// The socket is gone.
    Gone,
}

/// The queue itself.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    /// The frame that the socket writes, and the one before, of which something may be left: the
    /// socket takes the next one when all before the last is written.
    writing: [Writing; 2],
    /// Bytes of all these.
    bytes: usize,
    /// The room has let go of the socket: what waits is sent, and no more comes.
    ended: bool,
    /// The socket does not read, or is gone: nothing is sent any more.
    abandoned: bool,
    /// The socket, when it waits for something to send.
    idle: Option<Waker>,
    /// The socket, when it waits for the client to read.
    stuck: Option<Waker>,
}

/// A frame that the socket writes.
#[derive(Debug, Default)]
struct Writing {
    bytes: usize,
    /// Held so that it counts among the unsent frames. Most frames are small and are sent to many:
    /// what the socket holds of them is less than another count of their references would cost.
    #[expect(dead_code, reason = "it is held, and let go when it is written")]
    large: Option<Frame>,
}

impl Writing {
    fn of(frame: &Frame) -> Self {
        Self {
            bytes: frame.len(),
            large: (frame.len() >= LARGE).then(|| frame.clone()),
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn put(&self, outgoing: Outgoing) -> Put {
        let mut state = self.state();
        if state.abandoned || state.ended {
            return Put::Gone;
        }
        let bytes = outgoing.bytes();
        // However long a frame is, it may wait alone.
        let fits = state.bytes == 0 || state.bytes.saturating_add(bytes) <= BYTES;
        if !fits || state.waiting.len() >= FRAMES {
            drop(state);
            self.abandon();
            return Put::Overflowed;
        }
        state.bytes += bytes;
        state.waiting.push_back(outgoing);
        if let Some(idle) = state.idle.take() {
            idle.wake();
        }
        Put::Taken
    }

    /// Sends nothing of it any more. `false` when that was so already.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state();
        let first = !std::mem::replace(&mut state.abandoned, true);
        let writing = std::mem::take(&mut state.writing);
        let left = (std::mem::take(&mut state.waiting), writing);
        state.bytes = 0;
        for socket in [state.idle.take(), state.stuck.take()]
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

/// A queue and both ends of it.
pub(super) fn ends(connection: ConnectionId, unsent: &Arc<Unsent>) -> (Arc<Queue>, Outbox, Inbox) {
    let queue = Arc::<Queue>::default();
    let inbox = Inbox {
        queue: Arc::clone(&queue),
        connection,
        unsent: Arc::clone(unsent),
    };
    let outbox = Outbox(Arc::clone(&queue));
    (queue, outbox, inbox)
}

/// The room's end of the queue. When it is dropped, the socket is closed.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Queue>);

impl Outbox {
    /// Puts something into the queue.
    pub(crate) fn put(&self, outgoing: Outgoing) -> Put {
        self.0.put(outgoing)
    }

    /// Another way into the queue, which does not keep the socket open.
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

/// A way into the queue of a socket for as long as the room has its end of it.
#[derive(Debug)]
pub(crate) struct ReplySender(Arc<Queue>);

impl ReplySender {
    /// Puts something into the queue.
    pub(crate) fn put(&self, outgoing: Outgoing) -> Put {
        self.0.put(outgoing)
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
    /// The next of the queue; `None` when the room has let go of the socket, or has abandoned it. A
    /// frame counts as unsent until [`Inbox::written`], or until the next but one is taken.
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

    /// What waits already: `Err` when nothing does and nothing will.
    pub(crate) fn ready(&self) -> Result<Option<Outgoing>, ()> {
        let mut state = self.queue.state();
        match state.take() {
            None if state.ended || state.abandoned => Err(()),
            next => Ok(next),
        }
    }

    /// Everything that was taken is on its way.
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
            state.stuck = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.queue.abandon();
        self.unsent.forget(self.connection);
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
        if self.waiting.is_empty() && self.waiting.capacity() > 4 * PLACES {
            self.waiting.shrink_to(PLACES);
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
