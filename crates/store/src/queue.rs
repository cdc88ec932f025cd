//! The bounded queue between callers and a writer.

use std::sync::{PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, Row, Unit};

/// The rows of each step of a unit, or why it was undone.
pub(crate) type Outcome = Result<Vec<Vec<Row>>, Error>;

/// A unit and the caller who waits for its outcome.
pub(crate) struct Pending {
    pub(crate) unit: Unit,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// The callers' end.
pub(crate) struct Queue {
    // Taken when the database closes; the writer then drains the queue and ends.
    sender: RwLock<Option<mpsc::Sender<Pending>>>,
    writer: watch::Receiver<()>,
}

/// The writer's end. Dropping it says that the writer has ended.
pub(crate) struct Intake {
    receiver: mpsc::Receiver<Pending>,
    batch_units: usize,
    _alive: watch::Sender<()>,
}

/// A queue for `queue_units` units that hands out at most `batch_units` at once.
pub(crate) fn bounded(queue_units: usize, batch_units: usize) -> (Queue, Intake) {
    let (sender, receiver) = mpsc::channel(queue_units.max(1));
    let (alive, writer) = watch::channel(());
    let queue = Queue {
        sender: RwLock::new(Some(sender)),
        writer,
    };
    let intake = Intake {
        receiver,
        batch_units: batch_units.max(1),
        _alive: alive,
    };
    (queue, intake)
}

impl Queue {
    /// Hands the unit to the writer and waits for its outcome.
    pub(crate) async fn commit(&self, unit: Unit) -> Outcome {
        let sender = self
            .sender
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (reply, outcome) = oneshot::channel();
        let accepted = match sender {
            Some(sender) => sender.send(Pending { unit, reply }).await.is_ok(),
            None => false,
        };
        if !accepted {
            return Err(closed());
        }
        outcome
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the writer ended".to_owned())))
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
    /// Everything that is queued, as soon as there is something. `None` when the queue
    /// was closed and is empty.
    pub(crate) async fn next(&mut self) -> Option<Vec<Pending>> {
        let mut batch = Vec::new();
        let taken = self.receiver.recv_many(&mut batch, self.batch_units).await;
        (taken > 0).then_some(batch)
    }

    /// The same for a writer that is a thread.
    pub(crate) fn blocking_next(&mut self) -> Option<Vec<Pending>> {
        let mut batch = Vec::new();
        let taken = self
            .receiver
            .blocking_recv_many(&mut batch, self.batch_units);
        (taken > 0).then_some(batch)
    }
}

/// The answer of a database that was closed.
pub(crate) fn closed() -> Error {
    Error::Unavailable("it was closed".to_owned())
}
