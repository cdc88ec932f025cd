//! What can go wrong between a caller and its records.

/// Why a read or a unit of work did not happen.
///
/// Causes are text, because one cause can be the answer to every unit of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A unique index already holds this key. The whole unit was undone.
    #[error("{constraint} already holds this key")]
    Conflict {
        /// The index's name, or `<table>_pkey` for a primary key. The same on both
        /// engines for every unique index that was created with a name.
        constraint: String,
    },
    /// A step marked `exactly_one` touched none or several rows. The whole unit was undone.
    #[error("step {step} did not touch exactly one row")]
    WrongCount {
        /// Position of the step in its unit, from 0. A finishing step comes last.
        step: usize,
    },
    /// The database cannot be reached, is too busy, or was closed. Whether the unit was
    /// committed is unknown; trying again later is sensible.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database was migrated by a newer binary.
    #[error("the database was made by a newer version: migration {migration} is unknown here")]
    Newer {
        /// Name of the migration this binary does not know.
        migration: String,
    },
    /// A mistake in the program or a damaged database. Trying again does not help.
    #[error("the database refused: {0}")]
    Broken(String),
}
