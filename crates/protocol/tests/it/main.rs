//! Tests of the types of the REST API.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod meetings;
mod presets;
mod stock_presets;
