//! Sending, editing, deleting and pinning messages.

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
use crate::peer::{Peer, Slot, can_see};
use crate::room::{Outcome, RequestContext, Room, Step};

impl Room {
    /// `sendMessageToRoom`.
    pub(crate) fn send_to_all(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let chat = &self.joined_peer(ctx.slot)?.permissions.chat;
        if !chat.public.can_send {
            return Err(Refusal::forbidden("chat.public.can_send"));
        }
        let request: SendChatMessageToRoomRequest = ctx.message()?;
        let kind = self.validate_payload(ctx, request.payload_type, &request.payload)?;
        self.check_can_send(ctx.slot, false, kind, &request.payload)?;
        self.check_file_rate(step, ctx.slot, kind)?;
        let message = self.add_message(step, ctx.slot, kind, request.payload, Vec::new())?;
        self.push_message(step, ctx, &message);
        Ok(())
    }

    /// `sendMessageToPeers`: to all peers of the listed peers' participants, and of the sender.
    pub(crate) fn send_to_some(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let chat = &self.joined_peer(ctx.slot)?.permissions.chat;
        if !chat.private.can_send {
            return Err(Refusal::forbidden("chat.private.can_send"));
        }
        let request: SendChatMessageToPeersRequest = ctx.message()?;
        let kind = self.validate_payload(ctx, request.payload_type, &request.payload)?;
        self.check_can_send(ctx.slot, true, kind, &request.payload)?;
        self.check_file_rate(step, ctx.slot, kind)?;
        let me = &self.peers[ctx.slot];
        let named = request
            .peer_ids
            .iter()
            .filter_map(|peer| self.peers.slot_by_id_text(peer));
        let named = named
            .map(|slot| &self.peers[slot])
            .filter(|peer| can_see(me, peer));
        let receiving = named.filter(|peer| peer.permissions.chat.private.can_receive);
        let mut targets: BTreeSet<ParticipantId> = receiving.map(Peer::participant_id).collect();
        targets.remove(&me.participant_id());
        if targets.is_empty() {
            return Err(Refusal::new(
                404,
                "no participant here can receive this message",
            ));
        }
        targets.insert(me.participant_id());
        let targets = targets.into_iter().collect();
        let message = self.add_message(step, ctx.slot, kind, request.payload, targets)?;
        self.push_message(step, ctx, &message);
        Ok(())
    }

    /// `editMessage`, by the author.
    pub(crate) fn edit_message(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.joined_peer(ctx.slot)?;
        let request: EditChatMessageRequest = ctx.message()?;
        let at = self.own_message(ctx.slot, &request.chat_id)?;
        let old = self.chat.get(at);
        let kind = request.payload_type.unwrap_or_else(|| old.kind.number());
        let payload = request.payload.unwrap_or_else(|| old.payload.clone());
        let private = !old.targets.is_empty();
        let kind = self.validate_payload(ctx, kind, &payload)?;
        self.check_can_send(ctx.slot, private, kind, &payload)?;
        self.check_file_rate(step, ctx.slot, kind)?;
        let old = self.chat.get(at);
        let before = old.stored_bytes();
        let after = before - count(&old.payload) + count(&payload);
        self.charge_storage(ctx.slot, before, after)?;
        let message = self.chat.change(at, |message| {
            (message.kind, message.payload, message.edited) = (kind, payload, true);
            message.pinned = request.pinned.unwrap_or(message.pinned);
        });
        step.persist(Record::Chat(message.clone()));
        let edited = EditChatMessageResponse {
            message: Some(message.wire()),
        };
        ctx.reply_and_push(step, self.readers(&message, ctx), &edited);
        Ok(())
    }

    /// `deleteMessage`, by the author.
    pub(crate) fn delete_message(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        let request: DeleteChatMessageRequest = ctx.message()?;
        let at = self.own_message(ctx.slot, &request.chat_id)?;
        let Some(message) = self.chat.remove(at) else {
            return Ok(());
        };
        self.charge_storage(ctx.slot, message.stored_bytes(), 0)?;
        step.persist(Record::ChatDeleted(message.id));
        let deleted = DeleteChatMessageResponse {
            chat_id: message.id.to_string(),
            channel_id: None,
        };
        ctx.reply_and_push(step, self.readers(&message, ctx), &deleted);
        Ok(())
    }

