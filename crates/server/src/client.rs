//! What the official client SDKs speak: calls over HTTP, the socket of a meeting, and the page with a
//! client of its own.

pub mod http;
pub(crate) mod meeting_page;
pub(crate) mod websocket;
