//! Byte counts for messages that were stored by older versions.

use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

use crate::rooms::LiveSessions;
use crate::usage::{self, StoredKind, sum_of};

static UNCOUNTED: Statement = Statement::new(
    "live_records.uncounted_chat",
    "SELECT app_id, meeting_id FROM chat_messages WHERE bytes = 0 LIMIT 1",
);
/// Must use the same formula as `ChatMessage::stored_bytes`.
static COUNT: Statement = Statement::new(
    "live_records.count_chat",
    "UPDATE chat_messages SET bytes = OCTET_LENGTH(payload) + OCTET_LENGTH(name) + OCTET_LENGTH(targets) + 256
     WHERE app_id = $1 AND meeting_id = $2 AND bytes = 0 AND id IN
     (SELECT id FROM chat_messages WHERE app_id = $1 AND meeting_id = $2 AND bytes = 0 LIMIT 500) RETURNING bytes",
);

pub(super) static STATEMENTS: [&Statement; 2] = [&UNCOUNTED, &COUNT];

struct Of(Uuid, Uuid);

impl FromRow for Of {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self(row.take(0)?, row.take(1)?))
    }
}

/// Counts the bytes of the messages that an older version has stored, a few hundred at a time.
///
/// # Errors
/// When the database fails. Messages counted so far stay counted.
pub(crate) async fn count_old_messages(live: &LiveSessions) -> Result<(), Error> {
    while let Some(Of(app, meeting)) = live.db.scan(&UNCOUNTED, values![]).await?.pop() {
        let unit = Unit::default().then(&COUNT, values![app, meeting]);
        let unit = usage::count(unit, StoredKind::Chat, (app, meeting), |rows| {
            sum_of(rows, 0)
        });
        live.db.commit(unit).await?;
    }
    Ok(())
}
