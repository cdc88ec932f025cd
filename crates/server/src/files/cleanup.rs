//! Background cleanup of the storage: files of deleted meetings, files past their retention time,
//! and unfinished uploads of processes that died. Every step can be repeated: it first claims the
//! record, then deletes the file, and then the record.

mod reconcile;
mod retention;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use parlor_store::{Error, Row, Statement, values};
use uuid::Uuid;

use super::records::{self, FileRow};
use crate::files::FileService;

/// How long a process may go without a new heartbeat, in monotonic milliseconds, before it counts
/// as dead. Clocks of different nodes are never compared.
const DEAD_MS: i64 = 2 * 60 * 1000;
/// Maximum number of files deleted concurrently.
const BATCH: usize = 100;
/// How long a deletion may take before the sweeper continues with something else.
const DELETE_TIMEOUT: Duration = Duration::from_secs(60);

static OF_MEETING: Statement = Statement::new(
    "files.of_meeting",
    "SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files
     WHERE app_id = $1 AND meeting_id = $2 AND stored_at >= 0 LIMIT 100",
);
static ANY_OF_MEETING: Statement = Statement::new(
    "files.any_of_meeting",
    "SELECT id FROM files WHERE app_id = $1 AND meeting_id = $2 LIMIT 1",
);
static UNFINISHED: Statement = Statement::new(
    "files.unfinished",
    "SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files WHERE stored_at IS NULL
     UNION ALL SELECT app_id, meeting_id, id, process, bytes, stored_at FROM files WHERE stored_at < 0 LIMIT 10000",
);
static SIGNS_OF_LIFE: Statement =
    Statement::new("files.signs_of_life", "SELECT id, alive_at FROM servers");

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = vec![&OF_MEETING, &ANY_OF_MEETING, &UNFINISHED, &SIGNS_OF_LIFE];
    all.extend(retention::STATEMENTS);
    all.extend(reconcile::STATEMENTS);
    all
}

/// State that one run keeps for the next.
#[derive(Debug, Default)]
pub(crate) struct CleanupState {
    /// Last heartbeat of each process that has unfinished files.
    heartbeats: Mutex<HashMap<Uuid, Heartbeat>>,
    age: retention::Age,
}

/// The last heartbeat of a process, and when it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heartbeat {
    /// Time of the heartbeat by the clock of that process; `None` when it has none.
    alive_ms: Option<i64>,
    /// When this process first saw the heartbeat, in monotonic milliseconds.
    since_ms: i64,
}

impl CleanupState {
    /// Updates the heartbeats of these processes, drops those of others, and returns the dead ones.
    fn dead_processes(
        &self,
        of: impl Iterator<Item = Uuid>,
        alive: &HashMap<Uuid, i64>,
        monotonic_ms: i64,
    ) -> Vec<Uuid> {
        let mut heartbeats = self
            .heartbeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *heartbeats);
        for process in of {
            let alive_ms = alive.get(&process).copied();
            let same = before.get(&process);
            let same = same.filter(|seen| seen.alive_ms == alive_ms);
            let new = Heartbeat {
                alive_ms,
                since_ms: monotonic_ms,
            };
            heartbeats.insert(process, same.copied().unwrap_or(new));
        }
        let is_dead = |seen: &Heartbeat| monotonic_ms - seen.since_ms >= DEAD_MS;
        let dead = heartbeats.iter().filter(|(_, seen)| is_dead(seen));
        dead.map(|(process, _)| *process).collect()
    }
}

