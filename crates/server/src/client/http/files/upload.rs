//! An upload: acquires a slot, reserves disk space, reserves the bytes in the database, writes the
//! file, and settles the reservation. Every failure releases the slot and the reservations.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use uuid::Uuid;

use super::storage_error;
use crate::files::cleanup;
use crate::files::links::File;
use crate::files::records::{self, FileRow, ReserveError};
use crate::files::slots::{Full, Holder, Slot};
use crate::files::storage::{Files, WriteError, WriteLimits};
use crate::http::{ApiError, Problem};
use crate::state::ServerState;

/// Maximum bytes of a rejected body that are still read, so that the sender receives the response.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// An upload in progress.
pub(crate) struct Upload {
    pub(crate) state: Arc<ServerState>,
    pub(crate) files: Files,
    pub(crate) file: File,
    /// The uploading participant.
    pub(crate) participant: Uuid,
    /// The announced length of the body, in bytes.
    pub(crate) length: Option<u64>,
}

/// The rejection of an upload: a label for metrics and the error of the response. Only rejections
/// by a limit have a label.
struct Rejection {
    reason: Option<&'static str>,
    error: ApiError,
}

impl Rejection {
    fn limit(reason: &'static str, error: ApiError) -> Self {
        Self {
            reason: Some(reason),
            error,
        }
    }
}

impl<E: Into<ApiError>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self {
            reason: None,
            error: error.into(),
        }
    }
}

/// The outcome of undoing an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UndoOutcome {
    /// The file is not stored, or belongs to another upload.
    NotStored,
    /// The file was stored after all, and is kept.
    Stored,
    /// The database or the storage failed. `cleanup` will find the remains.
    Unknown,
}

impl Upload {
    /// Stores the file and returns its size in bytes.
    ///
    /// # Errors
    /// 409 if it was stored before, 408 if the body is too slow, 413 if it is too large, 400 if it
    /// ends early, 429 if the participant has too many concurrent uploads, 503 if the server has
    /// too many or the storage fails, 507 if there is not enough space.
    pub(crate) async fn run(self, mut body: Body) -> Result<u64, ApiError> {
        let rejection = match self.store(&mut body).await {
            Ok(written) => return Ok(written),
            Err(rejection) => rejection,
        };
        if let Some(reason) = rejection.reason {
            self.state.metrics.storage.upload_refused(reason);
        }
        if !matches!(rejection.error.status().as_u16(), 400 | 408) {
            drain(body, self.state.limits.body_timeout()).await;
        }
        Err(rejection.error)
    }

