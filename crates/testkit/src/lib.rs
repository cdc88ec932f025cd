//! What tests run against: a private PostgreSQL server and the real Parlor binary.
//!
//! Everything started here ends with the process that started it, also when that process is
//! killed. Nothing here is mocked.

pub mod arguments;
pub mod client;
mod lifeline;
pub mod media;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod server;
pub mod signal;
pub mod stage;

pub use client::{Answer, Client, plain_http};
pub use postgres::Postgres;
pub use process::Process;
pub use proxy::Proxy;
pub use server::Parlor;
pub use stage::Stage;
