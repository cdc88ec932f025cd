//! Runs prepared statements: one, or many in one round trip.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use futures_util::{
    TryStreamExt,
    future::{MaybeDone, maybe_done},
};
use tokio_postgres::{Client, Column, Statement as Prepared};

use crate::{Error, Row, Statement, Value};

use super::carry::{carries, fits};

/// What a statement did.
pub(super) struct Executed {
    /// The rows it returned.
    pub(super) rows: Vec<Row>,
    /// How many rows it returned, or when it returns none, how many it changed.
    pub(super) touched: u64,
}

/// A statement that is ready to be sent.
pub(super) struct Command<'a> {
    pub(super) prepared: Prepared,
    values: &'a [Value],
}

impl<'a> Command<'a> {
    /// [`Error::Broken`] when the parameters are not what the server expects: this is
    /// found out before anything of a batch is sent.
    pub(super) fn new(
        statement: &Statement,
        prepared: Prepared,
        values: &'a [Value],
    ) -> Result<Self, Error> {
        let name = statement.name();
        let (wanted, given) = (prepared.params().len(), values.len());
        if wanted != given {
            let text = format!("{name} takes {wanted} parameters, not {given}");
            return Err(Error::Broken(text));
        }
        let misfit = values
            .iter()
            .zip(prepared.params())
            .position(|(value, ty)| !fits(value, ty));
        if let Some(index) = misfit {
            let (number, ty) = (index + 1, &prepared.params()[index]);
            let text = format!("{name} takes {ty} as parameter {number}");
            return Err(Error::Broken(text));
        }
        Ok(Self { prepared, values })
    }
}

/// [`Error::Broken`] when a parameter or a column has a type that no [`Value`] carries.
pub(super) fn check_types(statement: &Statement, prepared: &Prepared) -> Result<(), Error> {
    let columns = prepared.columns().iter().map(Column::type_);
    match prepared
        .params()
        .iter()
        .chain(columns)
        .find(|ty| !carries(ty))
    {
        None => Ok(()),
        Some(ty) => {
            let name = statement.name();
            Err(Error::Broken(format!(
                "{name} uses the type {ty}, which no value carries"
            )))
        }
    }
}

/// Runs one statement to its end.
pub(super) async fn execute(
    client: &Client,
    prepared: &Prepared,
    values: &[Value],
) -> Result<Executed, tokio_postgres::Error> {
    let mut stream = pin!(client.query_raw(prepared, values).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        let columns = (0..row.len()).map(|index| row.try_get(index));
        rows.push(Row(columns.collect::<Result<_, _>>()?));
    }
    let touched = if prepared.columns().is_empty() {
        stream.rows_affected().unwrap_or_default()
    } else {
        rows.len() as u64
    };
    Ok(Executed { rows, touched })
}

/// Sends all commands at once, in order, and then waits for the answers. When one cannot
/// even be sent, its failure is the last answer and those after it are not sent.
pub(super) async fn pipeline(
    client: &Client,
    commands: &[Command<'_>],
) -> Vec<Result<Executed, tokio_postgres::Error>> {
    let mut asked: Vec<_> = commands
        .iter()
        .map(|command| {
            Box::pin(maybe_done(execute(
                client,
                &command.prepared,
                command.values,
            )))
        })
        .collect();
    let sent = poll_fn(|context| {
        let unsent = asked.iter_mut().position(|answer| {
            // The first poll sends the request.
            let _ = answer.as_mut().poll(context);
            matches!(**answer, MaybeDone::Done(Err(_)))
        });
        Poll::Ready(unsent.map_or(usize::MAX, |position| position + 1))
    })
    .await;
    let mut answers = Vec::with_capacity(asked.len());
    for mut answer in asked.into_iter().take(sent) {
        answer.as_mut().await;
        answers.extend(answer.as_mut().take_output());
    }
    answers
}
