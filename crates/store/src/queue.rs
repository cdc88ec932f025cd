//! The bounded queue between callers and a writer.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, Options, Row, Unit, deadline::queue_full};

/// The rows of each step of a unit, or the error that rolled it back.
pub(crate) type Outcome = Result<Vec<Vec<Row>>, Error>;

/// A queued unit.
pub(crate) struct Pending {
    pub(crate) unit: Unit,
    pub(crate) reply: Reply,
}

/// Sends the outcome of a unit to its caller. Releases the unit's share of the queue's byte budget
/// when dropped.
pub(crate) struct Reply {
    caller: oneshot::Sender<Outcome>,
    _share: Share,
}

impl Reply {
    /// Sends the outcome. Does nothing when the caller stopped waiting.
    pub(crate) fn send(self, outcome: Outcome) {
        let _ = self.caller.send(outcome);
    }
}

/// A part of the queue's byte budget.
struct Share {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// Reserves `bytes`, or returns `None` when they do not fit. An empty queue accepts any size.
    fn reserve(used: &Arc<AtomicUsize>, bytes: usize, limit: usize) -> Option<Self> {
        let add = |before: usize| {
            let fits = before == 0 || before.saturating_add(bytes) <= limit;
            fits.then_some(before.saturating_add(bytes))
        };
        let reserved = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        reserved.is_ok().then(|| Self {
            used: Arc::clone(used),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The sending side of the queue.
pub(crate) struct Queue {
    // `None` once the database closes; the writer then drains the queue and exits.
    sender: RwLock<Option<mpsc::Sender<Pending>>>,
    writer: watch::Receiver<()>,
    used_bytes: Arc<AtomicUsize>,
    limit_bytes: usize,
}

/// The receiving side of the queue. Dropping it signals that the writer has exited.
pub(crate) struct QueueReceiver {
    receiver: mpsc::Receiver<Pending>,
    batch_units: usize,
    _alive: watch::Sender<()>,
}

/// Creates a queue with the limits of `options`.
pub(crate) fn bounded(options: &Options) -> (Queue, QueueReceiver) {
    let (sender, receiver) = mpsc::channel(options.queue_units.max(1));
    let (alive, writer) = watch::channel(());
    let queue = Queue {
        sender: RwLock::new(Some(sender)),
        writer,
        used_bytes: Arc::default(),
        limit_bytes: options.queue_bytes,
    };
    let queue_receiver = QueueReceiver {
        receiver,
        batch_units: options.batch_units.max(1),
        _alive: alive,
    };
    (queue, queue_receiver)
}

impl Queue {
    /// Queues the unit and waits for its outcome. Rejects it at once when the queue is full:
    /// callers waiting for capacity would form a second, unbounded queue.
    pub(crate) async fn commit(&self, unit: Unit) -> Outcome {
        let outcome = self.enqueue(unit)?;
        outcome
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the writer exited".to_owned())))
    }

    fn enqueue(&self, unit: Unit) -> Result<oneshot::Receiver<Outcome>, Error> {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or_else(closed)?;
        let share = Share::reserve(&self.used_bytes, unit.bytes(), self.limit_bytes);
        let share = share.ok_or_else(queue_full)?;
        let (caller, outcome) = oneshot::channel();
        let reply = Reply {
            caller,
            _share: share,
        };
        match sender.try_send(Pending { unit, reply }) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(queue_full()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed()),
        }
    }

    /// Stops accepting units and waits until the writer has processed all queued ones.
    pub(crate) async fn close(&self) {
        let sender = self
            .sender
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(sender);
        // `changed` returns an error when the writer drops its sender.
        let _ = self.writer.clone().changed().await;
    }
}

impl QueueReceiver {
    /// Waits for queued units and returns up to `batch_units` of them, without abandoned ones.
    /// Returns `None` when the queue is closed and empty.
    pub(crate) async fn next(&mut self) -> Option<Vec<Pending>> {
        let mut batch = Vec::new();
        let taken = self.receiver.recv_many(&mut batch, self.batch_units).await;
        (taken > 0).then(|| drop_abandoned(batch))
    }

    /// Like [`Self::next`], for a writer thread.
    pub(crate) fn blocking_next(&mut self) -> Option<Vec<Pending>> {
        let mut batch = Vec::new();
        let taken = self
            .receiver
            .blocking_recv_many(&mut batch, self.batch_units);
        (taken > 0).then(|| drop_abandoned(batch))
    }
}

/// Drops the units whose callers stopped waiting. Otherwise a database that recovers from a hang
/// would process them first.
fn drop_abandoned(mut batch: Vec<Pending>) -> Vec<Pending> {
    batch.retain(|pending| !pending.reply.caller.is_closed());
    batch
}

/// The error for a closed database.
pub(crate) fn closed() -> Error {
    Error::Unavailable("already closed".to_owned())
}
