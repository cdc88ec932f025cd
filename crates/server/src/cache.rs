//! A small cache whose entries are believed for a short time only.
//!
//! What it holds may have been changed by another process, so the time is also how long a
//! revocation by command line may take to reach a running server.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::RwLock;

/// How long an entry is believed, in milliseconds.
const BELIEVED_MS: i64 = 1000;
/// Entries at most; when it is full it starts over.
const ENTRIES_MAX: usize = 100_000;

/// Key → value and when it was read, by a time that nobody sets: a clock that was set back must not
/// bring an entry back to life.
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
    /// An entry that is still believed.
    pub(crate) fn get(&self, key: &K, monotonic_ms: i64) -> Option<V> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        let (value, read_ms) = entries.get(key)?;
        (monotonic_ms - read_ms < BELIEVED_MS).then(|| value.clone())
    }

    /// Keeps what was just read.
    pub(crate) fn put(&self, key: K, value: V, monotonic_ms: i64) {
        let mut entries = self.entries.write().expect("no holder of this lock panics");
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, (value, monotonic_ms));
    }

    /// Forgets an entry that this process has changed.
    pub(crate) fn forget(&self, key: &K) {
        self.entries
            .write()
            .expect("no holder of this lock panics")
            .remove(key);
    }
}
