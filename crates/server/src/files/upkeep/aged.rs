//! Files that are older than a setting allows.
//!
//! A clock that was set forward makes every file old, and what is deleted does not come back. While a
//! process runs its clock knows of steps (`Clock::settled_ms`); for a step between two processes the
//! time is recorded by which the last one has deleted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use parlor_store::{Error, Row, Statement, Unit, values};

use super::FileRow;
use crate::clock::SETTLES_MS;
use crate::files::FileService;

/// Between two records of the time.
const RECORDED_MS: i64 = 60 * 1000;

static AGED: Statement = Statement::new(
    "files.aged",
    "SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files
     WHERE stored_at >= 0 AND stored_at < $1 ORDER BY stored_at LIMIT 100",
);
/// By what was recorded, or else by the last file.
static RECORDED: Statement = Statement::new(
    "files.recorded_time",
    "SELECT COALESCE(settled_at, (SELECT MAX(stored_at) FROM files)) FROM file_storage WHERE id = 1",
);
static RECORD: Statement = Statement::new(
    "files.record_time",
    "UPDATE file_storage SET settled_at = $1 WHERE id = 1",
);

pub(crate) static STATEMENTS: [&Statement; 3] = [&AGED, &RECORDED, &RECORD];

/// What is known of the time by which files are old.
#[derive(Debug, Default)]
pub(crate) struct Age {
    /// What was recorded when this process looked first, Unix milliseconds.
    before_ms: OnceLock<i64>,
    /// When it is to be recorded again, by the time that nobody sets.
    due_ms: AtomicI64,
}

/// The time by which files are old, Unix milliseconds. When the clock says that a day or more has
/// passed since the time was recorded, it may have been set, and counts only when this process has run
/// for a day; until then only that counts which has passed since it started.
///
/// # Errors
/// When the database fails.
pub(crate) async fn now_ms(service: &FileService) -> Result<i64, Error> {
    let (clock, age) = (&service.clock, &service.rounds.age);
    let (settled_ms, passed_ms) = (clock.settled_ms(), clock.monotonic_ms());
    let before_ms = if let Some(before_ms) = age.before_ms.get() {
        *before_ms
    } else {
        let rows = service.db.read::<Row>(&RECORDED, values![]).await?;
        let recorded_ms = rows.first().and_then(|row| row.get::<i64>(0));
        *age.before_ms
            .get_or_init(|| recorded_ms.unwrap_or(settled_ms))
    };
    let is_sure = passed_ms >= SETTLES_MS || settled_ms.saturating_sub(before_ms) < SETTLES_MS;
    let now_ms = if is_sure {
        settled_ms
    } else {
        before_ms.saturating_add(passed_ms)
    };
    if passed_ms >= age.due_ms.load(Ordering::Relaxed) {
        let unit = Unit::default().then(&RECORD, values![now_ms]);
        service.db.commit(unit).await?;
        age.due_ms.store(passed_ms + RECORDED_MS, Ordering::Relaxed);
    }
    Ok(now_ms)
}

/// Deletes the files that are too old.
///
/// # Errors
/// When the database fails.
pub(crate) async fn delete(service: &FileService, now_ms: i64) -> Result<(), Error> {
    let kept_ms = service.quotas.file_retention_ms;
    if kept_ms == 0 {
        return Ok(());
    }
    loop {
        let aged = values![now_ms - kept_ms];
        let rows = service.db.scan::<FileRow>(&AGED, aged).await?;
        if rows.is_empty() || !super::delete(service, rows, "age").await? {
            return Ok(());
        }
    }
}
