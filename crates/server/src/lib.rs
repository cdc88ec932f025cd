//! Parlor: meetings as a service that anybody can run.
//!
//! The binary is a thin shell over this library. [`state::Parlor`] is the running server, [`rest`] the
//! REST API, [`client`] what the client SDKs speak, [`net`] the listeners, [`cli`] the command line.

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
