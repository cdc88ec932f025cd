//! The storage of chat files: a directory or S3-compatible storage.

mod writing;

pub(crate) use writing::{WriteError, WriteLimits};

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

use super::kinds::{Kind, SNIFF_BYTES};
use super::ranges;
use super::slots::{self, Slots};
use crate::config::Settings;
use crate::disk::Disk;
use crate::files::links::File;
use writing::PARTS_AT_ONCE;

/// Size of an upload part to S3, in bytes. S3 accepts no smaller parts.
#[cfg(feature = "s3")]
const S3_PART_BYTES: usize = 5 * 1024 * 1024;
/// Size of an upload part to a disk, in bytes.
const DISK_PART_BYTES: usize = 256 * 1024;
/// Size of a read from S3, in bytes. Each read is a request. Sending a file to a client takes twice
/// as much memory.
#[cfg(feature = "s3")]
const S3_READ_BYTES: u64 = 256 * 1024;
/// Size of a read from a disk, in bytes.
const DISK_READ_BYTES: u64 = 64 * 1024;
/// Maximum number of concurrent reads. On a disk each occupies a thread, and the allocator returns
/// the memory of such threads only some time after they end.
const READS: usize = 4;
/// Memory for the parts of all uploads, in bytes, from which the default number of concurrent
/// uploads follows.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// Suffix of the marker objects that older versions wrote when an upload began.
const TAKEN: &str = ".taken";

/// The storage of chat files. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    part_bytes: usize,
    read_bytes: u64,
    reads: Arc<Semaphore>,
    /// The directory, unless the storage is S3.
    folder: Option<PathBuf>,
    disk: Option<Disk>,
    /// Disk space that is reserved for uploads and not written yet, in bytes.
    reserved: Arc<AtomicU64>,
    pub(crate) slots: Arc<Slots>,
}

/// A file, or part of one, that is ready to be sent.
pub(crate) struct FoundFile {
    /// The type of the file.
    pub(crate) kind: Kind,
    /// Number of bytes in the body.
    pub(crate) length: u64,
    /// The value of `Content-Range`, when this is a part of the file.
    pub(crate) part: Option<String>,
    /// Maximum size of each chunk of the body, in bytes.
    pub(crate) piece_bytes: usize,
    /// The body.
    pub(crate) bytes: BoxStream<'static, object_store::Result<Bytes>>,
}

/// Reason why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file does not exist.
    Missing,
    /// The requested range is not satisfiable.
    OutOfRange,
    /// The storage failed.
    Failed(object_store::Error),
}

impl ReadError {
    fn of(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            error => Self::Failed(error),
        }
    }
}

/// The name of an object in the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectName {
    /// IDs of the app, the meeting and the file.
    pub(crate) key: [Uuid; 3],
    /// Whether the object is a marker that an older version wrote when the upload began.
    pub(crate) is_marker: bool,
}

