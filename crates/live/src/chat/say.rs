//! What is said, changed and taken back.

use std::collections::BTreeSet;

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, DeleteChatMessageResponse, EditChatMessageRequest,
    EditChatMessageResponse, PinChatMessageRequest, PinChatMessageResponse,
    SendChatMessageToPeersRequest, SendChatMessageToPeersResponse, SendChatMessageToRoomRequest,
    SendChatMessageToRoomResponse,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ChatMessage, PayloadType};
use crate::output::{Record, Refusal};
use crate::peer::{Peer, Seat, sees};
use crate::room::{Outcome, RequestContext, Room, Turn};

impl Room {
    /// `sendMessageToRoom`.
    pub(crate) fn say_to_all(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let chat = &self.inside(asked.seat)?.permissions.chat;
        if !chat.public.can_send {
            return Err(Refusal::forbidden("chat.public.can_send"));
        }
        let request: SendChatMessageToRoomRequest = asked.message()?;
        let kind = self.checked(asked, request.payload_type, &request.payload)?;
        self.may_say(asked.seat, false, kind, &request.payload)?;
        self.within_file_rate(turn, asked.seat, kind)?;
        let message = self.say(turn, asked.seat, kind, request.payload, Vec::new())?;
        self.push_message(turn, asked, &message);
        Ok(())
    }

    /// `sendMessageToPeers`: to every client of the people behind these peers, and of the sender.
    pub(crate) fn say_to_some(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let chat = &self.inside(asked.seat)?.permissions.chat;
        if !chat.private.can_send {
            return Err(Refusal::forbidden("chat.private.can_send"));
        }
        let request: SendChatMessageToPeersRequest = asked.message()?;
        let kind = self.checked(asked, request.payload_type, &request.payload)?;
        self.may_say(asked.seat, true, kind, &request.payload)?;
        self.within_file_rate(turn, asked.seat, kind)?;
        let me = &self.peers[asked.seat];
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
        let targets = targets.into_iter().collect();
        let message = self.say(turn, asked.seat, kind, request.payload, targets)?;
        self.push_message(turn, asked, &message);
        Ok(())
    }

    /// `editMessage`: by its author.
    pub(crate) fn edit_message(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.inside(asked.seat)?;
        let request: EditChatMessageRequest = asked.message()?;
        let at = self.own_message(asked.seat, &request.chat_id)?;
        let old = self.chat.get(at);
        let kind = request.payload_type.unwrap_or_else(|| old.kind.number());
        let payload = request.payload.unwrap_or_else(|| old.payload.clone());
        let private = !old.targets.is_empty();
        let kind = self.checked(asked, kind, &payload)?;
        self.may_say(asked.seat, private, kind, &payload)?;
        self.within_file_rate(turn, asked.seat, kind)?;
        let old = self.chat.get(at);
        let before = old.stored_bytes();
        let after = before - count(&old.payload) + count(&payload);
        self.store(asked.seat, before, after)?;
        let message = self.chat.change(at, |message| {
            (message.kind, message.payload, message.edited) = (kind, payload, true);
            message.pinned = request.pinned.unwrap_or(message.pinned);
        });
        turn.keep(Record::Chat(message.clone()));
        let edited = EditChatMessageResponse {
            message: Some(message.wire()),
        };
        asked.tell(turn, self.readers(&message, asked), &edited);
        Ok(())
    }

    /// `deleteMessage`: by its author.
    pub(crate) fn delete_message(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: DeleteChatMessageRequest = asked.message()?;
        let at = self.own_message(asked.seat, &request.chat_id)?;
        let Some(message) = self.chat.remove(at) else {
            return Ok(());
        };
        self.store(asked.seat, message.stored_bytes(), 0)?;
        turn.keep(Record::ChatDeleted(message.id));
        let deleted = DeleteChatMessageResponse {
            chat_id: message.id.to_string(),
            channel_id: None,
        };
        asked.tell(turn, self.readers(&message, asked), &deleted);
        Ok(())
    }

    /// `pinMessage`: by anybody who could have said it there.
    pub(crate) fn pin_message(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let request: PinChatMessageRequest = asked.message()?;
        let me = self.inside(asked.seat)?;
        let (user, may) = (me.user(), me.permissions.chat.clone());
        let at = self.chat.position(&request.chat_id)?;
        let message = self.chat.get(at);
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
        let message = self
            .chat
            .change(at, |message| message.pinned = request.pinned);
        turn.keep(Record::Chat(message.clone()));
        let pinned = PinChatMessageResponse {
            chat_id: message.id.to_string(),
            pinned: message.pinned,
            channel_id: None,
            message: Some(message.wire()),
        };
        asked.tell(turn, self.readers(&message, asked), &pinned);
        Ok(())
    }

