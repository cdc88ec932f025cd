//! Path ids in all accepted formats.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parlor_server::fuzzing::ids(bytes));
