//! The client's end of a meeting's socket, as the official SDK uses it.
//!
//! [`wire`] is the bare socket, for those who open ten thousand of them. [`Peer`] keeps everything
//! that arrives, in order and with its time, and answers pings by itself.

mod inbox;
mod peer;
pub mod wire;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use parlor_protocol::signal::socket::{chat, plugin, polls, room};

pub use inbox::{Closed, Received, Refused};
pub use peer::{Peer, odd_frame};
pub use prost::Message as Encodable;

/// The store in which clients keep which plugins run.
pub const PLUGINS: &str = "__rtk_plugins__";

/// One client of one person: what its URL is made of.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The meeting.
    pub meeting: String,
    /// The client's own id, a UUID.
    pub peer: String,
    /// The person: `user_id` on the wire.
    pub participant: String,
    /// The app's own id of the person.
    pub custom_id: String,
    /// The name the client claims.
    pub name: String,
    /// What the person joins with.
    pub token: String,
    /// The client asks who waits after each join, as those do that may let people in.
    pub asks_who_waits: bool,
}

impl Identity {
    /// The same person in another tab.
    #[must_use]
    pub fn in_another_tab(&self) -> Self {
        Self {
            peer: new_peer_id(),
            ..self.clone()
        }
    }

    /// The path and query of the socket (docs/spec/signalling.md 1.3).
    pub fn path(&self) -> String {
        format!(
            "/ws?roomID={}&peerID={}&authToken={}&useMediaV2=true&ping=true&capabilities=2\
             &joinWithDetails=true&useCfWorker=true&useStartSession=true",
            self.meeting, self.peer, self.token
        )
    }

    /// The message with which the client joins.
    pub fn join_request(&self) -> room::JoinRoomRequest {
        room::JoinRoomRequest {
            peer: Some(room::Peer {
                peer_id: self.peer.clone(),
                user_id: self.participant.clone(),
                display_name: self.name.clone(),
                custom_participant_id: Some(self.custom_id.clone()),
                ..room::Peer::default()
            }),
            ..room::JoinRoomRequest::default()
        }
    }

    /// The request for a whole store.
    pub fn store_request(&self, store: &str) -> plugin::PluginStoreGetKeysRequest {
        plugin::PluginStoreGetKeysRequest {
            plugin_id: self.meeting.clone(),
            store_name: store.to_owned(),
            get_keys: Vec::new(),
        }
    }
}

/// A client id as the SDK draws it.
#[expect(
    clippy::disallowed_methods,
    reason = "the client draws it, not the server"
)]
pub fn new_peer_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The address in an origin like `http://127.0.0.1:40123`.
///
/// # Errors
/// When it is no plain IP address and port.
pub fn address_of(origin: &str) -> Result<SocketAddr> {
    let address = origin.split("://").last().unwrap_or(origin);
    let address = address.trim_end_matches('/');
    address
        .parse()
        .with_context(|| format!("{origin} is no address with a port"))
}

/// What a client knows after it has joined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// Itself, as the server sees it.
    pub me: room::Peer,
    /// The chat so far.
    pub chat: Vec<chat::ChatMessage>,
    /// The polls so far.
    pub polls: Vec<polls::Poll>,
    /// Which plugins run.
    pub plugins: Vec<plugin::PluginStoreItem>,
    /// Title, session and start.
    pub room: room::Room,
    /// Everybody inside.
    pub peers: Vec<room::Peer>,
    /// The breakout rooms; not asked for while one waits.
    pub rooms: Option<room::GetConnectedRoomsDumpResponse>,
}
