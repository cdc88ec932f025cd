//! Running the server: readiness, traces, and what is done from time to time.

pub(crate) mod readiness;
pub mod sweeper;
pub mod telemetry;