/// Deletes the files of a deleted meeting. Returns `false` when some are left, because they are
/// still being written or the storage failed.
///
/// # Errors
/// When the database fails.
pub(crate) async fn delete_meeting(
    service: &FileService,
    app: Uuid,
    meeting: Uuid,
) -> Result<bool, Error> {
    let key = || values![app, meeting];
    loop {
        let rows = service.db.scan::<FileRow>(&OF_MEETING, key()).await?;
        if rows.is_empty() {
            break;
        }
        if !delete(service, rows, "meeting").await? {
            return Ok(false);
        }
    }
    if let Some(storage) = &service.storage {
        // Older versions stored files without records.
        let deleting = tokio::time::timeout(DELETE_TIMEOUT, storage.delete_meeting(app, meeting));
        match deleting.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to delete the files of a deleted meeting; will retry");
                return Ok(false);
            }
            Err(_) => return Ok(false),
        }
    }
    let left = service.db.scan::<Row>(&ANY_OF_MEETING, key()).await?;
    if let Some(storage) = service.storage.as_ref().filter(|_| left.is_empty()) {
        storage.remove_folder(app, meeting).await;
    }
    Ok(left.is_empty())
}

/// Runs one cleanup of abandoned and expired files.
///
/// # Errors
/// When the database fails. The next run continues from there.
pub(crate) async fn run(service: &FileService) -> Result<(), Error> {
    let mut rows = abandoned(service).await?;
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(BATCH));
        if !delete(service, rows, "unfinished").await? {
            break;
        }
        rows = rest;
    }
    let now_ms = retention::now_ms(service).await?;
    retention::delete(service, now_ms).await?;
    reconcile::run(service, now_ms).await
}

/// Returns the files whose upload or removal was abandoned.
async fn abandoned(service: &FileService) -> Result<Vec<FileRow>, Error> {
    let rows = service.db.scan::<FileRow>(&UNFINISHED, values![]).await?;
    let is_ours = |row: &FileRow| row.process == service.process;
    let mut alive = HashMap::new();
    if !rows.iter().all(is_ours) {
        for mut row in service.db.scan::<Row>(&SIGNS_OF_LIFE, values![]).await? {
            alive.insert(row.take(0)?, row.take(1)?);
        }
    }
    let others = rows.iter().filter(|row| !is_ours(row));
    let others = others.map(|row| row.process);
    let dead = service
        .cleanup
        .dead_processes(others, &alive, service.clock.monotonic_ms());
    let is_abandoned = |row: &FileRow| {
        if is_ours(row) {
            !service.in_progress.contains(row.id)
        } else {
            dead.contains(&row.process)
        }
    };
    Ok(rows.into_iter().filter(is_abandoned).collect())
}

/// Deletes files and their records. Returns `false` when one could not be deleted yet, because the
/// storage failed or the file is being written.
async fn delete(
    service: &FileService,
    rows: Vec<FileRow>,
    reason: &'static str,
) -> Result<bool, Error> {
    let one = async |found: FileRow| {
        let Some(_removing) = service.in_progress.begin(found.id) else {
            return Ok(false);
        };
        let Some(claimed) = records::claim(service, &found).await? else {
            // It was stored or removed in the meantime.
            return Ok(true);
        };
        // A nil process means that an older version wrote the file, possibly with a marker.
        let has_marker = found.process.is_nil();
        let was_complete = found.is_stored();
        if !remove(service, &claimed, was_complete, has_marker).await? {
            return Ok(false);
        }
        service.metrics.storage.file_deleted(reason);
        Ok(true)
    };
    let done: Vec<Result<bool, Error>> = join_all(rows.into_iter().map(one)).await;
    let mut all = true;
    for done in done {
        all &= done?;
    }
    Ok(all)
}

/// Deletes a file that this process has claimed, and then its record. Returns `false` when the
/// storage failed, and a later run must retry.
///
/// # Errors
/// When the database fails.
pub(crate) async fn remove(
    service: &FileService,
    claimed: &FileRow,
    was_complete: bool,
    has_marker: bool,
) -> Result<bool, Error> {
    let key = [claimed.app, claimed.meeting, claimed.id];
    if let Some(storage) = &service.storage {
        let deleting = async {
            storage.delete(key).await?;
            if !was_complete {
                storage.delete_leftovers(key).await;
            }
            if has_marker {
                storage.delete_marker(key).await?;
            }
            Ok::<_, object_store::Error>(())
        };
        match tokio::time::timeout(DELETE_TIMEOUT, deleting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to delete a file; will retry");
                return Ok(false);
            }
            Err(_) => return Ok(false),
        }
    }
    records::release(service, claimed).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
