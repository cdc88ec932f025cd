//! Locks of a file and the index of its write-ahead log, shared by the connections of this process.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlite_plugin::flags::{LockLevel, ShmLockMode};
use sqlite_plugin::vars::SQLITE_BUSY;
use sqlite_plugin::vfs::VfsResult;

/// A connection to a file.
pub(crate) type Owner = u64;

/// What the connections to one file share.
#[derive(Debug, Default)]
pub(crate) struct FileLocks(Mutex<Shared>);

#[derive(Debug, Default)]
struct Shared {
    levels: HashMap<Owner, LockLevel>,
    /// Regions of shared memory. They are never freed: SQLite may hold a pointer.
    regions: Vec<&'static [AtomicU64]>,
    /// Who holds each lock of the shared memory, and whether alone.
    slots: HashMap<u32, (bool, Vec<Owner>)>,
}

impl Shared {
    /// The highest level that another connection holds.
    fn highest_but(&self, owner: Owner) -> LockLevel {
        let others = self.levels.iter().filter(|(other, _)| **other != owner);
        let highest = others.map(|(_, level)| *level).max();
        highest.unwrap_or(LockLevel::Unlocked)
    }
}

impl FileLocks {
    /// Raises the level of a connection, by the rules of SQLite's rollback journal.
    pub(crate) fn lock(&self, owner: Owner, level: LockLevel) -> VfsResult<()> {
        let mut shared = self.shared();
        let others = shared.highest_but(owner);
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

    /// Lowers the level of a connection.
    pub(crate) fn unlock(&self, owner: Owner, level: LockLevel) {
        self.shared().levels.insert(owner, level);
    }

    /// Whether a connection is about to write, or writes.
    pub(crate) fn is_reserved(&self) -> bool {
        let shared = self.shared();
        shared
            .levels
            .values()
            .any(|level| *level >= LockLevel::Reserved)
    }

    /// A region of shared memory, `None` when it is not there and must not be made.
    pub(crate) fn region(&self, index: usize, size: usize, extend: bool) -> Option<NonNull<u8>> {
        let mut shared = self.shared();
        while extend && shared.regions.len() <= index {
            let zeros = (0..size / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
            shared.regions.push(Vec::leak(zeros));
        }
        let region: &'static [AtomicU64] = shared.regions.get(index)?;
        Some(NonNull::from(region).cast())
    }

    /// Forgets the shared memory.
    pub(crate) fn forget_regions(&self) {
        self.shared().regions.clear();
    }

    /// Takes or gives back some locks of the shared memory, all or none of them.
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
            held.is_some_and(|(alone, owners)| {
                let mut others = owners.iter().filter(|other| **other != owner);
                match mode {
                    ShmLockMode::LockShared => *alone && others.next().is_some(),
                    ShmLockMode::LockExclusive => others.next().is_some(),
                    ShmLockMode::UnlockShared | ShmLockMode::UnlockExclusive => false,
                }
            })
        };
        if wanted.clone().any(|slot| is_busy(&slot)) {
            return Err(SQLITE_BUSY);
        }
        for slot in wanted {
            let (alone, owners) = shared.slots.entry(slot).or_default();
            owners.retain(|other| *other != owner);
            let locks = matches!(mode, ShmLockMode::LockShared | ShmLockMode::LockExclusive);
            if locks {
                owners.push(owner);
            }
            *alone = matches!(mode, ShmLockMode::LockExclusive);
        }
        Ok(())
    }

    /// A connection is gone, and its locks with it.
    pub(crate) fn leave(&self, owner: Owner) {
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
