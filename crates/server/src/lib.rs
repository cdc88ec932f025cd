//! Parlor: meetings as a service that anybody can run.
//!
//! The binary is a thin shell over this library. [`parlor::Parlor`] is the running server,
//! [`api`] its HTTP interface, [`serve`] the socket, [`cli`] the command line.

pub mod accounts;
mod active_session;
mod analytics;
pub mod api;
pub mod api_tokens;
pub mod apps;
mod breakout;
mod cache;
pub mod cli;
pub mod client_api;
pub mod clock;
pub mod config;
mod disk;
pub mod fuzzing;
pub mod live_records;
pub mod live_sessions;
mod meeting_page;
pub mod meetings;
pub mod metrics;
pub mod parlor;
pub mod participants;
pub mod presets;
pub mod quotas;
pub mod serve;
mod sessions;
mod shares;
mod signalling;
mod signed_links;
pub mod signing_keys;
pub mod sweeper;
pub mod telemetry;
pub mod tls;
mod usage;
