//! A named SQL text and its spelling on each engine.

use std::sync::OnceLock;

use crate::lower;

/// One SQL statement, declared once as a `static`.
///
/// Written in PostgreSQL's spelling with parameters `$1`…`$n`. On SQLite a parameter is
/// bound by its number, the types in a `CAST` are lowered as in a [`crate::Migration`],
/// and `{lane}` becomes `0`. On PostgreSQL `{lane}` becomes `(pg_backend_pid() % 64)`.
///
/// The portable subset: no engine-side clock, `CAST(x AS BIGINT)` instead of `x::bigint`,
/// sums cast to `BIGINT` (PostgreSQL answers `NUMERIC`), explicit `NULLS FIRST`/`LAST`.
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    sql: &'static str,
    sqlite: OnceLock<String>,
    postgres: OnceLock<String>,
}

impl Statement {
    /// A statement with a name for metrics (`"participants.upsert"`) and its text.
    pub const fn new(name: &'static str, sql: &'static str) -> Self {
        Self {
            name,
            sql,
            sqlite: OnceLock::new(),
            postgres: OnceLock::new(),
        }
    }

    /// The name for metrics and logs.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The text as it was written.
    pub fn sql(&self) -> &'static str {
        self.sql
    }

    pub(crate) fn sqlite(&self) -> &str {
        self.sqlite.get_or_init(|| lower::to_sqlite(self.sql))
    }

    pub(crate) fn postgres(&self) -> &str {
        self.postgres.get_or_init(|| lower::to_postgres(self.sql))
    }
}
