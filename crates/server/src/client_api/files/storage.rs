//! Where files are kept: a directory, or storage that speaks S3.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    WriteMultipart,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::kinds::{Kind, TELLING_BYTES};
use super::ranges;
use crate::api::{ApiError, Problem};
use crate::client_api::links::File;
use crate::config::Settings;

/// Bytes of a part on its way to S3, which takes no smaller ones.
#[cfg(feature = "s3")]
const S3_PART_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of a part on its way to a disk.
const DISK_PART_BYTES: usize = 256 * 1024;
/// Bytes of all files on their way, in memory.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// Parts of one file on their way at once.
const PARTS_AT_ONCE: usize = 2;
/// How long a file waits for the memory that others use.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// How long the whole of a file may take, however steadily it comes.
const FILE_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Bytes a second at which a file has to come on average: whoever is slower holds up others.
const PACE_BYTES: u64 = 16 * 1024;
/// Bytes of a body that is not wanted which are still read, so that its sender hears why.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// The storage of files. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    part_bytes: usize,
    at_once: Arc<Semaphore>,
}

/// How much of a file is taken.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes.
    pub(super) bytes: u64,
    /// Between two pieces of it, and how far it may stay behind its pace.
    pub(super) pause: Duration,
}

/// A file that was found.
pub(super) struct Found {
    /// What it is.
    pub(super) kind: Kind,
    /// How many bytes follow.
    pub(super) length: u64,
    /// The `Content-Range`, when it is not the whole.
    pub(super) part: Option<String>,
    /// The bytes.
    pub(super) bytes: BoxStream<'static, object_store::Result<Bytes>>,
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
        match place {
            Some(url) if url.starts_with("s3://") => s3(url, settings.storage_endpoint.as_deref()),
            Some(other) if other.contains("://") => {
                anyhow::bail!("--storage takes a directory or s3://bucket/prefix")
            }
            Some(folder) => directory(folder.as_ref()),
            None => directory(&settings.data_dir().join("uploads")),
        }
    }

    fn new(store: Arc<dyn ObjectStore>, part_bytes: usize) -> Self {
        let each = part_bytes * (PARTS_AT_ONCE + 1);
        Self {
            store,
            part_bytes,
            at_once: Arc::new(Semaphore::new(MEMORY_BYTES / each)),
        }
    }

    /// Writes a file that was never written before; how many bytes it has.
    ///
    /// # Errors
    /// 409 when it was, 408 and 413 when it is too slow or too large, 400 when it breaks off, 503
    /// when the storage fails.
    pub(super) async fn write(
        &self,
        file: &File,
        body: Body,
        bounds: Bounds,
    ) -> Result<u64, ApiError> {
        let (files, path, taken) = (self.clone(), path(file), taken(file));
        // In a task of its own, which cleans up also when the client has gone.
        let writing = tokio::spawn(async move {
            let permit = files.at_once.acquire();
            let permit = tokio::time::timeout(MEMORY_PATIENCE, permit).await;
            let _permit = permit.map_err(|_| ApiError::unavailable("too many files at once"))?;
            files.take(&taken).await?;
            let writing = files.stream(&path, body, bounds);
            let written = tokio::time::timeout(FILE_PATIENCE, writing).await;
            let written = written.unwrap_or_else(|_| Err(ApiError::too_slow()));
            if written.is_err() {
                // The link is as good as before.
                let _ = files.store.delete(&taken).await;
            }
            written
        });
        let panicked = |_| ApiError::internal("the task that writes a file panicked");
        writing.await.map_err(panicked)?
    }

    /// Marks a file as taken: of several that write it at once, on any node, one may.
    async fn take(&self, taken: &Path) -> Result<(), ApiError> {
        let only_new = PutOptions::from(PutMode::Create);
        match self
            .store
            .put_opts(taken, PutPayload::new(), only_new)
            .await
        {
            Ok(_) => Ok(()),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => {
                let message = "this link was used already; ask for another one";
                Err(ApiError::conflict(Problem::new(message)))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    async fn stream(&self, path: &Path, mut body: Body, bounds: Bounds) -> Result<u64, ApiError> {
        let upload = self.store.put_multipart(path).await;
        let upload = upload.map_err(|error| failed(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, self.part_bytes);
        let (mut written, mut waited) = (0, Duration::ZERO);
        let refused = loop {
            let asked = Instant::now();
            let next = tokio::time::timeout(bounds.pause, body.frame()).await;
            // Only for the sender, not for the storage.
            waited += asked.elapsed();
            let frame = match next {
                Err(_) => break ApiError::too_slow(),
                Ok(None) => {
                    upload.finish().await.map_err(|error| failed(&error))?;
                    return Ok(written);
                }
                Ok(Some(Err(_))) => break ApiError::bad_request("the request body broke off"),
                Ok(Some(Ok(_))) if waited > bounds.pause + paced(written) => {
                    break ApiError::too_slow();
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            written += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if written > bounds.bytes {
                drain(body, bounds.pause).await;
                break too_large(bounds.bytes);
            }
            if let Err(error) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                break failed(&error);
            }
            // Copied, since a piece would hold on to the whole buffer it was read into.
            upload.write(&bytes);
        };
        let _ = upload.abort().await;
        Err(refused)
    }

    /// Finds a file, or the part of it that a `Range` header asks for.
    ///
    /// # Errors
    /// 404 when it was never written, 416 when it has no such part, 503 when the storage fails.
    pub(super) async fn read(&self, file: &File, range: Option<&str>) -> Result<Found, ApiError> {
        let path = path(file);
        let asked = range.and_then(ranges::asked);
        if let Some(asked) = asked {
            let size = self.store.head(&path).await.map_err(not_found)?.size;
            let range = ranges::within(&asked, size).ok_or_else(ApiError::outside)?;
            let telling = 0..size.min(TELLING_BYTES as u64);
            let start = self.store.get_range(&path, telling).await;
            let kind = Kind::of(&start.map_err(not_found)?);
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            let got = self
                .store
                .get_opts(&path, options)
                .await
                .map_err(not_found)?;
            return Ok(Found {
                kind,
                length: range.end - range.start,
                part: Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)),
                bytes: got.into_stream(),
            });
        }
        let got = self.store.get(&path).await.map_err(not_found)?;
        let length = got.meta.size;
        let mut bytes = got.into_stream();
        let first = bytes.try_next().await.map_err(|error| failed(&error))?;
        let first = first.unwrap_or_default();
        Ok(Found {
            kind: Kind::of(&first[..first.len().min(TELLING_BYTES)]),
            length,
            part: None,
            bytes: stream::iter([Ok(first)]).chain(bytes).boxed(),
        })
    }
}

/// How long so many bytes may take.
fn paced(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / PACE_BYTES)
}

/// The name that a sender gave is no part of it.
fn path(file: &File) -> Path {
    let File {
        app, meeting, id, ..
    } = file;
    Path::from_iter([app.to_string(), meeting.to_string(), id.to_string()])
}

/// What stands beside a file from when it is begun.
fn taken(file: &File) -> Path {
    Path::from(format!("{}.taken", path(file)))
}

fn failed(error: &object_store::Error) -> ApiError {
    ApiError::unavailable(format!("storage: {error}"))
}

fn not_found(error: object_store::Error) -> ApiError {
    match error {
        object_store::Error::NotFound { .. } => ApiError::missing("file"),
        error => failed(&error),
    }
}

pub(super) fn too_large(limit: u64) -> ApiError {
    ApiError::too_large(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Reads some of a body that is not wanted, for so long at most.
pub(super) async fn drain(mut body: Body, time: Duration) {
    let reading = async {
        let mut read = 0;
        while read < DRAINED_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    };
    // It was worth a try.
    let _ = tokio::time::timeout(time, reading).await;
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
    Ok(Files::new(
        Arc::new(store.with_fsync(true)),
        DISK_PART_BYTES,
    ))
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
    Ok(Files::new(store, S3_PART_BYTES))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &str, _: Option<&str>) -> anyhow::Result<Files> {
    anyhow::bail!("--storage: this build has no S3 (cargo feature `s3`)")
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use parlor_protocol::ids::{AppId, MeetingId};
    use uuid::Uuid;

    use super::*;

    /// Writes what comes in pieces of so many bytes, one every 50 ms; the status and how long
    /// it took.
    async fn written(piece: usize, pieces: usize) -> (Result<u64, u16>, Duration) {
        let folder = tempfile::tempdir().unwrap();
        let files = directory(folder.path()).unwrap();
        let file = File {
            app: AppId::from_uuid(Uuid::nil()),
            meeting: MeetingId::from_uuid(Uuid::nil()),
            id: Uuid::nil(),
            name: "a".into(),
        };
        let coming = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, std::io::Error>(vec![0; piece])
        });
        let bounds = Bounds {
            bytes: 1 << 30,
            pause: Duration::from_millis(200),
        };
        let began = Instant::now();
        let written = files.write(&file, Body::from_stream(coming), bounds).await;
        let written = written.map_err(|error| error.into_response().status().as_u16());
        (written, began.elapsed())
    }

    #[tokio::test]
    async fn whoever_trickles_a_file_is_let_go_soon() {
        let (written, took) = written(1, 1000).await;
        assert_eq!(written, Err(408));
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[tokio::test]
    async fn a_slow_line_takes_its_time() {
        let (written, took) = written(8 * 1024, 30).await;
        assert_eq!(written, Ok(30 * 8 * 1024));
        assert!(took >= Duration::from_millis(1500), "{took:?}");
    }
}
