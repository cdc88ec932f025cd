//! Maps PostgreSQL errors to the store's errors.

use std::{error::Error as _, io};

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::Error;

/// Converts an error for the caller.
#[expect(clippy::needless_pass_by_value, reason = "used in map_err")]
pub(super) fn explain(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(error) => explain_db_error(error),
        None if is_unreachable(&error) => Error::Unavailable(with_cause(&error)),
        None => Error::Broken(with_cause(&error)),
    }
}

/// Converts a connection error: whatever the cause, the database is unavailable.
#[expect(clippy::needless_pass_by_value, reason = "used in map_err")]
pub(super) fn unreachable(error: tokio_postgres::Error) -> Error {
    Error::Unavailable(with_cause(&error))
}

/// Whether a deadlock or a serialization failure aborted the transaction, so that it is worth
/// retrying.
pub(super) fn is_retryable(code: &SqlState) -> bool {
    *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE
}

/// Whether the error is about the server rather than the statement: it shuts down, is out of
/// resources, became read-only, cancelled the statement, or timed out.
pub(super) fn is_server_condition(code: &SqlState) -> bool {
    let class = code.code().get(..2);
    matches!(class, Some("08" | "40" | "53" | "57" | "58"))
        || [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(code)
}

/// Whether a later retry may succeed. An error that ends the connection says nothing about the
/// statement.
fn is_transient(code: &SqlState, severity: Option<Severity>) -> bool {
    is_retryable(code)
        || is_server_condition(code)
        || severity.is_some_and(|it| it != Severity::Error)
}

fn explain_db_error(error: &DbError) -> Error {
    let (code, message) = (error.code().code(), error.message());
    if *error.code() == SqlState::UNIQUE_VIOLATION {
        let constraint = error.constraint().unwrap_or_default().to_owned();
        Error::Conflict { constraint }
    } else if is_transient(error.code(), error.parsed_severity()) {
        Error::Unavailable(format!("{message} ({code})"))
    } else {
        // The detail may quote personal data, so it is omitted.
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
        (Some(db_error), _) => format!("{error}: {}", db_error.message()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_server_are_transient_and_errors_of_a_statement_are_not() {
        for (code, expected) in [
            ("08006", true),  // the connection failed
            ("25006", true),  // read-only after a failover
            ("25P03", true),  // idle in a transaction for too long
            ("40001", true),  // serialization failure
            ("40003", true),  // statement completion unknown
            ("40P01", true),  // a deadlock
            ("53100", true),  // the disk is full
            ("53200", true),  // out of memory
            ("53300", true),  // too many connections
            ("55P03", true),  // lock not available
            ("57014", true),  // cancelled or timed out
            ("57P01", true),  // shut down by an administrator
            ("57P02", true),  // shut down by a crash
            ("57P03", true),  // cannot connect now
            ("58030", true),  // an I/O error
            ("22P02", false), // malformed value
            ("23502", false), // NOT NULL violation
            ("42601", false), // a syntax error
            ("42P01", false), // no such table
            ("54000", false), // program limit exceeded
            ("XX001", false), // data corrupted
        ] {
            let code = SqlState::from_code(code);
            let severity = Some(Severity::Error);
            assert_eq!(is_transient(&code, severity), expected, "{code:?}");
        }
        let code = SqlState::from_code("XX000");
        assert!(is_transient(&code, Some(Severity::Fatal)));
        assert!(is_transient(&code, Some(Severity::Panic)));
    }

    #[test]
    fn only_deadlocks_and_serialization_failures_are_retryable() {
        for (code, expected) in [
            ("40001", true),
            ("40P01", true),
            ("40003", false),
            ("53100", false),
        ] {
            assert_eq!(is_retryable(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
