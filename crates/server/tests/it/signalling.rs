//! The socket of a meeting, spoken to the real binary as the official client speaks to it: the same
//! tests on SQLite and PostgreSQL.
//!
//! One server for each database serves the tests of the process, each in an app of its own. Tests
//! that kill a server or wait for one of its times start their own.

mod absence;
mod active_session;
mod breakout;
mod broadcasts;
mod chat;
mod chat_quotas;
mod coming_back;
mod crash;
mod crowding;
mod ending;
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
mod reach;
mod revocation;
mod server;
mod sessions;
mod stage;
mod stores;
mod tracks;
mod waiting_room;
