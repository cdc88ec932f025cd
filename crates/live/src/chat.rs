//! Chat (contract: signalling, section 6.6).

use std::collections::{BTreeSet, VecDeque};

use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::get_paginated_chat_message_filters::Filters;
use parlor_protocol::signal::socket::chat::{
    self, DeleteChatMessageRequest, DeleteChatMessageResponse, EditChatMessageRequest,
    EditChatMessageResponse, GetChatMessagesResponse, GetPaginatedChatMessageRoomRequest,
    GetPaginatedChatMessageRoomResponse, PinChatMessageRequest, PinChatMessageResponse,
    SearchChatMessagesRequest, SendChatMessageToPeersRequest, SendChatMessageToPeersResponse,
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use serde_json::Value;
use uuid::Uuid;

use crate::input::ConnectionId;
use crate::limits::Limits;
use crate::output::{Record, Refusal};
use crate::peer::{Peer, Seat, sees};
use crate::room::{Asked, Outcome, Room, Turn};

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

    fn is_for(&self, person: ParticipantId) -> bool {
        self.targets.is_empty() || self.targets.contains(&person)
    }
}

/// The messages that a room holds, oldest first. No two have the same time, so that a page which
/// ends at a time ends at a message.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    messages: VecDeque<ChatMessage>,
    bytes: usize,
    held: usize,
    held_bytes: usize,
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
        self.bytes += message.payload.len();
        self.messages.push_back(message);
        self.make_room();
    }

    /// The oldest go; they stay in the records.
    fn make_room(&mut self) {
        while self.messages.len() > self.held || self.bytes > self.held_bytes {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= oldest.payload.len();
        }
    }

    fn remove(&mut self, at: usize) -> Option<ChatMessage> {
        let message = self.messages.remove(at)?;
        self.bytes -= message.payload.len();
        Some(message)
    }

    fn next_time(&self, now_ms: i64) -> i64 {
        let last = self.messages.back().map(|message| message.at_ms + 1);
        last.unwrap_or(now_ms).max(now_ms)
    }

    fn position(&self, id: &str) -> Result<usize, Refusal> {
        let id = id.parse::<Uuid>().ok();
        let found = self
            .messages
            .iter()
            .rposition(|message| Some(message.id) == id);
        found.ok_or_else(|| Refusal::new(404, "there is no such message"))
    }
}

