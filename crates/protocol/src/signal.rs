//! The messages of a meeting's WebSocket.
//!
//! A binary frame is one [`Envelope`]. Its [`event`] number determines the type of the payload. The
//! messages are generated from `proto/`, with the names and tags of the official clients.

pub mod event;
pub mod scan;

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code; the messages are documented in proto/"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/signal.rs"));
}

pub use generated::message::v1::SocketMessage as Envelope;
pub use generated::{common, media, socket};
