//! Where the records are and how much room the store may take there.

use std::{fmt, path::PathBuf, time::Duration};

/// Where the records are.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A file; its directory must exist.
    Sqlite(PathBuf),
    /// A `postgres://` URL. `sslmode=require` demands TLS with a publicly trusted
    /// certificate. Without `sslmode`, a server on this machine is reached in the clear
    /// and any other over TLS if it offers that.
    Postgres(String),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            // The URL may hold a password, in one of several places.
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// Which database engine keeps the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, in this process.
    Sqlite,
    /// PostgreSQL, over the network.
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

/// Sizes of pools, batches and queues, and how long an answer may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections that group-commit on PostgreSQL, at least 1.
    pub postgres_writers: usize,
    /// Connections that read on PostgreSQL, at least 1.
    pub postgres_readers: usize,
    /// Connections that read on SQLite, at least 2: scans leave one to point reads.
    pub sqlite_readers: usize,
    /// Most units in one transaction.
    pub batch_units: usize,
    /// Most units that wait for one writer, and on SQLite most reads that wait; further ones are
    /// refused at once.
    pub queue_units: usize,
    /// Most bytes of the values of units that wait for one writer or are being written by it. A
    /// larger unit is accepted when nothing else waits.
    pub queue_bytes: usize,
    /// How long a commit, a read, and making a connection may take each. A caller hears
    /// [`crate::Error::Unavailable`] then, and the connection is closed.
    pub timeout: Duration,
    /// The same for a scan; at least `timeout`.
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
