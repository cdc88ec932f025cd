//! Deferred deletion of the records of deleted apps and meetings.

use parlor_store::Statement;
use uuid::Uuid;

/// The meeting ID that stands for the whole app.
pub(crate) const WHOLE_APP: Uuid = Uuid::nil();

/// Schedules the remaining records of a deleted app ([`WHOLE_APP`]) or meeting for the sweeper.
pub(crate) static PURGE: Statement = Statement::new(
    "purges.insert",
    "INSERT INTO purges (app_id, meeting_id, passes, due) VALUES ($1, $2, 0, $3)
     ON CONFLICT (app_id, meeting_id) DO NOTHING",
);
