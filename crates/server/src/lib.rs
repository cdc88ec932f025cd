//! Parlor: a self-hosted meeting server, compatible with the APIs of Cloudflare RealtimeKit.
//!
//! The binary only calls [`cli::run`]. [`state::ServerState`] holds the state of a running server,
//! [`rest`] is the REST API, [`client`] the API of the client SDKs, [`net`] the listeners, and
//! [`cli`] the command line.

mod breakout;
mod cache;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod disk;
pub mod files;
pub mod fuzzing;
pub mod http;
pub mod identity;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod ops;
pub mod paging;
mod preset_cache;
mod purges;
pub mod rates;
pub mod rest;
pub mod rooms;
pub mod router;
pub mod schema;
mod shares;
pub mod site;
pub mod state;
pub mod statements;
pub mod tallies;
mod usage;
