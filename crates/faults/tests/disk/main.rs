//! The store and the server on a disk that is full, fails with I/O errors, or hangs.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../../../server/tests/it/fixtures.rs"]
mod fixtures;
mod server;
mod store;
