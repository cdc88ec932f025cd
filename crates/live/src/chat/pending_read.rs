//! Reading the chat in slices. A read may have to examine all messages held; other inputs are
//! handled between two slices.

use bytes::Bytes;
use parlor_protocol::ids::ParticipantId;

use super::{Chat, ChatMessage, Held, wire};
use crate::frame::frame_with;
use crate::input::ConnectionId;
use crate::limits::Limits;
use crate::output::Refusal;
use crate::peer::Slot;
use crate::room::{Outcome, RequestContext, Room, Step};

/// Maximum number of pending reads of one participant. At most one of them may be a search.
const MAX_PENDING_READS: usize = 4;
/// Cost of examining a message besides its text, in bytes of a slice. A private message costs the
/// same again for the search among its targets.
const MESSAGE_COST: usize = 128;

/// Which messages to return.
#[derive(Debug)]
pub(super) enum Filter {
    All,
    /// Pinned messages, or messages that are not pinned.
    Pinned(bool),
    /// The private conversation with this participant. Messages visible to the requester are either
    /// public or addressed to it.
    ConversationWith(Option<ParticipantId>),
    /// Messages that contain this lower-case text.
    Text(String),
}

impl Filter {
    fn matches(&self, held: &Held) -> bool {
        match self {
            Self::All => true,
            Self::Pinned(pinned) => held.message.pinned == *pinned,
            Self::ConversationWith(with) => with.is_some_and(|with| held.message.has_target(with)),
            Self::Text(text) => held.folded().contains(text),
        }
    }

    /// Cost of testing a message, in bytes of a slice.
    fn cost(&self, held: &Held) -> usize {
        let private = usize::from(!held.message.targets.is_empty());
        let text = match self {
            Self::Text(_) => held.folded().len(),
            _ => 0,
        };
        MESSAGE_COST * (1 + private) + text
    }
}

/// How the messages are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyFormat {
    /// In the order found.
    InOrder,
    /// In reverse order.
    Reversed,
    /// In the order found, with a flag for further messages.
    Page,
}

/// A page of messages on one side of a time, bounded in messages and bytes. It always includes the
/// first match, so that paging makes progress.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) at_ms: i64,
    /// Whether to read towards earlier messages.
    pub(super) before: bool,
    pub(super) skip: usize,
    pub(super) size: usize,
    pub(super) bytes: usize,
}

impl Page {
    pub(super) fn of(limits: &Limits, at_ms: u64, before: bool, size: i32, from: i32) -> Self {
        let size = usize::try_from(size).unwrap_or_default();
        Self {
            at_ms: i64::try_from(at_ms).unwrap_or(i64::MAX),
            before,
            skip: usize::try_from(from).unwrap_or_default(),
            size: if size == 0 {
                limits.chat_page
            } else {
                size.min(limits.chat_page)
            },
            bytes: limits.reply_bytes,
        }
    }
}

/// A read in progress.
#[derive(Debug)]
pub(crate) struct PendingRead {
    slot: Slot,
    connection: ConnectionId,
    event: u32,
    id: Option<String>,
    filter: Filter,
    format: ReplyFormat,
    /// The part of the page that is left.
    page: Page,
    /// Timestamp of the last message when the read began.
    began_after_ms: i64,
    /// Timestamps of the messages found; they are unique.
    found: Vec<i64>,
    bytes: usize,
    /// Whether further messages match.
    more: bool,
}

impl Room {
    /// Starts reading messages. Replies when done.
    pub(super) fn read_chat(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
        (filter, format): (Filter, ReplyFormat),
        page: Page,
    ) -> Outcome {
        let peer = &self.peers[ctx.slot];
        let user = peer.participant_id();
        if !peer.has_joined() {
            // Peers in the waiting room get an empty reply at once.
            let frame = frame_with(ctx.request.event, ctx.request.id.as_deref(), 0, |_| {});
            step.send(vec![ctx.connection], frame);
            return Ok(());
        }
        let open = self.work.pending_reads.iter();
        let theirs = open.filter(|pending_read| {
            let peer = self.peers.get(pending_read.slot);
            peer.is_some_and(|peer| peer.participant_id() == user)
        });
        let is_search = |filter: &Filter| matches!(filter, Filter::Text(_));
        let (mut count, mut full) = (0, false);
        for pending_read in theirs {
            count += 1;
            full |= count == MAX_PENDING_READS
                || (is_search(&filter) && is_search(&pending_read.filter));
        }
        if full {
            let message = "too many reads of the chat are in progress: wait for the replies";
            return Err(Refusal::new(429, message));
        }
        let pending_read = PendingRead {
            slot: ctx.slot,
            connection: ctx.connection,
            event: ctx.request.event,
            id: ctx.request.id.clone(),
            filter,
            format,
            page,
            began_after_ms: self
                .chat
                .messages
                .back()
                .map_or(i64::MIN, |held| held.message.at_ms),
            found: Vec::new(),
            bytes: 0,
            more: false,
        };
        self.continue_read(step, pending_read);
        Ok(())
    }

