//! What the official client SDKs call over HTTP, asked of the real binary, on both databases; and
//! the HTTPS that they call it by.

mod calls;
mod cors;
mod details;
mod files;
mod links;
mod server;
mod tls;
