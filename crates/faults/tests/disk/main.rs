//! A disk that is full, broken or hangs, under the store and under the server.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../../../server/tests/it/owner.rs"]
mod owner;
mod server;
mod store;
