//! Deletes files past their retention time.
//!
//! Setting the clock forward makes every file look old, and a deletion cannot be undone. While a
//! process runs, its clock detects steps (`Clock::settled_ms`). To detect a step made while no
//! process was running, the time used for deletion is recorded in the database.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use parlor_store::{Error, Row, Statement, Unit, values};

use super::FileRow;
use crate::clock::SETTLES_MS;
use crate::files::FileService;

/// Interval between two records of the time, in milliseconds.
const RECORDED_MS: i64 = 60 * 1000;

static AGED: Statement = Statement::new(
    "files.aged",
    "SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files
     WHERE stored_at >= 0 AND stored_at < $1 ORDER BY stored_at LIMIT 100",
);
/// Reads the recorded time, or else the time of the newest file.
static RECORDED: Statement = Statement::new(
    "files.recorded_time",
    "SELECT COALESCE(settled_at, (SELECT MAX(stored_at) FROM files)) FROM file_storage WHERE id = 1",
);
static RECORD: Statement = Statement::new(
    "files.record_time",
    "UPDATE file_storage SET settled_at = $1 WHERE id = 1",
);

pub(crate) static STATEMENTS: [&Statement; 3] = [&AGED, &RECORDED, &RECORD];

/// The state from which [`now_ms`] derives the time.
#[derive(Debug, Default)]
pub(crate) struct Age {
    /// The recorded time when this process first read it, in Unix milliseconds.
    before_ms: OnceLock<i64>,
    /// When the time must be recorded again, in monotonic milliseconds.
    due_ms: AtomicI64,
}

/// Returns the time used to decide which files are expired, in Unix milliseconds. If the clock is a
/// day or more ahead of the recorded time, it may have been set. Then it is trusted only after this
/// process has run for a day. Until then the result is the recorded time plus the uptime.
///
/// # Errors
/// When the database fails.
pub(crate) async fn now_ms(service: &FileService) -> Result<i64, Error> {
    let (clock, age) = (&service.clock, &service.cleanup.age);
    let (settled_ms, passed_ms) = (clock.settled_ms(), clock.monotonic_ms());
    let before_ms = if let Some(before_ms) = age.before_ms.get() {
        *before_ms
    } else {
        let rows = service.db.read::<Row>(&RECORDED, values![]).await?;
        let recorded_ms = rows.first().and_then(|row| row.get::<i64>(0));
        *age.before_ms
            .get_or_init(|| recorded_ms.unwrap_or(settled_ms))
    };
    let is_trusted = passed_ms >= SETTLES_MS || settled_ms.saturating_sub(before_ms) < SETTLES_MS;
    let now_ms = if is_trusted {
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

/// Deletes the files past their retention time.
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
