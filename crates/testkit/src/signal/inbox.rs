//! The frames received on a socket, and a way to wait for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use parlor_protocol::signal::media::edge::ErrorResponse;
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use tokio::sync::Notify;

/// A frame from the server.
#[derive(Clone, Debug)]
pub struct Received {
    /// Arrival time.
    pub at: Instant,
    /// Event number.
    pub event: u32,
    /// ID of the request to which this is the reply, if any.
    pub id: Option<String>,
    /// Encoded message. The server must always set it.
    pub payload: Option<Bytes>,
    /// Size on the wire, in bytes.
    pub size: usize,
    /// Whether a request has consumed the frame as its reply.
    pub(super) is_reply: bool,
    /// Whether [`super::Peer::push`] has consumed the frame.
    pub(super) is_taken: bool,
}

/// The close of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Close code; `None` when the connection ended without a close frame.
    pub code: Option<u16>,
    /// Close reason.
    pub reason: String,
    /// Time of the close.
    pub at: Instant,
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// Error code, like an HTTP status; 0 when the reply has none.
    pub code: i32,
    /// Error message.
    pub message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused with {}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

impl Received {
    /// Decodes a frame.
    pub(super) fn read(bytes: Bytes, at: Instant) -> Result<Self, prost::DecodeError> {
        let size = bytes.len();
        let envelope = Envelope::decode(bytes)?;
        Ok(Self {
            at,
            event: envelope.event,
            id: envelope.id,
            payload: envelope.payload,
            size,
            is_reply: false,
            is_taken: false,
        })
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// When the payload is absent, which breaks the official client, or cannot be decoded as `M`.
    pub fn message<M: Message + Default>(&self) -> anyhow::Result<M> {
        let name = event::name(self.event).unwrap_or("unknown");
        let Some(payload) = self.payload.clone() else {
            anyhow::bail!("event {} ({name}) has no payload", self.event)
        };
        M::decode(payload).map_err(|error| anyhow::anyhow!("event {name}: {error}"))
    }

    /// Decodes an error reply. Tries the formats in the same order as the SDK
    /// (docs/spec/signalling.md 4). Returns `None` for any other frame.
    pub fn refusal(&self) -> Option<Refused> {
        if self.event != event::ERROR && self.event != event::MEDIA_ERROR {
            return None;
        }
        let payload = self.payload.clone().unwrap_or_default();
        let refused = match ErrorMessage::decode(payload.clone()) {
            Ok(error) if self.event == event::ERROR => Refused {
                code: error.code.unwrap_or_default(),
                message: error.message,
            },
            _ => Refused {
                code: 0,
                message: media_error(payload),
            },
        };
        Some(refused)
    }
}

/// Everything received on a socket, in order.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) received: Vec<Received>,
    pub(super) pings: usize,
    pub(super) pongs: usize,
    pub(super) malformed: Vec<String>,
    pub(super) closed: Option<Closed>,
}

impl Inbox {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all waiters.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }

    /// Waits until `find` returns a value. Returns `None` when the socket closes before that.
    pub(super) async fn wait_for<T>(
        &self,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the check, so that no change in between is missed.
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(found) = find(&mut state) {
                    return Some(found);
                }
                if state.closed.is_some() {
                    return None;
                }
            }
            changed.await;
        }
    }
}

/// Decodes the text of a media error, which is sometimes JSON (docs/spec/media.md 0.3).
fn media_error(payload: Bytes) -> String {
    let text = match ErrorResponse::decode(payload) {
        Ok(error) => error.error_message,
        Err(error) => return format!("unreadable: {error}"),
    };
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let described = json
        .as_ref()
        .and_then(|json| json["errorDescription"].as_str());
    described.map_or(text.clone(), str::to_owned)
}
