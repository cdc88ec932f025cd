//! What a deleted app or meeting leaves behind, and is removed later.

use parlor_store::Statement;
use uuid::Uuid;

/// Stands for the whole app where a meeting's id would stand.
pub(crate) const WHOLE_APP: Uuid = Uuid::nil();

/// Hands what a deleted app ([`WHOLE_APP`]) or meeting leaves behind to the sweeper.
pub(crate) static PURGE: Statement = Statement::new(
    "purges.insert",
    "INSERT INTO purges (app_id, meeting_id, passes, due) VALUES ($1, $2, 0, $3)
     ON CONFLICT (app_id, meeting_id) DO NOTHING",
);
