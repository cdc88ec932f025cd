//! SQL statements with a name and a text for each database.

use std::sync::OnceLock;

use crate::lower;

/// One SQL statement, declared once as a `static`.
///
/// The text is in PostgreSQL syntax with parameters `$1`…`$n`. On SQLite, parameters are bound by
/// number, and the types in a `CAST` are translated as in a [`crate::Migration`].
///
/// `{lane}` is the shard of a sharded counter: `0` on SQLite, `(pg_backend_pid() % 64)` on
/// PostgreSQL.
///
/// Statements must be portable: no database clock, `CAST(x AS BIGINT)` instead of `x::bigint`, sums
/// cast to `BIGINT` (PostgreSQL returns `NUMERIC`), explicit `NULLS FIRST`/`LAST`.
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    sql: &'static str,
    sqlite: OnceLock<String>,
    postgres: OnceLock<String>,
}

impl Statement {
    /// Creates a statement with a name for metrics (`"participants.upsert"`) and its text.
    pub const fn new(name: &'static str, sql: &'static str) -> Self {
        Self {
            name,
            sql,
            sqlite: OnceLock::new(),
            postgres: OnceLock::new(),
        }
    }

    /// Returns the name for metrics and logs.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the text in PostgreSQL syntax.
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
