//! PROXY protocol headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parlor_server::fuzzing::proxy_header(bytes));
