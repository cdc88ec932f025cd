//! The virtual file system (VFS) that SQLite uses.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Once};

use sqlite_plugin::flags::{AccessFlags, LockLevel, OpenMode, OpenOpts, ShmLockMode};
use sqlite_plugin::vars;
use sqlite_plugin::vfs::{RegisterOpts, Vfs, VfsHandle, VfsResult, register_static};

use crate::disk::{Operation, State, disk_of};
use crate::locks::{FileLocks, Owner};

/// Registers the VFS as the default of this process.
pub(crate) fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let options = RegisterOpts { make_default: true };
        let registered = register_static(c"parlor-faults".to_owned(), FaultyVfs, options);
        assert!(registered.is_ok(), "SQLite rejected the VFS");
    });
}

struct FaultyVfs;

/// An open file.
struct Handle {
    file: File,
    /// `None` for a temporary file.
    path: Option<PathBuf>,
    is_readonly: bool,
    delete_on_close: bool,
    owner: Owner,
    disk: Arc<State>,
    locks: Arc<FileLocks>,
}

impl VfsHandle for Handle {
    fn readonly(&self) -> bool {
        self.is_readonly
    }

    fn in_memory(&self) -> bool {
        false
    }
}

fn open(path: &Path, options: OpenOpts) -> std::io::Result<File> {
    let mode = options.mode();
    let mut open = OpenOptions::new();
    open.read(true).write(!mode.is_readonly());
    if let OpenMode::ReadWrite { create } = &mode {
        use sqlite_plugin::flags::CreateMode;
        open.create(*create != CreateMode::None);
        open.create_new(mode.must_create());
    }
    open.open(path)
}

impl Vfs for FaultyVfs {
    type Handle = Handle;

    fn canonical_path<'a>(&self, path: Cow<'a, str>) -> VfsResult<Cow<'a, str>> {
        let absolute = std::path::absolute(&*path).map_err(|_| vars::SQLITE_CANTOPEN)?;
        Ok(Cow::Owned(absolute.to_string_lossy().into_owned()))
    }

    fn open(&self, path: Option<&str>, options: OpenOpts) -> VfsResult<Handle> {
        static OWNERS: AtomicU64 = AtomicU64::new(0);
        let owner = OWNERS.fetch_add(1, Ordering::Relaxed);
        let (disk, locks) = match path {
            Some(path) => {
                let disk = disk_of(path.as_ref());
                let locks = disk.locks_of(path.as_ref());
                (disk, locks)
            }
            None => Default::default(),
        };
        let file = match path {
            Some(path) => open(path.as_ref(), options),
            None => tempfile::tempfile(),
        };
        Ok(Handle {
            file: file.map_err(|_| vars::SQLITE_CANTOPEN)?,
            path: path.map(PathBuf::from),
            is_readonly: options.mode().is_readonly(),
            delete_on_close: options.delete_on_close(),
            owner,
            disk,
            locks,
        })
    }

    fn delete(&self, path: &str) -> VfsResult<()> {
        fs::remove_file(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => vars::SQLITE_IOERR_DELETE_NOENT,
            _ => vars::SQLITE_IOERR_DELETE,
        })
    }

    fn access(&self, path: &str, _flags: AccessFlags) -> VfsResult<bool> {
        // Like SQLite's own VFS, treats an empty journal or log as missing.
        Ok(fs::metadata(path).is_ok_and(|file| file.len() > 0))
    }

    fn file_size(&self, handle: &mut Handle) -> VfsResult<usize> {
        let file = handle
            .file
            .metadata()
            .map_err(|_| vars::SQLITE_IOERR_FSTAT)?;
        usize::try_from(file.len()).map_err(|_| vars::SQLITE_IOERR_FSTAT)
    }

    fn truncate(&self, handle: &mut Handle, size: usize) -> VfsResult<()> {
        handle.disk.check(Operation::Write)?;
        let truncated = handle.file.set_len(size as u64);
        truncated.map_err(|_| vars::SQLITE_IOERR_TRUNCATE)
    }

    fn write(&self, handle: &mut Handle, offset: usize, data: &[u8]) -> VfsResult<usize> {
        handle.disk.check(Operation::Write)?;
        let written = handle.file.write_all_at(data, offset as u64);
        written.map_err(|_| vars::SQLITE_IOERR_WRITE)?;
        Ok(data.len())
    }

    fn read(&self, handle: &mut Handle, offset: usize, data: &mut [u8]) -> VfsResult<usize> {
        handle.disk.check(Operation::Read)?;
        let mut read = 0;
        while read < data.len() {
            let some = handle
                .file
                .read_at(&mut data[read..], (offset + read) as u64)
                .map_err(|_| vars::SQLITE_IOERR_READ)?;
            if some == 0 {
                break;
            }
            read += some;
        }
        Ok(read)
    }

    fn lock(&self, handle: &mut Handle, level: LockLevel) -> VfsResult<()> {
        handle.locks.lock(handle.owner, level)
    }

    fn unlock(&self, handle: &mut Handle, level: LockLevel) -> VfsResult<()> {
        handle.locks.unlock(handle.owner, level);
        Ok(())
    }

    fn check_reserved_lock(&self, handle: &mut Handle) -> VfsResult<bool> {
        Ok(handle.locks.is_reserved())
    }

    fn sync(&self, handle: &mut Handle) -> VfsResult<()> {
        handle.disk.check(Operation::Sync)?;
        let synced = handle.file.sync_data();
        synced.map_err(|_| vars::SQLITE_IOERR_FSYNC)
    }

    fn close(&self, handle: Handle) -> VfsResult<()> {
        handle.locks.release_all(handle.owner);
        if let Some(path) = handle.path.filter(|_| handle.delete_on_close) {
            // The file may have been deleted already.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn device_characteristics(&self, _handle: &mut Handle) -> VfsResult<i32> {
        // Like SQLite's own VFS: with more guarantees, SQLite would flush less.
        Ok(vars::SQLITE_IOCAP_POWERSAFE_OVERWRITE)
    }

    fn shm_map(
        &self,
        handle: &mut Handle,
        index: usize,
        size: usize,
        extend: bool,
    ) -> VfsResult<Option<NonNull<u8>>> {
        Ok(handle.locks.region(index, size, extend))
    }

    fn shm_lock(
        &self,
        handle: &mut Handle,
        offset: u32,
        count: u32,
        mode: ShmLockMode,
    ) -> VfsResult<()> {
        handle.locks.shm_lock(handle.owner, offset, count, mode)
    }

    fn shm_barrier(&self, _handle: &mut Handle) {
        fence(Ordering::SeqCst);
    }

    fn shm_unmap(&self, handle: &mut Handle, delete: bool) -> VfsResult<()> {
        if delete {
            handle.locks.forget_regions();
        }
        Ok(())
    }
}
