//! Where files are kept: a directory, or storage that speaks S3.

mod writing;

pub(crate) use writing::{Bounds, Unwritten};

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parlor_protocol::ids::{AppId, MeetingId};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::kinds::{Kind, TELLING_BYTES};
use super::ranges;
use super::slots::{self, Slots};
use crate::config::Settings;
use crate::disk::Disk;
use crate::files::links::File;
use writing::PARTS_AT_ONCE;

/// Bytes of a part on its way to S3, which takes no smaller ones.
#[cfg(feature = "s3")]
const S3_PART_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of a part on its way to a disk.
const DISK_PART_BYTES: usize = 256 * 1024;
/// Bytes that are read at once from S3, where each read is a request. Twice as many are in memory for
/// each client that a file is sent to.
#[cfg(feature = "s3")]
const S3_READ_BYTES: u64 = 256 * 1024;
/// Bytes that are read at once from a disk.
const DISK_READ_BYTES: u64 = 64 * 1024;
/// Reads of files at a time. On a disk each takes a thread, and what such threads have allocated is
/// given back only some time after they have ended.
const READS: usize = 4;
/// Bytes of all files on their way, in memory, unless the number of uploads is set.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// What older versions put beside a file from when it was begun.
const TAKEN: &str = ".taken";

/// The storage of files. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    part_bytes: usize,
    read_bytes: u64,
    reads: Arc<Semaphore>,
    /// The directory, if it is one.
    folder: Option<PathBuf>,
    disk: Option<Disk>,
    /// Bytes that were promised to uploads and are not written yet.
    promised: Arc<AtomicU64>,
    pub(crate) slots: Arc<Slots>,
}

/// A file that was found.
pub(crate) struct Found {
    /// What it is.
    pub(crate) kind: Kind,
    /// How many bytes follow.
    pub(crate) length: u64,
    /// The `Content-Range`, when it is not the whole.
    pub(crate) part: Option<String>,
    /// How many bytes each piece has at most.
    pub(crate) piece_bytes: usize,
    /// The bytes.
    pub(crate) bytes: BoxStream<'static, object_store::Result<Bytes>>,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It was never written.
    Missing,
    /// It has no such part.
    OutOfRange,
    /// The storage has failed.
    Failed(object_store::Error),
}

impl Unread {
    fn of(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            error => Self::Failed(error),
        }
    }
}

/// A name in the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    /// App, meeting and file.
    pub(crate) key: [Uuid; 3],
    /// It is only the mark of an older version that the file was begun.
    pub(crate) is_mark: bool,
}

