//! How many bytes files and chat messages take: of a meeting, of an app, of the whole server.
//!
//! Whoever writes or deletes something stored adds the difference to the three counts, in the same
//! transaction ([`count`]). Counts that many units add to are written once for a batch.

use parlor_store::{Db, Error, FromRow, Row, Statement, Unit, values};
use uuid::Uuid;

/// Stands for all apps, or all meetings of an app.
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
/// For units that take turns: the next one must see it, so it is not left for the end of the batch.
static RESERVED: Statement = Statement::new(
    "usage.reserved",
    "INSERT INTO usage (app_id, meeting_id, lane, file_bytes, chat_bytes) VALUES ($1, $2, -1, $3, 0)
     ON CONFLICT (app_id, meeting_id, lane) DO UPDATE SET file_bytes = usage.file_bytes + excluded.file_bytes",
);
/// The counts of a deleted meeting, of which nothing is left.
static FORGET_MEETING: Statement = Statement::new(
    "usage.forget_meeting",
    "DELETE FROM usage WHERE app_id = $1 AND meeting_id = $2",
);
/// The counts of a deleted app, once all its meetings are swept.
static FORGET_APP: Statement = Statement::new(
    "usage.forget_app",
    "DELETE FROM usage WHERE app_id = $1 AND NOT EXISTS (SELECT 1 FROM apps WHERE id = $1)
     AND NOT EXISTS (SELECT 1 FROM purges WHERE app_id = $1)",
);

pub(crate) static STATEMENTS: [&Statement; 6] =
    [&OF, &FILES, &CHAT, &RESERVED, &FORGET_MEETING, &FORGET_APP];

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Files of chats.
    Files,
    /// Messages of chats.
    Chat,
}

/// Bytes of a meeting, of its app, and of all apps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) meeting: u64,
    pub(crate) app: u64,
    pub(crate) all: u64,
}

/// What is used of the storage and of the records.
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

/// What a meeting, its app and all apps use.
///
/// # Errors
/// When the database fails.
pub(crate) async fn of(db: &Db, app: Uuid, meeting: Uuid) -> Result<Usage, Error> {
    let key = values![app, meeting, ALL];
    let found = db.read::<Usage>(&OF, key).await?.pop();
    Ok(found.unwrap_or_default())
}

/// Adds to the three counts, by how much the rows of the unit's steps say.
pub(crate) fn count(
    mut unit: Unit,
    what: What,
    (app, meeting): (Uuid, Uuid),
    grown: impl Fn(&[Vec<Row>]) -> i64 + Clone + Send + 'static,
) -> Unit {
    let statement = match what {
        What::Files => &FILES,
        What::Chat => &CHAT,
    };
    for (app, meeting) in levels(app, meeting) {
        unit = unit.sum(statement, values![app, meeting], grown.clone());
    }
    unit
}

/// Adds bytes of files to the three counts at once, for the unit that comes next to see.
pub(crate) fn reserve(mut unit: Unit, app: Uuid, meeting: Uuid, bytes: i64) -> Unit {
    for (app, meeting) in levels(app, meeting) {
        unit = unit.then(&RESERVED, values![app, meeting, bytes]);
    }
    unit
}

/// Drops the counts of a meeting of which nothing is left.
pub(crate) fn forget_meeting(unit: Unit, app: Uuid, meeting: Uuid) -> Unit {
    unit.then(&FORGET_MEETING, values![app, meeting])
}

/// Drops the counts of an app, if it was deleted and all its meetings were swept.
pub(crate) fn forget_app(unit: Unit, app: Uuid) -> Unit {
    unit.then(&FORGET_APP, values![app])
}

fn levels(app: Uuid, meeting: Uuid) -> [(Uuid, Uuid); 3] {
    [(app, meeting), (app, ALL), (ALL, ALL)]
}

/// The sum of the first column of the rows of a step.
pub(crate) fn sum_of(rows: &[Vec<Row>], step: usize) -> i64 {
    let rows = rows.get(step).map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row.get::<i64>(0)).sum()
}
