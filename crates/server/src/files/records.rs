//! The records of files. An upload reserves its bytes in the records before it writes the first
//! one, so that concurrent uploads on any node cannot exceed a quota together. `cleanup` releases
//! the reservations of processes that died during an upload.
//!
//! A removal first claims the row of the file ([`claim`]), which fails if the row has changed since
//! it was read. So when an upload completes while a removal begins, exactly one of them succeeds.

use parlor_store::{Error, FromRow, Row, Statement, Unit, Value, values};
use uuid::Uuid;

use crate::files::FileService;
use crate::files::links::File;
use crate::usage::{self, StoredKind, sum_of};

/// Key of the units that reserve bytes. They all lock the same row, so on each node one writer runs
/// them one after another.
const RESERVATION_KEY: u64 = u64::MAX;
/// Value of `stored_at` while `process` removes the file.
const REMOVED: i64 = -1;
/// Value that stands for a NULL `stored_at` in comparisons.
const UNFINISHED: i64 = -2;
/// Maximum number of attempts to record the completion of an upload.
const ATTEMPTS: usize = 3;

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
/// Claims a file without a row, so that it cannot be written while its object is deleted.
static CLAIM_ABSENT: Statement = Statement::new(
    "files.claim_absent",
    "INSERT INTO files (app_id, meeting_id, id, process, bytes, created_at, stored_at) VALUES ($1, $2, $3, $4, 0, $5, $6)
     ON CONFLICT (app_id, meeting_id, id) DO NOTHING RETURNING bytes",
);
static FIND: Statement = Statement::new(
    "files.find",
    "SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);
/// Adds a file that is in the storage but not in the records.
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

/// The record of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) app: Uuid,
    pub(crate) meeting: Uuid,
    pub(crate) id: Uuid,
    /// ID of the process that writes, wrote or removes the file; nil when the file was found in the
    /// storage.
    pub(crate) process: Uuid,
    /// Size of the file, or the bytes reserved for it.
    pub(crate) bytes: i64,
    /// When the upload completed, in Unix milliseconds; [`REMOVED`] while the file is being
    /// removed.
    pub(crate) stored_ms: Option<i64>,
}

impl FileRow {
    /// Whether the file is complete and not being removed.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored_ms.is_some_and(|ms| ms != REMOVED)
    }

    /// The parameters with which a statement checks that the row has not changed.
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

/// Reason why bytes could not be reserved.
#[derive(Debug)]
pub(crate) enum ReserveError {
    /// The file exists already or is being written.
    Taken,
    /// A quota would be exceeded: `meeting_quota`, `app_quota` or `server_quota`.
    Full(&'static str),
    /// The database failed.
    Failed(Error),
}

impl From<Error> for ReserveError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn key(file: &File) -> [Uuid; 3] {
    [file.app.uuid(), file.meeting.uuid(), file.id]
}

/// Returns the record of a file, if it exists.
pub(crate) async fn find(
    service: &FileService,
    [app, meeting, id]: [Uuid; 3],
) -> Result<Option<FileRow>, Error> {
    let key = values![app, meeting, id];
    Ok(service.db.read::<FileRow>(&FIND, key).await?.pop())
}

/// Reserves the bytes of a new file. This process owns the record until [`settle`] or [`release`].
pub(crate) async fn reserve(
    service: &FileService,
    file: &File,
    bytes: u64,
) -> Result<(), ReserveError> {
    let quotas = &service.quotas;
    let [app, meeting, id] = key(file);
    let amount = to_i64(bytes);
    // The usage up to which there is room for this file.
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
        return Err(ReserveError::Taken);
    }
    // Space may have been freed in the meantime.
    let quota = exceeded_quota(service, file, bytes).await?;
    Err(ReserveError::Full(quota.unwrap_or("meeting_quota")))
}

/// Returns the quota that another `bytes` would exceed, if any.
pub(crate) async fn exceeded_quota(
    service: &FileService,
    file: &File,
    bytes: u64,
) -> Result<Option<&'static str>, Error> {
    let quotas = &service.quotas;
    let [app, meeting, _] = key(file);
    let used = usage::read(&service.db, app, meeting).await?.files;
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

/// Records that a file is in the storage, and replaces the reserved bytes by the written ones.
/// Returns `false` when the reservation no longer exists, and the file must be deleted.
pub(crate) async fn settle(
    service: &FileService,
    file: &File,
    reserved: u64,
    written: u64,
) -> Result<bool, Error> {
    let [app, meeting, id] = key(file);
    let (reserved, written) = (to_i64(reserved), to_i64(written));
    let unit = || {
        let now_ms = service.clock.now_ms();
        let row = values![app, meeting, id, service.process, written, now_ms];
        let unit = Unit::default().exactly_one(&SETTLE, row);
        usage::count(unit, StoredKind::Files, (app, meeting), move |_| {
            written - reserved
        })
    };
    let mut last = Ok(false);
    for _ in 0..ATTEMPTS {
        last = match service.db.commit(unit()).await {
            Ok(_) => return Ok(true),
            // An earlier attempt may have been committed even though it reported an error.
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

/// Claims a file for removal, so that its upload can no longer complete and no other process
/// removes it. Returns `None` when the row has changed since it was read.
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

/// Claims a file that has no row. Returns `None` when it has one.
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

/// Deletes the record of a file and releases its bytes, if the row has not changed since it was
/// read.
pub(crate) async fn release(service: &FileService, found: &FileRow) -> Result<(), Error> {
    let unit = Unit::default().then(&FREE, found.unchanged());
    let of = (found.app, found.meeting);
    let unit = usage::count(unit, StoredKind::Files, of, |rows| -sum_of(rows, 0));
    service.db.commit(unit).await.map(drop)
}

/// The expected row of a file that this process is writing.
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

/// Adds a record of a file that is in the storage but not in the records.
pub(crate) async fn insert_found(
    service: &FileService,
    [app, meeting, id]: [Uuid; 3],
    bytes: u64,
    stored_ms: i64,
) -> Result<(), Error> {
    // Negative values have a special meaning.
    let stored_ms = stored_ms.max(0);
    let row = values![app, meeting, id, Uuid::nil(), to_i64(bytes), stored_ms];
    let unit = Unit::default().then(&FOUND, row);
    let unit = usage::count(unit, StoredKind::Files, (app, meeting), |rows| {
        sum_of(rows, 0)
    });
    service.db.commit(unit).await.map(drop)
}

fn to_i64(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
