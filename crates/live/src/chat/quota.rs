//! How much of the records a meeting's chat may take.

use super::ChatMessage;
use crate::output::Refusal;
use crate::peer::Seat;
use crate::room::{Outcome, Room};

/// What a message takes in the records besides what was written, in bytes, about: its row and the
/// entries of its indexes.
const ROW_BYTES: u64 = 256;

/// Why no more messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFull {
    /// The person has had their share.
    Person,
    /// The meeting's chat has reached its limit.
    Meeting,
    /// The app's chats have reached theirs.
    App,
    /// The chats of all apps have.
    Server,
    /// The disk is nearly full.
    Disk,
}

impl ChatFull {
    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person_share",
            Self::Meeting => "meeting_quota",
            Self::App => "app_quota",
            Self::Server => "server_quota",
            Self::Disk => "disk_reserve",
        }
    }

    fn refusal(self) -> Refusal {
        let message = match self {
            Self::Person => "you have written as much as one person may in this meeting",
            Self::Meeting => "the chat of this meeting is full",
            Self::App => "the chats of this app are full",
            Self::Server => "the chats of this server are full",
            Self::Disk => "the server has no space for more messages",
        };
        Refusal::new(507, message)
    }
}

/// What the chat takes in the records, and what was refused.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Bytes of all messages of the meeting.
    pub(crate) bytes: u64,
    /// The server takes no messages for now, and why.
    pub(crate) full: Option<ChatFull>,
    refused: Vec<ChatFull>,
}

impl ChatMessage {
    /// What it takes in the records, in bytes, about.
    pub fn stored_bytes(&self) -> u64 {
        let targets = size_of_val(self.targets.as_slice());
        let bytes = self.payload.len() + self.name.len() + targets;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        bytes.saturating_add(ROW_BYTES)
    }
}

impl Room {
    /// Why messages were refused since this was last asked, each refusal once.
    pub fn take_refused_messages(&mut self) -> Vec<ChatFull> {
        std::mem::take(&mut self.chat.stored.refused)
    }

    /// Bytes that all messages of the meeting take in the records.
    pub fn stored_chat_bytes(&self) -> u64 {
        self.chat.stored.bytes
    }

    /// Counts what a message takes from now on, in place of what it has taken so far. What does not
    /// grow is always taken.
    pub(super) fn store(&mut self, seat: Seat, before: u64, after: u64) -> Outcome {
        let grown = after.saturating_sub(before);
        let limits = (self.limits.chat_stored_bytes, self.limits.chat_person_bytes);
        let left = self.peers.left(seat);
        let stored = &mut self.chat.stored;
        let over = |used: u64, limit: u64| limit > 0 && used.saturating_add(grown) > limit;
        let full = if grown == 0 {
            None
        } else if over(stored.bytes, limits.0) {
            Some(ChatFull::Meeting)
        } else if over(left.chat_bytes, limits.1) {
            Some(ChatFull::Person)
        } else {
            stored.full
        };
        if let Some(full) = full {
            stored.refused.push(full);
            return Err(full.refusal());
        }
        left.chat_bytes = left.chat_bytes.saturating_add(grown);
        stored.bytes = stored.bytes.saturating_sub(before).saturating_add(after);
        Ok(())
    }
}