impl Room {
    /// `getMessages`: the latest, oldest first.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "handlers of the event table have one shape"
    )]
    pub(crate) fn chat_history(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let mut messages: Vec<_> = self
            .readable(asked.seat)
            .rev()
            .take(self.limits.chat_history)
            .map(ChatMessage::wire)
            .collect();
        messages.reverse();
        asked.reply(turn, &GetChatMessagesResponse { messages });
        Ok(())
    }

    /// `sendMessageToRoom`.
    pub(crate) fn say_to_all(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: SendChatMessageToRoomRequest = asked.request.message()?;
        let kind = self.checked(asked, request.payload_type, &request.payload)?;
        let may = &self.peers[asked.seat].permissions.chat.public;
        must_be_allowed(
            "chat.public",
            (may.can_send, may.text, may.files),
            kind,
            &request.payload,
        )?;
        self.within_rate(turn, asked.seat, kind)?;
        let message = self.say(turn, asked.seat, kind, request.payload, Vec::new());
        self.push_message(turn, asked, &message);
        Ok(())
    }

    /// `sendMessageToPeers`: to every client of the people behind these peers, and of the sender.
    pub(crate) fn say_to_some(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: SendChatMessageToPeersRequest = asked.request.message()?;
        let kind = self.checked(asked, request.payload_type, &request.payload)?;
        let me = &self.peers[asked.seat];
        let may = &me.permissions.chat.private;
        must_be_allowed(
            "chat.private",
            (may.can_send, may.text, may.files),
            kind,
            &request.payload,
        )?;
        let named = request
            .peer_ids
            .iter()
            .filter_map(|peer| self.peers.seat_named(peer));
        let named = named
            .map(|seat| &self.peers[seat])
            .filter(|peer| sees(me, peer));
        let receiving = named.filter(|peer| peer.permissions.chat.private.can_receive);
        let mut targets: BTreeSet<ParticipantId> = receiving.map(Peer::user).collect();
        targets.remove(&me.user());
        if targets.is_empty() {
            return Err(Refusal::new(404, "nobody here can receive this message"));
        }
        targets.insert(me.user());
        self.within_rate(turn, asked.seat, kind)?;
        let targets = targets.into_iter().collect();
        let message = self.say(turn, asked.seat, kind, request.payload, targets);
        self.push_message(turn, asked, &message);
        Ok(())
    }

    /// `editMessage`: by its author.
    pub(crate) fn edit_message(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: EditChatMessageRequest = asked.request.message()?;
        let at = self.own_message(asked.seat, &request.chat_id)?;
        let old = &self.chat.messages[at];
        let kind = request.payload_type.unwrap_or_else(|| old.kind.number());
        let payload = request.payload.unwrap_or_else(|| old.payload.clone());
        let private = !old.targets.is_empty();
        let kind = self.checked(asked, kind, &payload)?;
        let may = &self.peers[asked.seat].permissions.chat;
        if private {
            let may = &may.private;
            must_be_allowed(
                "chat.private",
                (may.can_send, may.text, may.files),
                kind,
                &payload,
            )?;
        } else {
            let may = &may.public;
            must_be_allowed(
                "chat.public",
                (may.can_send, may.text, may.files),
                kind,
                &payload,
            )?;
        }
        self.within_rate(turn, asked.seat, kind)?;
        let message = &mut self.chat.messages[at];
        let grown = (payload.len(), message.payload.len());
        (message.kind, message.payload, message.edited) = (kind, payload, true);
        message.pinned = request.pinned.unwrap_or(message.pinned);
        let message = message.clone();
        self.chat.bytes = self.chat.bytes + grown.0 - grown.1;
        self.chat.make_room();
        turn.keep(Record::Chat(message.clone()));
        let edited = EditChatMessageResponse {
            message: Some(message.wire()),
        };
        turn.push(self.readers(&message, asked), event::EDIT_MESSAGE, &edited);
        asked.reply(turn, &edited);
        Ok(())
    }

    /// `deleteMessage`: by its author.
    pub(crate) fn delete_message(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: DeleteChatMessageRequest = asked.request.message()?;
        let at = self.own_message(asked.seat, &request.chat_id)?;
        let Some(message) = self.chat.remove(at) else {
            return Ok(());
        };
        turn.keep(Record::ChatDeleted(message.id));
        let deleted = DeleteChatMessageResponse {
            chat_id: message.id.to_string(),
            channel_id: None,
        };
        turn.push(
            self.readers(&message, asked),
            event::DELETE_MESSAGE,
            &deleted,
        );
        asked.reply(turn, &deleted);
        Ok(())
    }

    /// `pinMessage`: by anybody who could have said it there.
    pub(crate) fn pin_message(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: PinChatMessageRequest = asked.request.message()?;
        let me = self.inside(asked.seat)?;
        let (user, may) = (me.user(), me.permissions.chat.clone());
        let at = self.chat.position(&request.chat_id)?;
        let message = &mut self.chat.messages[at];
        if !message.is_for(user) {
            return Err(Refusal::new(404, "there is no such message"));
        }
        let (may, permission) = if message.targets.is_empty() {
            (may.public.can_send, "chat.public.can_send")
        } else {
            (may.private.can_send, "chat.private.can_send")
        };
        if !may {
            return Err(Refusal::forbidden(permission));
        }
        message.pinned = request.pinned;
        let message = message.clone();
        turn.keep(Record::Chat(message.clone()));
        let pinned = PinChatMessageResponse {
            chat_id: message.id.to_string(),
            pinned: message.pinned,
            channel_id: None,
            message: Some(message.wire()),
        };
        turn.push(self.readers(&message, asked), event::PIN_MESSAGE, &pinned);
        asked.reply(turn, &pinned);
        Ok(())
    }

    /// `getPaginatedMessages`: before a time, newest first, or after it, oldest first; the time
    /// itself is in both.
    pub(crate) fn chat_page(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: GetPaginatedChatMessageRoomRequest = asked.request.message()?;
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
        let request: SearchChatMessagesRequest = asked.request.message()?;
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

    /// The sockets of those who may read a message, but the one that asked.
    fn readers(&self, message: &ChatMessage, asked: &Asked<'_>) -> Vec<ConnectionId> {
        let mut to = self
            .peers
            .sockets(|peer| peer.is_inside() && message.is_for(peer.user()));
        to.retain(|socket| *socket != asked.connection);
        to
    }

    /// The sender gets its own copy like everybody else, once, with the request's id.
    fn push_message(&self, turn: &mut Turn<'_>, asked: &Asked<'_>, message: &ChatMessage) {
        let others = self.readers(message, asked);
        let wire = Some(message.wire());
        if message.targets.is_empty() {
            let said = SendChatMessageToRoomResponse { message: wire };
            turn.push(others, event::SEND_MESSAGE_TO_ROOM, &said);
            asked.reply(turn, &said);
        } else {
            let said = SendChatMessageToPeersResponse { message: wire };
            turn.push(others, event::SEND_MESSAGE_TO_PEERS, &said);
            asked.reply(turn, &said);
        }
    }

    fn say(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        kind: PayloadType,
        payload: String,
        targets: Vec<ParticipantId>,
    ) -> ChatMessage {
        let peer = &self.peers[seat];
        let message = ChatMessage {
            id: turn.id(),
            session: self.session_id(),
            peer: peer.id(),
            participant: peer.user(),
            name: peer.name.clone(),
            kind,
            payload,
            pinned: false,
            edited: false,
            targets,
            at_ms: self.chat.next_time(turn.now_ms),
        };
        self.chat.add(message.clone());
        turn.keep(Record::Chat(message.clone()));
        message
    }

    /// The peer, if it has joined.
    pub(crate) fn inside(&self, seat: Seat) -> Result<&Peer, Refusal> {
        let peer = &self.peers[seat];
        if peer.is_inside() {
            Ok(peer)
        } else {
            Err(Refusal::new(403, "join the meeting first"))
        }
    }

    fn own_message(&self, seat: Seat, id: &str) -> Result<usize, Refusal> {
        let me = self.inside(seat)?.user();
        let at = self.chat.position(id)?;
        let message = &self.chat.messages[at];
        if message.participant == me {
            Ok(at)
        } else if message.is_for(me) {
            Err(Refusal::new(403, "this is somebody else's message"))
        } else {
            Err(Refusal::new(404, "there is no such message"))
        }
    }

    /// The payload's type, if the payload is one: clients fail on what is not.
    fn checked(&self, asked: &Asked<'_>, kind: i32, payload: &str) -> Result<PayloadType, Refusal> {
        self.inside(asked.seat)?;
        let kind = PayloadType::from_number(kind)
            .ok_or_else(|| Refusal::new(400, "there is no such payload_type"))?;
        let longest = self.limits.chat_text;
        if payload.len() > self.limits.chat_bytes
            || (kind == PayloadType::Text && payload.chars().count() > longest)
        {
            let message = format!("a message has at most {longest} characters");
            return Err(Refusal::new(413, message));
        }
        let json = || serde_json::from_str::<Value>(payload).unwrap_or_default();
        let good = match kind {
            // PostgreSQL does not take U+0000.
            PayloadType::Text => !payload.is_empty() && !payload.contains('\0'),
            PayloadType::Image => is_link(payload),
            PayloadType::File => json()["link"].as_str().is_some_and(is_link),
            PayloadType::Custom => json().is_object(),
        };
        if good {
            Ok(kind)
        } else {
            Err(Refusal::new(
                400,
                "the payload does not fit its payload_type",
            ))
        }
    }

    fn within_rate(&mut self, turn: &Turn<'_>, seat: Seat, kind: PayloadType) -> Outcome {
        let (all, files) = (self.limits.chat, self.limits.chat_files);
        let left = &mut self.peers[seat].left;
        let carries_file = matches!(kind, PayloadType::Image | PayloadType::File);
        if (!carries_file || left.chat_files.take(files, turn.now_ms))
            && left.chat.take(all, turn.now_ms)
        {
            Ok(())
        } else {
            Err(Refusal::new(429, "too many messages: slow down"))
        }
    }
}

