//! The writer thread, which commits each batch of units in one transaction with one flush.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    Error, Observer, Row, Unit,
    queue::{Outcome, Pending, QueueReceiver},
    unit::{Step, Sums},
};

use super::{
    checkpoint::{Checkpointer, checkpoint},
    connection::{BUSY_TIMEOUT, open_writer},
    execute::execute,
    explain::explain,
};

/// The write-ahead log is truncated when it exceeds this size, in bytes: passive checkpoints never
/// catch up with a busy writer, and reads slow down as the log grows.
const WAL_LIMIT: u64 = 64 << 20;
/// How far the limit rises, in bytes, after readers blocked a truncation.
const WAL_LIMIT_STEP: u64 = 8 << 20;
/// How long the writer waits for readers when truncating.
const TRUNCATE_TIMEOUT: Duration = Duration::from_millis(50);

/// Owns the only connection that commits units.
pub(super) struct Writer {
    connection: Connection,
    queue_receiver: QueueReceiver,
    checkpointer: Checkpointer,
    observer: Arc<dyn Observer>,
    path: PathBuf,
    wal: PathBuf,
    wal_limit: u64,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        queue_receiver: QueueReceiver,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Ok(Self {
            connection: open_writer(path)?,
            queue_receiver,
            checkpointer: Checkpointer::start(path)?,
            observer,
            path: path.to_owned(),
            wal: wal.into(),
            wal_limit: WAL_LIMIT,
        })
    }

    /// Serves the queue until it is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.queue_receiver.blocking_next() {
            self.commit(batch);
            self.checkpointer.schedule();
            self.limit_wal();
        }
        drop(self.checkpointer);
        truncate(&self.connection);
        drop(self.connection);
        // `close` must not return before the file is closed.
        drop(self.queue_receiver);
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

    /// Returns the outcome of each unit, or the error that failed the whole transaction.
    fn transact(&mut self, units: Vec<Unit>) -> Result<Vec<Outcome>, Error> {
        if !self.connection.is_autocommit() {
            // The rollback of the last transaction failed, so this connection must not run another
            // one.
            self.connection = open_writer(&self.path)?;
        }
        self.run_control("BEGIN IMMEDIATE")?;
        let mut sums = Sums::default();
        let outcomes = units
            .into_iter()
            .map(|unit| self.run_unit(unit, &mut sums))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|outcomes| self.apply_sums(sums).map(|()| outcomes))
            .and_then(|outcomes| self.run_control("COMMIT").map(|()| outcomes));
        if outcomes.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.run_control("ROLLBACK")
        {
            tracing::warn!(%error, "cannot roll back a transaction");
        }
        outcomes
    }

    /// Runs a unit in a savepoint, so that its failure does not affect the others. The outer error
    /// means that the whole transaction failed.
    fn run_unit(&self, unit: Unit, sums: &mut Sums) -> Result<Outcome, Error> {
        // SQLite itself rolls back a single statement that fails.
        let needs_savepoint = unit.steps.len() > 1 || unit.is_conditional();
        if needs_savepoint {
            self.run_control("SAVEPOINT unit")?;
        }
        let outcome = self.steps(unit, sums);
        if self.connection.is_autocommit() {
            // Some errors, such as a full disk, end the whole transaction.
            let lost = || Error::Unavailable("the transaction was rolled back".to_owned());
            return Err(outcome.err().unwrap_or_else(lost));
        }
        if needs_savepoint {
            if outcome.is_err() {
                self.run_control("ROLLBACK TO unit")?;
            }
            self.run_control("RELEASE unit")?;
        }
        Ok(outcome)
    }

    fn apply_sums(&self, sums: Sums) -> Result<(), Error> {
        for step in sums.steps() {
            self.step(&step, 0)?;
        }
        Ok(())
    }

    fn steps(&self, mut unit: Unit, sums: &mut Sums) -> Outcome {
        let mut step_rows = Vec::with_capacity(unit.steps.len() + 1);
        for step in &unit.steps {
            step_rows.push(self.step(step, step_rows.len())?);
        }
        if let Some(last) = unit.last.take() {
            let step = last.step(&step_rows)?;
            step_rows.push(self.step(&step, step_rows.len())?);
        }
        // The sums are added last, so that a failed unit contributes nothing.
        sums.add(&unit, &step_rows)?;
        Ok(step_rows)
    }

    fn step(&self, step: &Step, position: usize) -> Result<Vec<Row>, Error> {
        let executed = execute(&self.connection, step.statement, &step.values)?;
        if step.exactly_one && executed.affected != 1 {
            return Err(Error::WrongCount { step: position });
        }
        Ok(executed.rows)
    }

    fn run_control(&self, sql: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|error| explain(&self.connection, error))
    }

    fn limit_wal(&mut self) {
        let length = fs::metadata(&self.wal).map_or(0, |log| log.len());
        if length > self.wal_limit {
            self.wal_limit = if truncate(&self.connection) {
                WAL_LIMIT
            } else {
                length + WAL_LIMIT_STEP
            };
        }
    }
}

/// Checkpoints and truncates the write-ahead log. Returns `false` when readers prevented it.
fn truncate(connection: &Connection) -> bool {
    let set_timeout = |timeout| {
        let set = connection.busy_timeout(timeout);
        set.expect("setting a timeout only stores a number");
    };
    set_timeout(TRUNCATE_TIMEOUT);
    let is_done = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
    set_timeout(BUSY_TIMEOUT);
    is_done
}
