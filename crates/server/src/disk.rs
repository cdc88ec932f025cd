//! Free disk space.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Interval between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// Value of [`Readings::full_at`] when the free space is unknown.
const UNKNOWN: u64 = u64::MAX;

/// The free space of the file system that contains a directory. Cheap to clone.
///
/// A network file system may not respond for minutes. So a separate thread queries it, and callers
/// use the last reading.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Readings>);

#[derive(Debug, Default)]
struct Readings {
    /// Total bytes that this process has written.
    written: AtomicU64,
    /// The value of `written` at which the disk is full, according to the last reading.
    full_at: AtomicU64,
}

impl Disk {
    /// Reads the free space now and then every second until the last clone is dropped.
    pub(crate) fn of(folder: impl Into<PathBuf>) -> Self {
        let folder: PathBuf = folder.into();
        let disk = Self(Arc::default());
        disk.0.read(|| free(&folder));
        let readings = Arc::downgrade(&disk.0);
        let thread = std::thread::Builder::new().name("disk".to_owned());
        if let Err(error) = thread.spawn(move || keep_reading(&folder, &readings)) {
            tracing::error!(%error, "cannot monitor the free disk space");
        }
        disk
    }

    /// Returns a disk with the given free space, which is not read again.
    #[cfg(test)]
    pub(crate) fn with(free: u64) -> Self {
        let disk = Self(Arc::default());
        disk.read(|| Some(free));
        disk
    }

    /// Takes a new reading, for tests.
    #[cfg(test)]
    pub(crate) fn read(&self, free: impl FnOnce() -> Option<u64>) {
        self.0.read(free);
    }

    /// Free bytes: the last reading, which is older than a second when the file system has stopped
    /// responding, minus the bytes written since. `None` when the free space is unknown.
    pub(crate) fn free(&self) -> Option<u64> {
        let full_at = self.0.full_at.load(Ordering::Relaxed);
        let written = self.0.written.load(Ordering::Relaxed);
        (full_at != UNKNOWN).then(|| full_at.saturating_sub(written))
    }

    /// Records that this process has written `bytes`.
    pub(crate) fn record_write(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether writing `bytes` more would leave less than the reserve. A reserve of 0 is always
    /// met.
    pub(crate) fn is_below_reserve(&self, reserve: u64, bytes: u64) -> bool {
        let needed = reserve.saturating_add(bytes);
        reserve > 0 && self.free().is_some_and(|free| free < needed)
    }
}

impl Readings {
    fn read(&self, free: impl FnOnce() -> Option<u64>) {
        // Loaded before the reading, which may or may not include concurrent writes.
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
    // `f_bavail` excludes the blocks that are reserved for root.
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_reserve_is_compared_with_the_free_space() {
        let disk = Disk::with(1000);
        assert_eq!(disk.free(), Some(1000));
        assert!(!disk.is_below_reserve(1000, 0));
        assert!(disk.is_below_reserve(1001, 0));
        assert!(!disk.is_below_reserve(1, 999));
        assert!(disk.is_below_reserve(1, 1000));
        assert!(!disk.is_below_reserve(0, u64::MAX));
        disk.read(|| None);
        assert_eq!(disk.free(), None);
        assert!(!disk.is_below_reserve(u64::MAX, u64::MAX));
    }

    #[test]
    fn bytes_written_since_the_last_reading_are_not_free() {
        let disk = Disk::with(1000);
        disk.record_write(400);
        assert_eq!(disk.free(), Some(600));
        // Bytes written during a reading may or may not be included in it.
        disk.read(|| {
            disk.record_write(100);
            Some(600)
        });
        assert_eq!(disk.free(), Some(500));
        disk.record_write(u64::from(u32::MAX));
        assert_eq!(disk.free(), Some(0));
    }

    #[test]
    fn callers_do_not_wait_for_a_file_system_that_hangs() {
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
            assert_eq!(disk.free(), Some(1000), "while the file system hangs");
            answer.send(1).unwrap();
        });
        assert_eq!(disk.free(), Some(1));
    }

    #[test]
    fn the_free_space_of_a_directory_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Disk::of(folder.path()).free().is_some());
        assert_eq!(free(&folder.path().join("gone")), None);
    }
}
