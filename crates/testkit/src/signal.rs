//! A client of the meeting socket that behaves like the official SDK.
//!
//! [`wire`] is the bare socket, for programs that open ten thousand of them. [`Peer`] keeps
//! everything that arrives, in order and with its arrival time, and answers pings on its own.

mod inbox;
mod peer;
pub mod wire;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use parlor_protocol::signal::socket::{chat, plugin, polls, room};

pub use inbox::{Closed, Received, Refused};
pub use peer::{Peer, raw_frame};
pub use prost::Message as Encodable;

/// Name of the store with which clients share the running plugins.
pub const PLUGINS: &str = "__rtk_plugins__";

/// One client of one participant: the values from which its URL and its join request are built.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Address of the server.
    pub server: SocketAddr,
    /// ID of the meeting.
    pub meeting: String,
    /// ID that the client chose, a UUID.
    pub peer: String,
    /// ID of the participant: `user_id` on the wire.
    pub participant: String,
    /// The app's ID of the participant.
    pub custom_id: String,
    /// The name that the client claims.
    pub name: String,
    /// The join token.
    pub token: String,
    /// Whether the client requests the waiting room after each join, as clients do that may admit
    /// participants.
    pub requests_waiting_room: bool,
}

impl Identity {
    /// Returns a second client of the same participant.
    #[must_use]
    pub fn in_another_tab(&self) -> Self {
        Self {
            peer: new_peer_id(),
            ..self.clone()
        }
    }

    /// Returns the path and query of the socket (docs/spec/signalling.md 1.3).
    pub fn path(&self) -> String {
        format!(
            "/ws?roomID={}&peerID={}&authToken={}&useMediaV2=true&ping=true&capabilities=2\
             &joinWithDetails=true&useCfWorker=true&useStartSession=true",
            self.meeting, self.peer, self.token
        )
    }

    /// Returns the request to join the room.
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

    /// Returns the request for all keys of a store.
    pub fn store_request(&self, store: &str) -> plugin::PluginStoreGetKeysRequest {
        plugin::PluginStoreGetKeysRequest {
            plugin_id: self.meeting.clone(),
            store_name: store.to_owned(),
            get_keys: Vec::new(),
        }
    }
}

/// Returns a random client ID, as the SDK generates it.
#[expect(
    clippy::disallowed_methods,
    reason = "the client generates the ID, not the server"
)]
pub fn new_peer_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Parses the address in an origin such as `http://127.0.0.1:40123`.
///
/// # Errors
/// When the host is not an IP address with a port.
pub fn address_of(origin: &str) -> Result<SocketAddr> {
    let address = origin.split("://").last().unwrap_or(origin);
    let address = address.trim_end_matches('/');
    address
        .parse()
        .with_context(|| format!("{origin} is not an IP address with a port"))
}

/// The state that a client receives when it joins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// The client's own peer, as the server sees it.
    pub me: room::Peer,
    /// Messages of the chat.
    pub chat: Vec<chat::ChatMessage>,
    /// Polls.
    pub polls: Vec<polls::Poll>,
    /// Running plugins.
    pub plugins: Vec<plugin::PluginStoreItem>,
    /// Title, session and start of the meeting.
    pub room: room::Room,
    /// Peers in the meeting.
    pub peers: Vec<room::Peer>,
    /// Breakout rooms; not requested while the client is in the waiting room.
    pub rooms: Option<room::GetConnectedRoomsDumpResponse>,
}
