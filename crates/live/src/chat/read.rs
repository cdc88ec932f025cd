//! What was said, read again. A reply carries so many messages and so many bytes at most: one that is
//! too large for a socket's buffer would cut off whoever asks for it, each time anew.

use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    GetPaginatedChatMessageRoomRequest, SearchChatMessagesRequest,
};

use super::reading::{Page, Shape, Wanted};
use crate::room::{Outcome, RequestContext, Room, Turn};

impl Room {
    /// `getMessages`: the latest, oldest first.
    pub(crate) fn chat_history(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let latest = Page {
            at_ms: i64::MAX,
            before: true,
            skip: 0,
            size: self.limits.chat_history,
            bytes: self.limits.reply_bytes,
        };
        self.read_chat(turn, asked, (Wanted::All, Shape::Reversed), latest)
    }

    /// `getPaginatedMessages`: before a time, newest first, or after it, oldest first; the time
    /// itself is in both.
    pub(crate) fn chat_page(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let request: GetPaginatedChatMessageRoomRequest = asked.message()?;
        let (at_ms, before) = (request.time_stamp, request.reversed);
        let page = Page::of(&self.limits, at_ms, before, request.size, request.from);
        let wanted = match request.filters.and_then(|filters| filters.filters) {
            None => Wanted::All,
            Some(Filters::Pinned(pinned)) => Wanted::Pinned(pinned),
            Some(Filters::UserId(user)) => Wanted::With(user.parse().ok()),
        };
        self.read_chat(turn, asked, (wanted, Shape::Page), page)
    }

    /// `searchChannelMessages`.
    pub(crate) fn search_chat(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: SearchChatMessagesRequest = asked.message()?;
        let (at_ms, before) = (request.time_stamp, request.reversed);
        let page = Page::of(&self.limits, at_ms, before, request.size, request.from);
        let wanted = Wanted::Text(request.search_term.to_lowercase());
        self.read_chat(turn, asked, (wanted, Shape::Found), page)
    }
}