    /// Runs one slice of a read and requeues the rest.
    pub(crate) fn continue_read(&mut self, step: &mut Step<'_>, mut pending_read: PendingRead) {
        // If the client has left or has a new socket, it sends the request again.
        if self.peers.slot_by_connection(pending_read.connection) != Some(pending_read.slot) {
            return;
        }
        let peer = &self.peers[pending_read.slot];
        // The peer may have been removed in the meantime.
        let (has_joined, user) = (peer.has_joined(), peer.participant_id());
        let may = |message: &ChatMessage| has_joined && message.is_visible_to(user);
        let (done, cost_units) = pending_read.run_slice(&self.chat, self.limits.search_bytes, may);
        self.cost_units.add(cost_units);
        if !done {
            self.work.pending_reads.push_back(pending_read);
            self.schedule_work(step);
            return;
        }
        let found = pending_read
            .found
            .iter()
            .filter_map(|at_ms| self.chat.at_time(*at_ms));
        let mut found: Vec<&ChatMessage> = found.filter(|message| may(message)).collect();
        if pending_read.format == ReplyFormat::Reversed {
            found.reverse();
            // The client replaces its messages with the reply, so messages sent between the slices
            // must be in it.
            let newer = self.chat.after(pending_read.began_after_ms);
            found.extend(newer.filter(|message| may(message)));
        }
        let frame = pending_read.reply(&found);
        step.send(vec![pending_read.connection], frame);
    }
}

impl PendingRead {
    /// Examines messages up to `budget` bytes. Returns whether the read is done, and its cost.
    fn run_slice(
        &mut self,
        chat: &Chat,
        budget: usize,
        may: impl Fn(&ChatMessage) -> bool,
    ) -> (bool, usize) {
        let (mut left, mut cost_units) = (Some(budget), 0);
        let (at_ms, before) = (self.page.at_ms, self.page.before);
        let behind = |held: &Held| {
            let at = held.message.at_ms;
            if before { at <= at_ms } else { at < at_ms }
        };
        let start = chat.messages.partition_point(behind);
        let mut at = if before {
            start.checked_sub(1)
        } else {
            Some(start)
        };
        while let Some((index, held)) = at.and_then(|at| Some((at, chat.messages.get(at)?))) {
            let Some(after) = left else {
                return (false, cost_units);
            };
            let cost = self.filter.cost(held);
            cost_units += 1 + cost / (2 * MESSAGE_COST);
            if may(&held.message) && self.filter.matches(held) && !self.take(&held.message) {
                self.more = true;
                break;
            }
            let at_ms = held.message.at_ms;
            (self.page.at_ms, at) = if before {
                (at_ms.saturating_sub(1), index.checked_sub(1))
            } else {
                (at_ms.saturating_add(1), Some(index + 1))
            };
            left = after.checked_sub(cost);
        }
        (true, cost_units)
    }

    /// Adds a matching message. Returns `false` if the page is full.
    fn take(&mut self, message: &ChatMessage) -> bool {
        if self.page.skip > 0 {
            self.page.skip -= 1;
            return true;
        }
        self.bytes += message.wire_len();
        let full = self.found.len() == self.page.size || self.bytes > self.page.bytes;
        if full && !self.found.is_empty() {
            return false;
        }
        self.found.push(message.at_ms);
        true
    }

    /// Encodes `GetChatMessagesResponse` or `GetPaginatedChatMessageRoomResponse`, which share the
    /// first field.
    fn reply(&self, messages: &[&ChatMessage]) -> Bytes {
        let next = self.format == ReplyFormat::Page && self.more;
        let more: &[u8] = if next { &[2 << 3, 1] } else { &[] };
        let length = wire::length(messages) + more.len();
        frame_with(self.event, self.id.as_deref(), length, |frame| {
            wire::write(messages, frame);
            frame.extend_from_slice(more);
        })
    }
}
