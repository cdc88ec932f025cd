//! The way of an upload: a slot, space on the disk, bytes reserved in the records, the bytes
//! themselves, and the records again. Whatever fails gives back what it had.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use uuid::Uuid;

use super::failed;
use crate::files::links::File;
use crate::files::records::{self, FileRow, NotReserved};
use crate::files::slots::{Full, Holder, Slot};
use crate::files::storage::{Bounds, Files, Unwritten};
use crate::files::upkeep;
use crate::http::{ApiError, Problem};
use crate::state::Parlor;

/// Bytes of a body that is not wanted which are still read, so that its sender hears why.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// An upload.
pub(crate) struct Upload {
    pub(crate) parlor: Arc<Parlor>,
    pub(crate) files: Files,
    pub(crate) file: File,
    /// Whose it is.
    pub(crate) person: Uuid,
    /// The bytes that were announced.
    pub(crate) length: Option<u64>,
}

/// Why an upload is refused: a word for metrics, and what its sender is told. Refusals that are
/// nobody's limit have no word.
struct Refused {
    reason: Option<&'static str>,
    error: ApiError,
}

impl Refused {
    fn over(reason: &'static str, error: ApiError) -> Self {
        Self {
            reason: Some(reason),
            error,
        }
    }
}

impl<E: Into<ApiError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            reason: None,
            error: error.into(),
        }
    }
}

/// What became of an upload that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undone {
    /// It is not stored, or somebody else's.
    Gone,
    /// It was stored after all, and stays.
    Stored,
    /// The database or the storage failed: `upkeep` finds what is left.
    Unknown,
}

impl Upload {
    /// Takes the file; how many bytes it has.
    ///
    /// # Errors
    /// 409 when it was taken before, 408 when it is too slow, 413 when it is too large, 400 when it
    /// breaks off, 429 when the person uploads too many at once, 503 when everybody does or the
    /// storage fails, 507 when there is no room for it.
    pub(crate) async fn run(self, mut body: Body) -> Result<u64, ApiError> {
        let refused = match self.take(&mut body).await {
            Ok(written) => return Ok(written),
            Err(refused) => refused,
        };
        if let Some(reason) = refused.reason {
            self.parlor.metrics.storage.upload_refused(reason);
        }
        if !matches!(refused.error.status().as_u16(), 400 | 408) {
            drain(body, self.parlor.limits.body_timeout()).await;
        }
        Err(refused.error)
    }

