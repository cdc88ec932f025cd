//! A small cache whose entries expire soon.
//!
//! Another process may change the cached records, so the lifetime of an entry is also how long a
//! revocation from the command line may take to reach a running server.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::RwLock;

/// Lifetime of an entry, in milliseconds.
const TTL_MS: i64 = 1000;
/// Maximum number of entries; a full cache is cleared.
const ENTRIES_MAX: usize = 100_000;

/// Maps a key to its value and the time at which it was read. That time is monotonic, so that an
/// expired entry does not become valid again when the wall clock is set back.
pub(crate) struct Cache<K, V> {
    entries: RwLock<HashMap<K, (V, i64)>>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
        }
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Returns the value of a key, unless it has expired.
    pub(crate) fn get(&self, key: &K, monotonic_ms: i64) -> Option<V> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        let (value, read_ms) = entries.get(key)?;
        (monotonic_ms - read_ms < TTL_MS).then(|| value.clone())
    }

    /// Caches a value that was just read.
    pub(crate) fn put(&self, key: K, value: V, monotonic_ms: i64) {
        let mut entries = self.entries.write().expect("no holder of this lock panics");
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, (value, monotonic_ms));
    }

    /// Removes an entry whose record this process has changed.
    pub(crate) fn invalidate(&self, key: &K) {
        self.entries
            .write()
            .expect("no holder of this lock panics")
            .remove(key);
    }
}
