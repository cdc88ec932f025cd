//! The server, tested from outside: the real binary over TCP, and the library in the process of the
//! test. One test binary, so that the server is linked once and everything shares one PostgreSQL.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client_api;
mod crash;
mod description;
mod http;
mod later;
mod owner;
mod prepare;
mod signalling;
mod traces;
mod usage;
