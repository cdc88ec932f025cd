//! Rooms share the threads of the server: each works for a while, then others do.

use std::time::Duration;

use tokio::time::Instant;

/// How long a room works before it lets others have its thread.
const SLICE: Duration = Duration::from_millis(2);

/// How long the room has worked since others had its thread.
pub(super) struct Slice(Instant);

impl Slice {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.elapsed() >= SLICE
    }

    /// Lets others have the thread when it is time to.
    pub(super) async fn pause(&mut self) {
        if self.is_over() {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}
