//! Time slices: rooms share the worker threads, so each yields after a while.

use std::time::Duration;

use tokio::time::Instant;

/// How long a room works before it yields its thread.
const SLICE: Duration = Duration::from_millis(2);

/// A running time slice, by its start.
pub(super) struct TimeSlice(Instant);

impl TimeSlice {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.elapsed() >= SLICE
    }

    /// Yields the thread if the slice is over.
    pub(super) async fn pause(&mut self) {
        if self.is_over() {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}
