//! What was said, read again. A reply carries so many messages and so many bytes at most: one that is
//! too large for a socket's buffer would cut off whoever asks for it, each time anew.

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    self, GetChatMessagesResponse, GetPaginatedChatMessageRoomRequest,
    GetPaginatedChatMessageRoomResponse, SearchChatMessagesRequest,
};
use prost::Message;

use super::ChatMessage;
use crate::limits::Limits;
use crate::peer::Seat;
use crate::room::{Asked, Outcome, Room, Turn};

impl Room {
    /// `getMessages`: the latest, oldest first.
    pub(crate) fn chat_history(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let latest = self.readable(asked.seat).rev();
        let (mut messages, _) = fitting(latest, self.limits.chat_history, self.limits.reply_bytes);
        messages.reverse();
        asked.reply(turn, &GetChatMessagesResponse { messages });
        Ok(())
    }

    /// `getPaginatedMessages`: before a time, newest first, or after it, oldest first; the time
    /// itself is in both.
    pub(crate) fn chat_page(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: GetPaginatedChatMessageRoomRequest = asked.message()?;
        let filter = request.filters.and_then(|filters| filters.filters);
        let me = self.peers[asked.seat].user();
        let wanted = |message: &&ChatMessage| match &filter {
            None => true,
            Some(Filters::Pinned(pinned)) => message.pinned == *pinned,
            // The conversation with that person.
            Some(Filters::UserId(user)) => {
                let with = user.parse().ok();
                let target = |person: ParticipantId| message.targets.contains(&person);
                with.is_some_and(|with| target(with) && target(me))
            }
        };
        let page = Page::of(&self.limits, request.time_stamp, request.size, request.from);
        let (messages, next) = page.cut(self.readable(asked.seat).filter(wanted), request.reversed);
        asked.reply(
            turn,
            &GetPaginatedChatMessageRoomResponse { messages, next },
        );
        Ok(())
    }

    /// `searchChannelMessages`.
    pub(crate) fn search_chat(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: SearchChatMessagesRequest = asked.message()?;
        let term = request.search_term.to_lowercase();
        let page = Page::of(&self.limits, request.time_stamp, request.size, request.from);
        let found = self
            .readable(asked.seat)
            .filter(|message| message.payload.to_lowercase().contains(&term));
        let (messages, _) = page.cut(found, request.reversed);
        asked.reply(turn, &GetChatMessagesResponse { messages });
        Ok(())
    }

    /// The messages that a peer may read. Nothing while it waits.
    fn readable(&self, seat: Seat) -> impl DoubleEndedIterator<Item = &ChatMessage> {
        let peer = &self.peers[seat];
        let (inside, user) = (peer.is_inside(), peer.user());
        let messages = self.chat.messages.iter();
        messages.filter(move |message| inside && message.is_for(user))
    }
}

/// The first of these messages, at most so many with so many bytes, and whether there are more. The
/// very first is always among them, so that whoever goes on behind the last one gets anywhere.
fn fitting<'m>(
    messages: impl Iterator<Item = &'m ChatMessage>,
    most: usize,
    bytes: usize,
) -> (Vec<chat::ChatMessage>, bool) {
    let (mut fit, mut taken) = (Vec::new(), 0);
    for message in messages {
        let message = message.wire();
        taken += message.encoded_len();
        if fit.len() == most || (taken > bytes && !fit.is_empty()) {
            return (fit, true);
        }
        fit.push(message);
    }
    (fit, false)
}

/// A page of messages on one side of a time.
struct Page {
    at_ms: i64,
    skip: usize,
    size: usize,
    bytes: usize,
}

impl Page {
    fn of(limits: &Limits, at_ms: u64, size: i32, from: i32) -> Self {
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
    ) -> (Vec<chat::ChatMessage>, bool) {
        if before {
            let earlier = messages.rev().filter(|message| message.at_ms <= self.at_ms);
            fitting(earlier.skip(self.skip), self.size, self.bytes)
        } else {
            let later = messages.filter(|message| message.at_ms >= self.at_ms);
            fitting(later.skip(self.skip), self.size, self.bytes)
        }
    }
}
