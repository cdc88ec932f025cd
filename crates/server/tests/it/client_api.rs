//! Tests of the HTTP endpoints that the official client SDKs call, and of HTTPS, against the real
//! binary on both databases.

mod calls;
mod cors;
mod details;
mod files;
mod links;
mod server;
mod tls;