    /// `pinMessage`, by any reader who may send such messages.
    pub(crate) fn pin_message(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: PinChatMessageRequest = ctx.message()?;
        let me = self.joined_peer(ctx.slot)?;
        let (user, may) = (me.participant_id(), me.permissions.chat.clone());
        let at = self.chat.position(&request.chat_id)?;
        let message = self.chat.get(at);
        if !message.is_visible_to(user) {
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
        step.persist(Record::Chat(message.clone()));
        let pinned = PinChatMessageResponse {
            chat_id: message.id.to_string(),
            pinned: message.pinned,
            channel_id: None,
            message: Some(message.wire()),
        };
        ctx.reply_and_push(step, self.readers(&message, ctx), &pinned);
        Ok(())
    }

    /// Pushes a new message. The sender's copy is the reply.
    fn push_message(&self, step: &mut Step<'_>, ctx: &RequestContext<'_>, message: &ChatMessage) {
        let others = self.readers(message, ctx);
        let wire = Some(message.wire());
        if message.targets.is_empty() {
            ctx.reply_and_push(
                step,
                others,
                &SendChatMessageToRoomResponse { message: wire },
            );
        } else {
            ctx.reply_and_push(
                step,
                others,
                &SendChatMessageToPeersResponse { message: wire },
            );
        }
    }

    fn add_message(
        &mut self,
        step: &mut Step<'_>,
        slot: Slot,
        kind: PayloadType,
        payload: String,
        targets: Vec<ParticipantId>,
    ) -> Result<ChatMessage, Refusal> {
        let at_ms = self.chat.next_time(step.now_ms);
        step.not_before(at_ms);
        let peer = &self.peers[slot];
        let message = ChatMessage {
            id: step.id(),
            session: self.session_id(),
            peer: peer.id(),
            participant: peer.participant_id(),
            name: peer.name.clone(),
            kind,
            payload,
            pinned: false,
            edited: false,
            targets,
            at_ms,
        };
        self.charge_storage(slot, 0, message.stored_bytes())?;
        self.chat.add(message.clone());
        step.persist(Record::Chat(message.clone()));
        Ok(message)
    }

    fn own_message(&self, slot: Slot, id: &str) -> Result<usize, Refusal> {
        let me = self.joined_peer(slot)?.participant_id();
        let at = self.chat.position(id)?;
        let message = self.chat.get(at);
        if message.participant == me {
            Ok(at)
        } else if message.is_visible_to(me) {
            Err(Refusal::new(
                403,
                "this message belongs to another participant",
            ))
        } else {
            Err(Refusal::new(404, "there is no such message"))
        }
    }

    /// Validates a payload and returns its type. Clients fail on malformed payloads.
    fn validate_payload(
        &self,
        ctx: &RequestContext<'_>,
        kind: i32,
        payload: &str,
    ) -> Result<PayloadType, Refusal> {
        self.joined_peer(ctx.slot)?;
        let kind = PayloadType::from_number(kind)
            .ok_or_else(|| Refusal::new(400, "unknown payload_type"))?;
        let longest = self.limits.chat_text;
        if payload.len() > self.limits.chat_bytes
            || (kind == PayloadType::Text && payload.chars().count() > longest)
        {
            let message = format!("a message has at most {longest} characters");
            return Err(Refusal::new(413, message));
        }
        let good = match kind {
            // PostgreSQL rejects U+0000.
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

    /// Checks whether the peer may send this payload, publicly or privately.
    fn check_can_send(
        &self,
        slot: Slot,
        private: bool,
        kind: PayloadType,
        payload: &str,
    ) -> Outcome {
        let chat = &self.peers[slot].permissions.chat;
        let (permission, may) = if private {
            let may = &chat.private;
            ("chat.private", (may.can_send, may.text, may.files))
        } else {
            let may = &chat.public;
            ("chat.public", (may.can_send, may.text, may.files))
        };
        check_payload_permissions(permission, may, kind, payload)
    }

    /// Charges the additional rate of messages with files.
    fn check_file_rate(&mut self, step: &Step<'_>, slot: Slot, kind: PayloadType) -> Outcome {
        if !matches!(kind, PayloadType::Image | PayloadType::File) {
            return Ok(());
        }
        let rate = self.limits.chat_files;
        let allowance = &mut self.peers.allowances(slot).chat_files;
        allowance.spend(rate, step.monotonic, "too many messages: slow down")
    }
}

/// Length in bytes.
fn count(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// Required field of a file message.
#[derive(Deserialize)]
struct File {
    link: String,
}

/// Fields of a custom message, as raw JSON because they may be large.
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

/// Parses a JSON object into `T`.
fn object<'p, T: Deserialize<'p>>(payload: &'p str) -> Option<T> {
    let parts = payload.trim_start().starts_with('{');
    let parts = parts.then(|| serde_json::from_str(payload).ok());
    parts.flatten()
}

/// Whether a JSON array is not empty.
fn has_items(list: &RawValue) -> bool {
    let items = list.get().strip_prefix('[');
    items.is_some_and(|items| !items.trim_start().starts_with(']'))
}

/// Whether the text is an http or https link: other schemes may run code in the page.
fn is_link(text: &str) -> bool {
    let web = text.starts_with("https://") || text.starts_with("http://");
    web && !text.contains(|character: char| character.is_control() || character == ' ')
}

/// Checks the permissions that a message needs: to send at all, and to send text or files. A custom
/// message may contain both.
fn check_payload_permissions(
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
