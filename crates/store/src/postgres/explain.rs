//! What a failure of PostgreSQL means to the caller.

use std::{error::Error as _, io};

use tokio_postgres::error::{DbError, SqlState};

use crate::Error;

/// The error for the caller.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn explain(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(error) => explain_answer(error),
        None if is_unreachable(&error) => Error::Unavailable(with_cause(&error)),
        None => Error::Broken(with_cause(&error)),
    }
}

/// A failure to connect: whatever the reason, the database is not there.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn unreachable(error: tokio_postgres::Error) -> Error {
    Error::Unavailable(with_cause(&error))
}

/// Whether the transaction lost against another one and is worth running again.
pub(super) fn lost_a_race(code: &SqlState) -> bool {
    *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE
}

/// Whether the server answered about itself rather than about the statement: it shuts
/// down, is out of resources, became read-only, or took too long.
pub(super) fn is_about_server(code: &SqlState) -> bool {
    let class = code.code().get(..2);
    matches!(class, Some("08" | "53" | "57" | "58")) || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

fn explain_answer(error: &DbError) -> Error {
    let (code, message) = (error.code().code(), error.message());
    if *error.code() == SqlState::UNIQUE_VIOLATION {
        let constraint = error.constraint().unwrap_or_default().to_owned();
        Error::Conflict { constraint }
    } else if lost_a_race(error.code()) || is_about_server(error.code()) {
        Error::Unavailable(format!("{message} ({code})"))
    } else {
        // The detail of an answer may quote somebody's record, so it stays out.
        Error::Broken(format!("{message} ({code})"))
    }
}

fn is_unreachable(error: &tokio_postgres::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    error.is_closed() || cause.is_some()
}

fn with_cause(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(answer), _) => format!("{error}: {}", answer.message()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}