impl Files {
    /// Opens the storage that the settings name.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let place = settings
            .storage
            .as_deref()
            .filter(|place| !place.is_empty());
        let files = match place {
            Some(url) if url.starts_with("s3://") => s3(url, settings.storage_endpoint.as_deref()),
            Some(other) if other.contains("://") => {
                anyhow::bail!("--storage takes a directory or s3://bucket/prefix")
            }
            Some(folder) => directory(folder.as_ref()),
            None => directory(&settings.data_dir().join("uploads")),
        }?;
        let slots = slots_of(files.part_bytes, settings);
        Ok(Self {
            slots: Slots::new(slots),
            ..files
        })
    }

    fn new(store: Arc<dyn ObjectStore>, part_bytes: usize, read_bytes: u64) -> Self {
        let slots = slots_of(part_bytes, &Settings::default());
        Self {
            store,
            part_bytes,
            read_bytes,
            reads: Arc::new(Semaphore::new(READS)),
            folder: None,
            disk: None,
            promised: Arc::default(),
            slots: Slots::new(slots),
        }
    }

    /// Whether a file is in the storage.
    pub(crate) async fn exists(&self, key: [Uuid; 3]) -> object_store::Result<bool> {
        match self.store.head(&path(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Finds a file, or the part of it that a `Range` header asks for.
    ///
    /// # Errors
    /// When it was never written, has no such part, or the storage fails.
    pub(crate) async fn read(&self, file: &File, range: Option<&str>) -> Result<Found, Unread> {
        let path = path(key(file));
        let size = self.size(&path).await.map_err(Unread::of)?;
        let asked = range.and_then(ranges::asked);
        let (range, part) = match asked {
            None => (0..size, None),
            Some(asked) => {
                let range = ranges::within(&asked, size).ok_or(Unread::OutOfRange)?;
                let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (range, Some(part))
            }
        };
        // Before the answer begins, so that a failure of the storage is one of the request.
        let first = self.piece(&path, range.start, range.end).await;
        let first = first.map_err(Unread::of)?;
        let tells = first.len() >= TELLING_BYTES || range.end == size;
        let kind = if range.start == 0 && tells {
            Kind::of(&first[..first.len().min(TELLING_BYTES)])
        } else {
            let start = self.piece(&path, 0, size.min(TELLING_BYTES as u64)).await;
            Kind::of(&start.map_err(Unread::of)?)
        };
        Ok(Found {
            kind,
            length: range.end - range.start,
            part,
            piece_bytes: usize::try_from(self.read_bytes).unwrap_or(usize::MAX),
            bytes: self.clone().pieces(path, first, range),
        })
    }

    async fn size(&self, path: &Path) -> object_store::Result<u64> {
        let _permit = self.reads.acquire().await.expect("it is never closed");
        Ok(self.store.head(path).await?.size)
    }

    /// Some bytes of a file, from a place on.
    async fn piece(&self, path: &Path, start: u64, end: u64) -> object_store::Result<Bytes> {
        let end = end.min(start + self.read_bytes);
        if start == end {
            return Ok(Bytes::new());
        }
        let _permit = self.reads.acquire().await.expect("it is never closed");
        self.store.get_range(path, start..end).await
    }

    /// The rest of a file, each piece read when it is wanted: while its reader does nothing, nothing
    /// of the file is open.
    fn pieces(
        self,
        path: Path,
        first: Bytes,
        range: std::ops::Range<u64>,
    ) -> BoxStream<'static, object_store::Result<Bytes>> {
        let length = |bytes: &Bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let next = range.start + length(&first);
        let rest = stream::try_unfold((self, path, next), move |(files, path, next)| async move {
            if next >= range.end {
                return Ok(None);
            }
            let bytes = files.piece(&path, next, range.end).await?;
            let next = next + length(&bytes);
            Ok(Some((bytes, (files, path, next))))
        });
        stream::iter([Ok(first)]).chain(rest).boxed()
    }

    /// Puts a file there.
    #[cfg(test)]
    pub(crate) async fn put(&self, key: [Uuid; 3], bytes: &'static str) {
        let put = self.store.put(&path(key), bytes.into()).await;
        put.expect("the storage takes it");
    }

    /// Deletes a file. It may be gone already.
    pub(crate) async fn delete(&self, key: [Uuid; 3]) -> object_store::Result<()> {
        self.delete_path(&path(key)).await
    }

    /// Deletes the mark of a file that an older version wrote.
    pub(crate) async fn delete_mark(&self, key: [Uuid; 3]) -> object_store::Result<()> {
        self.delete_path(&Path::from(format!("{}{TAKEN}", path(key))))
            .await
    }

    /// Deletes what an upload has left in a directory whose process died in the midst of it. S3 has
    /// rules for that.
    pub(crate) async fn delete_leftovers(&self, key: [Uuid; 3]) {
        let Some(folder) = &self.folder else { return };
        let [app, meeting] = folders(key[0], key[1]);
        let folder = folder.join(app).join(meeting);
        let leftovers = format!("{}#", key[2]);
        blocking(move || remove_where(&folder, |name| name.starts_with(&leftovers))).await;
    }

    pub(crate) async fn delete_path(&self, path: &Path) -> object_store::Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes whatever files there are of a meeting.
    pub(crate) async fn delete_meeting(
        &self,
        app: Uuid,
        meeting: Uuid,
    ) -> object_store::Result<()> {
        let folder = Path::from_iter(folders(app, meeting));
        let mut found = self.store.list(Some(&folder));
        while let Some(object) = found.try_next().await? {
            self.delete_path(&object.location).await?;
        }
        Ok(())
    }

    /// Removes the directory of a meeting of which no file is left or being written.
    pub(crate) async fn remove_folder(&self, app: Uuid, meeting: Uuid) {
        let Some(root) = &self.folder else { return };
        let [app, meeting] = folders(app, meeting);
        let app = root.join(app);
        let meeting = app.join(meeting);
        let remove = move || {
            // There need not be one, and other meetings may have files.
            let _ = std::fs::remove_dir_all(meeting);
            let _ = std::fs::remove_dir(app);
        };
        blocking(remove).await;
    }

    /// Everything in the storage that looks like a file of a chat.
    pub(crate) fn all(&self) -> BoxStream<'static, object_store::Result<(Name, ObjectMeta)>> {
        let named = |object: ObjectMeta| async move {
            Ok(named(&object.location).map(|name| (name, object)))
        };
        self.store.list(None).try_filter_map(named).boxed()
    }
}

