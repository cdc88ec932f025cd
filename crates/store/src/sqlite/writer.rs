//! The one thread that writes: a batch of units, one transaction, one flush.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    Error, Observer, Row, Unit,
    queue::{Intake, Outcome, Pending},
    unit::{Step, Sums},
};

use super::{
    checkpoint::{Checkpointer, checkpoint},
    connection::{BUSY_TIMEOUT, open_writer},
    execute::execute,
    explain::explain,
};

/// The log is emptied when it is longer than this: passive checkpoints never catch up
/// with a busy writer, and reads get slower with its length.
const LONG_LOG: u64 = 64 << 20;
/// How much longer it may get after readers were in the way.
const LONGER: u64 = 8 << 20;
/// How long readers may hold up the writer for that.
const READERS_PATIENCE: Duration = Duration::from_millis(50);

/// Owns the only connection that commits units.
pub(super) struct Writer {
    connection: Connection,
    intake: Intake,
    checkpointer: Checkpointer,
    observer: Arc<dyn Observer>,
    path: PathBuf,
    log: PathBuf,
    log_limit: u64,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        intake: Intake,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self {
            connection: open_writer(path)?,
            intake,
            checkpointer: Checkpointer::start(path)?,
            observer,
            path: path.to_owned(),
            log: log.into(),
            log_limit: LONG_LOG,
        })
    }

    /// Serves the queue until it is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.intake.blocking_next() {
            self.commit(batch);
            self.checkpointer.wrote();
            self.bound_log();
        }
        drop(self.checkpointer);
        truncate(&self.connection);
        drop(self.connection);
        // Whoever waits for the close must find the file at rest.
        drop(self.intake);
    }

    fn commit(&mut self, batch: Vec<Pending>) {
        if batch.is_empty() {
            return;
        }
        let started = Instant::now();
        let (units, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|pending| (pending.unit, pending.reply))
            .unzip();
        let outcomes = self.transact(units);
        let took = started.elapsed();
        let mut committed = 0;
        match outcomes {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    committed += usize::from(outcome.is_ok());
                    reply.send(outcome);
                }
            }
            Err(error) => {
                for reply in replies {
                    reply.send(Err(error.clone()));
                }
            }
        }
        if committed > 0 {
            self.observer.committed(committed, took);
        }
    }

    /// The outcome of each unit, or the failure of the whole transaction.
    fn transact(&mut self, units: Vec<Unit>) -> Result<Vec<Outcome>, Error> {
        if !self.connection.is_autocommit() {
            // A disk that failed has kept the last transaction from being rolled back. No other may
            // follow on this connection.
            self.connection = open_writer(&self.path)?;
        }
        self.control("BEGIN IMMEDIATE")?;
        let mut sums = Sums::default();
        let outcomes = units
            .into_iter()
            .map(|unit| self.undo_alone(unit, &mut sums))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|outcomes| self.add_up(sums).map(|()| outcomes))
            .and_then(|outcomes| self.control("COMMIT").map(|()| outcomes));
        if outcomes.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.control("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
        outcomes
    }

    /// Runs a unit so that its failure undoes no other. The outer error means that the
    /// transaction cannot go on.
    fn undo_alone(&self, unit: Unit, sums: &mut Sums) -> Result<Outcome, Error> {
        // SQLite itself undoes a single statement that fails.
        let needs_savepoint = unit.steps.len() > 1 || unit.expects();
        if needs_savepoint {
            self.control("SAVEPOINT unit")?;
        }
        let outcome = self.steps(unit, sums);
        if self.connection.is_autocommit() {
            // A full disk, for one, ends the whole transaction.
            let lost = || Error::Unavailable("the transaction was lost".to_owned());
            return Err(outcome.err().unwrap_or_else(lost));
        }
        if needs_savepoint {
            if outcome.is_err() {
                self.control("ROLLBACK TO unit")?;
            }
            self.control("RELEASE unit")?;
        }
        Ok(outcome)
    }

    fn add_up(&self, sums: Sums) -> Result<(), Error> {
        for step in sums.steps() {
            self.step(&step, 0)?;
        }
        Ok(())
    }

    fn steps(&self, mut unit: Unit, sums: &mut Sums) -> Outcome {
        let mut answers = Vec::with_capacity(unit.steps.len() + 1);
        for step in &unit.steps {
            answers.push(self.step(step, answers.len())?);
        }
        if let Some(last) = unit.last.take() {
            let step = last.step(&answers)?;
            answers.push(self.step(&step, answers.len())?);
        }
        // Last, so that nothing is added for a unit that fails.
        sums.add(&unit, &answers)?;
        Ok(answers)
    }

    fn step(&self, step: &Step, position: usize) -> Result<Vec<Row>, Error> {
        let executed = execute(&self.connection, step.statement, &step.values)?;
        if step.exactly_one && executed.touched != 1 {
            return Err(Error::WrongCount { step: position });
        }
        Ok(executed.rows)
    }

    fn control(&self, sql: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|error| explain(&self.connection, error))
    }

    fn bound_log(&mut self) {
        let length = fs::metadata(&self.log).map_or(0, |log| log.len());
        if length > self.log_limit {
            self.log_limit = if truncate(&self.connection) {
                LONG_LOG
            } else {
                length + LONGER
            };
        }
    }
}

/// Moves everything out of the log and empties it, if readers let it.
fn truncate(connection: &Connection) -> bool {
    let wait = |patience| {
        let set = connection.busy_timeout(patience);
        set.expect("setting a timeout only stores a number");
    };
    wait(READERS_PATIENCE);
    let is_done = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
    wait(BUSY_TIMEOUT);
    is_done
}
