//! The messages on a meeting's socket.
//!
//! A binary frame is one [`Envelope`]. Which message its payload is, the [`event`] number says. The
//! messages are generated from `proto/`, whose names and tags are those of the official clients.

pub mod event;
pub mod scan;

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated; proto/ says what the messages are"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/signal.rs"));
}

pub use generated::message::v1::SocketMessage as Envelope;
pub use generated::{common, media, socket};
