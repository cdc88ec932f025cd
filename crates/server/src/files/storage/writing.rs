//! Writes uploads to the storage, with a minimum pace and a disk reserve.

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

/// Maximum number of parts of one file in flight.
pub(crate) const PARTS_AT_ONCE: usize = 2;
/// Timeout of a whole upload, including its completion in the storage.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Disk space reserved for an upload, which is released when this is dropped.
pub(crate) struct SpaceReservation {
    reserved: Arc<AtomicU64>,
    disk: Option<Disk>,
    left: u64,
    written: u64,
}

impl SpaceReservation {
    /// Records that `bytes` of the upload in total are on disk.
    pub(crate) fn on_disk(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.written);
        self.written += more;
        if let Some(disk) = &self.disk {
            disk.record_write(more);
        }
        self.release(more);
    }

    fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.release(self.left);
    }
}

/// Limits on one upload.
#[derive(Clone, Copy)]
pub(crate) struct WriteLimits {
    /// Maximum size, in bytes.
    pub(crate) bytes: u64,
    /// Maximum pause between two chunks, and maximum lag behind the minimum pace.
    pub(crate) pause: Duration,
    /// Disk space that must stay free, in bytes.
    pub(crate) reserve: u64,
}

/// Reason why a file was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The file exceeds the maximum size.
    TooLarge,
    /// The upload was too slow.
    Slow,
    /// The upload was slow while others waited for a slot.
    Aborted,
    /// The client disconnected.
    Disconnected,
    /// The disk reserve is reached.
    NoSpace,
    /// The storage failed.
    Storage(object_store::Error),
}

impl From<object_store::Error> for WriteError {
    fn from(error: object_store::Error) -> Self {
        Self::Storage(error)
    }
}

impl Files {
    /// Reserves disk space for a file. Returns `None` when less than `reserve` would be left.
    pub(crate) fn reserve_space(&self, bytes: u64, reserve: u64) -> Option<SpaceReservation> {
        let others = self.reserved.fetch_add(bytes, Ordering::Relaxed);
        let reservation = SpaceReservation {
            reserved: Arc::clone(&self.reserved),
            disk: self.disk.clone(),
            left: bytes,
            written: 0,
        };
        (!self.is_below_reserve(reserve, others.saturating_add(bytes))).then_some(reservation)
    }

    pub(crate) fn is_below_reserve(&self, reserve: u64, bytes: u64) -> bool {
        let disk = self.disk.as_ref();
        disk.is_some_and(|disk| disk.is_below_reserve(reserve, bytes))
    }

    /// Writes a file and returns its size in bytes.
    pub(crate) async fn write(
        &self,
        file: &File,
        body: &mut Body,
        limits: WriteLimits,
        pace: &Pace,
        mut reservation: SpaceReservation,
    ) -> Result<u64, WriteError> {
        let until = Instant::now() + UPLOAD_TIMEOUT;
        let path = path(key(file));
        let beginning = async { Ok(self.store.put_multipart(&path).await?) };
        let upload = in_time(pace, until, beginning).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, self.part_bytes);
        let streaming = self.stream(&mut upload, body, limits, pace, &mut reservation);
        let written = match in_time(pace, until, streaming).await {
            Ok(written) => written,
            Err(error) => {
                let _ = upload.abort().await;
                return Err(error);
            }
        };
        let finishing = async { Ok(upload.finish().await.map(drop)?) };
        in_time(pace, until, finishing).await?;
        reservation.on_disk(written);
        Ok(written)
    }

    /// Whether a body equals the content of a file in the storage.
    pub(crate) async fn content_matches(
        &self,
        file: &File,
        body: &mut Body,
        limits: WriteLimits,
        pace: &Pace,
    ) -> Result<bool, WriteError> {
        let path = path(key(file));
        let comparing = async {
            let mut compared = 0;
            while let Some(bytes) = next(body, limits, pace).await? {
                let end = compared + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if end > limits.bytes {
                    return Ok(false);
                }
                if !bytes.is_empty() && self.store.get_range(&path, compared..end).await? != bytes {
                    return Ok(false);
                }
                compared = end;
            }
            Ok(compared == limits.bytes)
        };
        in_time(pace, Instant::now() + UPLOAD_TIMEOUT, comparing).await
    }

    async fn stream(
        &self,
        upload: &mut WriteMultipart,
        body: &mut Body,
        limits: WriteLimits,
        pace: &Pace,
        reservation: &mut SpaceReservation,
    ) -> Result<u64, WriteError> {
        let in_memory = u64::try_from((PARTS_AT_ONCE + 1) * self.part_bytes).unwrap_or(u64::MAX);
        let mut written = 0;
        loop {
            let Some(bytes) = next(body, limits, pace).await? else {
                return Ok(written);
            };
            let before = written;
            written += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if written > limits.bytes {
                return Err(WriteError::TooLarge);
            }
            if self.is_below_reserve(limits.reserve, 0) {
                return Err(WriteError::NoSpace);
            }
            upload.wait_for_capacity(PARTS_AT_ONCE).await?;
            reservation.on_disk(before.saturating_sub(in_memory));
            // Copied, because a slice would keep the whole read buffer alive.
            upload.write(&bytes);
        }
    }
}

/// Returns the next bytes of a body, or `None` at its end.
async fn next(
    body: &mut Body,
    limits: WriteLimits,
    pace: &Pace,
) -> Result<Option<Bytes>, WriteError> {
    pace.start_waiting();
    let next = tokio::time::timeout(limits.pause, body.frame()).await;
    let bytes = match next {
        Err(_) => return Err(WriteError::Slow),
        Ok(None) => {
            // From here on the upload waits for the storage.
            pace.received(0);
            return Ok(None);
        }
        Ok(Some(Err(_))) => return Err(WriteError::Disconnected),
        Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
    };
    if pace.received(bytes.len()) > limits.pause {
        return Err(WriteError::Slow);
    }
    Ok(Some(bytes))
}

/// Runs a step of an upload. Fails at the deadline, or when others wait for the upload's slot.
async fn in_time<T>(
    pace: &Pace,
    until: Instant,
    step: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    tokio::select! {
        done = tokio::time::timeout_at(until, step) => done.unwrap_or(Err(WriteError::Slow)),
        () = pace.aborted() => Err(WriteError::Aborted),
    }
}
