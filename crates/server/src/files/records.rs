//! The records of files. Bytes are reserved in the records before the first one is written, so that
//! uploads at the same time, on any node, never take more than a quota together; what was reserved
//! for an upload that died with its process is given back by `upkeep`.
//!
//! Whoever removes a file claims its row first ([`claim`]), on the condition that it is as it was
//! found. So of an upload that ends and a removal that begins at the same time one comes first, and
//! the other one finds no row.

use parlor_store::{Error, FromRow, Row, Statement, Unit, Value, values};
use uuid::Uuid;

use crate::files::FileService;
use crate::files::links::File;
use crate::usage::{self, What, sum_of};

/// Units that reserve lock one row; on a node all of them run on one writer, after others.
const RESERVATION_KEY: u64 = u64::MAX;
/// `stored_at` of a file that `process` is removing.
const REMOVED: i64 = -1;
/// Stands for `stored_at` where that is NULL.
const UNFINISHED: i64 = -2;
/// How often the end of an upload is tried to be written.
const TRIES: usize = 3;

static RESERVATION_LOCK: Statement = Statement::new(
    "files.turn",
    "UPDATE file_storage SET turn = turn + 1 WHERE id = 1",
);
static RESERVE: Statement = Statement::new(
    "files.reserve",
    "INSERT INTO files (app_id, meeting_id, id, process, bytes, created_at, stored_at)
     SELECT CAST($1 AS UUID), CAST($2 AS UUID), CAST($3 AS UUID), CAST($4 AS UUID), CAST($5 AS BIGINT), CAST($6 AS BIGINT), NULL
     WHERE (SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $1 AND meeting_id = $2) <= CAST($7 AS BIGINT)
       AND (SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $1 AND meeting_id = $10) <= CAST($8 AS BIGINT)
       AND (SELECT CAST(COALESCE(SUM(file_bytes), 0) AS BIGINT) FROM usage WHERE app_id = $10 AND meeting_id = CAST($10 AS UUID)) <= CAST($9 AS BIGINT)
     ON CONFLICT (app_id, meeting_id, id) DO NOTHING RETURNING bytes",
);
static SETTLE: Statement = Statement::new(
    "files.settle",
    "UPDATE files SET bytes = $5, stored_at = $6
     WHERE app_id = $1 AND meeting_id = $2 AND id = $3 AND process = $4 AND stored_at IS NULL RETURNING bytes",
);
static FREE: Statement = Statement::new(
    "files.free",
    "DELETE FROM files WHERE app_id = $1 AND meeting_id = $2 AND id = $3
     AND process = $4 AND COALESCE(stored_at, -2) = $5 RETURNING bytes",
);
static CLAIM: Statement = Statement::new(
    "files.claim",
    "UPDATE files SET process = $6, stored_at = $7 WHERE app_id = $1 AND meeting_id = $2 AND id = $3
     AND process = $4 AND COALESCE(stored_at, -2) = $5 RETURNING bytes",
);
/// Where there is no row: nobody may write the file while what is in the storage is deleted.
static CLAIM_ABSENT: Statement = Statement::new(
    "files.claim_absent",
    "INSERT INTO files (app_id, meeting_id, id, process, bytes, created_at, stored_at) VALUES ($1, $2, $3, $4, 0, $5, $6)
     ON CONFLICT (app_id, meeting_id, id) DO NOTHING RETURNING bytes",
);
static FIND: Statement = Statement::new(
    "files.find",
    "SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);
/// A file that is in the storage and not in the records.
static FOUND: Statement = Statement::new(
    "files.found",
    "INSERT INTO files (app_id, meeting_id, id, process, bytes, created_at, stored_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
     ON CONFLICT (app_id, meeting_id, id) DO NOTHING RETURNING bytes",
);

pub(crate) static STATEMENTS: [&Statement; 8] = [
    &RESERVATION_LOCK,
    &RESERVE,
    &SETTLE,
    &FREE,
    &CLAIM,
    &CLAIM_ABSENT,
    &FIND,
    &FOUND,
];

/// A file in the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) app: Uuid,
    pub(crate) meeting: Uuid,
    pub(crate) id: Uuid,
    /// Who writes it, wrote it or removes it; nil when it was found in the storage.
    pub(crate) process: Uuid,
    /// What it takes, or what was reserved for it.
    pub(crate) bytes: i64,
    /// When its last byte was written, Unix milliseconds; [`REMOVED`] while it is removed.
    pub(crate) stored_ms: Option<i64>,
}

