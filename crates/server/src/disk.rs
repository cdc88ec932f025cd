//! How much space a file system has left.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// The system does not say how much is left.
const UNKNOWN: u64 = u64::MAX;

/// The file system that a folder is on. Cheap to clone.
///
/// A file system on a network may not answer for minutes. So a thread of its own asks it, and
/// everybody else looks at the last answer.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Readings>);

#[derive(Debug, Default)]
struct Readings {
    /// Bytes that this process has written to it.
    written: AtomicU64,
    /// What `written` is when nothing is left, by the last reading.
    full_at: AtomicU64,
}

impl Disk {
    /// Reads the free space now, and every second as long as there is a `Disk` of it.
    pub(crate) fn of(folder: impl Into<PathBuf>) -> Self {
        let folder: PathBuf = folder.into();
        let disk = Self(Arc::default());
        disk.0.read(|| free(&folder));
        let readings = Arc::downgrade(&disk.0);
        let thread = std::thread::Builder::new().name("disk".to_owned());
        if let Err(error) = thread.spawn(move || keep_reading(&folder, &readings)) {
            tracing::error!(%error, "free space is not watched");
        }
        disk
    }

    /// One with so much left, which nobody reads again.
    #[cfg(test)]
    pub(crate) fn with(free: u64) -> Self {
        let disk = Self(Arc::default());
        disk.read(|| Some(free));
        disk
    }

    /// Reads again, for tests.
    #[cfg(test)]
    pub(crate) fn read(&self, free: impl FnOnce() -> Option<u64>) {
        self.0.read(free);
    }

    /// Bytes that this process may still write: by a reading of a second ago, or of before the file
    /// system has stopped to answer, less what was written since. `None` when the system does not say.
    pub(crate) fn free(&self) -> Option<u64> {
        let full_at = self.0.full_at.load(Ordering::Relaxed);
        let written = self.0.written.load(Ordering::Relaxed);
        (full_at != UNKNOWN).then(|| full_at.saturating_sub(written))
    }

    /// So many bytes were written to it.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether less than a reserve is left, once `bytes` more are written. 0 is no reserve.
    pub(crate) fn is_short(&self, reserve: u64, bytes: u64) -> bool {
        let needed = reserve.saturating_add(bytes);
        reserve > 0 && self.free().is_some_and(|free| free < needed)
    }
}

impl Readings {
    fn read(&self, free: impl FnOnce() -> Option<u64>) {
        // Before the reading, which may contain some of what is written meanwhile, or not.
        let written = self.written.load(Ordering::Relaxed);
        let full_at = free().map_or(UNKNOWN, |free| written.saturating_add(free));
        self.full_at.store(full_at, Ordering::Relaxed);
    }
}

fn keep_reading(folder: &std::path::Path, readings: &Weak<Readings>) {
    loop {
        std::thread::sleep(PERIOD);
        let Some(readings) = readings.upgrade() else {
            return;
        };
        readings.read(|| free(folder));
    }
}

fn free(folder: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    // What is reserved for root is not for this process.
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_reserve_is_compared_with_what_is_free() {
        let disk = Disk::with(1000);
        assert_eq!(disk.free(), Some(1000));
        assert!(!disk.is_short(1000, 0));
        assert!(disk.is_short(1001, 0));
        assert!(!disk.is_short(1, 999));
        assert!(disk.is_short(1, 1000));
        assert!(!disk.is_short(0, u64::MAX));
        disk.read(|| None);
        assert_eq!(disk.free(), None);
        assert!(!disk.is_short(u64::MAX, u64::MAX));
    }

    #[test]
    fn what_was_written_since_the_last_reading_is_not_free() {
        let disk = Disk::with(1000);
        disk.wrote(400);
        assert_eq!(disk.free(), Some(600));
        // Some of it while the system was asked: it may be in the answer or not.
        disk.read(|| {
            disk.wrote(100);
            Some(600)
        });
        assert_eq!(disk.free(), Some(500));
        disk.wrote(u64::from(u32::MAX));
        assert_eq!(disk.free(), Some(0));
    }

    #[test]
    fn nobody_waits_for_a_file_system_that_does_not_answer() {
        let disk = Disk::with(1000);
        let ((asked, is_asked), (answer, answers)) = (mpsc::channel(), mpsc::channel());
        std::thread::scope(|scope| {
            let disk = &disk;
            scope.spawn(move || {
                disk.read(|| {
                    asked.send(()).unwrap();
                    answers.recv().ok()
                });
            });
            is_asked.recv().unwrap();
            assert_eq!(disk.free(), Some(1000), "while it hangs");
            answer.send(1).unwrap();
        });
        assert_eq!(disk.free(), Some(1));
    }

    #[test]
    fn the_system_says_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Disk::of(folder.path()).free().is_some());
        assert_eq!(free(&folder.path().join("gone")), None);
    }
}
