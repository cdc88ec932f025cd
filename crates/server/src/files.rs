//! The files of chats: where they are stored, what is recorded of them, and how much there may be.

pub(crate) mod kinds;
pub(crate) mod links;
pub(crate) mod ranges;
pub(crate) mod records;
pub(crate) mod slots;
pub(crate) mod storage;
pub(crate) mod underway;
pub(crate) mod upkeep;

pub use storage::Files;

use std::sync::Arc;

use parlor_store::{Db, Statement};
use uuid::Uuid;

use self::underway::Underway;
use self::upkeep::Rounds;
use crate::clock::Clock;
use crate::identity::app_owners::AppOwners;
use crate::limits::Quotas;
use crate::metrics::Metrics;

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = records::STATEMENTS.to_vec();
    all.extend(upkeep::statements());
    all
}

/// What keeps and records the files of chats.
pub struct FileService {
    pub(crate) db: Db,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) owners: Arc<AppOwners>,
    pub(crate) quotas: Quotas,
    /// This process among the records.
    pub(crate) process: Uuid,
    /// Where the bytes are; a server without it has no files.
    pub storage: Option<Files>,
    pub(crate) underway: Underway,
    /// What is remembered of the last round over the files.
    pub(crate) rounds: Rounds,
}
