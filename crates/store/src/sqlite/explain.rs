//! Maps SQLite errors to the store's errors.

use rusqlite::{Connection, ErrorCode, ffi};

use crate::Error;

const UNIQUE_INDEX: &str = "
    SELECT list.name FROM pragma_index_list(?1) AS list
    WHERE list.\"unique\" AND ?2 = (
        SELECT group_concat(name, ',') FROM (
            SELECT name FROM pragma_index_info(list.name) ORDER BY seqno))";

/// Converts an error for the caller. Queries the connection for the name of a violated unique
/// index, because SQLite reports only its columns.
pub(super) fn explain(connection: &Connection, error: rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error() else {
        return Error::Broken(error.to_string());
    };
    let is_key = matches!(
        code.extended_code,
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    );
    if matches!(
        code.code,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
    ) {
        tracing::error!(%error, "the SQLite database file is damaged or unreadable");
    }
    match (code.code, error) {
        (_, rusqlite::Error::SqliteFailure(code, Some(text))) if is_key => {
            let is_primary = code.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY;
            let constraint = constraint(connection, is_primary, &text);
            Error::Conflict { constraint }
        }
        // SQLite also reports a page that the disk could not read (EIO) as corrupt, so this error
        // alone does not prove that the file is damaged.
        (
            ErrorCode::CannotOpen
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure,
            error,
        ) => Error::Unavailable(error.to_string()),
        (_, error) => Error::Broken(error.to_string()),
    }
}

/// Finds the name of the violated index from the columns in an error message such as
/// `UNIQUE constraint failed: apps.account_id, apps.id`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_disk_and_locks_are_unavailable_and_others_are_broken() {
        let connection = Connection::open_in_memory().unwrap();
        for (code, is_unavailable) in [
            (ffi::SQLITE_IOERR, true),
            (ffi::SQLITE_IOERR_READ, true),
            (ffi::SQLITE_IOERR_WRITE, true),
            (ffi::SQLITE_IOERR_FSYNC, true),
            (ffi::SQLITE_IOERR_SHORT_READ, true),
            (ffi::SQLITE_IOERR_CORRUPTFS, true),
            (ffi::SQLITE_IOERR_SHMMAP, true),
            (ffi::SQLITE_FULL, true),
            (ffi::SQLITE_CANTOPEN, true),
            (ffi::SQLITE_BUSY, true),
            (ffi::SQLITE_BUSY_RECOVERY, true),
            (ffi::SQLITE_LOCKED, true),
            (ffi::SQLITE_PROTOCOL, true),
            (ffi::SQLITE_NOMEM, true),
            (ffi::SQLITE_CORRUPT, true),
            (ffi::SQLITE_READONLY, true),
            (ffi::SQLITE_NOTADB, false),
            (ffi::SQLITE_ERROR, false),
            (ffi::SQLITE_CONSTRAINT_NOTNULL, false),
            (ffi::SQLITE_MISMATCH, false),
            (ffi::SQLITE_MISUSE, false),
            (ffi::SQLITE_TOOBIG, false),
        ] {
            let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let explained = explain(&connection, failure);
            let found = match &explained {
                Error::Unavailable(_) => true,
                Error::Broken(_) => false,
                other => panic!("{code} is {other:?}"),
            };
            assert_eq!(found, is_unavailable, "{code} is {explained:?}");
        }
    }
}
