//! The interfaces of the official client SDKs: HTTP calls, the socket of a meeting, and a page with
//! a client of its own.

pub mod http;
pub(crate) mod meeting_page;
pub(crate) mod websocket;
