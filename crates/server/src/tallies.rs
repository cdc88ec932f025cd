//! Row counts of lists. The transaction that adds or removes rows also updates the count, so that a
//! total reads one row instead of scanning the list
//! (docs/adr/0004-tallies-and-remembered-ranks.md).

use parlor_protocol::ids::AppId;
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

/// The number of rows added to and removed from a scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of rows ever added.
    pub added: i64,
    /// Number of rows ever removed.
    pub removed: i64,
}

impl Tally {
    /// The current number of rows.
    pub fn total(self) -> i64 {
        (self.added - self.removed).max(0)
    }
}

impl FromRow for Tally {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            added: row.take(0)?,
            removed: row.take(1)?,
        })
    }
}

static TALLY_ADDED: Statement = Statement::new(
    "tallies.added",
    "INSERT INTO tallies (app_id, scope, lane, added, removed) VALUES ($1, $2, {lane}, $3, 0)
     ON CONFLICT (app_id, scope, lane) DO UPDATE SET added = tallies.added + excluded.added",
);
static TALLY_REMOVED: Statement = Statement::new(
    "tallies.removed",
    "INSERT INTO tallies (app_id, scope, lane, added, removed) VALUES ($1, $2, {lane}, 0, $3)
     ON CONFLICT (app_id, scope, lane) DO UPDATE SET removed = tallies.removed + excluded.removed",
);

pub(crate) static STATEMENTS: [&Statement; 3] = [&TALLY, &TALLY_ADDED, &TALLY_REMOVED];

/// Counts the rows that a unit adds to a scope. `added` computes their number from the rows that
/// the unit's steps return.
pub(crate) fn count_added(
    unit: Unit,
    app: AppId,
    scope: Uuid,
    added: impl Fn(&[Vec<Row>]) -> i64 + Send + 'static,
) -> Unit {
    unit.sum(&TALLY_ADDED, values![app.uuid(), scope], added)
}

/// Counts one row that a unit removes from a scope.
pub(crate) fn count_removed(unit: Unit, app: AppId, scope: Uuid) -> Unit {
    unit.sum(&TALLY_REMOVED, values![app.uuid(), scope], |_| 1)
}

/// Counts the rows that a unit removes from a scope. `removed` computes their number from the rows
/// that the unit's steps return.
pub(crate) fn count_removed_where(
    unit: Unit,
    app: AppId,
    scope: Uuid,
    removed: impl Fn(&[Vec<Row>]) -> i64 + Send + 'static,
) -> Unit {
    unit.sum(&TALLY_REMOVED, values![app.uuid(), scope], removed)
}

/// Counts the rows that the first step of a unit removes from a scope. The step must return them.
pub(crate) fn count_removed_rows(unit: Unit, app: AppId, scope: Uuid) -> Unit {
    unit.sum(&TALLY_REMOVED, values![app.uuid(), scope], |rows| {
        let removed = rows.first().map_or(0, Vec::len);
        i64::try_from(removed).unwrap_or(i64::MAX)
    })
}

/// Reads the tally of a scope.
pub(crate) static TALLY: Statement = Statement::new(
    "tallies.read",
    "SELECT CAST(COALESCE(SUM(added), 0) AS BIGINT), CAST(COALESCE(SUM(removed), 0) AS BIGINT)
     FROM tallies WHERE app_id = $1 AND scope = $2",
);
