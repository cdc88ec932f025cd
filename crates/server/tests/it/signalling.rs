//! Tests of the WebSocket, which drive the real binary as the official client does. Every test runs
//! on SQLite and on PostgreSQL.
//!
//! The tests of a process share one server per database, and each test uses its own app. Tests that
//! kill a server or change its timeouts start a dedicated one.

mod absence;
mod active_session;
mod backpressure;
mod breakout;
mod breakout_ending;
mod breakout_moderation;
mod broadcasts;
mod chat;
mod chat_quotas;
mod crash;
mod flooding;
mod frames;
mod joining;
mod leaving;
mod matrix;
mod media;
mod meeting;
mod moves;
mod polls;
mod presets;
mod reconnecting;
mod revocation;
mod server;
mod sessions;
mod stage;
mod stores;
mod tracks;
mod waiting_room;
