//! Every JSON body that an operation takes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parlor_server::fuzzing::body(bytes));
