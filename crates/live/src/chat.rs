//! Chat (docs/spec/signalling.md 6.6).

mod pending_read;
mod quota;
mod read;
mod send;
mod wire;

pub(crate) use pending_read::PendingRead;

pub use quota::ChatFull;
use quota::Stored;

use std::collections::VecDeque;

use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
use parlor_protocol::signal::socket::chat;
use uuid::Uuid;

use crate::input::ConnectionId;
use crate::limits::Limits;
use crate::output::Refusal;
use crate::room::{RequestContext, Room};

/// Type of a message's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// Text.
    Text,
    /// URL of an image.
    Image,
    /// JSON `{"link", "name", "size"}`.
    File,
    /// JSON defined by the app.
    Custom,
}

impl PayloadType {
    /// Number on the wire and in the records.
    pub fn number(self) -> i32 {
        match self {
            Self::Text => 0,
            Self::Image => 1,
            Self::File => 2,
            Self::Custom => 3,
        }
    }

    /// Parses the number of a type.
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::Text, Self::Image, Self::File, Self::Custom]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A chat message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Id of the message.
    pub id: Uuid,
    /// The session in which it was sent.
    pub session: SessionId,
    /// The sending peer.
    pub peer: PeerId,
    /// The sending participant.
    pub participant: ParticipantId,
    /// The sender's display name at the time.
    pub name: String,
    /// Type of the payload.
    pub kind: PayloadType,
    /// The content.
    pub payload: String,
    /// Whether the message is pinned.
    pub pinned: bool,
    /// Whether the message was edited.
    pub edited: bool,
    /// Recipients of a private message, including the sender. Empty for a public message.
    pub targets: Vec<ParticipantId>,
    /// When it was sent, in Unix milliseconds.
    pub at_ms: i64,
}

impl ChatMessage {
    fn wire(&self) -> chat::ChatMessage {
        let at_ms = u64::try_from(self.at_ms).unwrap_or_default();
        chat::ChatMessage {
            chat_id: self.id.to_string(),
            peer_id: self.peer.to_string(),
            user_id: self.participant.to_string(),
            display_name: self.name.clone(),
            pinned: self.pinned,
            is_edited: self.edited,
            payload_type: self.kind.number(),
            payload: self.payload.clone(),
            target_user_ids: self.targets.iter().map(ToString::to_string).collect(),
            created_at: at_ms / 1000,
            created_at_ms: Some(at_ms),
            channel_id: None,
            channel_index: None,
        }
    }

    /// Uses binary search, because a message may have thousands of targets. They are sorted while
    /// the room holds the message.
    fn is_visible_to(&self, participant: ParticipantId) -> bool {
        self.targets.is_empty() || self.has_target(participant)
    }

    fn has_target(&self, participant: ParticipantId) -> bool {
        self.targets.binary_search(&participant).is_ok()
    }
}

/// A message held in memory.
#[derive(Debug)]
struct Held {
    message: ChatMessage,
    /// Lower-cased payload for searches; `None` if it equals the payload.
    folded: Option<Box<str>>,
}

impl Held {
    fn new(mut message: ChatMessage) -> Self {
        if !message.targets.is_sorted() {
            message.targets.sort_unstable();
        }
        let folded = message.payload.to_lowercase();
        let folded = (folded != message.payload).then(|| folded.into_boxed_str());
        Self { message, folded }
    }

    fn folded(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.message.payload)
    }

    /// Approximate memory use, in bytes, with one target for each recipient of a private message.
    fn size(&self) -> usize {
        let folded = self.folded.as_ref().map_or(0, |folded| folded.len());
        let message = &self.message;
        let targets = size_of_val(message.targets.as_slice());
        message.payload.len() + message.name.len() + targets + folded
    }
}

/// The messages held in memory, oldest first. Timestamps are unique, so that a page can be
/// identified by the timestamp of its last message.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    messages: VecDeque<Held>,
    /// Latest timestamp of any message, including deleted ones.
    latest_ms: i64,
    bytes: usize,
    held: usize,
    held_bytes: usize,
    pub(crate) stored: Stored,
}

impl Chat {
    pub(crate) fn new(saved: Vec<ChatMessage>, limits: &Limits) -> Self {
        let mut chat = Self {
            held: limits.chat_held,
            held_bytes: limits.chat_held_bytes,
            ..Self::default()
        };
        for message in saved {
            chat.add(message);
        }
        chat
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    fn add(&mut self, message: ChatMessage) {
        self.latest_ms = self.latest_ms.max(message.at_ms);
        let held = Held::new(message);
        self.bytes += held.size();
        self.messages.push_back(held);
        self.evict_oldest();
    }

    /// The message with a timestamp.
    fn at_time(&self, at_ms: i64) -> Option<&ChatMessage> {
        let at = self
            .messages
            .binary_search_by_key(&at_ms, |held| held.message.at_ms);
        at.ok().map(|at| self.get(at))
    }

    /// The messages after a timestamp.
    fn after(&self, at_ms: i64) -> impl Iterator<Item = &ChatMessage> {
        let start = self
            .messages
            .partition_point(|held| held.message.at_ms <= at_ms);
        self.messages.range(start..).map(|held| &held.message)
    }

    fn get(&self, at: usize) -> &ChatMessage {
        &self.messages[at].message
    }

    /// Changes a message and returns the result.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut ChatMessage)) -> ChatMessage {
        let held = &mut self.messages[at];
        self.bytes -= held.size();
        let mut message = held.message.clone();
        change(&mut message);
        *held = Held::new(message.clone());
        self.bytes += held.size();
        self.evict_oldest();
        message
    }

    /// Evicts the oldest messages; they stay in the records.
    fn evict_oldest(&mut self) {
        while self.messages.len() > self.held || self.bytes > self.held_bytes {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= oldest.size();
        }
    }

    fn remove(&mut self, at: usize) -> Option<ChatMessage> {
        let held = self.messages.remove(at)?;
        self.bytes -= held.size();
        Some(held.message)
    }

    fn next_time(&self, now_ms: i64) -> i64 {
        self.latest_ms.saturating_add(1).max(now_ms)
    }

    fn position(&self, id: &str) -> Result<usize, Refusal> {
        let id = id.parse::<Uuid>().ok();
        let found = self
            .messages
            .iter()
            .rposition(|held| Some(held.message.id) == id);
        found.ok_or_else(|| Refusal::new(404, "there is no such message"))
    }
}

impl Room {
    /// Sockets of all peers that may read a message, except the requester.
    fn readers(&self, message: &ChatMessage, ctx: &RequestContext<'_>) -> Vec<ConnectionId> {
        let mut to = self
            .peers
            .sockets(|peer| peer.has_joined() && message.is_visible_to(peer.participant_id()));
        to.retain(|socket| *socket != ctx.connection);
        to
    }
}
