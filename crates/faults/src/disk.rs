//! What a test does to a disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use sqlite_plugin::vars;
use sqlite_plugin::vfs::VfsResult;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::locks::FileLocks;
use crate::vfs;

/// What SQLite asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reading a page.
    Read,
    /// Writing a page, or changing the length of a file.
    Write,
    /// Flushing what was written.
    Sync,
}

/// What a disk does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left: `ENOSPC`.
    Full,
    /// `EIO`.
    Broken,
    /// It does not return until [`Disk::heal`].
    Hangs,
}

impl Fault {
    /// What SQLite's own file system answers to the same failure of the system.
    fn code(self, operation: Operation) -> i32 {
        match (self, operation) {
            (Self::Full, _) => vars::SQLITE_FULL,
            // So it calls EIO on a read; its callers then hear of a corrupt database.
            (_, Operation::Read) => vars::SQLITE_IOERR_CORRUPTFS,
            (_, Operation::Write) => vars::SQLITE_IOERR_WRITE,
            (_, Operation::Sync) => vars::SQLITE_IOERR_FSYNC,
        }
    }
}

/// A directory on a disk that fails on demand.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    state: Arc<State>,
}

impl Disk {
    /// A healthy disk with an empty directory, which goes away with it.
    ///
    /// # Panics
    /// When the directory cannot be made, or SQLite refuses the file system.
    pub fn new() -> Self {
        vfs::register();
        let folder = tempfile::tempdir().expect("a directory for temporary files");
        let state = Arc::new(State::default());
        disks().insert(folder.path().to_owned(), Arc::clone(&state));
        Self { folder, state }
    }

    /// A file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on, this operation does this.
    pub fn fail(&self, operation: Operation, fault: Fault) {
        self.state.lock().faults.insert(operation, fault);
    }

    /// From now on nothing fails, and what hung goes on.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
        self.state.healed.notify_all();
    }

    /// How often the operation was asked for, whatever came of it.
    pub fn count(&self, operation: Operation) -> usize {
        *self.state.lock().counts.entry(operation).or_default()
    }

    /// Waits until an operation hangs.
    pub async fn hanging(&self) {
        let mut hanging = self.state.hanging.subscribe();
        // The sender lives as long as this does.
        let _ = hanging.wait_for(|hanging| *hanging > 0).await;
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Threads that hang would never end.
        self.heal();
        disks().remove(self.folder.path());
    }
}

/// The disk that a file is on; one that never fails if no test has made it.
pub(crate) fn disk_of(file: &Path) -> Arc<State> {
    static HEALTHY: LazyLock<Arc<State>> = LazyLock::new(Arc::default);
    let found = file
        .parent()
        .and_then(|folder| disks().get(folder).cloned());
    found.unwrap_or_else(|| Arc::clone(&HEALTHY))
}

fn disks() -> MutexGuard<'static, HashMap<PathBuf, Arc<State>>> {
    static DISKS: LazyLock<Mutex<HashMap<PathBuf, Arc<State>>>> = LazyLock::new(Mutex::default);
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a disk is like at present, and what is on it.
#[derive(Debug, Default)]
pub(crate) struct State {
    plan: Mutex<Plan>,
    healed: Condvar,
    hanging: watch::Sender<usize>,
    files: Mutex<HashMap<PathBuf, Arc<FileLocks>>>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: HashMap<Operation, Fault>,
    counts: HashMap<Operation, usize>,
}

impl State {
    /// Lets an operation happen, or answers how it fails. May hang.
    pub(crate) fn admit(&self, operation: Operation) -> VfsResult<()> {
        let mut plan = self.lock();
        *plan.counts.entry(operation).or_default() += 1;
        loop {
            match plan.faults.get(&operation) {
                None => return Ok(()),
                Some(Fault::Hangs) => {
                    self.hanging.send_modify(|hanging| *hanging += 1);
                    plan = self
                        .healed
                        .wait(plan)
                        .unwrap_or_else(PoisonError::into_inner);
                    self.hanging.send_modify(|hanging| *hanging -= 1);
                }
                Some(fault) => return Err(fault.code(operation)),
            }
        }
    }

    /// The locks that all connections to a file share.
    pub(crate) fn locks_of(&self, file: &Path) -> Arc<FileLocks> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(files.entry(file.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
