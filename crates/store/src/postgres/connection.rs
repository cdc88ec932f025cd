//! One connection that writes: a batch of units, one transaction, few round trips.

use std::{collections::HashMap, ptr};

use tokio_postgres::{Statement as Prepared, error::Severity};

use crate::{
    Error, Row, Statement, Unit, Value,
    unit::{Step, Sums},
};

use super::{
    execute::{Command, Executed, check_types, execute, pipeline},
    explain::{explain, is_about_server, lost_a_race},
    server::{Backend, Connected},
};

static BEGIN: Statement = Statement::new("store.begin", "BEGIN");
static COMMIT: Statement = Statement::new("store.commit", "COMMIT");

/// The rows of each step of each unit.
pub(super) type Answers = Vec<Vec<Vec<Row>>>;

/// Why a transaction did not commit, and what that allows.
pub(super) enum Failed {
    /// It was rolled back because of what a unit says; each unit may be run alone.
    Undone(Error),
    /// It was rolled back because it lost against another one; it may be run again.
    LostRace(Error),
    /// The server or the connection failed. Whether it committed is unknown.
    Unknown(Error),
}

/// A connection and the statements it has prepared.
pub(super) struct Connection {
    connected: Connected,
    // By the address of the `static`: cheaper than hashing the text.
    prepared: HashMap<usize, Prepared>,
    /// A transaction could not be rolled back: whatever is sent next might join it.
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

    /// Whether another transaction may run on it.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_in_doubt && !self.connected.client.is_closed()
    }

    /// Closes it without another word, in the middle of whatever it does. Answers who may still be
    /// doing it.
    pub(super) fn abort(self) -> Backend {
        let backend = self.connected.backend.clone();
        self.connected.abort();
        backend
    }

    /// Commits the units in one transaction, or none of them. A unit with a finishing
    /// step must be the only one.
    pub(super) async fn transact(&mut self, units: &mut [Unit]) -> Result<Answers, Failed> {
        let expects = units
            .iter()
            .any(|unit| unit.expects() || !unit.sums.is_empty());
        let answers = self.first_round(units, !expects).await;
        let committed = match answers {
            Ok(answers) if expects => self.last_round(units, answers).await,
            answers => answers,
        };
        if matches!(committed, Err(Failed::Undone(Error::Broken(_)))) {
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
            tracing::debug!("a transaction ended with its connection");
        }
        committed
    }

    /// Sends `BEGIN`, every step and, when nothing has to be looked at before, `COMMIT`.
    async fn first_round(&mut self, units: &[Unit], and_commit: bool) -> Result<Answers, Failed> {
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
            Some(answer) => answer.map_err(failed),
            // Only a failure, which came before, ends the answers early.
            None => Err(Failed::Unknown(Error::Unavailable("no answer".to_owned()))),
        };
        next()?;
        let mut answers = Vec::with_capacity(units.len());
        for unit in units {
            let mut rows = Vec::with_capacity(unit.steps.len() + 1);
            for step in &unit.steps {
                rows.push(checked(step, rows.len(), next()?)?);
            }
            answers.push(rows);
        }
        if and_commit {
            next()?;
        }
        Ok(answers)
    }

    /// Runs finishing steps, adds up what is to be added up, and commits.
    async fn last_round(
        &mut self,
        units: &mut [Unit],
        mut answers: Answers,
    ) -> Result<Answers, Failed> {
        let mut sums = Sums::default();
        for (unit, rows) in units.iter_mut().zip(&mut answers) {
            sums.add(unit, rows).map_err(Failed::Undone)?;
            if let Some(last) = unit.last.take() {
                let step = last.step(rows).map_err(Failed::Undone)?;
                let executed = self.run(step.statement, &step.values).await?;
                rows.push(checked(&step, rows.len(), executed)?);
            }
        }
        let steps = sums.steps();
        let mut commands = Vec::with_capacity(steps.len() + 1);
        for step in &steps {
            commands.push(self.command(step.statement, &step.values).await?);
        }
        commands.push(self.command(&COMMIT, &[]).await?);
        for executed in pipeline(&self.connected.client, &commands).await {
            executed.map_err(failed)?;
        }
        Ok(answers)
    }

    async fn run(
        &mut self,
        statement: &'static Statement,
        values: &[Value],
    ) -> Result<Executed, Failed> {
        let command = self.command(statement, values).await?;
        let executed = execute(&self.connected.client, &command.prepared, values).await;
        executed.map_err(failed)
    }

    async fn command<'a>(
        &mut self,
        statement: &'static Statement,
        values: &'a [Value],
    ) -> Result<Command<'a>, Failed> {
        let prepared = self.prepare(statement).await?;
        Command::new(statement, prepared, values).map_err(Failed::Undone)
    }

    async fn prepare(&mut self, statement: &'static Statement) -> Result<Prepared, Failed> {
        let address = ptr::from_ref(statement).addr();
        if let Some(prepared) = self.prepared.get(&address) {
            return Ok(prepared.clone());
        }
        let prepared = self.connected.client.prepare(statement.postgres()).await;
        let prepared = prepared.map_err(failed)?;
        check_types(statement, &prepared).map_err(Failed::Undone)?;
        self.prepared.insert(address, prepared.clone());
        Ok(prepared)
    }
}

/// The rows of a step, if it touched as many as it must.
fn checked(step: &Step, position: usize, executed: Executed) -> Result<Vec<Row>, Failed> {
    if step.exactly_one && executed.touched != 1 {
        return Err(Failed::Undone(Error::WrongCount { step: position }));
    }
    Ok(executed.rows)
}

fn failed(error: tokio_postgres::Error) -> Failed {
    let Some(answer) = error.as_db_error() else {
        return Failed::Unknown(explain(error));
    };
    let is_fatal = answer.parsed_severity() != Some(Severity::Error);
    let code = answer.code().clone();
    let error = explain(error);
    if is_fatal {
        Failed::Unknown(error)
    } else if lost_a_race(&code) {
        Failed::LostRace(error)
    } else if is_about_server(&code) {
        Failed::Unknown(error)
    } else {
        Failed::Undone(error)
    }
}
