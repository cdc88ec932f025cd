//! How much space a file system has left.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long what was found is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// The file system that a folder is on. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
    found: Arc<Mutex<Option<(Instant, u64)>>>,
}

impl Disk {
    pub(crate) fn of(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            found: Arc::default(),
        }
    }

    /// Bytes that this process may still write, as of a second ago at most; `None` when the system
    /// does not say.
    pub(crate) fn free(&self) -> Option<u64> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, bytes)) = *found
            && when.elapsed() < BELIEVED
        {
            return Some(bytes);
        }
        let stat = rustix::fs::statvfs(&self.folder).ok()?;
        // What is reserved for root is not for this process.
        let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        *found = Some((Instant::now(), bytes));
        Some(bytes)
    }

    /// Whether less than a reserve is left, once `bytes` more are written. 0 is no reserve.
    pub(crate) fn is_short(&self, reserve: u64, bytes: u64) -> bool {
        let needed = reserve.saturating_add(bytes);
        reserve > 0 && self.free().is_some_and(|free| free < needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_compared_with_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::of(folder.path());
        let free = disk.free().unwrap();
        assert!(free > 0);
        assert!(!disk.is_short(1, 0));
        assert!(disk.is_short(1, free));
        assert!(disk.is_short(free + 1, 0));
        assert!(!disk.is_short(0, u64::MAX));
    }
}
