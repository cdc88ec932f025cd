//! Schema migrations.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;

use crate::{Error, FromRow, Row, Statement, Value, values};

/// One schema migration, in PostgreSQL syntax.
///
/// On SQLite the types are translated (`UUID`, `BYTEA` → `BLOB`; `BOOLEAN`, `BIGINT` → `INTEGER`;
/// `JSONB` → `TEXT`), `COLLATE "C"` is dropped (SQLite compares bytes anyway), and tables become
/// `STRICT, WITHOUT ROWID`, so each needs a primary key. Keywords and types must be upper case,
/// names lower case.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Unique name, sorting in the order of application: `"0001_init"`.
    pub name: &'static str,
    /// DDL statements, separated by `;`.
    pub sql: &'static str,
}

/// Creates the table of applied migrations.
pub(crate) static HISTORY: Statement = Statement::new(
    "migrations.history",
    "CREATE TABLE IF NOT EXISTS schema_migrations (
        name TEXT NOT NULL,
        sha256 BYTEA NOT NULL,
        applied_at BIGINT NOT NULL,
        PRIMARY KEY (name)
    )",
);

/// Lists the applied migrations.
pub(crate) static APPLIED: Statement = Statement::new(
    "migrations.applied",
    "SELECT name, sha256 FROM schema_migrations",
);

/// Records an applied migration.
pub(crate) static RECORD: Statement = Statement::new(
    "migrations.record",
    "INSERT INTO schema_migrations (name, sha256, applied_at) VALUES ($1, $2, $3)",
);

/// An applied migration.
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

/// Returns the first missing migration, or `None` when the database is up to date.
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
    reason = "the time is only informational; the store has no clock of its own"
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