    async fn store(&self, body: &mut Body) -> Result<u64, Rejection> {
        let Self { state, file, .. } = self;
        let limit = state.limits.upload_bytes;
        // Without a length, the maximum is reserved until the actual length is known.
        let reserved = self.length.unwrap_or(limit);
        if reserved > limit {
            return Err(Rejection::limit("too_large", too_large(limit)));
        }
        // Before a slot is taken, because a used link may be retried any number of times.
        let Some(_writing) = state.files.in_progress.begin(file.id) else {
            return Err(link_used().into());
        };
        if let Some(row) = records::find(&state.files, self.key()).await? {
            return self.repeat(&row, body).await;
        }
        // Reserving the bytes makes the decision; this check saves a slot and a write when the
        // quota is exceeded.
        if let Some(quota) = records::exceeded_quota(&state.files, file, reserved).await? {
            return Err(no_space(quota));
        }
        let slot = self.slot().await?;
        let _open = state.metrics.storage.upload_opened();
        let reserve = state.limits.quotas.disk_reserve;
        let reservation = self.files.reserve_space(reserved, reserve);
        let reservation = reservation.ok_or_else(|| no_space("disk_reserve"))?;
        self.reserve(reserved).await?;
        let limits = self.limits(reserved);
        let written = match self.files.exists(self.key()).await {
            // Stored by a version without file records.
            Ok(true) => {
                self.release_reservation().await?;
                return Err(link_used().into());
            }
            Ok(false) => {
                self.files
                    .write(file, body, limits, slot.pace(), reservation)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(written) => self.settle(reserved, written).await,
            Err(why) => {
                // The link remains usable.
                self.undo().await;
                Err(write_rejection(&why, limit))
            }
        }
    }

    async fn slot(&self) -> Result<Slot, Rejection> {
        let holder = Holder {
            app: self.file.app.uuid(),
            meeting: self.file.meeting.uuid(),
            participant: self.participant,
        };
        let slot = self.files.slots.acquire(holder).await;
        slot.map_err(|full| {
            let error = match full {
                Full::Participant => ApiError::too_many_requests(5),
                Full::Meeting | Full::App | Full::All => {
                    ApiError::unavailable("too many files at once")
                }
            };
            Rejection::limit(full.reason(), error)
        })
    }

    async fn reserve(&self, bytes: u64) -> Result<(), Rejection> {
        match records::reserve(&self.state.files, &self.file, bytes).await {
            Ok(()) => Ok(()),
            Err(ReserveError::Taken) => Err(unknown_outcome().into()),
            Err(ReserveError::Full(quota)) => Err(no_space(quota)),
            Err(ReserveError::Failed(error)) => {
                // The bytes may be reserved even though the commit's outcome is unknown.
                if let Err(error) = self.release_reservation().await {
                    tracing::warn!(%error, "the reservation of an upload could not be released yet");
                }
                Err(error.into())
            }
        }
    }

    /// Releases the reservation of a file if nothing was written.
    async fn release_reservation(&self) -> Result<(), parlor_store::Error> {
        let row = records::being_written(&self.state.files, self.key());
        records::release(&self.state.files, &row).await
    }

    /// Handles a file that was uploaded before. The sender may have missed the response, so it
    /// succeeds if the bytes are the same.
    async fn repeat(&self, row: &FileRow, body: &mut Body) -> Result<u64, Rejection> {
        if !row.is_stored() {
            return Err(unknown_outcome().into());
        }
        let stored = u64::try_from(row.bytes).unwrap_or_default();
        if self.length != Some(stored) {
            return Err(link_used().into());
        }
        let slot = self.slot().await?;
        let limits = self.limits(stored);
        let same = self
            .files
            .content_matches(&self.file, body, limits, slot.pace());
        match same.await {
            Ok(true) => Ok(stored),
            Ok(false) => Err(link_used().into()),
            Err(why) => Err(write_rejection(&why, self.state.limits.upload_bytes)),
        }
    }

    fn limits(&self, bytes: u64) -> WriteLimits {
        let limits = &self.state.limits;
        WriteLimits {
            bytes,
            pause: limits.body_timeout(),
            reserve: limits.quotas.disk_reserve,
        }
    }

    async fn settle(&self, reserved: u64, written: u64) -> Result<u64, Rejection> {
        let error = match records::settle(&self.state.files, &self.file, reserved, written).await {
            Ok(true) => return Ok(written),
            // Another process has taken over the reservation, because it considers this one dead.
            Ok(false) => ApiError::unavailable("the reservation of a file was lost"),
            Err(error) => error.into(),
        };
        match self.undo().await {
            UndoOutcome::Stored => Ok(written),
            UndoOutcome::NotStored | UndoOutcome::Unknown => Err(error.into()),
        }
    }

    fn key(&self) -> [Uuid; 3] {
        let File {
            app, meeting, id, ..
        } = &self.file;
        [app.uuid(), meeting.uuid(), *id]
    }

    /// Removes the written file, unless another process owns its row. If that fails, `cleanup`
    /// finds the row later.
    async fn undo(&self) -> UndoOutcome {
        match self.try_undo().await {
            Ok(undone) => undone,
            Err(error) => {
                tracing::warn!(%error, "a failed upload could not be undone yet");
                UndoOutcome::Unknown
            }
        }
    }

    async fn try_undo(&self) -> Result<UndoOutcome, parlor_store::Error> {
        let (state, key) = (&self.state, self.key());
        let written = records::being_written(&state.files, key);
        let mut claimed = records::claim(&state.files, &written).await?;
        if claimed.is_none() {
            match records::find(&state.files, key).await? {
                Some(row) if row.process == state.process && row.is_stored() => {
                    return Ok(UndoOutcome::Stored);
                }
                Some(_) => return Ok(UndoOutcome::NotStored),
                None => claimed = records::claim_absent(&state.files, key).await?,
            }
        }
        let Some(claimed) = claimed else {
            return Ok(UndoOutcome::NotStored);
        };
        let removed = cleanup::remove(&state.files, &claimed, false, false).await?;
        Ok(if removed {
            UndoOutcome::NotStored
        } else {
            UndoOutcome::Unknown
        })
    }
}

fn link_used() -> ApiError {
    let message = "this link has already been used; request another one";
    ApiError::conflict(Problem::new(message))
}

/// Returns the error for a file that another process is writing, or whose upload has an unknown
/// outcome.
fn unknown_outcome() -> ApiError {
    ApiError::unavailable("a file is being written or removed")
}

fn no_space(reason: &'static str) -> Rejection {
    let message = match reason {
        "meeting_quota" => "there is no space for this file in its meeting",
        "app_quota" => "there is no space for this file in its app",
        _ => "the server has no space for this file",
    };
    Rejection::limit(reason, ApiError::insufficient_storage(message))
}

fn write_rejection(why: &WriteError, limit: u64) -> Rejection {
    match why {
        WriteError::TooLarge => Rejection::limit("too_large", too_large(limit)),
        WriteError::Slow => Rejection::limit("slow", ApiError::request_timeout()),
        WriteError::Aborted => {
            Rejection::limit("slow_while_others_wait", ApiError::request_timeout())
        }
        WriteError::Disconnected => ApiError::bad_request("the request body was cut short").into(),
        WriteError::NoSpace => no_space("disk_reserve"),
        WriteError::Storage(error) => storage_error(error).into(),
    }
}

fn too_large(limit: u64) -> ApiError {
    ApiError::payload_too_large(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Reads and discards part of a rejected body, within a time limit.
async fn drain(mut body: Body, time: Duration) {
    let reading = async {
        let mut read = 0;
        while read < DRAINED_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    };
    // Best effort.
    let _ = tokio::time::timeout(time, reading).await;
}