    /// The sender gets its own copy like everybody else, once, with the request's id.
    fn push_message(&self, turn: &mut Turn<'_>, asked: &RequestContext<'_>, message: &ChatMessage) {
        let others = self.readers(message, asked);
        let wire = Some(message.wire());
        if message.targets.is_empty() {
            asked.tell(
                turn,
                others,
                &SendChatMessageToRoomResponse { message: wire },
            );
        } else {
            asked.tell(
                turn,
                others,
                &SendChatMessageToPeersResponse { message: wire },
            );
        }
    }

    fn say(
        &mut self,
        turn: &mut Turn<'_>,
        seat: Seat,
        kind: PayloadType,
        payload: String,
        targets: Vec<ParticipantId>,
    ) -> Result<ChatMessage, Refusal> {
        let at_ms = self.chat.next_time(turn.now_ms);
        turn.not_before(at_ms);
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
            at_ms,
        };
        self.store(seat, 0, message.stored_bytes())?;
        self.chat.add(message.clone());
        turn.keep(Record::Chat(message.clone()));
        Ok(message)
    }

    fn own_message(&self, seat: Seat, id: &str) -> Result<usize, Refusal> {
        let me = self.inside(seat)?.user();
        let at = self.chat.position(id)?;
        let message = self.chat.get(at);
        if message.participant == me {
            Ok(at)
        } else if message.is_for(me) {
            Err(Refusal::new(403, "this is somebody else's message"))
        } else {
            Err(Refusal::new(404, "there is no such message"))
        }
    }

    /// The payload's type, if the payload is one: clients fail on what is not.
    fn checked(
        &self,
        asked: &RequestContext<'_>,
        kind: i32,
        payload: &str,
    ) -> Result<PayloadType, Refusal> {
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
        let good = match kind {
            // PostgreSQL does not take U+0000.
            PayloadType::Text => !payload.is_empty() && !payload.contains('\0'),
            PayloadType::Image => is_link(payload),
            PayloadType::File => object::<File>(payload).is_some_and(|it| is_link(&it.link)),
            PayloadType::Custom => object::<Custom<'_>>(payload).is_some(),
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

    /// Whether a peer may say this, to everybody or in private.
    fn may_say(&self, seat: Seat, private: bool, kind: PayloadType, payload: &str) -> Outcome {
        let chat = &self.peers[seat].permissions.chat;
        let (permission, may) = if private {
            let may = &chat.private;
            ("chat.private", (may.can_send, may.text, may.files))
        } else {
            let may = &chat.public;
            ("chat.public", (may.can_send, may.text, may.files))
        };
        must_be_allowed(permission, may, kind, payload)
    }

    /// Messages with files have a rate of their own, besides that of all messages.
    fn within_file_rate(&mut self, turn: &Turn<'_>, seat: Seat, kind: PayloadType) -> Outcome {
        if !matches!(kind, PayloadType::Image | PayloadType::File) {
            return Ok(());
        }
        let rate = self.limits.chat_files;
        let left = &mut self.peers.left(seat).chat_files;
        left.spend(rate, turn.monotonic, "too many messages: slow down")
    }
}

/// Bytes of a text.
fn count(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// What a file's message must say.
#[derive(Deserialize)]
struct File {
    link: String,
}

/// What a message of the app's own may carry. Nothing of it is taken apart: it may be large.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Custom<'p> {
    #[serde(borrow)]
    images: Option<&'p RawValue>,
    #[serde(borrow)]
    videos: Option<&'p RawValue>,
    #[serde(borrow)]
    files: Option<&'p RawValue>,
    #[serde(borrow)]
    message: Option<&'p RawValue>,
    #[serde(borrow)]
    html: Option<&'p RawValue>,
}

/// A JSON object, read into these parts of it.
fn object<'p, T: Deserialize<'p>>(payload: &'p str) -> Option<T> {
    let parts = payload.trim_start().starts_with('{');
    let parts = parts.then(|| serde_json::from_str(payload).ok());
    parts.flatten()
}

/// A JSON list that is not empty.
fn has_items(list: &RawValue) -> bool {
    let items = list.get().strip_prefix('[');
    items.is_some_and(|items| !items.trim_start().starts_with(']'))
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
            let parts = object::<Custom<'_>>(payload).unwrap_or_default();
            let files = [parts.images, parts.videos, parts.files];
            let files = files.into_iter().flatten().any(has_items);
            let mut texts = [parts.message, parts.html].into_iter().flatten();
            let text = texts.any(|text| text.get().starts_with('"'));
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
