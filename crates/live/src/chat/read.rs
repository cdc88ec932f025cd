//! What was said, read again. A reply carries so many messages and so many bytes at most: one that is
//! too large for a socket's buffer would cut off whoever asks for it, each time anew.

use bytes::Bytes;
use parlor_protocol::ids::ParticipantId;
use parlor_protocol::signal::socket::chat::GetPaginatedChatMessageRoomRequest;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;

use super::{ChatMessage, wire};
use crate::frame::frame_with;
use crate::limits::Limits;
use crate::peer::Seat;
use crate::room::{Asked, Outcome, Room, Turn};

impl Room {
    /// `getMessages`: the latest, oldest first.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "handlers of the event table have one shape"
    )]
    pub(crate) fn chat_history(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let latest = self.readable(asked.seat).rev();
        let (mut messages, _) = fitting(latest, self.limits.chat_history, self.limits.reply_bytes);
        messages.reverse();
        reply(turn, asked, &messages, false);
        Ok(())
    }

    /// `getPaginatedMessages`: before a time, newest first, or after it, oldest first; the time
    /// itself is in both.
    pub(crate) fn chat_page(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: GetPaginatedChatMessageRoomRequest = asked.message()?;
        let filter = request.filters.and_then(|filters| filters.filters);
        let me = self.peers[asked.seat].user();
        let with: Option<ParticipantId> = match &filter {
            Some(Filters::UserId(user)) => user.parse().ok(),
            _ => None,
        };
        let wanted = |message: &&ChatMessage| match &filter {
            None => true,
            Some(Filters::Pinned(pinned)) => message.pinned == *pinned,
            // The conversation with that person.
            Some(Filters::UserId(_)) => {
                with.is_some_and(|with| message.names(with) && message.names(me))
            }
        };
        let page = Page::of(&self.limits, request.time_stamp, request.size, request.from);
        let (messages, next) = page.cut(self.readable(asked.seat).filter(wanted), request.reversed);
        reply(turn, asked, &messages, next);
        Ok(())
    }

    /// The messages that a peer may read. Nothing while it waits.
    fn readable(&self, seat: Seat) -> impl DoubleEndedIterator<Item = &ChatMessage> {
        let peer = &self.peers[seat];
        let (inside, user) = (peer.is_inside(), peer.user());
        self.steps.add(self.chat.messages.len());
        let messages = self.chat.messages.iter().map(|held| &held.message);
        messages.filter(move |message| inside && message.is_for(user))
    }
}

/// Answers with messages, and whether there are more.
fn reply(turn: &mut Turn<'_>, asked: &Asked<'_>, messages: &[&ChatMessage], next: bool) {
    let (event, id) = (asked.request.event, asked.request.id.as_deref());
    turn.send(
        vec![asked.connection],
        reply_frame(event, id, messages, next),
    );
}

/// The frame of `GetChatMessagesResponse` or `GetPaginatedChatMessageRoomResponse`, which begin alike.
pub(super) fn reply_frame(
    event: u32,
    id: Option<&str>,
    messages: &[&ChatMessage],
    next: bool,
) -> Bytes {
    let more: &[u8] = if next { &[2 << 3, 1] } else { &[] };
    frame_with(event, id, wire::length(messages) + more.len(), |frame| {
        wire::write(messages, frame);
        frame.extend_from_slice(more);
    })
}

/// The first of these messages, at most so many with so many bytes, and whether there are more. The
/// very first is always among them, so that whoever goes on behind the last one gets anywhere.
fn fitting<'m>(
    messages: impl Iterator<Item = &'m ChatMessage>,
    most: usize,
    bytes: usize,
) -> (Vec<&'m ChatMessage>, bool) {
    let (mut fit, mut taken) = (Vec::new(), 0);
    for message in messages {
        taken += message.wire_len();
        if fit.len() == most || (taken > bytes && !fit.is_empty()) {
            return (fit, true);
        }
        fit.push(message);
    }
    (fit, false)
}

/// A page of messages on one side of a time.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) at_ms: i64,
    pub(super) skip: usize,
    pub(super) size: usize,
    pub(super) bytes: usize,
}

impl Page {
    pub(super) fn of(limits: &Limits, at_ms: u64, size: i32, from: i32) -> Self {
        let size = usize::try_from(size).unwrap_or_default();
        Self {
            at_ms: i64::try_from(at_ms).unwrap_or(i64::MAX),
            skip: usize::try_from(from).unwrap_or_default(),
            size: if size == 0 {
                limits.chat_page
            } else {
                size.min(limits.chat_page)
            },
            bytes: limits.reply_bytes,
        }
    }

    /// The page, and whether there is more behind it.
    fn cut<'m>(
        &self,
        messages: impl DoubleEndedIterator<Item = &'m ChatMessage>,
        before: bool,
    ) -> (Vec<&'m ChatMessage>, bool) {
        if before {
            let earlier = messages.rev().filter(|message| message.at_ms <= self.at_ms);
            fitting(earlier.skip(self.skip), self.size, self.bytes)
        } else {
            let later = messages.filter(|message| message.at_ms >= self.at_ms);
            fitting(later.skip(self.skip), self.size, self.bytes)
        }
    }
}
