//! Runs prepared statements: a single one, or several in one round trip.

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

use super::types::{fits, is_supported};

/// Result of a statement.
pub(super) struct Executed {
    /// The returned rows.
    pub(super) rows: Vec<Row>,
    /// The number of returned rows, or for a statement that returns none, of changed rows.
    pub(super) affected: u64,
}

/// A statement with its parameters, ready to be sent.
pub(super) struct Command<'a> {
    pub(super) prepared: Prepared,
    values: &'a [Value],
}

impl<'a> Command<'a> {
    /// Returns [`Error::Broken`] if the parameters do not match the statement. Checked before
    /// anything of a batch is sent.
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

/// Returns [`Error::Broken`] if a parameter or a column has a type that [`Value`] does not support.
pub(super) fn check_types(statement: &Statement, prepared: &Prepared) -> Result<(), Error> {
    let columns = prepared.columns().iter().map(Column::type_);
    match prepared
        .params()
        .iter()
        .chain(columns)
        .find(|ty| !is_supported(ty))
    {
        None => Ok(()),
        Some(ty) => {
            let name = statement.name();
            Err(Error::Broken(format!(
                "{name} uses the unsupported type {ty}"
            )))
        }
    }
}

/// Runs one statement to completion.
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
    let affected = if prepared.columns().is_empty() {
        stream.rows_affected().unwrap_or_default()
    } else {
        rows.len() as u64
    };
    Ok(Executed { rows, affected })
}

/// Sends all commands in order, then waits for their results. If sending a command fails, its error
/// is the last result and the commands after it are not sent.
pub(super) async fn pipeline(
    client: &Client,
    commands: &[Command<'_>],
) -> Vec<Result<Executed, tokio_postgres::Error>> {
    let mut requests: Vec<_> = commands
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
        let unsent = requests.iter_mut().position(|request| {
            // The first poll sends the request.
            let _ = request.as_mut().poll(context);
            matches!(**request, MaybeDone::Done(Err(_)))
        });
        Poll::Ready(unsent.map_or(usize::MAX, |position| position + 1))
    })
    .await;
    let mut results = Vec::with_capacity(requests.len());
    for mut request in requests.into_iter().take(sent) {
        request.as_mut().await;
        results.extend(request.as_mut().take_output());
    }
    results
}
