//! Test support: a private PostgreSQL server, the real Parlor binary, and clients of it.
//!
//! Every child process ends with the process that started it, even when that process is killed.
//! Nothing is mocked.

#[cfg(feature = "clients")]
pub mod arguments;
mod cleanup_guard;
#[cfg(feature = "clients")]
pub mod client;
#[cfg(feature = "clients")]
pub mod load_target;
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
pub use client::{Client, HttpResponse, plain_http};
#[cfg(feature = "clients")]
pub use load_target::LoadTarget;
pub use postgres::Postgres;
#[cfg(feature = "clients")]
pub use process::Process;
pub use proxy::Proxy;
#[cfg(feature = "clients")]
pub use server::ServerProcess;
