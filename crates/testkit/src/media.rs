//! Media clients without browsers: many publishers and subscribers on one thread.
//!
//! The code is deliberately lightweight, because it shares the machine with the server that it
//! measures. It implements only the protocols that a server requires: ICE with one fixed pair,
//! DTLS, SRTP, receiver reports and transport-wide feedback. It does not decode, retransmit or
//! adapt.
//!
//! | item | purpose |
//! |---|---|
//! | [`sdp`] | Minimal offers and answers. |
//! | [`Transport`] | One connection: ICE, DTLS and the keys. |
//! | [`Stream`] | The packets of one source, and when to send them. |
//! | [`floor`] | The minimum cost of forwarding the same packets. |
//! | [`memory`] | Clients of an engine without sockets. |
//! | [`probe`] | Detects transports that a server keeps after their client is gone. |
//! | [`MediaClient`] | A client of Parlor: its signalling and its connections. |
//! | [`SharedMedia`] | What the clients of one process share. |
//! | [`MediaThread`] | The thread that owns all sockets, sends packets on time and counts received ones. |

mod batch;
mod connection;
pub mod floor;
mod ice;
mod media_client;
mod media_thread;
pub mod memory;
pub mod probe;
mod reception;
pub mod sdp;
mod shared;
mod stream;
mod transport;

pub use media_client::{MediaClient, Phases, Plan, Track};
pub use media_thread::{MediaThread, ReadMode, Totals, TransportId};
pub use probe::Probe;
pub use reception::ReceiveTotals;
pub use shared::{ConnectionHandle, Published, SharedMedia};
pub use stream::{Extensions, Source, Stream, now_ns, stamp_of};
pub use transport::{Identity, LocalDescription, Remote, Transport};
