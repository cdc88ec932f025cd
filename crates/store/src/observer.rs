//! What the store tells about its work.

use std::time::Duration;

/// Why the store refused something that the database has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The database did not answer in time.
    Timeout,
    /// Too much waits already.
    QueueFull,
    /// The database cannot be reached, has failed, or was closed.
    Unavailable,
}

impl Refusal {
    /// `timeout`, `queue_full` or `unavailable`, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::QueueFull => "queue_full",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Is told what the database did, for metrics. Called on a writer or on the caller's
/// thread, so it must return at once. `()` is the observer that looks away.
pub trait Observer: Send + Sync {
    /// One transaction committed this many units and took this long.
    fn committed(&self, units: usize, took: Duration) {
        let _ = (units, took);
    }

    /// A caller was told that the database is unavailable.
    fn refused(&self, why: Refusal) {
        let _ = why;
    }

    /// One read or scan of this statement took this long, whether it worked or not.
    fn queried(&self, statement: &'static str, took: Duration) {
        let _ = (statement, took);
    }
}

impl Observer for () {}
