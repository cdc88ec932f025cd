//! Join tokens, before signature verification.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parlor_server::fuzzing::join_token(bytes));
