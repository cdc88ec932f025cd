//! A task that commits what its queue holds, a batch at a time.

use std::{slice, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    Error, Observer, Unit,
    deadline::{late, within},
    queue::{Intake, Outcome, Pending},
};

use super::{
    connection::{Answers, Connection, Failed},
    server::{Backend, Connected, Server},
};

/// Pauses before a unit that lost a race is run again. They differ enough that two
/// writers do not meet again.
const RACE_PAUSES: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(30),
    Duration::from_millis(120),
];
const FIRST_RECONNECT_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// Owns one connection, and makes a new one when it breaks.
pub(super) struct Writer {
    server: Arc<Server>,
    connection: Option<Connection>,
    /// What may still be at work on connections that are lost.
    lost: Vec<Backend>,
    reconnect_at: Instant,
    reconnect_pause: Duration,
    intake: Intake,
    observer: Arc<dyn Observer>,
}

impl Writer {
    pub(super) async fn open(
        server: Arc<Server>,
        intake: Intake,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let connection = Connection::new(server.connect().await?);
        Ok(Self {
            server,
            connection: Some(connection),
            lost: Vec::new(),
            reconnect_at: Instant::now(),
            reconnect_pause: FIRST_RECONNECT_PAUSE,
            intake,
            observer,
        })
    }

    /// Serves the queue until it is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(mut batch) = self.intake.next().await {
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
            let outcomes = self.together(group).await;
            for (outcome, reply) in outcomes.into_iter().zip(&mut replies) {
                reply.send(outcome);
            }
        }
    }

    /// Runs the units in one transaction, or if that fails each half of them.
    async fn together(&mut self, units: &mut [Unit]) -> Vec<Outcome> {
        if let [unit] = units {
            return vec![self.alone(unit).await];
        }
        match self.attempt(units).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(Failed::Unknown(error)) => vec![Err(error); units.len()],
            Err(Failed::Undone(_) | Failed::LostRace(_)) => {
                // Halves, so that one unit that is refused costs its neighbours little.
                let (left, right) = units.split_at_mut(units.len() / 2);
                let mut outcomes = Box::pin(self.together(left)).await;
                outcomes.extend(Box::pin(self.together(right)).await);
                outcomes
            }
        }
    }

    async fn alone(&mut self, unit: &mut Unit) -> Outcome {
        let finishes = unit.last.is_some();
        let mut pauses = RACE_PAUSES.into_iter();
        loop {
            match self.attempt(slice::from_mut(unit)).await {
                Ok(mut answers) => return Ok(answers.remove(0)),
                Err(Failed::LostRace(error)) => match pauses.next() {
                    // A finishing step can be computed only once.
                    Some(pause) if finishes == unit.last.is_some() => sleep(pause).await,
                    _ => return Err(error),
                },
                Err(Failed::Undone(error) | Failed::Unknown(error)) => return Err(error),
            }
        }
    }

    async fn attempt(&mut self, units: &mut [Unit]) -> Result<Answers, Failed> {
        let started = Instant::now();
        let mut connection = self.connection().await.map_err(Failed::Unknown)?;
        // Taken out while it is in use: what has not finished in time is never used again.
        let Ok(answers) = timeout(self.server.timeout, connection.transact(units)).await else {
            self.lost.push(connection.abort());
            tracing::warn!("PostgreSQL does not answer a writer; the connection was closed");
            return Err(Failed::Unknown(late()));
        };
        self.connection = Some(connection);
        if answers.is_ok() {
            self.observer.committed(units.len(), started.elapsed());
        }
        answers
    }

    async fn connection(&mut self) -> Result<Connection, Error> {
        match self.connection.take() {
            Some(connection) if connection.is_usable() => return Ok(connection),
            Some(connection) => self.lost.push(connection.abort()),
            None => {}
        }
        self.reconnect().await
    }

    /// A new connection, once nothing is at work on the old ones: units with one key must run in
    /// order, also when some of them were given up.
    async fn connect(&mut self) -> Result<Connected, Error> {
        let connected = self.server.connect().await?;
        match within(self.server.timeout, connected.end(&self.lost)).await {
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

    /// Tries to connect, unless it was tried a moment ago: callers are answered at once
    /// rather than queued up behind a server that is away.
    async fn reconnect(&mut self) -> Result<Connection, Error> {
        if Instant::now() < self.reconnect_at {
            return Err(Error::Unavailable(
                "PostgreSQL was away just now".to_owned(),
            ));
        }
        match self.connect().await {
            Ok(connected) => {
                self.reconnect_pause = FIRST_RECONNECT_PAUSE;
                Ok(Connection::new(connected))
            }
            Err(error) => {
                self.reconnect_at = Instant::now() + self.reconnect_pause;
                self.reconnect_pause = (self.reconnect_pause * 2).min(LONGEST_RECONNECT_PAUSE);
                Err(error)
            }
        }
    }
}