/// A link that a browser may be shown: nothing that would run in the page.
fn is_link(text: &str) -> bool {
    let web = text.starts_with("https://") || text.starts_with("http://");
    web && !text.contains(|character: char| character.is_control() || character == ' ')
}

/// What a kind of message needs: to send at all, and text or files. A message of the app's own may
/// carry both.
fn must_be_allowed(
    permission: &str,
    (send, text, files): (bool, bool, bool),
    kind: PayloadType,
    payload: &str,
) -> Outcome {
    let (has_text, has_files) = match kind {
        PayloadType::Text => (true, false),
        PayloadType::Image | PayloadType::File => (false, true),
        PayloadType::Custom => {
            let json = serde_json::from_str::<Value>(payload).unwrap_or_default();
            let some = |key: &str| json[key].as_array().is_some_and(|list| !list.is_empty());
            let files = some("images") || some("videos") || some("files");
            let text = ["message", "html"].iter().any(|key| json[*key].is_string());
            (text || !files, files)
        }
    };
    if !send {
        Err(Refusal::forbidden(&format!("{permission}.can_send")))
    } else if has_text && !text {
        Err(Refusal::forbidden(&format!("{permission}.text")))
    } else if has_files && !files {
        Err(Refusal::forbidden(&format!("{permission}.files")))
    } else {
        Ok(())
    }
}

/// A page of messages on one side of a time.
struct Page {
    at_ms: i64,
    skip: usize,
    size: usize,
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
        }
    }

    /// The page, and whether there is more behind it.
    fn cut<'m>(
        &self,
        messages: impl DoubleEndedIterator<Item = &'m ChatMessage>,
        before: bool,
    ) -> (Vec<chat::ChatMessage>, bool) {
        let mut page: Vec<_> = if before {
            let earlier = messages.rev().filter(|message| message.at_ms <= self.at_ms);
            earlier
                .skip(self.skip)
                .take(self.size + 1)
                .map(ChatMessage::wire)
                .collect()
        } else {
            let later = messages.filter(|message| message.at_ms >= self.at_ms);
            later
                .skip(self.skip)
                .take(self.size + 1)
                .map(ChatMessage::wire)
                .collect()
        };
        let next = page.len() > self.size;
        page.truncate(self.size);
        (page, next)
    }
}
