//! What the store tells about its work.

use std::time::Duration;

/// Is told what the database did, for metrics. Called on a writer or on the caller's
/// thread, so it must return at once. `()` is the observer that looks away.
pub trait Observer: Send + Sync {
    /// One transaction committed this many units and took this long.
    fn committed(&self, units: usize, took: Duration) {
        let _ = (units, took);
    }

    /// One read or scan of this statement took this long, whether it worked or not.
    fn queried(&self, statement: &'static str, took: Duration) {
        let _ = (statement, took);
    }
}

impl Observer for () {}
