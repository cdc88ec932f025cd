//! Reading the chat. A reading may have to look at every message that the room holds: it is done in
//! slices, between which others are served.

use bytes::Bytes;
use parlor_protocol::ids::ParticipantId;

use super::{Chat, ChatMessage, Held, wire};
use crate::frame::frame_with;
use crate::input::ConnectionId;
use crate::limits::Limits;
use crate::output::Refusal;
use crate::peer::Seat;
use crate::room::{Outcome, RequestContext, Room, Turn};

/// Readings of a person that are not at their ends, and one search among them.
const AT_ONCE: usize = 4;
/// What looking at a message costs beside its text, in bytes of a slice; and looking for somebody
/// among those whom it is for.
const MESSAGE: usize = 128;

/// Which messages are wanted.
#[derive(Debug)]
pub(super) enum Wanted {
    All,
    /// Those that are pinned, or those that are not.
    Pinned(bool),
    /// The conversation with this person, if it is one: a private message that is read is for oneself.
    With(Option<ParticipantId>),
    /// Those with this text, which is in lower case.
    Text(String),
}

impl Wanted {
    fn takes(&self, held: &Held) -> bool {
        match self {
            Self::All => true,
            Self::Pinned(pinned) => held.message.pinned == *pinned,
            Self::With(with) => with.is_some_and(|with| held.message.names(with)),
            Self::Text(text) => held.folded().contains(text),
        }
    }

    /// What it costs to see whether a message is wanted, in bytes of a slice.
    fn cost(&self, held: &Held) -> usize {
        let private = usize::from(!held.message.targets.is_empty());
        let text = match self {
            Self::Text(_) => held.folded().len(),
            _ => 0,
        };
        MESSAGE * (1 + private) + text
    }
}

/// How the messages that were found are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As they were found.
    Found,
    /// The other way round.
    Reversed,
    /// As they were found, and whether there are more.
    Page,
}

/// A page of messages on one side of a time: so many with so many bytes at most. The very first is
/// always among them, so that whoever goes on behind the last one gets anywhere.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) at_ms: i64,
    /// Towards earlier messages.
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

/// A reading that is not at its end.
#[derive(Debug)]
pub(crate) struct Reading {
    seat: Seat,
    connection: ConnectionId,
    event: u32,
    id: Option<String>,
    wanted: Wanted,
    shape: Shape,
    /// What of it is left.
    page: Page,
    /// The time of the last message when it began.
    began_after_ms: i64,
    /// The times of those that were found: no two messages have the same.
    found: Vec<i64>,
    bytes: usize,
    /// There are more than fit into the page.
    more: bool,
}

impl Room {
    /// Reads messages and answers with them.
    pub(super) fn read_chat(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
        (wanted, shape): (Wanted, Shape),
        page: Page,
    ) -> Outcome {
        let peer = &self.peers[asked.seat];
        let user = peer.user();
        if !peer.is_inside() {
            // Those who wait read nothing, and need not wait for that.
            let frame = frame_with(asked.request.event, asked.request.id.as_deref(), 0, |_| {});
            turn.send(vec![asked.connection], frame);
            return Ok(());
        }
        let open = self.work.readings.iter();
        let theirs = open.filter(|reading| {
            let peer = self.peers.get(reading.seat);
            peer.is_some_and(|peer| peer.user() == user)
        });
        let searches = |wanted: &Wanted| matches!(wanted, Wanted::Text(_));
        let (mut count, mut full) = (0, false);
        for reading in theirs {
            count += 1;
            full |= count == AT_ONCE || (searches(&wanted) && searches(&reading.wanted));
        }
        if full {
            let message = "what this person reads of the chat goes on: wait for its answer";
            return Err(Refusal::new(429, message));
        }
        let reading = Reading {
            seat: asked.seat,
            connection: asked.connection,
            event: asked.request.event,
            id: asked.request.id.clone(),
            wanted,
            shape,
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
        self.go_on_reading(turn, reading);
        Ok(())
    }

    /// A slice of a reading; the rest of it later.
    pub(crate) fn go_on_reading(&mut self, turn: &mut Turn<'_>, mut reading: Reading) {
        // Whoever has gone, or has another socket, asks again.
        if self.peers.seat_at(reading.connection) != Some(reading.seat) {
            return;
        }
        let peer = &self.peers[reading.seat];
        // Whoever was put out meanwhile reads nothing.
        let (inside, user) = (peer.is_inside(), peer.user());
        let may = |message: &ChatMessage| inside && message.is_for(user);
        let (done, looked) = reading.slice(&self.chat, self.limits.search_bytes, may);
        self.steps.add(looked);
        if !done {
            self.work.readings.push_back(reading);
            self.work_soon(turn);
            return;
        }
        let found = reading
            .found
            .iter()
            .filter_map(|at_ms| self.chat.at(*at_ms));
        let mut found: Vec<&ChatMessage> = found.filter(|message| may(message)).collect();
        if reading.shape == Shape::Reversed {
            found.reverse();
            // The client puts the answer in the place of what it has, so what was said between the
            // slices must be in it.
            let newer = self.chat.after(reading.began_after_ms);
            found.extend(newer.filter(|message| may(message)));
        }
        let frame = reading.reply(&found);
        turn.send(vec![reading.connection], frame);
    }
}

impl Reading {
    /// Looks at messages that cost so many bytes. Whether it is at its end, and how much it looked at.
    fn slice(
        &mut self,
        chat: &Chat,
        budget: usize,
        may: impl Fn(&ChatMessage) -> bool,
    ) -> (bool, usize) {
        let (mut left, mut looked) = (Some(budget), 0);
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
        while let Some((place, held)) = at.and_then(|at| Some((at, chat.messages.get(at)?))) {
            let Some(after) = left else {
                return (false, looked);
            };
            let cost = self.wanted.cost(held);
            looked += 1 + cost / (2 * MESSAGE);
            if may(&held.message) && self.wanted.takes(held) && !self.take(&held.message) {
                self.more = true;
                break;
            }
            let at_ms = held.message.at_ms;
            (self.page.at_ms, at) = if before {
                (at_ms.saturating_sub(1), place.checked_sub(1))
            } else {
                (at_ms.saturating_add(1), Some(place + 1))
            };
            left = after.checked_sub(cost);
        }
        (true, looked)
    }

    /// Takes a message that was found; not when the page is full.
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

    /// The frame of `GetChatMessagesResponse` or `GetPaginatedChatMessageRoomResponse`, which begin
    /// alike.
    fn reply(&self, messages: &[&ChatMessage]) -> Bytes {
        let next = self.shape == Shape::Page && self.more;
        let more: &[u8] = if next { &[2 << 3, 1] } else { &[] };
        let length = wire::length(messages) + more.len();
        frame_with(self.event, self.id.as_deref(), length, |frame| {
            wire::write(messages, frame);
            frame.extend_from_slice(more);
        })
    }
}
