//! What tests run against: a private PostgreSQL server and the real Parlor binary.
//!
//! Everything started here ends with the process that started it, also when that process is
//! killed. Nothing here is mocked.

#[cfg(feature = "clients")]
pub mod arguments;
#[cfg(feature = "clients")]
pub mod client;
mod lifeline;
#[cfg(feature = "clients")]
pub mod media;
pub mod postgres;
#[cfg(feature = "clients")]
pub mod process;
pub mod proxy;
#[cfg(feature = "clients")]
pub mod server;
#[cfg(feature = "clients")]
pub mod signal;
#[cfg(feature = "clients")]
pub mod stage;

#[cfg(feature = "clients")]
pub use client::{Answer, Client, plain_http};
pub use postgres::Postgres;
#[cfg(feature = "clients")]
pub use process::Process;
pub use proxy::Proxy;
#[cfg(feature = "clients")]
pub use server::Parlor;
#[cfg(feature = "clients")]
pub use stage::Stage;
