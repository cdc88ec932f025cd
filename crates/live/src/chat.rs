//! Chat (docs/spec/signalling.md 6.6).

mod quota;
mod read;
mod reading;
mod say;
mod wire;

pub(crate) use reading::Reading;

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

/// What a message's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// Text.
    Text,
    /// The URL of a picture.
    Image,
    /// JSON `{"link", "name", "size"}`.
    File,
    /// JSON of the app's own.
    Custom,
}

impl PayloadType {
    /// The number on the wire and in the records.
    pub fn number(self) -> i32 {
        match self {
            Self::Text => 0,
            Self::Image => 1,
            Self::File => 2,
            Self::Custom => 3,
        }
    }

    /// The type with a number.
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::Text, Self::Image, Self::File, Self::Custom]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Its id.
    pub id: Uuid,
    /// The session it was said in.
    pub session: SessionId,
    /// Who said it: the client.
    pub peer: PeerId,
    /// Who said it: the person.
    pub participant: ParticipantId,
    /// The name they had then.
    pub name: String,
    /// What the payload is.
    pub kind: PayloadType,
    /// The content.
    pub payload: String,
    /// Kept in view.
    pub pinned: bool,
    /// Changed after it was sent.
    pub edited: bool,
    /// For these people only, the sender among them; for everybody when empty.
    pub targets: Vec<ParticipantId>,
    /// When it was said, Unix milliseconds.
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

    /// The targets are in order while a room holds the message: there may be thousands.
    fn is_for(&self, person: ParticipantId) -> bool {
        self.targets.is_empty() || self.names(person)
    }

    fn names(&self, person: ParticipantId) -> bool {
        self.targets.binary_search(&person).is_ok()
    }
}

/// A message that a room holds.
#[derive(Debug)]
struct Held {
    message: ChatMessage,
    /// The payload as it is searched, unless it is the payload: in lower case, made once.
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

    /// What it takes in memory, in bytes, about: a private message names as many people as were told.
    fn size(&self) -> usize {
        let folded = self.folded.as_ref().map_or(0, |folded| folded.len());
        let message = &self.message;
        let targets = size_of_val(message.targets.as_slice());
        message.payload.len() + message.name.len() + targets + folded
    }
}

/// The messages that a room holds, oldest first. No two have the same time, so that a page which
/// ends at a time ends at a message.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    messages: VecDeque<Held>,
    /// The latest time of a message, those that were removed included.
    said_ms: i64,
    bytes: usize,
    held: usize,
    held_bytes: usize,
    pub(crate) stored: Stored,
}

impl Chat {
    pub(crate) fn new(past: Vec<ChatMessage>, limits: &Limits) -> Self {
        let mut chat = Self {
            held: limits.chat_held,
            held_bytes: limits.chat_held_bytes,
            ..Self::default()
        };
        for message in past {
            chat.add(message);
        }
        chat
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    fn add(&mut self, message: ChatMessage) {
        self.said_ms = self.said_ms.max(message.at_ms);
        let held = Held::new(message);
        self.bytes += held.size();
        self.messages.push_back(held);
        self.make_room();
    }

    /// The message of a time.
    fn at(&self, at_ms: i64) -> Option<&ChatMessage> {
        let at = self
            .messages
            .binary_search_by_key(&at_ms, |held| held.message.at_ms);
        at.ok().map(|at| self.get(at))
    }

    /// The messages after a time.
    fn after(&self, at_ms: i64) -> impl Iterator<Item = &ChatMessage> {
        let start = self
            .messages
            .partition_point(|held| held.message.at_ms <= at_ms);
        self.messages.range(start..).map(|held| &held.message)
    }

    fn get(&self, at: usize) -> &ChatMessage {
        &self.messages[at].message
    }

    /// Changes a message; answers with what it is then.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut ChatMessage)) -> ChatMessage {
        let held = &mut self.messages[at];
        self.bytes -= held.size();
        let mut message = held.message.clone();
        change(&mut message);
        *held = Held::new(message.clone());
        self.bytes += held.size();
        self.make_room();
        message
    }

    /// The oldest go; they stay in the records.
    fn make_room(&mut self) {
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
        self.said_ms.saturating_add(1).max(now_ms)
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
    /// The sockets of those who may read a message, but the one that asked.
    fn readers(&self, message: &ChatMessage, asked: &RequestContext<'_>) -> Vec<ConnectionId> {
        let mut to = self
            .peers
            .sockets(|peer| peer.is_inside() && message.is_for(peer.user()));
        to.retain(|socket| *socket != asked.connection);
        to
    }
}
