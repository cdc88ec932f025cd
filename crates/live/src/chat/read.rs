//! Requests that read the chat. Replies are bounded in messages and bytes: a reply larger than a
//! socket's buffer would disconnect the client each time it asks.

use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    GetPaginatedChatMessageRoomRequest, SearchChatMessagesRequest,
};

use super::pending_read::{Filter, Page, ReplyFormat};
use crate::room::{Outcome, RequestContext, Room, Step};

impl Room {
    /// `getMessages`: the latest messages, oldest first.
    pub(crate) fn chat_history(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let latest = Page {
            at_ms: i64::MAX,
            before: true,
            skip: 0,
            size: self.limits.chat_history,
            bytes: self.limits.reply_bytes,
        };
        self.read_chat(step, ctx, (Filter::All, ReplyFormat::Reversed), latest)
    }

    /// `getPaginatedMessages`: messages before a time, newest first, or after it, oldest first.
    /// Both include the time itself.
    pub(crate) fn chat_page(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: GetPaginatedChatMessageRoomRequest = ctx.message()?;
        let (at_ms, before) = (request.time_stamp, request.reversed);
        let page = Page::of(&self.limits, at_ms, before, request.size, request.from);
        let filter = match request.filters.and_then(|filters| filters.filters) {
            None => Filter::All,
            Some(Filters::Pinned(pinned)) => Filter::Pinned(pinned),
            Some(Filters::UserId(user)) => Filter::ConversationWith(user.parse().ok()),
        };
        self.read_chat(step, ctx, (filter, ReplyFormat::Page), page)
    }

    /// `searchChannelMessages`.
    pub(crate) fn search_chat(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: SearchChatMessagesRequest = ctx.message()?;
        let (at_ms, before) = (request.time_stamp, request.reversed);
        let page = Page::of(&self.limits, at_ms, before, request.size, request.from);
        let filter = Filter::Text(request.search_term.to_lowercase());
        self.read_chat(step, ctx, (filter, ReplyFormat::InOrder), page)
    }
}
