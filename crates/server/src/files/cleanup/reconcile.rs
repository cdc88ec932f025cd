//! Reconciles the storage with the records.

use futures_util::TryStreamExt;
use parlor_protocol::ids::AppId;
use parlor_store::{Error, Row, Statement, Unit, values};

use super::super::storage::ObjectName;
use super::records;
use crate::files::FileService;

/// Minimum age of an object without a record before it is deleted, in milliseconds.
const STRAY_MS: i64 = 60 * 60 * 1000;
/// Interval between two runs, in milliseconds.
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

/// Compares the storage with the records from time to time. Adds records for files that older
/// versions wrote, and deletes files without a meeting. Files of apps unknown to the database stay.
///
/// # Errors
/// When the database fails.
pub(crate) async fn run(service: &FileService, now_ms: i64) -> Result<(), Error> {
    let Some(storage) = &service.storage else {
        return Ok(());
    };
    let rows = service.db.read::<Row>(&COMPARED, values![]).await?;
    let last_ms = rows.first().and_then(|row| row.get::<i64>(0));
    // A last run in the future means that the clock was set back, which must not delay this one.
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
                tracing::warn!(%error, "failed to list the file storage");
                return Ok(());
            }
        };
        let Some((name, object)) = next else { break };
        let stored_ms = object.last_modified.timestamp_millis();
        let is_young = now_ms - stored_ms <= STRAY_MS;
        match classify(service, name, object.size, stored_ms).await? {
            Origin::Orphaned if !is_young => match storage.delete_path(&object.location).await {
                Ok(()) => service.metrics.storage.file_deleted("stray"),
                Err(error) => tracing::warn!(%error, "failed to delete a stray file"),
            },
            Origin::Meeting | Origin::Orphaned => {}
            Origin::UnknownApp => unknown += 1,
        }
    }
    service.metrics.storage.set_unknown(unknown);
    if unknown > 0 {
        tracing::warn!(
            files = unknown,
            "the storage contains files of apps that are not in the database; they are kept. Check that \
             this is the right database and that no other installation uses the storage"
        );
    }
    let unit = Unit::default().then(&COMPARE_AGAIN, values![now_ms]);
    service.db.commit(unit).await.map(drop)
}

/// What an object in the storage belongs to.
enum Origin {
    /// A meeting that exists, or a file with a record.
    Meeting,
    /// An app that exists, but no meeting.
    Orphaned,
    /// An app that is not in the database. The sweeper removes the files of deleted apps together
    /// with their records, so the object is another installation's or the database is a different
    /// one.
    UnknownApp,
}

/// Determines what an object belongs to. Adds a record to a file of an existing meeting if it has
/// none.
async fn classify(
    service: &FileService,
    name: ObjectName,
    bytes: u64,
    stored_ms: i64,
) -> Result<Origin, Error> {
    let [app, meeting, _] = name.key;
    if !name.is_marker {
        if records::find(service, name.key).await?.is_some() {
            return Ok(Origin::Meeting);
        }
        let found = service.db.read::<Row>(&MEETING, values![app, meeting]);
        if !found.await?.is_empty() {
            add_record(service, name, bytes, stored_ms).await?;
            return Ok(Origin::Meeting);
        }
    }
    let owner = service.owners.owner_of(AppId::from_uuid(app)).await?;
    Ok(owner.map_or(Origin::UnknownApp, |_| Origin::Orphaned))
}

/// Adds a record to a file that has none.
async fn add_record(
    service: &FileService,
    name: ObjectName,
    bytes: u64,
    stored_ms: i64,
) -> Result<(), Error> {
    records::insert_found(service, name.key, bytes, stored_ms).await?;
    // Another node may have deleted the file in the meantime.
    if let Some(storage) = &service.storage
        && matches!(storage.exists(name.key).await, Ok(false))
    {
        // Releases only the record that was just added.
        let found = records::find(service, name.key).await?;
        if let Some(found) = found.filter(|row| row.process.is_nil() && row.is_stored()) {
            records::release(service, &found).await?;
        }
    }
    Ok(())
}
