//! Chat files: storage, records and quotas.

pub(crate) mod cleanup;
pub(crate) mod in_progress;
pub(crate) mod kinds;
pub(crate) mod links;
pub(crate) mod ranges;
pub(crate) mod records;
pub(crate) mod slots;
pub(crate) mod storage;

pub use storage::Files;

use std::sync::Arc;

use parlor_store::{Db, Statement};
use uuid::Uuid;

use self::cleanup::CleanupState;
use self::in_progress::InProgress;
use crate::clock::Clock;
use crate::identity::app_owners::AppOwners;
use crate::limits::Quotas;
use crate::metrics::Metrics;

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = records::STATEMENTS.to_vec();
    all.extend(cleanup::statements());
    all
}

/// Stores chat files and keeps their records.
pub struct FileService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) owners: Arc<AppOwners>,
    pub(crate) quotas: Quotas,
    /// ID of this process in the database.
    pub(crate) process: Uuid,
    /// The storage of the files' content. A server without storage has no files.
    pub storage: Option<Files>,
    pub(crate) in_progress: InProgress,
    /// State of the background cleanup.
    pub(crate) cleanup: CleanupState,
}