impl Files {
    /// Opens the storage that the settings name.
    ///
    /// # Errors
    /// When the storage is not usable.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let location = settings
            .storage
            .as_deref()
            .filter(|location| !location.is_empty());
        let files = match location {
            Some(url) if url.starts_with("s3://") => s3(url, settings.storage_endpoint.as_deref()),
            Some(other) if other.contains("://") => {
                anyhow::bail!("--storage must be a directory or s3://bucket/prefix")
            }
            Some(folder) => directory(folder.as_ref()),
            None => directory(&settings.data_dir().join("uploads")),
        }?;
        let limits = slot_limits(files.part_bytes, settings);
        Ok(Self {
            slots: Slots::new(limits),
            ..files
        })
    }

    fn new(store: Arc<dyn ObjectStore>, part_bytes: usize, read_bytes: u64) -> Self {
        let limits = slot_limits(part_bytes, &Settings::default());
        Self {
            store,
            part_bytes,
            read_bytes,
            reads: Arc::new(Semaphore::new(READS)),
            folder: None,
            disk: None,
            reserved: Arc::default(),
            slots: Slots::new(limits),
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

    /// Opens a file, or the part that a `Range` header requests.
    ///
    /// # Errors
    /// When the file does not exist, the range is not satisfiable, or the storage fails.
    pub(crate) async fn read(
        &self,
        file: &File,
        range: Option<&str>,
    ) -> Result<FoundFile, ReadError> {
        let path = path(key(file));
        let size = self.size(&path).await.map_err(ReadError::of)?;
        let requested = range.and_then(ranges::parse);
        let (range, part) = match requested {
            None => (0..size, None),
            Some(requested) => {
                let range = ranges::resolve(&requested, size).ok_or(ReadError::OutOfRange)?;
                let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (range, Some(part))
            }
        };
        // Read before the response begins, so that a storage failure still fails the request.
        let first = self.piece(&path, range.start, range.end).await;
        let first = first.map_err(ReadError::of)?;
        let is_enough = first.len() >= SNIFF_BYTES || range.end == size;
        let kind = if range.start == 0 && is_enough {
            Kind::of(&first[..first.len().min(SNIFF_BYTES)])
        } else {
            let start = self.piece(&path, 0, size.min(SNIFF_BYTES as u64)).await;
            Kind::of(&start.map_err(ReadError::of)?)
        };
        Ok(FoundFile {
            kind,
            length: range.end - range.start,
            part,
            piece_bytes: usize::try_from(self.read_bytes).unwrap_or(usize::MAX),
            bytes: self.clone().pieces(path, first, range),
        })
    }

    async fn size(&self, path: &Path) -> object_store::Result<u64> {
        let _permit = self
            .reads
            .acquire()
            .await
            .expect("the semaphore is never closed");
        Ok(self.store.head(path).await?.size)
    }

    /// Reads one chunk of a file, from `start`.
    async fn piece(&self, path: &Path, start: u64, end: u64) -> object_store::Result<Bytes> {
        let end = end.min(start + self.read_bytes);
        if start == end {
            return Ok(Bytes::new());
        }
        let _permit = self
            .reads
            .acquire()
            .await
            .expect("the semaphore is never closed");
        self.store.get_range(path, start..end).await
    }

    /// Streams a file. Each chunk is read on demand, and the file is not kept open while the client
    /// does not read.
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

    /// Stores a file.
    #[cfg(test)]
    pub(crate) async fn put(&self, key: [Uuid; 3], bytes: &'static str) {
        let put = self.store.put(&path(key), bytes.into()).await;
        put.expect("the storage accepts the file");
    }

    /// Deletes a file, if it exists.
    pub(crate) async fn delete(&self, key: [Uuid; 3]) -> object_store::Result<()> {
        self.delete_path(&path(key)).await
    }

    /// Deletes the marker of a file that an older version wrote.
    pub(crate) async fn delete_marker(&self, key: [Uuid; 3]) -> object_store::Result<()> {
        self.delete_path(&Path::from(format!("{}{TAKEN}", path(key))))
            .await
    }

    /// Deletes the temporary files of an upload whose process died. For S3, the bucket's lifecycle
    /// rules do that.
    pub(crate) async fn delete_leftovers(&self, key: [Uuid; 3]) {
        let Some(folder) = &self.folder else { return };
        let [app, meeting] = folders(key[0], key[1]);
        let folder = folder.join(app).join(meeting);
        let leftovers = format!("{}#", key[2]);
        blocking(move || remove_matching(&folder, |name| name.starts_with(&leftovers))).await;
    }

    pub(crate) async fn delete_path(&self, path: &Path) -> object_store::Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes all files of a meeting.
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

    /// Removes the directory of a meeting that has no files and no uploads in progress.
    pub(crate) async fn remove_folder(&self, app: Uuid, meeting: Uuid) {
        let Some(root) = &self.folder else { return };
        let [app, meeting] = folders(app, meeting);
        let app = root.join(app);
        let meeting = app.join(meeting);
        let remove = move || {
            // The directory may not exist, and the app's directory may contain other meetings.
            let _ = std::fs::remove_dir_all(meeting);
            let _ = std::fs::remove_dir(app);
        };
        blocking(remove).await;
    }

    /// Lists all objects that are named like chat files.
    pub(crate) fn all(&self) -> BoxStream<'static, object_store::Result<(ObjectName, ObjectMeta)>> {
        let parse = |object: ObjectMeta| async move {
            Ok(parse_name(&object.location).map(|name| (name, object)))
        };
        self.store.list(None).try_filter_map(parse).boxed()
    }
}

/// The limits on concurrent uploads. The default number follows from the memory for their parts.
fn slot_limits(part_bytes: usize, settings: &Settings) -> slots::SlotLimits {
    let each = part_bytes * (PARTS_AT_ONCE + 1);
    let all = settings.uploads_at_once.unwrap_or(MEMORY_BYTES / each);
    let all = all.max(1);
    let share = |set: Option<usize>, default: usize| set.unwrap_or(default.max(1));
    slots::SlotLimits {
        all,
        app: share(settings.uploads_per_app, all * 3 / 4),
        meeting: share(settings.uploads_per_meeting, all / 2),
        participant: share(settings.uploads_per_person, 4),
        grace: slots::GRACE,
    }
}

fn key(file: &File) -> [Uuid; 3] {
    [file.app.uuid(), file.meeting.uuid(), file.id]
}

/// The path of a file in the storage. It does not contain the name that the sender chose.
fn path([app, meeting, id]: [Uuid; 3]) -> Path {
    let [app, meeting] = folders(app, meeting);
    Path::from_iter([app, meeting, id.to_string()])
}

fn folders(app: Uuid, meeting: Uuid) -> [String; 2] {
    let (app, meeting) = (AppId::from_uuid(app), MeetingId::from_uuid(meeting));
    [app.to_string(), meeting.to_string()]
}

/// Parses the path of an object. Returns `None` when it is not that of a chat file.
fn parse_name(path: &Path) -> Option<ObjectName> {
    let text = path.as_ref();
    let (file, is_marker) = match text.strip_suffix(TAKEN) {
        Some(file) => (file, true),
        None => (text, false),
    };
    let mut parts = file.split('/').map(|part| part.parse::<Uuid>().ok());
    let key = [parts.next()??, parts.next()??, parts.next()??];
    // Excludes other spellings of the same IDs.
    (self::path(key).as_ref() == file).then_some(ObjectName { key, is_marker })
}

/// Removes the files in a directory whose names match.
fn remove_matching(folder: &std::path::Path, matches: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(&matches) {
            // The next cleanup retries.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!("a task on the file storage directory panicked");
    }
}

fn directory(folder: &std::path::Path) -> anyhow::Result<Files> {
    let failed = |error: &dyn std::fmt::Display| {
        anyhow::anyhow!(
            "cannot use the file storage directory {}: {error}",
            folder.display()
        )
    };
    // Other users of this machine must not read the files.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(&error))?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| failed(&error))?;
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
    let bucket = bucket.ok_or_else(|| anyhow::anyhow!("--storage: the URL has no bucket"))?;
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
    anyhow::bail!("--storage: this build does not support S3 (Cargo feature `s3`)")
}

#[cfg(test)]
mod tests;
