//! Writing a file: in parts, at a pace, and never into the space that the disk is to keep free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use tokio::time::Instant;

use super::{Files, key, path};
use crate::disk::Disk;
use crate::files::links::File;
use crate::files::slots::Pace;

/// Parts of one file on their way at once.
pub(crate) const PARTS_AT_ONCE: usize = 2;
/// How long the whole of a file may take, however steadily it comes, with its end in the storage.
const FILE_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Space on the disk that an upload will need, free for others again when it is dropped.
pub(crate) struct Promise {
    promised: Arc<AtomicU64>,
    disk: Option<Disk>,
    left: u64,
    written: u64,
}

impl Promise {
    /// So many bytes in all are on the disk.
    pub(crate) fn on_disk(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.written);
        self.written += more;
        if let Some(disk) = &self.disk {
            disk.wrote(more);
        }
        self.give_back(more);
    }

    fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.promised.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.give_back(self.left);
    }
}

/// How much of a file is taken, and how soon it must come.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Between two pieces of it, and how far it may be behind the least pace.
    pub(crate) pause: Duration,
    /// What the disk must keep free.
    pub(crate) reserve: u64,
}

/// Why a file was not written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// It has more bytes than it may.
    TooLarge,
    /// It came too slowly.
    Slow,
    /// It came slowly and others waited.
    CutOff,
    /// Its sender went away.
    BrokeOff,
    /// The disk is nearly full.
    NoSpace,
    /// The storage fails.
    Storage(object_store::Error),
}

impl From<object_store::Error> for Unwritten {
    fn from(error: object_store::Error) -> Self {
        Self::Storage(error)
    }
}

impl Files {
    /// Sets space on the disk aside for a file; `None` when less than `reserve` would be left.
    pub(crate) fn promise(&self, bytes: u64, reserve: u64) -> Option<Promise> {
        let others = self.promised.fetch_add(bytes, Ordering::Relaxed);
        let promise = Promise {
            promised: Arc::clone(&self.promised),
            disk: self.disk.clone(),
            left: bytes,
            written: 0,
        };
        (!self.is_short(reserve, others.saturating_add(bytes))).then_some(promise)
    }

    pub(crate) fn is_short(&self, reserve: u64, bytes: u64) -> bool {
        let disk = self.disk.as_ref();
        disk.is_some_and(|disk| disk.is_short(reserve, bytes))
    }

    /// Writes a file; how many bytes it has.
    pub(crate) async fn write(
        &self,
        file: &File,
        body: &mut Body,
        bounds: Bounds,
        pace: &Pace,
        mut promise: Promise,
    ) -> Result<u64, Unwritten> {
        let until = Instant::now() + FILE_PATIENCE;
        let path = path(key(file));
        let beginning = async { Ok(self.store.put_multipart(&path).await?) };
        let upload = in_time(pace, until, beginning).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, self.part_bytes);
        let streaming = self.stream(&mut upload, body, bounds, pace, &mut promise);
        let written = match in_time(pace, until, streaming).await {
            Ok(written) => written,
            Err(error) => {
                let _ = upload.abort().await;
                return Err(error);
            }
        };
        let finishing = async { Ok(upload.finish().await.map(drop)?) };
        in_time(pace, until, finishing).await?;
        promise.on_disk(written);
        Ok(written)
    }

    /// Whether a body is what a file in the storage holds.
    pub(crate) async fn holds(
        &self,
        file: &File,
        body: &mut Body,
        bounds: Bounds,
        pace: &Pace,
    ) -> Result<bool, Unwritten> {
        let path = path(key(file));
        let comparing = async {
            let mut compared = 0;
            while let Some(bytes) = next(body, bounds, pace).await? {
                let end = compared + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if end > bounds.bytes {
                    return Ok(false);
                }
                if !bytes.is_empty() && self.store.get_range(&path, compared..end).await? != bytes {
                    return Ok(false);
                }
                compared = end;
            }
            Ok(compared == bounds.bytes)
        };
        in_time(pace, Instant::now() + FILE_PATIENCE, comparing).await
    }

    async fn stream(
        &self,
        upload: &mut WriteMultipart,
        body: &mut Body,
        bounds: Bounds,
        pace: &Pace,
        promise: &mut Promise,
    ) -> Result<u64, Unwritten> {
        let in_memory = u64::try_from((PARTS_AT_ONCE + 1) * self.part_bytes).unwrap_or(u64::MAX);
        let mut written = 0;
        loop {
            let Some(bytes) = next(body, bounds, pace).await? else {
                return Ok(written);
            };
            let before = written;
            written += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if written > bounds.bytes {
                return Err(Unwritten::TooLarge);
            }
            if self.is_short(bounds.reserve, 0) {
                return Err(Unwritten::NoSpace);
            }
            upload.wait_for_capacity(PARTS_AT_ONCE).await?;
            promise.on_disk(before.saturating_sub(in_memory));
            // Copied, since a piece would hold on to the whole buffer it was read into.
            upload.write(&bytes);
        }
    }
}

/// The next bytes of a body; `None` at its end.
async fn next(body: &mut Body, bounds: Bounds, pace: &Pace) -> Result<Option<Bytes>, Unwritten> {
    pace.waits();
    let next = tokio::time::timeout(bounds.pause, body.frame()).await;
    let bytes = match next {
        Err(_) => return Err(Unwritten::Slow),
        Ok(None) => {
            // From here on the storage is waited for.
            pace.came(0);
            return Ok(None);
        }
        Ok(Some(Err(_))) => return Err(Unwritten::BrokeOff),
        Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
    };
    if pace.came(bytes.len()) > bounds.pause {
        return Err(Unwritten::Slow);
    }
    Ok(Some(bytes))
}

/// A step of an upload, which ends when it takes too long or when others wait for its slot.
async fn in_time<T>(
    pace: &Pace,
    until: Instant,
    step: impl Future<Output = Result<T, Unwritten>>,
) -> Result<T, Unwritten> {
    tokio::select! {
        done = tokio::time::timeout_at(until, step) => done.unwrap_or(Err(Unwritten::Slow)),
        () = pace.cut_off() => Err(Unwritten::CutOff),
    }
}
