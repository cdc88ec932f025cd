//! The bounded queue between callers and a writer.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, Options, Row, Unit, deadline::full};

/// The rows of each step of a unit, or why it was undone.
pub(crate) type Outcome = Result<Vec<Vec<Row>>, Error>;

/// A unit and the caller who waits for its outcome.
pub(crate) struct Pending {
    pub(crate) unit: Unit,
    pub(crate) reply: Reply,
}

/// Where the outcome of a unit goes. What the unit takes of the queue's bytes is given back when
/// this goes.
pub(crate) struct Reply {
    caller: oneshot::Sender<Outcome>,
    _share: Share,
}

impl Reply {
    /// Answers the caller. Nobody may be waiting any more, which is no failure.
    pub(crate) fn send(self, outcome: Outcome) {
        let _ = self.caller.send(outcome);
    }
}

/// A part of the bytes that may wait.
struct Share {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// `None` when it does not fit. Something always fits when nothing waits.
    fn take(waiting: &Arc<AtomicUsize>, bytes: usize, most: usize) -> Option<Self> {
        let add = |before: usize| {
            let fits = before == 0 || before.saturating_add(bytes) <= most;
            fits.then_some(before.saturating_add(bytes))
        };
        let taken = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        taken.is_ok().then(|| Self {
            waiting: Arc::clone(waiting),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The callers' end.
pub(crate) struct Queue {
    // Taken when the database closes; the writer then drains the queue and ends.
    sender: RwLock<Option<mpsc::Sender<Pending>>>,
    writer: watch::Receiver<()>,
    waiting_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

/// The writer's end. Dropping it says that the writer has ended.
pub(crate) struct Intake {
    receiver: mpsc::Receiver<Pending>,
    batch_units: usize,
    _alive: watch::Sender<()>,
}

/// A queue of the size that the options say.
pub(crate) fn bounded(options: &Options) -> (Queue, Intake) {
    let (sender, receiver) = mpsc::channel(options.queue_units.max(1));
    let (alive, writer) = watch::channel(());
    let queue = Queue {
        sender: RwLock::new(Some(sender)),
        writer,
        waiting_bytes: Arc::default(),
        bytes: options.queue_bytes,
    };
    let intake = Intake {
        receiver,
        batch_units: options.batch_units.max(1),
        _alive: alive,
    };
    (queue, intake)
}

impl Queue {
    /// Hands the unit to the writer and waits for its outcome. A full queue refuses it at once:
    /// callers that wait for a place would be a second queue, without a bound.
    pub(crate) async fn commit(&self, unit: Unit) -> Outcome {
        let outcome = self.hand_over(unit)?;
        outcome
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the writer ended".to_owned())))
    }

    fn hand_over(&self, unit: Unit) -> Result<oneshot::Receiver<Outcome>, Error> {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or_else(closed)?;
        let share = Share::take(&self.waiting_bytes, unit.bytes(), self.bytes);
        let share = share.ok_or_else(full)?;
        let (caller, outcome) = oneshot::channel();
        let reply = Reply {
            caller,
            _share: share,
        };
        match sender.try_send(Pending { unit, reply }) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(full()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed()),
        }
    }

    /// Accepts nothing more and waits until the writer has finished what it has.
    pub(crate) async fn close(&self) {
        let sender = self
            .sender
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(sender);
        // An error is what says that the writer dropped its end.
        let _ = self.writer.clone().changed().await;
    }
}

impl Intake {
    /// Everything that is queued and still waited for, as soon as there is something. `None` when
    /// the queue was closed and is empty.
    pub(crate) async fn next(&mut self) -> Option<Vec<Pending>> {
        let mut batch = Vec::new();
        let taken = self.receiver.recv_many(&mut batch, self.batch_units).await;
        (taken > 0).then(|| waited_for(batch))
    }

    /// The same for a writer that is a thread.
    pub(crate) fn blocking_next(&mut self) -> Option<Vec<Pending>> {
        let mut batch = Vec::new();
        let taken = self
            .receiver
            .blocking_recv_many(&mut batch, self.batch_units);
        (taken > 0).then(|| waited_for(batch))
    }
}

/// Without the units whose callers have gone: after a database has hung, they would be what it does
/// first.
fn waited_for(mut batch: Vec<Pending>) -> Vec<Pending> {
    batch.retain(|pending| !pending.reply.caller.is_closed());
    batch
}

/// The answer of a database that was closed.
pub(crate) fn closed() -> Error {
    Error::Unavailable("it was closed".to_owned())
}
