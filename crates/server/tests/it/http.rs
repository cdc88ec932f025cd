//! Tests of the REST API over TCP against the server binary, on SQLite and on PostgreSQL.
//!
//! The modules are organised like the URLs. All tests in the process share one server per database,
//! so each test creates its own app.

mod active_session;
mod analytics;
mod apps;
mod authorisation;
mod bodies;
mod connection_limits;
mod connections;
mod errors;
mod idempotency;
mod meetings;
mod nodes;
mod operations;
mod participants;
mod planned;
mod presets;
mod resource;
mod response;
mod server;
mod sessions;
mod slow_readers;
mod surface_b;
