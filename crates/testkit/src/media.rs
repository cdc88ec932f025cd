//! Clients' media without browsers: many publishers and subscribers on one thread.
//!
//! Light on purpose, since it shares the machine with the server that it measures. It speaks just
//! enough of what a browser speaks: ICE with one fixed pair, DTLS, SRTP, receiver reports and
//! transport-wide feedback. Nothing is decoded, retransmitted or adapted.
//!
//! | where | what |
//! |---|---|
//! | [`sdp`] | Offers and answers, as small as servers take them. |
//! | [`Transport`] | One connection: ICE, DTLS and the keys. |
//! | [`Stream`] | What one source sends, and when. |
//! | [`floor`] | The same packets through a loop of 30 lines. |
//! | [`memory`] | Clients of an engine without sockets. |
//! | [`probe`] | Whether a server still has a connection whose client is gone. |
//! | [`Guest`] | A client of Parlor: its signalling and its connections. |
//! | [`Wires`] | What the clients of one process share. |
//! | [`Rig`] | The thread that owns all sockets, sends in time and counts what arrives. |

mod batch;
pub mod floor;
mod guest;
mod ice;
pub mod memory;
pub mod probe;
mod reception;
mod rig;
pub mod sdp;
mod seat;
mod stream;
mod transport;
mod wires;

pub use guest::{Guest, Phases, Plan, Track};
pub use probe::Probe;
pub use reception::Arrived;
pub use rig::{Pace, Rig, Totals, TransportId};
pub use stream::{Extensions, Source, Stream, now_ns, stamp_of};
pub use transport::{Identity, Remote, Says, Transport};
pub use wires::{Published, Seated, Wires};
