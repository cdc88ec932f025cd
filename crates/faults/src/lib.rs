//! A disk that fails when a test says so: full, broken, or hanging.
//!
//! The first [`Disk`] registers a virtual file system with SQLite as the default of this process.
//! It keeps the files of every database in the real file system, and locks and the index of the
//! write-ahead log in memory, so a database belongs to one process. Nothing but tests may depend
//! on this crate.

mod disk;
mod locks;
mod vfs;

pub use disk::{Disk, Fault, Operation};
