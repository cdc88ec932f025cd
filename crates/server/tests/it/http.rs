//! The HTTP API over real TCP, spoken to the real binary: the same tests on SQLite and PostgreSQL.
//!
//! The modules are shaped like the URLs. One server for each database serves every test of the
//! process, so each test works in an app of its own.

mod active_session;
mod analytics;
mod answer;
mod apps;
mod authorisation;
mod bodies;
mod connections;
mod crowds;
mod errors;
mod idempotency;
mod meetings;
mod nodes;
mod operations;
mod participants;
mod place;
mod planned;
mod presets;
mod server;
mod sessions;
mod surface_b;
mod unread;
