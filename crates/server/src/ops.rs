//! Operating the server: readiness, logs and traces, and periodic background work.

pub(crate) mod readiness;
pub mod sweeper;
pub mod telemetry;