/// How many may upload at a time: by the memory that their parts take, when nobody says.
fn slots_of(part_bytes: usize, settings: &Settings) -> slots::Bounds {
    let each = part_bytes * (PARTS_AT_ONCE + 1);
    let all = settings.uploads_at_once.unwrap_or(MEMORY_BYTES / each);
    let all = all.max(1);
    let share = |set: Option<usize>, default: usize| set.unwrap_or(default.max(1));
    slots::Bounds {
        all,
        app: share(settings.uploads_per_app, all * 3 / 4),
        meeting: share(settings.uploads_per_meeting, all / 2),
        person: share(settings.uploads_per_person, 4),
        grace: slots::GRACE,
    }
}

fn key(file: &File) -> [Uuid; 3] {
    [file.app.uuid(), file.meeting.uuid(), file.id]
}

/// The name that a sender gave is no part of it.
fn path([app, meeting, id]: [Uuid; 3]) -> Path {
    let [app, meeting] = folders(app, meeting);
    Path::from_iter([app, meeting, id.to_string()])
}

fn folders(app: Uuid, meeting: Uuid) -> [String; 2] {
    let (app, meeting) = (AppId::from_uuid(app), MeetingId::from_uuid(meeting));
    [app.to_string(), meeting.to_string()]
}

fn named(path: &Path) -> Option<Name> {
    let text = path.as_ref();
    let (file, is_mark) = match text.strip_suffix(TAKEN) {
        Some(file) => (file, true),
        None => (text, false),
    };
    let mut parts = file.split('/').map(|part| part.parse::<Uuid>().ok());
    let key = [parts.next()??, parts.next()??, parts.next()??];
    // Nothing that is only similar.
    (self::path(key).as_ref() == file).then_some(Name { key, is_mark })
}

/// Removes the files of a folder whose names are such.
fn remove_where(folder: &std::path::Path, is_wanted: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(&is_wanted) {
            // The next round tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!("a task on the directory of files has panicked");
    }
}

fn directory(folder: &std::path::Path) -> anyhow::Result<Files> {
    let at = |error: &dyn std::fmt::Display| {
        anyhow::anyhow!("the directory of files, {}: {error}", folder.display())
    };
    // They are for the people of a meeting.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| at(&error))?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| at(&error))?;
    let store = Arc::new(store.with_fsync(true));
    Ok(Files {
        folder: Some(folder.to_owned()),
        disk: Some(Disk::of(folder)),
        ..Files::new(store, DISK_PART_BYTES, DISK_READ_BYTES)
    })
}

#[cfg(feature = "s3")]
fn s3(url: &str, endpoint: Option<&str>) -> anyhow::Result<Files> {
    use object_store::aws::AmazonS3Builder;
    use object_store::prefix::PrefixStore;

    let url = url::Url::parse(url).map_err(|error| anyhow::anyhow!("--storage: {error}"))?;
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
    let bucket = bucket.ok_or_else(|| anyhow::anyhow!("--storage: the URL names no bucket"))?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = endpoint {
        builder = builder
            .with_endpoint(endpoint)
            .with_allow_http(endpoint.starts_with("http://"));
    }
    let store = builder
        .build()
        .map_err(|error| anyhow::anyhow!("--storage: {error}"))?;
    let prefix = url.path().trim_matches('/');
    let store: Arc<dyn ObjectStore> = if prefix.is_empty() {
        Arc::new(store)
    } else {
        Arc::new(PrefixStore::new(store, prefix))
    };
    Ok(Files::new(store, S3_PART_BYTES, S3_READ_BYTES))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &str, _: Option<&str>) -> anyhow::Result<Files> {
    anyhow::bail!("--storage: this build has no S3 (cargo feature `s3`)")
}

#[cfg(test)]
mod tests;
