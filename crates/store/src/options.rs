//! Database location and settings.

use std::{fmt, path::PathBuf, time::Duration};

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// Path of an SQLite file. Its directory must exist.
    Sqlite(PathBuf),
    /// A `postgres://` URL. `sslmode=require` demands TLS with a publicly trusted certificate.
    /// Without `sslmode`, connections to this host are unencrypted, and connections to other hosts
    /// use TLS if the server offers it.
    Postgres(String),
}

impl fmt::Debug for DatabaseLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            // The URL may contain a password, in one of several positions.
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, embedded in this process.
    Sqlite,
    /// PostgreSQL, over a network connection.
    Postgres,
}

impl Engine {
    /// `sqlite` or `postgres`, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Sizes of pools, batches and queues, and timeouts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of PostgreSQL connections for group commit, at least 1.
    pub postgres_writers: usize,
    /// Number of PostgreSQL connections for reads, at least 1.
    pub postgres_readers: usize,
    /// Number of SQLite connections for reads, at least 2: scans leave one free for point reads.
    pub sqlite_readers: usize,
    /// Maximum number of units in one transaction.
    pub batch_units: usize,
    /// Maximum number of queued units per writer, and on SQLite also of queued reads. Further ones
    /// are rejected at once.
    pub queue_units: usize,
    /// Maximum total size of the values of all units that are queued for or being written by one
    /// writer, in bytes. A larger unit is accepted when the queue is empty.
    pub queue_bytes: usize,
    /// Timeout of a commit, of a read, and of establishing a connection. When it expires, the
    /// caller receives [`crate::Error::Unavailable`] and the connection is closed.
    pub timeout: Duration,
    /// Timeout of a scan; at least `timeout`.
    pub scan_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            postgres_writers: 2,
            postgres_readers: 8,
            sqlite_readers: 4,
            batch_units: 512,
            queue_units: 16_384,
            queue_bytes: 128 << 20,
            timeout: Duration::from_secs(5),
            scan_timeout: Duration::from_secs(30),
        }
    }
}