impl FileRow {
    /// It is whole, and nobody removes it.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored_ms.is_some_and(|ms| ms != REMOVED)
    }

    /// What a statement compares with the row, which must not have changed.
    fn unchanged(&self) -> Vec<Value> {
        let stored = self.stored_ms.unwrap_or(UNFINISHED);
        values![self.app, self.meeting, self.id, self.process, stored]
    }
}

impl FromRow for FileRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            app: row.take(0)?,
            meeting: row.take(1)?,
            id: row.take(2)?,
            process: row.take(3)?,
            bytes: row.take(4)?,
            stored_ms: row.take(5)?,
        })
    }
}

/// Why bytes could not be reserved.
#[derive(Debug)]
pub(crate) enum NotReserved {
    /// The file is being written, or was.
    Taken,
    /// Which quota has no room: `meeting_quota`, `app_quota` or `server_quota`.
    Full(&'static str),
    /// The database fails.
    Failed(Error),
}

impl From<Error> for NotReserved {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn key(file: &File) -> [Uuid; 3] {
    [file.app.uuid(), file.meeting.uuid(), file.id]
}

/// The row of a file, if there is one.
pub(crate) async fn find(
    service: &FileService,
    [app, meeting, id]: [Uuid; 3],
) -> Result<Option<FileRow>, Error> {
    let key = values![app, meeting, id];
    Ok(service.db.read::<FileRow>(&FIND, key).await?.pop())
}

/// Reserves the bytes of a file that was never written before. It is this process's until it is
/// settled or freed.
pub(crate) async fn reserve(
    service: &FileService,
    file: &File,
    bytes: u64,
) -> Result<(), NotReserved> {
    let quotas = &service.quotas;
    let [app, meeting, id] = key(file);
    let amount = whole(bytes);
    // What may be there already, so that there is room for this.
    let room = |quota: u64| match quota {
        0 => i64::MAX,
        quota => quota
            .checked_sub(bytes)
            .map_or(-1, |room| i64::try_from(room).unwrap_or(i64::MAX)),
    };
    let (of_meeting, of_app, of_all) = (
        quotas.files_per_meeting,
        quotas.files_per_app,
        quotas.files_total,
    );
    let row = values![
        app,
        meeting,
        id,
        service.process,
        amount,
        service.clock.now_ms(),
        room(of_meeting),
        room(of_app),
        room(of_all),
        usage::ALL
    ];
    let unit = Unit::default().keyed(RESERVATION_KEY);
    let unit = unit.exactly_one(&RESERVATION_LOCK, values![]);
    let unit = usage::reserve(unit.exactly_one(&RESERVE, row), app, meeting, amount);
    match service.db.commit(unit).await {
        Ok(_) => return Ok(()),
        Err(Error::WrongCount { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if find(service, [app, meeting, id]).await?.is_some() {
        return Err(NotReserved::Taken);
    }
    // Somebody may have made room meanwhile.
    let full = full(service, file, bytes).await?;
    Err(NotReserved::Full(full.unwrap_or("meeting_quota")))
}

/// Which quota has no room for so many bytes more, if any.
pub(crate) async fn full(
    service: &FileService,
    file: &File,
    bytes: u64,
) -> Result<Option<&'static str>, Error> {
    let quotas = &service.quotas;
    let [app, meeting, _] = key(file);
    let used = usage::of(&service.db, app, meeting).await?.files;
    let is_full = |used: u64, quota: u64| quota > 0 && used.saturating_add(bytes) > quota;
    let of = [
        (used.meeting, quotas.files_per_meeting, "meeting_quota"),
        (used.app, quotas.files_per_app, "app_quota"),
        (used.all, quotas.files_total, "server_quota"),
    ];
    let full = of
        .into_iter()
        .find(|(used, quota, _)| is_full(*used, *quota));
    Ok(full.map(|(_, _, quota)| quota))
}

/// A file is in the storage: it takes what was written, no longer what was reserved. False when the
/// reservation is no longer there, and nothing may know of the file any more.
pub(crate) async fn settle(
    service: &FileService,
    file: &File,
    reserved: u64,
    written: u64,
) -> Result<bool, Error> {
    let [app, meeting, id] = key(file);
    let (reserved, written) = (whole(reserved), whole(written));
    let unit = || {
        let now_ms = service.clock.now_ms();
        let row = values![app, meeting, id, service.process, written, now_ms];
        let unit = Unit::default().exactly_one(&SETTLE, row);
        usage::count(unit, What::Files, (app, meeting), move |_| {
            written - reserved
        })
    };
    let mut last = Ok(false);
    for _ in 0..TRIES {
        last = match service.db.commit(unit()).await {
            Ok(_) => return Ok(true),
            // An earlier try may have been committed, although nobody said so.
            Err(Error::WrongCount { .. }) => {
                let row = find(service, [app, meeting, id]).await?;
                let is_ours = |row: &FileRow| row.process == service.process;
                return Ok(row.is_some_and(|row| is_ours(&row) && row.is_stored()));
            }
            Err(error @ Error::Unavailable(_)) => Err(error),
            Err(error) => return Err(error),
        };
    }
    last
}

/// Claims a file for its removal, if its row is as it was found: whoever writes it cannot settle it
/// any more, and nobody else removes it. `None` when the row has changed.
pub(crate) async fn claim(
    service: &FileService,
    found: &FileRow,
) -> Result<Option<FileRow>, Error> {
    let mut row = found.unchanged();
    row.extend(values![service.process, REMOVED]);
    let unit = Unit::default().then(&CLAIM, row);
    let claimed = FileRow {
        process: service.process,
        stored_ms: Some(REMOVED),
        ..found.clone()
    };
    let rows = service.db.commit(unit).await?;
    Ok(has_row(&rows).then_some(claimed))
}

/// Claims a file of which there is no row; `None` when there is one.
pub(crate) async fn claim_absent(
    service: &FileService,
    [app, meeting, id]: [Uuid; 3],
) -> Result<Option<FileRow>, Error> {
    let (process, now_ms) = (service.process, service.clock.now_ms());
    let row = values![app, meeting, id, process, now_ms, REMOVED];
    let unit = Unit::default().then(&CLAIM_ABSENT, row);
    let claimed = FileRow {
        app,
        meeting,
        id,
        process,
        bytes: 0,
        stored_ms: Some(REMOVED),
    };
    let rows = service.db.commit(unit).await?;
    Ok(has_row(&rows).then_some(claimed))
}

/// What a file took is free again, if its row is as it was found.
pub(crate) async fn free(service: &FileService, found: &FileRow) -> Result<(), Error> {
    let unit = Unit::default().then(&FREE, found.unchanged());
    let of = (found.app, found.meeting);
    let unit = usage::count(unit, What::Files, of, |rows| -sum_of(rows, 0));
    service.db.commit(unit).await.map(drop)
}

/// The row of a file that this process has reserved and is writing.
pub(crate) fn being_written(service: &FileService, [app, meeting, id]: [Uuid; 3]) -> FileRow {
    FileRow {
        app,
        meeting,
        id,
        process: service.process,
        bytes: 0,
        stored_ms: None,
    }
}

fn has_row(rows: &[Vec<Row>]) -> bool {
    rows.first().is_some_and(|rows| !rows.is_empty())
}

/// Counts a file that is in the storage and not in the records.
pub(crate) async fn found(
    service: &FileService,
    [app, meeting, id]: [Uuid; 3],
    bytes: u64,
    stored_ms: i64,
) -> Result<(), Error> {
    // Before 1970 the numbers mean something else.
    let stored_ms = stored_ms.max(0);
    let row = values![app, meeting, id, Uuid::nil(), whole(bytes), stored_ms];
    let unit = Unit::default().then(&FOUND, row);
    let unit = usage::count(unit, What::Files, (app, meeting), |rows| sum_of(rows, 0));
    service.db.commit(unit).await.map(drop)
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
