//! Hooks for metrics.

use std::time::Duration;

/// Why the store returned [`crate::Error::Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The database did not respond in time.
    Timeout,
    /// The queue is full.
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

/// Receives events for metrics. Called on a writer or on the caller's thread, so it must not block.
/// `()` ignores all events.
pub trait Observer: Send + Sync {
    /// Called after a transaction of `units` units was committed, which took `took`.
    fn committed(&self, units: usize, took: Duration) {
        let _ = (units, took);
    }

    /// Called when a caller receives [`crate::Error::Unavailable`].
    fn refused(&self, why: Refusal) {
        let _ = why;
    }

    /// Called after a read or scan of `statement`, successful or not, which took `took`.
    fn queried(&self, statement: &'static str, took: Duration) {
        let _ = (statement, took);
    }
}

impl Observer for () {}
