//! Errors of the store.

/// Why a read or a unit of work failed.
///
/// Causes are strings because one cause may be returned to every unit of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A unique index already contains this key. The whole unit was rolled back.
    #[error("{constraint} already contains this key")]
    Conflict {
        /// Name of the index, or `<table>_pkey` for a primary key. The same on both engines for
        /// every unique index that was created with a name.
        constraint: String,
    },
    /// A step marked `exactly_one` affected zero rows or several rows. The whole unit was rolled
    /// back.
    #[error("step {step} did not affect exactly one row")]
    WrongCount {
        /// Index of the step in its unit, from 0. A finishing step comes last.
        step: usize,
    },
    /// The database cannot be reached, is too busy, or was closed. It is unknown whether the unit
    /// was committed. The caller may retry later.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database was migrated by a newer version of the program.
    #[error("the database was made by a newer version: migration {migration} is unknown here")]
    Newer {
        /// Name of the unknown migration.
        migration: String,
    },
    /// A bug in the program or a damaged database. A retry does not help.
    #[error("database error: {0}")]
    Broken(String),
}
