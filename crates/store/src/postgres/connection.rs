//! A connection that commits batches of units, each in one transaction with few round trips.

use std::{collections::HashMap, ptr};

use tokio_postgres::{Statement as Prepared, error::Severity};

use crate::{
    Error, Row, Statement, Unit, Value,
    unit::{Step, Sums},
};

use super::{
    execute::{Command, Executed, check_types, execute, pipeline},
    explain::{explain, is_retryable, is_server_condition},
    server::{Backend, Connected},
};

static BEGIN: Statement = Statement::new("store.begin", "BEGIN");
static COMMIT: Statement = Statement::new("store.commit", "COMMIT");

/// The rows of each step of each unit.
pub(super) type UnitRows = Vec<Vec<Vec<Row>>>;

/// Why a transaction did not commit.
pub(super) enum TransactionError {
    /// A unit failed and the transaction was rolled back. Each unit may be retried in a separate
    /// transaction.
    RolledBack(Error),
    /// A deadlock or serialization failure rolled the transaction back. It may be retried.
    Retryable(Error),
    /// The server or the connection failed. It is unknown whether the transaction committed.
    Unknown(Error),
}

/// A connection and its prepared statements.
pub(super) struct Connection {
    connected: Connected,
    // Keyed by the address of the `static`, which is cheaper than hashing the text.
    prepared: HashMap<usize, Prepared>,
    /// Set when a rollback failed: later statements might run inside the old transaction.
    is_in_doubt: bool,
}

impl Connection {
    pub(super) fn new(connected: Connected) -> Self {
        Self {
            connected,
            prepared: HashMap::new(),
            is_in_doubt: false,
        }
    }

    /// Whether the connection can run another transaction.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_in_doubt && !self.connected.client.is_closed()
    }

    /// Closes the connection without waiting for the running statement. Returns the backend process
    /// that may still execute it.
    pub(super) fn abort(self) -> Backend {
        let backend = self.connected.backend.clone();
        self.connected.abort();
        backend
    }

    /// Commits all units in one transaction, or none of them. A unit with a finishing step must be
    /// the only one.
    pub(super) async fn transact(
        &mut self,
        units: &mut [Unit],
    ) -> Result<UnitRows, TransactionError> {
        let is_conditional = units
            .iter()
            .any(|unit| unit.is_conditional() || !unit.sums.is_empty());
        let sent = self.send_steps(units, !is_conditional).await;
        let committed = match sent {
            Ok(rows) if is_conditional => self.finish_and_commit(units, rows).await,
            sent => sent,
        };
        if matches!(
            committed,
            Err(TransactionError::RolledBack(Error::Broken(_)))
        ) {
            // A migration may have changed what a prepared statement returns.
            self.prepared.clear();
        }
        if committed.is_err()
            && self
                .connected
                .client
                .batch_execute("ROLLBACK")
                .await
                .is_err()
        {
            self.is_in_doubt = true;
            tracing::debug!("a rollback failed; the connection will be closed");
        }
        committed
    }

    /// Sends `BEGIN`, every step and, if no result has to be checked before, `COMMIT`.
    async fn send_steps(
        &mut self,
        units: &[Unit],
        and_commit: bool,
    ) -> Result<UnitRows, TransactionError> {
        let mut commands = vec![self.command(&BEGIN, &[]).await?];
        for step in units.iter().flat_map(|unit| &unit.steps) {
            commands.push(self.command(step.statement, &step.values).await?);
        }
        if and_commit {
            commands.push(self.command(&COMMIT, &[]).await?);
        }
        let mut executed = pipeline(&self.connected.client, &commands)
            .await
            .into_iter();
        let mut next = || match executed.next() {
            Some(result) => result.map_err(transaction_error),
            // Only an earlier failure ends the results early.
            None => Err(TransactionError::Unknown(Error::Unavailable(
                "no result".to_owned(),
            ))),
        };
        next()?;
        let mut unit_rows = Vec::with_capacity(units.len());
        for unit in units {
            let mut rows = Vec::with_capacity(unit.steps.len() + 1);
            for step in &unit.steps {
                rows.push(checked_rows(step, rows.len(), next()?)?);
            }
            unit_rows.push(rows);
        }
        if and_commit {
            next()?;
        }
        Ok(unit_rows)
    }

    /// Runs finishing steps, applies the sums, and commits.
    async fn finish_and_commit(
        &mut self,
        units: &mut [Unit],
        mut unit_rows: UnitRows,
    ) -> Result<UnitRows, TransactionError> {
        let mut sums = Sums::default();
        for (unit, rows) in units.iter_mut().zip(&mut unit_rows) {
            sums.add(unit, rows).map_err(TransactionError::RolledBack)?;
            if let Some(last) = unit.last.take() {
                let step = last.step(rows).map_err(TransactionError::RolledBack)?;
                let executed = self.run(step.statement, &step.values).await?;
                rows.push(checked_rows(&step, rows.len(), executed)?);
            }
        }
        let steps = sums.steps();
        let mut commands = Vec::with_capacity(steps.len() + 1);
        for step in &steps {
            commands.push(self.command(step.statement, &step.values).await?);
        }
        commands.push(self.command(&COMMIT, &[]).await?);
        for executed in pipeline(&self.connected.client, &commands).await {
            executed.map_err(transaction_error)?;
        }
        Ok(unit_rows)
    }

    async fn run(
        &mut self,
        statement: &'static Statement,
        values: &[Value],
    ) -> Result<Executed, TransactionError> {
        let command = self.command(statement, values).await?;
        let executed = execute(&self.connected.client, &command.prepared, values).await;
        executed.map_err(transaction_error)
    }

    async fn command<'a>(
        &mut self,
        statement: &'static Statement,
        values: &'a [Value],
    ) -> Result<Command<'a>, TransactionError> {
        let prepared = self.prepare(statement).await?;
        Command::new(statement, prepared, values).map_err(TransactionError::RolledBack)
    }

    async fn prepare(
        &mut self,
        statement: &'static Statement,
    ) -> Result<Prepared, TransactionError> {
        let address = ptr::from_ref(statement).addr();
        if let Some(prepared) = self.prepared.get(&address) {
            return Ok(prepared.clone());
        }
        let prepared = self.connected.client.prepare(statement.postgres()).await;
        let prepared = prepared.map_err(transaction_error)?;
        check_types(statement, &prepared).map_err(TransactionError::RolledBack)?;
        self.prepared.insert(address, prepared.clone());
        Ok(prepared)
    }
}

/// Returns the rows of a step after checking the number of affected rows.
fn checked_rows(
    step: &Step,
    position: usize,
    executed: Executed,
) -> Result<Vec<Row>, TransactionError> {
    if step.exactly_one && executed.affected != 1 {
        return Err(TransactionError::RolledBack(Error::WrongCount {
            step: position,
        }));
    }
    Ok(executed.rows)
}

fn transaction_error(error: tokio_postgres::Error) -> TransactionError {
    let Some(db_error) = error.as_db_error() else {
        return TransactionError::Unknown(explain(error));
    };
    let is_fatal = db_error.parsed_severity() != Some(Severity::Error);
    let code = db_error.code().clone();
    let error = explain(error);
    if is_fatal {
        TransactionError::Unknown(error)
    } else if is_retryable(&code) {
        TransactionError::Retryable(error)
    } else if is_server_condition(&code) {
        TransactionError::Unknown(error)
    } else {
        TransactionError::RolledBack(error)
    }
}
