//! What tests run against: a private PostgreSQL server and the real Parlor binary.
//!
//! Everything started here ends with the process that started it, also when that process is
//! killed. Nothing here is mocked.

pub mod client;
mod lifeline;
pub mod media;
pub mod postgres;
pub mod server;
pub mod signal;

pub use client::{Answer, Client};
pub use postgres::Postgres;
pub use server::Parlor;
