//! Opening and configuring connections.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use crate::Error;

use super::explain::explain;

/// How long to wait for a write lock that another process holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than the number of statements in the program.
const PREPARED_STATEMENTS: usize = 1024;

/// Opens a read-write connection without automatic checkpoints.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
    set_up_writer(&connection).map_err(|error| explain(&connection, error))?;
    Ok(connection)
}

/// Opens a read-only connection.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    set_up(&connection).map_err(|error| explain(&connection, error))?;
    Ok(connection)
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> Error {
    Error::Unavailable(format!("cannot open {}: {error}", path.display()))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Without this setting, SQLite recompiles statements that use a partial index whenever a
    // parameter changes, which costs ten times as much as the statement.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA cache_size = -32768;")
}

fn set_up_writer(connection: &Connection) -> rusqlite::Result<()> {
    set_up(connection)?;
    enable_wal(connection)?;
    // A checkpoint inside a commit would cause the highest commit latencies; see `checkpoint`.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
}

/// Enables the write-ahead log. Retries while another process does the same, because SQLite's busy
/// timeout does not apply here.
fn enable_wal(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < BUSY_TIMEOUT =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            mode => return mode.map(drop),
        }
    }
}
