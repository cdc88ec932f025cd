//! The task that commits queued units in batches.

use std::{slice, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    Error, Observer, Unit,
    deadline::{timed_out, with_deadline},
    queue::{Outcome, Pending, QueueReceiver},
};

use super::{
    connection::{Connection, TransactionError, UnitRows},
    server::{Backend, Connected, Server},
};

/// Delays before a unit is retried after a deadlock or a serialization failure. They differ enough
/// that two writers do not collide again.
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(30),
    Duration::from_millis(120),
];
const INITIAL_RECONNECT_DELAY: Duration = Duration::from_millis(50);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Owns one connection and reconnects when it breaks.
pub(super) struct Writer {
    server: Arc<Server>,
    connection: Option<Connection>,
    /// Backend processes of lost connections, which may still execute statements.
    lost: Vec<Backend>,
    reconnect_at: Instant,
    reconnect_delay: Duration,
    queue_receiver: QueueReceiver,
    observer: Arc<dyn Observer>,
}

impl Writer {
    pub(super) async fn open(
        server: Arc<Server>,
        queue_receiver: QueueReceiver,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let connection = Connection::new(server.connect().await?);
        Ok(Self {
            server,
            connection: Some(connection),
            lost: Vec::new(),
            reconnect_at: Instant::now(),
            reconnect_delay: INITIAL_RECONNECT_DELAY,
            queue_receiver,
            observer,
        })
    }

    /// Serves the queue until it is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(mut batch) = self.queue_receiver.next().await {
            batch.sort_by_key(|pending| pending.unit.key);
            self.commit(batch).await;
        }
    }

    async fn commit(&mut self, batch: Vec<Pending>) {
        let (mut units, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|pending| (pending.unit, pending.reply))
            .unzip();
        let mut replies = replies.into_iter();
        let can_join = |unit: &Unit| unit.last.is_none();
        for group in units.chunk_by_mut(|one, next| can_join(one) && can_join(next)) {
            let outcomes = self.commit_group(group).await;
            for (outcome, reply) in outcomes.into_iter().zip(&mut replies) {
                reply.send(outcome);
            }
        }
    }

    /// Commits the units in one transaction. If that fails, retries each half separately.
    async fn commit_group(&mut self, units: &mut [Unit]) -> Vec<Outcome> {
        if let [unit] = units {
            return vec![self.commit_one(unit).await];
        }
        match self.attempt(units).await {
            Ok(unit_rows) => unit_rows.into_iter().map(Ok).collect(),
            Err(TransactionError::Unknown(error)) => vec![Err(error); units.len()],
            Err(TransactionError::RolledBack(_) | TransactionError::Retryable(_)) => {
                // Bisecting keeps the cost of one failing unit low for the others of its group.
                let (left, right) = units.split_at_mut(units.len() / 2);
                let mut outcomes = Box::pin(self.commit_group(left)).await;
                outcomes.extend(Box::pin(self.commit_group(right)).await);
                outcomes
            }
        }
    }

    async fn commit_one(&mut self, unit: &mut Unit) -> Outcome {
        let finishes = unit.last.is_some();
        let mut delays = RETRY_DELAYS.into_iter();
        loop {
            match self.attempt(slice::from_mut(unit)).await {
                Ok(mut unit_rows) => return Ok(unit_rows.remove(0)),
                Err(TransactionError::Retryable(error)) => match delays.next() {
                    // A finishing step can be computed only once.
                    Some(delay) if finishes == unit.last.is_some() => sleep(delay).await,
                    _ => return Err(error),
                },
                Err(TransactionError::RolledBack(error) | TransactionError::Unknown(error)) => {
                    return Err(error);
                }
            }
        }
    }

    async fn attempt(&mut self, units: &mut [Unit]) -> Result<UnitRows, TransactionError> {
        let started = Instant::now();
        let mut connection = self.connection().await.map_err(TransactionError::Unknown)?;
        // The connection is taken out while in use: if the transaction times out, it is never
        // reused.
        let Ok(result) = timeout(self.server.timeout, connection.transact(units)).await else {
            self.lost.push(connection.abort());
            tracing::warn!("a PostgreSQL transaction timed out; the connection was closed");
            return Err(TransactionError::Unknown(timed_out()));
        };
        self.connection = Some(connection);
        if result.is_ok() {
            self.observer.committed(units.len(), started.elapsed());
        }
        result
    }

    async fn connection(&mut self) -> Result<Connection, Error> {
        match self.connection.take() {
            Some(connection) if connection.is_usable() => return Ok(connection),
            Some(connection) => self.lost.push(connection.abort()),
            None => {}
        }
        self.reconnect().await
    }

    /// Opens a new connection after terminating the backends of the old ones: units with the same
    /// key must run in order, even if some of them timed out.
    async fn connect(&mut self) -> Result<Connected, Error> {
        let connected = self.server.connect().await?;
        match with_deadline(self.server.timeout, connected.terminate(&self.lost)).await {
            Ok(()) => {
                self.lost.clear();
                Ok(connected)
            }
            Err(error) => {
                connected.abort();
                Err(error)
            }
        }
    }

    /// Reconnects, unless an attempt failed a moment ago. Callers then get an error at once instead
    /// of queueing behind an unreachable server.
    async fn reconnect(&mut self) -> Result<Connection, Error> {
        if Instant::now() < self.reconnect_at {
            return Err(Error::Unavailable(
                "PostgreSQL was unreachable a moment ago".to_owned(),
            ));
        }
        match self.connect().await {
            Ok(connected) => {
                self.reconnect_delay = INITIAL_RECONNECT_DELAY;
                Ok(Connection::new(connected))
            }
            Err(error) => {
                self.reconnect_at = Instant::now() + self.reconnect_delay;
                self.reconnect_delay = (self.reconnect_delay * 2).min(MAX_RECONNECT_DELAY);
                Err(error)
            }
        }
    }
}
