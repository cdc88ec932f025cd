//! What is done in the background so that nothing stays in the storage that nobody can reach: files
//! of deleted meetings, files that are older than a setting allows, and what uploads left behind
//! whose process died. Every step can be done again: the record is claimed first, then the file goes,
//! and the record after it.

mod aged;
mod compare;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use parlor_store::{Error, Row, Statement, values};
use uuid::Uuid;

use super::records::{self, FileRow};
use crate::files::FileService;

/// A process that has shown no new sign of life for so long, by the time that nobody sets, is gone.
/// Clocks of different nodes are not compared.
const DEAD_MS: i64 = 2 * 60 * 1000;
/// Files that are deleted at once.
const BATCH: usize = 100;
/// How long a deletion may take before the sweeper goes on with something else.
const PATIENCE: Duration = Duration::from_secs(60);

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
    all.extend(aged::STATEMENTS);
    all.extend(compare::STATEMENTS);
    all
}

/// What one round remembers for the next one.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Of each process that has unfinished files.
    seen: Mutex<HashMap<Uuid, Seen>>,
    age: aged::Age,
}

/// The last sign of life of a process, and since when there is no other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// By the clock of that process; `None` when it has shown none.
    alive_ms: Option<i64>,
    /// By the time that nobody sets.
    since_ms: i64,
}

impl Rounds {
    /// Takes note of the signs of life of these processes, and forgets others; which of them are gone.
    fn gone(
        &self,
        of: impl Iterator<Item = Uuid>,
        alive: &HashMap<Uuid, i64>,
        monotonic_ms: i64,
    ) -> Vec<Uuid> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *seen);
        for process in of {
            let alive_ms = alive.get(&process).copied();
            let same = before.get(&process);
            let same = same.filter(|seen| seen.alive_ms == alive_ms);
            let new = Seen {
                alive_ms,
                since_ms: monotonic_ms,
            };
            seen.insert(process, same.copied().unwrap_or(new));
        }
        let is_gone = |seen: &Seen| monotonic_ms - seen.since_ms >= DEAD_MS;
        let gone = seen.iter().filter(|(_, seen)| is_gone(seen));
        gone.map(|(process, _)| *process).collect()
    }
}

/// Deletes the files of a deleted meeting. False when some are left: they are still being written,
/// or the storage failed.
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
        // What older versions wrote, of which there is no record.
        let deleting = tokio::time::timeout(PATIENCE, storage.delete_meeting(app, meeting));
        match deleting.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the files of a deleted meeting could not be deleted yet");
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

/// One round over the files that go by themselves.
///
/// # Errors
/// When the database fails; the next round goes on from there.
pub(crate) async fn round(service: &FileService) -> Result<(), Error> {
    let mut rows = abandoned(service).await?;
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(BATCH));
        if !delete(service, rows, "unfinished").await? {
            break;
        }
        rows = rest;
    }
    let now_ms = aged::now_ms(service).await?;
    aged::delete(service, now_ms).await?;
    compare::compare(service, now_ms).await
}

/// The files that nobody goes on writing or removing.
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
    let gone = service
        .rounds
        .gone(others, &alive, service.clock.monotonic_ms());
    let is_abandoned = |row: &FileRow| {
        if is_ours(row) {
            !service.underway.has(row.id)
        } else {
            gone.contains(&row.process)
        }
    };
    Ok(rows.into_iter().filter(is_abandoned).collect())
}

/// Deletes files and their records. False when one of them has to wait: the storage has failed, or
/// somebody asks for the file to be written.
async fn delete(
    service: &FileService,
    rows: Vec<FileRow>,
    reason: &'static str,
) -> Result<bool, Error> {
    let one = async |found: FileRow| {
        let Some(_removing) = service.underway.begin(found.id) else {
            return Ok(false);
        };
        let Some(claimed) = records::claim(service, &found).await? else {
            // It was stored or removed meanwhile.
            return Ok(true);
        };
        // It was found in the storage: an older version wrote it.
        let has_mark = found.process.is_nil();
        let was_whole = found.is_stored();
        if !remove(service, &claimed, was_whole, has_mark).await? {
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

/// Deletes a file that this process has claimed, and then its record. False when the storage has
/// failed: a later round goes on.
///
/// # Errors
/// When the database fails.
pub(crate) async fn remove(
    service: &FileService,
    claimed: &FileRow,
    was_whole: bool,
    has_mark: bool,
) -> Result<bool, Error> {
    let key = [claimed.app, claimed.meeting, claimed.id];
    if let Some(storage) = &service.storage {
        let deleting = async {
            storage.delete(key).await?;
            if !was_whole {
                storage.delete_leftovers(key).await;
            }
            if has_mark {
                storage.delete_mark(key).await?;
            }
            Ok::<_, object_store::Error>(())
        };
        match tokio::time::timeout(PATIENCE, deleting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "a file could not be deleted yet");
                return Ok(false);
            }
            Err(_) => return Ok(false),
        }
    }
    records::free(service, claimed).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
