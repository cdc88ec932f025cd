//! Storage quotas of a meeting's chat.

use super::ChatMessage;
use crate::output::Refusal;
use crate::peer::Slot;
use crate::room::{Outcome, Room};

/// Approximate overhead of a stored message, in bytes: its row and index entries.
const ROW_BYTES: u64 = 256;

/// Why new messages are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFull {
    /// The participant has reached their quota.
    Participant,
    /// The meeting has reached its quota.
    Meeting,
    /// The app has reached its quota.
    App,
    /// The server has reached its quota.
    Server,
    /// The disk is nearly full.
    Disk,
}

impl ChatFull {
    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Participant => "person_share",
            Self::Meeting => "meeting_quota",
            Self::App => "app_quota",
            Self::Server => "server_quota",
            Self::Disk => "disk_reserve",
        }
    }

    fn refusal(self) -> Refusal {
        let message = match self {
            Self::Participant => "you have reached your chat quota for this meeting",
            Self::Meeting => "the chat of this meeting is full",
            Self::App => "the chats of this app are full",
            Self::Server => "the chats of this server are full",
            Self::Disk => "the server has no space for more messages",
        };
        Refusal::new(507, message)
    }
}

/// Storage used by the chat, and rejections.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Size of all messages of the meeting, in bytes.
    pub(crate) bytes: u64,
    /// Why the server currently rejects messages, if it does.
    pub(crate) full: Option<ChatFull>,
    refused: Vec<ChatFull>,
}

impl ChatMessage {
    /// Approximate size in the records, in bytes.
    pub fn stored_bytes(&self) -> u64 {
        let targets = size_of_val(self.targets.as_slice());
        let bytes = self.payload.len() + self.name.len() + targets;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        bytes.saturating_add(ROW_BYTES)
    }
}

impl Room {
    /// Takes the reason of each message rejected since the last call.
    pub fn take_refused_messages(&mut self) -> Vec<ChatFull> {
        std::mem::take(&mut self.chat.stored.refused)
    }

    /// Size of all stored messages of the meeting, in bytes.
    pub fn stored_chat_bytes(&self) -> u64 {
        self.chat.stored.bytes
    }

    /// Charges the growth of a message from `before` to `after` bytes. Changes that do not grow it
    /// always succeed.
    pub(super) fn charge_storage(&mut self, slot: Slot, before: u64, after: u64) -> Outcome {
        let grown = after.saturating_sub(before);
        let limits = (
            self.limits.chat_stored_bytes,
            self.limits.chat_participant_bytes,
        );
        let allowances = self.peers.allowances(slot);
        let stored = &mut self.chat.stored;
        let over = |used: u64, limit: u64| limit > 0 && used.saturating_add(grown) > limit;
        let full = if grown == 0 {
            None
        } else if over(stored.bytes, limits.0) {
            Some(ChatFull::Meeting)
        } else if over(allowances.chat_bytes, limits.1) {
            Some(ChatFull::Participant)
        } else {
            stored.full
        };
        if let Some(full) = full {
            stored.refused.push(full);
            return Err(full.refusal());
        }
        allowances.chat_bytes = allowances.chat_bytes.saturating_add(grown);
        stored.bytes = stored.bytes.saturating_sub(before).saturating_add(after);
        Ok(())
    }
}
