//! The storage compared with the records.

use futures_util::TryStreamExt;
use parlor_protocol::ids::AppId;
use parlor_store::{Error, Row, Statement, Unit, values};

use super::super::storage::Name;
use super::records;
use crate::files::FileService;

/// What is in the storage without a record is left alone until it is so old.
const STRAY_MS: i64 = 60 * 60 * 1000;
/// Between two comparisons.
const COMPARED_MS: i64 = 7 * 24 * 60 * 60 * 1000;

static MEETING: Statement = Statement::new(
    "files.meeting",
    "SELECT id FROM meetings WHERE app_id = $1 AND id = $2",
);
static COMPARED: Statement = Statement::new(
    "files.compared",
    "SELECT COALESCE(counted_at, 0) FROM file_storage WHERE id = 1",
);
static COMPARE_AGAIN: Statement = Statement::new(
    "files.compare_again",
    "UPDATE file_storage SET counted_at = $1 WHERE id = 1",
);

pub(crate) static STATEMENTS: [&Statement; 3] = [&MEETING, &COMPARED, &COMPARE_AGAIN];

/// Compares the storage with the records, now and then: what older versions wrote is counted, and
/// what belongs to no meeting is deleted. Files of apps that the database does not know are left alone.
///
/// # Errors
/// When the database fails.
pub(crate) async fn compare(service: &FileService, now_ms: i64) -> Result<(), Error> {
    let Some(storage) = &service.storage else {
        return Ok(());
    };
    let rows = service.db.read::<Row>(&COMPARED, values![]).await?;
    let last_ms = rows.first().and_then(|row| row.get::<i64>(0));
    // A clock that was set back must not put it off.
    if last_ms.is_some_and(|last_ms| (last_ms..last_ms + COMPARED_MS).contains(&now_ms)) {
        return Ok(());
    }
    let mut all = storage.all();
    let mut unknown = 0;
    loop {
        let next = match all.try_next().await {
            Ok(Some((name, object))) => Some((name, object)),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "the storage of files could not be listed");
                return Ok(());
            }
        };
        let Some((name, object)) = next else { break };
        let stored_ms = object.last_modified.timestamp_millis();
        let is_young = now_ms - stored_ms <= STRAY_MS;
        match whose(service, name, object.size, stored_ms).await? {
            Whose::Nobodys if !is_young => match storage.delete_path(&object.location).await {
                Ok(()) => service.metrics.storage.file_deleted("stray"),
                Err(error) => tracing::warn!(%error, "a stray file could not be deleted"),
            },
            Whose::Meetings | Whose::Nobodys => {}
            Whose::Unknown => unknown += 1,
        }
    }
    service.metrics.storage.set_unknown(unknown);
    if unknown > 0 {
        tracing::warn!(
            files = unknown,
            "the storage has files of apps that the database does not know, which stay: \
             is it the right database, and is the storage of this installation alone?"
        );
    }
    let unit = Unit::default().then(&COMPARE_AGAIN, values![now_ms]);
    service.db.commit(unit).await.map(drop)
}

/// Whose something in the storage is.
enum Whose {
    /// A file of a meeting that exists, or one with a record.
    Meetings,
    /// It belongs to an app that exists, and to no meeting.
    Nobodys,
    /// The app is not in the database. What a deleted app leaves goes with its records (`sweeper`), so
    /// this is another installation's, or the database is not the one that it was stored with.
    Unknown,
}

/// Whose something is. A file of a meeting that exists gets a record if it has none.
async fn whose(
    service: &FileService,
    name: Name,
    bytes: u64,
    stored_ms: i64,
) -> Result<Whose, Error> {
    let [app, meeting, _] = name.key;
    if !name.is_mark {
        if records::find(service, name.key).await?.is_some() {
            return Ok(Whose::Meetings);
        }
        let found = service.db.read::<Row>(&MEETING, values![app, meeting]);
        if !found.await?.is_empty() {
            count(service, name, bytes, stored_ms).await?;
            return Ok(Whose::Meetings);
        }
    }
    let owner = service.owners.of(AppId::from_uuid(app)).await?;
    Ok(owner.map_or(Whose::Unknown, |_| Whose::Nobodys))
}

/// Gives a record to a file that has none.
async fn count(service: &FileService, name: Name, bytes: u64, stored_ms: i64) -> Result<(), Error> {
    records::found(service, name.key, bytes, stored_ms).await?;
    // Another node may have deleted it in between.
    if let Some(storage) = &service.storage
        && matches!(storage.exists(name.key).await, Ok(false))
    {
        // Only the row that says that it was found.
        let found = records::find(service, name.key).await?;
        if let Some(found) = found.filter(|row| row.process.is_nil() && row.is_stored()) {
            records::free(service, &found).await?;
        }
    }
    Ok(())
}
