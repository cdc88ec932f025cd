//! File locks and the shared memory of the write-ahead log, shared by the connections of this
//! process.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlite_plugin::flags::{LockLevel, ShmLockMode};
use sqlite_plugin::vars::SQLITE_BUSY;
use sqlite_plugin::vfs::VfsResult;

/// Identifies a connection to a file.
pub(crate) type Owner = u64;

/// State shared by the connections to one file.
#[derive(Debug, Default)]
pub(crate) struct FileLocks(Mutex<Shared>);

#[derive(Debug, Default)]
struct Shared {
    levels: HashMap<Owner, LockLevel>,
    /// Regions of shared memory. They are never freed because SQLite may hold pointers to them.
    regions: Vec<&'static [AtomicU64]>,
    /// The owners of each shared-memory lock, and whether it is held exclusively.
    slots: HashMap<u32, (bool, Vec<Owner>)>,
}

impl Shared {
    /// The highest lock level held by another connection.
    fn highest_of_others(&self, owner: Owner) -> LockLevel {
        let others = self.levels.iter().filter(|(other, _)| **other != owner);
        let highest = others.map(|(_, level)| *level).max();
        highest.unwrap_or(LockLevel::Unlocked)
    }
}

impl FileLocks {
    /// Raises a connection's lock level, by the rules of SQLite's rollback journal.
    pub(crate) fn lock(&self, owner: Owner, level: LockLevel) -> VfsResult<()> {
        let mut shared = self.shared();
        let others = shared.highest_of_others(owner);
        let is_free = match level {
            LockLevel::Unlocked => true,
            LockLevel::Shared => others < LockLevel::Pending,
            LockLevel::Reserved | LockLevel::Pending => others < LockLevel::Reserved,
            LockLevel::Exclusive => others == LockLevel::Unlocked,
        };
        if !is_free {
            return Err(SQLITE_BUSY);
        }
        let own = shared.levels.entry(owner).or_insert(level);
        *own = level.max(*own);
        Ok(())
    }

    /// Lowers a connection's lock level.
    pub(crate) fn unlock(&self, owner: Owner, level: LockLevel) {
        self.shared().levels.insert(owner, level);
    }

    /// Whether any connection holds a reserved or higher lock.
    pub(crate) fn is_reserved(&self) -> bool {
        let shared = self.shared();
        shared
            .levels
            .values()
            .any(|level| *level >= LockLevel::Reserved)
    }

    /// Returns a region of shared memory. Creates it if `extend` is set; otherwise returns `None`
    /// if it does not exist.
    pub(crate) fn region(&self, index: usize, size: usize, extend: bool) -> Option<NonNull<u8>> {
        let mut shared = self.shared();
        while extend && shared.regions.len() <= index {
            let zeros = (0..size / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
            shared.regions.push(Vec::leak(zeros));
        }
        let region: &'static [AtomicU64] = shared.regions.get(index)?;
        Some(NonNull::from(region).cast())
    }

    /// Forgets all regions of shared memory.
    pub(crate) fn forget_regions(&self) {
        self.shared().regions.clear();
    }

    /// Acquires or releases a range of shared-memory locks, all or none of them.
    pub(crate) fn shm_lock(
        &self,
        owner: Owner,
        offset: u32,
        count: u32,
        mode: ShmLockMode,
    ) -> VfsResult<()> {
        let mut shared = self.shared();
        let wanted = offset..offset + count;
        let is_busy = |slot: &u32| {
            let held = shared.slots.get(slot);
            held.is_some_and(|(is_exclusive, owners)| {
                let mut others = owners.iter().filter(|other| **other != owner);
                match mode {
                    ShmLockMode::LockShared => *is_exclusive && others.next().is_some(),
                    ShmLockMode::LockExclusive => others.next().is_some(),
                    ShmLockMode::UnlockShared | ShmLockMode::UnlockExclusive => false,
                }
            })
        };
        if wanted.clone().any(|slot| is_busy(&slot)) {
            return Err(SQLITE_BUSY);
        }
        for slot in wanted {
            let (is_exclusive, owners) = shared.slots.entry(slot).or_default();
            owners.retain(|other| *other != owner);
            let acquires = matches!(mode, ShmLockMode::LockShared | ShmLockMode::LockExclusive);
            if acquires {
                owners.push(owner);
            }
            *is_exclusive = matches!(mode, ShmLockMode::LockExclusive);
        }
        Ok(())
    }

    /// Releases all locks of a closed connection.
    pub(crate) fn release_all(&self, owner: Owner) {
        let mut shared = self.shared();
        shared.levels.remove(&owner);
        for (_, owners) in shared.slots.values_mut() {
            owners.retain(|other| *other != owner);
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
