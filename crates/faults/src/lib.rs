//! A disk with injected faults for tests: full, failing with I/O errors, or hanging.
//!
//! The first [`Disk`] registers a virtual file system with SQLite as the default of this process.
//! It stores database files in the real file system, but keeps file locks and the index of the
//! write-ahead log in memory, so only one process may use a database. Only tests may depend on this
//! crate.

mod disk;
mod locks;
mod vfs;

pub use disk::{Disk, Fault, Operation};
