//! The disk as tests control it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use sqlite_plugin::vars;
use sqlite_plugin::vfs::VfsResult;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::locks::FileLocks;
use crate::vfs;

/// A disk operation of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads a page.
    Read,
    /// Writes a page or truncates a file.
    Write,
    /// Flushes written data.
    Sync,
}

/// A fault to inject into an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space left on the device: `ENOSPC`.
    Full,
    /// An I/O error: `EIO`.
    IoError,
    /// The operation blocks until [`Disk::heal`].
    Hang,
}

impl Fault {
    /// The error code that SQLite's own VFS returns for this error.
    fn code(self, operation: Operation) -> i32 {
        match (self, operation) {
            (Self::Full, _) => vars::SQLITE_FULL,
            // SQLite's code for EIO on a read, which its callers report as a corrupt database.
            (_, Operation::Read) => vars::SQLITE_IOERR_CORRUPTFS,
            (_, Operation::Write) => vars::SQLITE_IOERR_WRITE,
            (_, Operation::Sync) => vars::SQLITE_IOERR_FSYNC,
        }
    }
}

/// A temporary directory on a disk with injected faults.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    state: Arc<State>,
}

impl Disk {
    /// Creates a healthy disk with an empty directory, removed when dropped.
    ///
    /// # Panics
    /// If the directory cannot be created or the VFS cannot be registered.
    pub fn new() -> Self {
        vfs::register();
        let folder = tempfile::tempdir().expect("a directory for temporary files");
        let state = Arc::new(State::default());
        disks().insert(folder.path().to_owned(), Arc::clone(&state));
        Self { folder, state }
    }

    /// The path of a file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes every `operation` fail with `fault`.
    pub fn fail(&self, operation: Operation, fault: Fault) {
        self.state.lock().faults.insert(operation, fault);
    }

    /// Removes all faults and wakes hung operations.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
        self.state.healed.notify_all();
    }

    /// How often the operation was requested, including failures.
    pub fn count(&self, operation: Operation) -> usize {
        *self.state.lock().counts.entry(operation).or_default()
    }

    /// Waits until an operation hangs.
    pub async fn wait_for_hang(&self) {
        let mut hung = self.state.hung.subscribe();
        // The sender lives as long as this does.
        let _ = hung.wait_for(|hung| *hung > 0).await;
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Hung threads would never exit.
        self.heal();
        disks().remove(self.folder.path());
    }
}

/// Returns the disk of a file, or a healthy one if the file is on no test disk.
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

/// The injected faults and the open files of a disk.
#[derive(Debug, Default)]
pub(crate) struct State {
    plan: Mutex<Plan>,
    healed: Condvar,
    hung: watch::Sender<usize>,
    files: Mutex<HashMap<PathBuf, Arc<FileLocks>>>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: HashMap<Operation, Fault>,
    counts: HashMap<Operation, usize>,
}

impl State {
    /// Counts an operation and returns its injected error, if any. Blocks while the operation
    /// hangs.
    pub(crate) fn check(&self, operation: Operation) -> VfsResult<()> {
        let mut plan = self.lock();
        *plan.counts.entry(operation).or_default() += 1;
        loop {
            match plan.faults.get(&operation) {
                None => return Ok(()),
                Some(Fault::Hang) => {
                    self.hung.send_modify(|hung| *hung += 1);
                    plan = self
                        .healed
                        .wait(plan)
                        .unwrap_or_else(PoisonError::into_inner);
                    self.hung.send_modify(|hung| *hung -= 1);
                }
                Some(fault) => return Err(fault.code(operation)),
            }
        }
    }

    /// The locks of a file, shared by its connections.
    pub(crate) fn locks_of(&self, file: &Path) -> Arc<FileLocks> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(files.entry(file.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
