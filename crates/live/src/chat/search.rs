//! Searching the chat. A search may have to look at every message: it is done in slices, between
//! which others are served.

use parlor_protocol::signal::socket::chat::SearchChatMessagesRequest;

use super::read::{Page, reply_frame};
use super::{Chat, ChatMessage};
use crate::input::ConnectionId;
use crate::output::Refusal;
use crate::peer::Seat;
use crate::room::{Asked, Outcome, Room, Turn};

/// A search that is not at its end.
#[derive(Debug)]
pub(crate) struct Search {
    seat: Seat,
    connection: ConnectionId,
    event: u32,
    id: Option<String>,
    term: String,
    page: Page,
    /// Towards earlier messages.
    before: bool,
    /// The times of those that were found: no two messages have the same.
    found: Vec<i64>,
    bytes: usize,
}

impl Room {
    /// `searchChannelMessages`.
    pub(crate) fn search_chat(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: SearchChatMessagesRequest = asked.message()?;
        let user = self.peers[asked.seat].user();
        let mut open = self.work.searches.iter();
        if open.any(|search| {
            self.peers
                .get(search.seat)
                .is_some_and(|it| it.user() == user)
        }) {
            let message = "a search of this person goes on: wait for its answer";
            return Err(Refusal::new(429, message));
        }
        let page = Page::of(&self.limits, request.time_stamp, request.size, request.from);
        self.go_on_searching(
            turn,
            Search {
                seat: asked.seat,
                connection: asked.connection,
                event: asked.request.event,
                id: asked.request.id.clone(),
                term: request.search_term.to_lowercase(),
                page,
                before: request.reversed,
                found: Vec::new(),
                bytes: 0,
            },
        );
        Ok(())
    }

    /// A slice of a search; the rest of it later.
    pub(crate) fn go_on_searching(&mut self, turn: &mut Turn<'_>, mut search: Search) {
        // Whoever has gone, or has another socket, asks again.
        if self.peers.seat_at(search.connection) != Some(search.seat) {
            return;
        }
        let peer = &self.peers[search.seat];
        let (inside, user) = (peer.is_inside(), peer.user());
        let may = |message: &ChatMessage| inside && message.is_for(user);
        let (done, looked) = search.slice(&self.chat, self.limits.search_bytes, may);
        self.steps.add(looked);
        if !done {
            self.work.searches.push_back(search);
            self.work_soon(turn);
            return;
        }
        let found = search.found.iter().filter_map(|at_ms| self.chat.at(*at_ms));
        let found: Vec<&ChatMessage> = found.filter(|message| may(message)).collect();
        let frame = reply_frame(search.event, search.id.as_deref(), &found, false);
        turn.send(vec![search.connection], frame);
    }
}

impl Search {
    /// Looks at messages with so many bytes. Whether it is at its end, and how much it looked at.
    fn slice(
        &mut self,
        chat: &Chat,
        budget: usize,
        may: impl Fn(&ChatMessage) -> bool,
    ) -> (bool, usize) {
        let (mut left, mut looked) = (budget, 0);
        loop {
            let at = if self.before {
                let behind = chat
                    .messages
                    .partition_point(|held| held.message.at_ms <= self.page.at_ms);
                behind.checked_sub(1)
            } else {
                Some(
                    chat.messages
                        .partition_point(|held| held.message.at_ms < self.page.at_ms),
                )
            };
            let Some(held) = at.and_then(|at| chat.messages.get(at)) else {
                return (true, looked);
            };
            looked += 1 + held.folded().len() / 64;
            if may(&held.message) && held.folded().contains(&self.term) && !self.take(&held.message)
            {
                return (true, looked);
            }
            let at_ms = held.message.at_ms;
            self.page.at_ms = if self.before {
                at_ms.saturating_sub(1)
            } else {
                at_ms.saturating_add(1)
            };
            left = match left.checked_sub(held.folded().len() + 128) {
                Some(left) => left,
                None => return (false, looked),
            };
        }
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
}
