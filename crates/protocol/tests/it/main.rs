//! What the types of the REST API accept, answer and refuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod meetings;
mod presets;
mod stock_presets;
