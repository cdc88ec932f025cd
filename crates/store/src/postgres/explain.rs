//! What a failure of PostgreSQL means to the caller.

use std::{error::Error as _, io};

use tokio_postgres::error::{DbError, Severity, SqlState};

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
/// down, is out of resources, became read-only, was asked to stop, or took too long.
pub(super) fn is_about_server(code: &SqlState) -> bool {
    let class = code.code().get(..2);
    matches!(class, Some("08" | "40" | "53" | "57" | "58"))
        || [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(code)
}

/// Whether trying again later is sensible. A server that ends the connection has not judged the
/// statement.
fn may_pass(code: &SqlState, severity: Option<Severity>) -> bool {
    lost_a_race(code) || is_about_server(code) || severity.is_some_and(|it| it != Severity::Error)
}

fn explain_answer(error: &DbError) -> Error {
    let (code, message) = (error.code().code(), error.message());
    if *error.code() == SqlState::UNIQUE_VIOLATION {
        let constraint = error.constraint().unwrap_or_default().to_owned();
        Error::Conflict { constraint }
    } else if may_pass(error.code(), error.parsed_severity()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_of_itself_may_pass_and_what_it_says_of_a_statement_does_not() {
        for (code, expected) in [
            ("08006", true),  // the connection failed
            ("25006", true),  // read-only after a failover
            ("25P03", true),  // idle in a transaction for too long
            ("40001", true),  // could not be serialised
            ("40003", true),  // unknown whether the statement completed
            ("40P01", true),  // a deadlock
            ("53100", true),  // the disk is full
            ("53200", true),  // out of memory
            ("53300", true),  // too many connections
            ("55P03", true),  // a lock was not to be had
            ("57014", true),  // cancelled, or took too long
            ("57P01", true),  // shut down by an administrator
            ("57P02", true),  // shut down by a crash
            ("57P03", true),  // cannot connect now
            ("58030", true),  // an I/O error
            ("22P02", false), // malformed text of a value
            ("23502", false), // NULL where none may be
            ("42601", false), // a syntax error
            ("42P01", false), // no such table
            ("54000", false), // a limit of the program
            ("XX001", false), // damaged data
        ] {
            let code = SqlState::from_code(code);
            let severity = Some(Severity::Error);
            assert_eq!(may_pass(&code, severity), expected, "{code:?}");
        }
        let code = SqlState::from_code("XX000");
        assert!(may_pass(&code, Some(Severity::Fatal)));
        assert!(may_pass(&code, Some(Severity::Panic)));
    }

    #[test]
    fn only_who_lost_a_race_is_run_again() {
        for (code, expected) in [
            ("40001", true),
            ("40P01", true),
            ("40003", false),
            ("53100", false),
        ] {
            assert_eq!(lost_a_race(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
