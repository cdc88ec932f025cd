//! What a failure of SQLite means to the caller.

use rusqlite::{Connection, ErrorCode, ffi};

use crate::Error;

const UNIQUE_INDEX: &str = "
    SELECT list.name FROM pragma_index_list(?1) AS list
    WHERE list.\"unique\" AND ?2 = (
        SELECT group_concat(name, ',') FROM (
            SELECT name FROM pragma_index_info(list.name) ORDER BY seqno))";

/// The error for the caller. The connection is asked for the name of the index that a
/// key conflicts with, because SQLite tells only the columns.
pub(super) fn explain(connection: &Connection, error: rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error() else {
        return Error::Broken(error.to_string());
    };
    let is_key = matches!(
        code.extended_code,
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    );
    match (code.code, error) {
        (_, rusqlite::Error::SqliteFailure(code, Some(text))) if is_key => {
            let is_primary = code.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY;
            let constraint = constraint(connection, is_primary, &text);
            Error::Conflict { constraint }
        }
        (
            ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure,
            error,
        ) => Error::Unavailable(error.to_string()),
        (_, error) => Error::Broken(error.to_string()),
    }
}

/// The index's name from `UNIQUE constraint failed: apps.account_id, apps.id`.
fn constraint(connection: &Connection, is_primary: bool, text: &str) -> String {
    let columns = text.rsplit(": ").next().unwrap_or(text);
    let Some((table, _)) = columns.split_once('.') else {
        return columns.to_owned();
    };
    if is_primary {
        return format!("{table}_pkey");
    }
    let names = columns.replace(&format!("{table}."), "").replace(", ", ",");
    connection
        .prepare_cached(UNIQUE_INDEX)
        .and_then(|mut query| query.query_row([table, &names], |row| row.get(0)))
        .unwrap_or_else(|_| columns.to_owned())
}
