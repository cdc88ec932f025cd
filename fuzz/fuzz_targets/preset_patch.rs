//! PATCH bodies: whatever is accepted is within the limits of a preset.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parlor_server::fuzzing::preset_patch(bytes));
