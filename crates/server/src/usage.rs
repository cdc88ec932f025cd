//! Storage usage: the bytes of files and chat messages of a meeting, an app and the whole server.
//!
//! A transaction that writes or deletes files or messages adds the difference to the three counts
//! ([`count`]). A count that several units of a batch change is written once per batch.

use parlor_store::{Db, Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

/// The ID that stands for all apps, or for all meetings of an app.
pub(crate) const ALL: Uuid = Uuid::nil();

static OF: Statement = Statement::new(
    "usage.of",
    "SELECT
       (SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $1 AND meeting_id = $2),
       (SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $1 AND meeting_id = $3),
       (SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $3 AND meeting_id = $3),
       (SELECT CAST(COALESCE(SUM(chat_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $1 AND meeting_id = $2),
       (SELECT CAST(COALESCE(SUM(chat_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $1 AND meeting_id = $3),
       (SELECT CAST(COALESCE(SUM(chat_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $3 AND meeting_id = $3)",
);
static FILES: Statement = Statement::new(
    "usage.files",
    "INSERT INTO usage (app_id, meeting_id, lane, file_bytes, chat_bytes) VALUES ($1, $2, {lane}, $3, 0)
     ON CONFLICT (app_id, meeting_id, lane) DO UPDATE SET file_bytes = usage.file_bytes + excluded.file_bytes",
);
static CHAT: Statement = Statement::new(
    "usage.chat",
    "INSERT INTO usage (app_id, meeting_id, lane, file_bytes, chat_bytes) VALUES ($1, $2, {lane}, 0, $3)
     ON CONFLICT (app_id, meeting_id, lane) DO UPDATE SET chat_bytes = usage.chat_bytes + excluded.chat_bytes",
);
/// For units that run one after another: the next unit must see the new count, so it is not
/// deferred to the end of the batch.
static RESERVED: Statement = Statement::new(
    "usage.reserved",
    "INSERT INTO usage (app_id, meeting_id, lane, file_bytes, chat_bytes) VALUES ($1, $2, -1, $3, 0)
     ON CONFLICT (app_id, meeting_id, lane) DO UPDATE SET file_bytes = usage.file_bytes + excluded.file_bytes",
);
/// Deletes the counts of a deleted meeting, after everything else of it is gone.
static FORGET_MEETING: Statement = Statement::new(
    "usage.forget_meeting",
    "DELETE FROM usage WHERE app_id = $1 AND meeting_id = $2",
);
/// Deletes the counts of a deleted app, after all its meetings are purged.
static FORGET_APP: Statement = Statement::new(
    "usage.forget_app",
    "DELETE FROM usage WHERE app_id = $1 AND NOT EXISTS (SELECT 1 FROM apps WHERE id = $1)
     AND NOT EXISTS (SELECT 1 FROM purges WHERE app_id = $1)",
);

pub(crate) static STATEMENTS: [&Statement; 6] =
    [&OF, &FILES, &CHAT, &RESERVED, &FORGET_MEETING, &FORGET_APP];

/// Kind of stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredKind {
    /// Chat files.
    Files,
    /// Chat messages.
    Chat,
}

/// Bytes used by a meeting, by its app and by all apps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) meeting: u64,
    pub(crate) app: u64,
    pub(crate) all: u64,
}

/// Storage usage of files and chat messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) files: Used,
    pub(crate) chat: Used,
}

impl FromRow for Usage {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let mut used = |first: usize| -> Result<Used, Error> {
            let mut bytes = |index| {
                row.take::<i64>(index)
                    .map(|bytes| u64::try_from(bytes).unwrap_or_default())
            };
            Ok(Used {
                meeting: bytes(first)?,
                app: bytes(first + 1)?,
                all: bytes(first + 2)?,
            })
        };
        Ok(Self {
            files: used(0)?,
            chat: used(3)?,
        })
    }
}

/// Reads the usage of a meeting, its app and all apps.
///
/// # Errors
/// When the database fails.
pub(crate) async fn read(db: &Db, app: Uuid, meeting: Uuid) -> Result<Usage, Error> {
    let key = values![app, meeting, ALL];
    let found = db.read::<Usage>(&OF, key).await?.pop();
    Ok(found.unwrap_or_default())
}

/// Adds a difference to the counts of a meeting, its app and all apps. `grown` computes the
/// difference, in bytes, from the rows that the unit's steps return.
pub(crate) fn count(
    mut unit: Unit,
    what: StoredKind,
    (app, meeting): (Uuid, Uuid),
    grown: impl Fn(&[Vec<Row>]) -> i64 + Clone + Send + 'static,
) -> Unit {
    let statement = match what {
        StoredKind::Files => &FILES,
        StoredKind::Chat => &CHAT,
    };
    for (app, meeting) in levels(app, meeting) {
        unit = unit.sum(statement, values![app, meeting], grown.clone());
    }
    unit
}

/// Adds file bytes to the three counts immediately, so that the next unit sees them.
pub(crate) fn reserve(mut unit: Unit, app: Uuid, meeting: Uuid, bytes: i64) -> Unit {
    for (app, meeting) in levels(app, meeting) {
        unit = unit.then(&RESERVED, values![app, meeting, bytes]);
    }
    unit
}

/// Deletes the counts of a meeting after everything else of it is gone.
pub(crate) fn delete_meeting(unit: Unit, app: Uuid, meeting: Uuid) -> Unit {
    unit.then(&FORGET_MEETING, values![app, meeting])
}

/// Deletes the counts of an app if it was deleted and all its meetings were purged.
pub(crate) fn delete_app(unit: Unit, app: Uuid) -> Unit {
    unit.then(&FORGET_APP, values![app])
}

fn levels(app: Uuid, meeting: Uuid) -> [(Uuid, Uuid); 3] {
    [(app, meeting), (app, ALL), (ALL, ALL)]
}

/// Returns the sum of the first column over the rows of a step.
pub(crate) fn sum_of(rows: &[Vec<Row>], step: usize) -> i64 {
    let rows = rows.get(step).map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row.get::<i64>(0)).sum()
}
