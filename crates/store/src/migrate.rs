//! Brings a database to the schema this binary expects.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;

use crate::{Error, FromRow, Row, Statement, Value, values};

/// One step of the schema's history, in PostgreSQL's spelling.
///
/// On SQLite the types are lowered (`UUID`, `BYTEA` → `BLOB`; `BOOLEAN`, `BIGINT` →
/// `INTEGER`; `JSONB` → `TEXT`), `COLLATE "C"` is dropped (SQLite compares bytes anyway),
/// and tables become `STRICT, WITHOUT ROWID`: each needs a primary key. Key words and
/// types are upper case, names lower case.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Unique, and sorts in the order of the history: `"0001_init"`.
    pub name: &'static str,
    /// Any number of DDL statements, separated by `;`.
    pub sql: &'static str,
}

/// Where a database remembers what was applied to it.
pub(crate) static HISTORY: Statement = Statement::new(
    "migrations.history",
    "CREATE TABLE IF NOT EXISTS schema_migrations (
        name TEXT NOT NULL,
        sha256 BYTEA NOT NULL,
        applied_at BIGINT NOT NULL,
        PRIMARY KEY (name)
    )",
);

/// What was applied.
pub(crate) static APPLIED: Statement = Statement::new(
    "migrations.applied",
    "SELECT name, sha256 FROM schema_migrations",
);

/// Remembers one.
pub(crate) static RECORD: Statement = Statement::new(
    "migrations.record",
    "INSERT INTO schema_migrations (name, sha256, applied_at) VALUES ($1, $2, $3)",
);

/// A row of the history.
pub(crate) struct Applied {
    name: String,
    sha256: Vec<u8>,
}

impl FromRow for Applied {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            name: row.take(0)?,
            sha256: row.take(1)?,
        })
    }
}

/// The first migration that is missing, `None` when the database is up to date.
pub(crate) fn next<'a>(
    all: &'a [Migration],
    applied: &[Applied],
) -> Result<Option<&'a Migration>, Error> {
    for row in applied {
        let Some(known) = all.iter().find(|migration| migration.name == row.name) else {
            return Err(Error::Newer {
                migration: row.name.clone(),
            });
        };
        if sha256(known) != row.sha256 {
            let name = known.name;
            let text = format!("migration {name} was changed after it was applied");
            return Err(Error::Broken(text));
        }
    }
    let is_missing = |migration: &&Migration| applied.iter().all(|row| row.name != migration.name);
    Ok(all.iter().find(is_missing))
}

/// The parameters of [`RECORD`].
#[expect(
    clippy::disallowed_methods,
    reason = "when a migration ran is a note for people; the store has no clock"
)]
pub(crate) fn record(migration: &Migration) -> Vec<Value> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    values![migration.name, sha256(migration), now]
}

fn sha256(migration: &Migration) -> Vec<u8> {
    digest::digest(&digest::SHA256, migration.sql.as_bytes())
        .as_ref()
        .to_vec()
}