    async fn take(&self, body: &mut Body) -> Result<u64, Refused> {
        let Self { parlor, file, .. } = self;
        let limit = parlor.limits.upload_bytes;
        // Without its length the largest is reserved, until it is known.
        let reserved = self.length.unwrap_or(limit);
        if reserved > limit {
            return Err(Refused::over("too_large", too_large(limit)));
        }
        // Before it gets a slot: a link that was used may be tried any number of times.
        let Some(_writing) = parlor.files.underway.begin(file.id) else {
            return Err(taken().into());
        };
        if let Some(row) = records::find(&parlor.files, self.key()).await? {
            return self.again(&row, body).await;
        }
        // Decided only when the bytes are reserved; but a full meeting costs no slot and no write.
        if let Some(quota) = records::full(&parlor.files, file, reserved).await? {
            return Err(no_space(quota));
        }
        let slot = self.slot().await?;
        let _open = parlor.metrics.storage.upload_opened();
        let reserve = parlor.limits.quotas.disk_reserve;
        let promise = self.files.promise(reserved, reserve);
        let promise = promise.ok_or_else(|| no_space("disk_reserve"))?;
        self.reserve(reserved).await?;
        let bounds = self.bounds(reserved);
        let written = match self.files.exists(self.key()).await {
            // By a version that kept no records of files.
            Ok(true) => {
                self.give_back().await?;
                return Err(taken().into());
            }
            Ok(false) => {
                self.files
                    .write(file, body, bounds, slot.pace(), promise)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(written) => self.settle(reserved, written).await,
            Err(why) => {
                // The link is as good as before.
                self.undo().await;
                Err(why_not(&why, limit))
            }
        }
    }

    async fn slot(&self) -> Result<Slot, Refused> {
        let who = Holder {
            app: self.file.app.uuid(),
            meeting: self.file.meeting.uuid(),
            person: self.person,
        };
        let taken = self.files.slots.take(who).await;
        taken.map_err(|full| {
            let error = match full {
                Full::Person => ApiError::too_many_requests(5),
                Full::Meeting | Full::App | Full::All => {
                    ApiError::unavailable("too many files at once")
                }
            };
            Refused::over(full.reason(), error)
        })
    }

    async fn reserve(&self, bytes: u64) -> Result<(), Refused> {
        match records::reserve(&self.parlor.files, &self.file, bytes).await {
            Ok(()) => Ok(()),
            Err(NotReserved::Taken) => Err(not_known().into()),
            Err(NotReserved::Full(quota)) => Err(no_space(quota)),
            Err(NotReserved::Failed(error)) => {
                // The bytes may be reserved, although nobody said so.
                if let Err(error) = self.give_back().await {
                    tracing::warn!(%error, "what was reserved for an upload could not be freed yet");
                }
                Err(error.into())
            }
        }
    }

    /// Frees what was reserved, of which nothing was written.
    async fn give_back(&self) -> Result<(), parlor_store::Error> {
        let row = records::being_written(&self.parlor.files, self.key());
        records::free(&self.parlor.files, &row).await
    }

    /// The file was sent before. Its sender may not have heard that it was stored, and is told so
    /// when these are the same bytes.
    async fn again(&self, row: &FileRow, body: &mut Body) -> Result<u64, Refused> {
        if !row.is_stored() {
            return Err(not_known().into());
        }
        let stored = u64::try_from(row.bytes).unwrap_or_default();
        if self.length != Some(stored) {
            return Err(taken().into());
        }
        let slot = self.slot().await?;
        let bounds = self.bounds(stored);
        let same = self.files.holds(&self.file, body, bounds, slot.pace());
        match same.await {
            Ok(true) => Ok(stored),
            Ok(false) => Err(taken().into()),
            Err(why) => Err(why_not(&why, self.parlor.limits.upload_bytes)),
        }
    }

    fn bounds(&self, bytes: u64) -> Bounds {
        let limits = &self.parlor.limits;
        Bounds {
            bytes,
            pause: limits.body_timeout(),
            reserve: limits.quotas.disk_reserve,
        }
    }

    async fn settle(&self, reserved: u64, written: u64) -> Result<u64, Refused> {
        let error = match records::settle(&self.parlor.files, &self.file, reserved, written).await {
            Ok(true) => return Ok(written),
            // Whoever took the reservation away thinks that this process is no more.
            Ok(false) => ApiError::unavailable("the reservation of a file is gone"),
            Err(error) => error.into(),
        };
        match self.undo().await {
            Undone::Stored => Ok(written),
            Undone::Gone | Undone::Unknown => Err(error.into()),
        }
    }

    fn key(&self) -> [Uuid; 3] {
        let File {
            app, meeting, id, ..
        } = &self.file;
        [app.uuid(), meeting.uuid(), *id]
    }

    /// Removes what was written, unless somebody else has the row of the file. What cannot be undone
    /// now is left to `upkeep`, which finds the row.
    async fn undo(&self) -> Undone {
        match self.try_undo().await {
            Ok(undone) => undone,
            Err(error) => {
                tracing::warn!(%error, "an upload that failed could not be undone yet");
                Undone::Unknown
            }
        }
    }

    async fn try_undo(&self) -> Result<Undone, parlor_store::Error> {
        let (parlor, key) = (&self.parlor, self.key());
        let written = records::being_written(&parlor.files, key);
        let mut claimed = records::claim(&parlor.files, &written).await?;
        if claimed.is_none() {
            match records::find(&parlor.files, key).await? {
                Some(row) if row.process == parlor.process && row.is_stored() => {
                    return Ok(Undone::Stored);
                }
                Some(_) => return Ok(Undone::Gone),
                None => claimed = records::claim_absent(&parlor.files, key).await?,
            }
        }
        let Some(claimed) = claimed else {
            return Ok(Undone::Gone);
        };
        let removed = upkeep::remove(&parlor.files, &claimed, false, false).await?;
        Ok(if removed {
            Undone::Gone
        } else {
            Undone::Unknown
        })
    }
}

fn taken() -> ApiError {
    let message = "this link was used already; ask for another one";
    ApiError::conflict(Problem::new(message))
}

/// Another process writes the file, or the end of an upload is not known yet.
fn not_known() -> ApiError {
    ApiError::unavailable("a file is being written or removed")
}

fn no_space(reason: &'static str) -> Refused {
    let message = match reason {
        "meeting_quota" => "there is no room for this file in its meeting",
        "app_quota" => "there is no room for this file in its app",
        _ => "the server has no room for this file",
    };
    Refused::over(reason, ApiError::insufficient_storage(message))
}

fn why_not(why: &Unwritten, limit: u64) -> Refused {
    match why {
        Unwritten::TooLarge => Refused::over("too_large", too_large(limit)),
        Unwritten::Slow => Refused::over("slow", ApiError::too_slow()),
        Unwritten::CutOff => Refused::over("slow_while_others_wait", ApiError::too_slow()),
        Unwritten::BrokeOff => ApiError::bad_request("the request body broke off").into(),
        Unwritten::NoSpace => no_space("disk_reserve"),
        Unwritten::Storage(error) => failed(error).into(),
    }
}

fn too_large(limit: u64) -> ApiError {
    ApiError::too_large(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Reads some of a body that is not wanted, for so long at most.
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
    // It was worth a try.
    let _ = tokio::time::timeout(time, reading).await;
}
