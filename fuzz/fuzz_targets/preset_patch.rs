//! Preset PATCH bodies: every accepted patch leaves the preset within its limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parlor_server::fuzzing::preset_patch(bytes));
