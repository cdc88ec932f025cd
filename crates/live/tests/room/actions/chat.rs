//! Chat.

use std::collections::BTreeSet;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, EditChatMessageRequest, GetPaginatedChatMessageRoomRequest,
    GetPaginatedChatMessageRoomResponse, PinChatMessageRequest, SendChatMessageToPeersRequest,
    SendChatMessageToPeersResponse, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};

use super::reply_if;
use crate::model::MessageModel;
use crate::simulation::Simulation;
use crate::world::Effects;

impl Simulation {
    pub(super) fn send_message(&mut self, slot: usize, c: u8) {
        let chat = &self.model.permissions(slot).chat.public;
        let image = c.is_multiple_of(4);
        let allowed = chat.can_send && if image { chat.files } else { chat.text };
        let payload = if image {
            format!("https://files.test/{c}.png")
        } else {
            format!("text {c}")
        };
        let chat_request = SendChatMessageToRoomRequest {
            payload_type: i32::from(image),
            payload: payload.clone(),
        };
        let event = event::SEND_MESSAGE_TO_ROOM;
        let should = reply_if(allowed && self.model.is_inside(slot), event);
        let Some((reply, effects)) = self.request(slot, event, &chat_request, should) else {
            return;
        };
        let sent = reply
            .expect("a reply")
            .decode::<SendChatMessageToRoomResponse>()
            .message;
        let sent = sent.expect("a message");
        self.sent(slot, BTreeSet::new(), sent, payload, &effects);
    }

    fn sent(
        &mut self,
        slot: usize,
        to: BTreeSet<usize>,
        sent: parlor_protocol::signal::socket::chat::ChatMessage,
        payload: String,
        effects: &Effects,
    ) {
        assert_eq!(sent.peer_id, self.model.peer_id(slot));
        self.model.messages.push(MessageModel {
            at_ms: sent.created_at_ms(),
            id: sent.chat_id,
            author: self.model.peers[slot].participant,
            to,
            payload,
            pinned: false,
            edited: false,
        });
        self.settle(effects);
    }

    pub(super) fn send_private_message(&mut self, slot: usize, one: usize, two: usize) {
        let model = &self.model;
        // The specification leaves open whether a message may be sent to peers that the sender
        // cannot see.
        let open = [one, two].into_iter().any(|to| {
            model.peers[to].unseen
                || (model.is_inside(slot)
                    && model.is_inside(to)
                    && !model.can_see(slot, to)
                    && to != slot)
        });
        if open {
            return;
        }
        let me = model.peers[slot].participant;
        let receiving = [one, two].into_iter().filter(|to| {
            model.is_inside(*to)
                && model.permissions(*to).chat.private.can_receive
                && model.peers[*to].participant != me
        });
        let mut to: BTreeSet<usize> = receiving.map(|to| model.peers[to].participant).collect();
        let chat = &model.permissions(slot).chat.private;
        let allowed = model.is_inside(slot) && chat.can_send && chat.text && !to.is_empty();
        to.insert(me);
        let chat_request = SendChatMessageToPeersRequest {
            peer_ids: [one, two, slot].map(|to| model.peer_id(to)).to_vec(),
            payload_type: 0,
            payload: "between us".to_owned(),
        };
        let event = event::SEND_MESSAGE_TO_PEERS;
        let Some((reply, effects)) =
            self.request(slot, event, &chat_request, reply_if(allowed, event))
        else {
            return;
        };
        let sent = reply
            .expect("a reply")
            .decode::<SendChatMessageToPeersResponse>()
            .message;
        self.sent(
            slot,
            to,
            sent.expect("a message"),
            chat_request.payload,
            &effects,
        );
    }

    /// Index of a message, whether the peer may read it, and whether it may send such messages.
    fn message(&self, slot: usize, which: u8) -> Option<(usize, bool, bool)> {
        let at = usize::from(which).checked_rem(self.model.messages.len())?;
        let message = &self.model.messages[at];
        let chat = &self.model.permissions(slot).chat;
        let allowed = if message.to.is_empty() {
            chat.public.can_send
        } else {
            chat.private.can_send
        };
        let reads = self.model.is_inside(slot) && self.model.can_read(slot, message);
        Some((at, reads, allowed))
    }

    pub(super) fn edit(&mut self, slot: usize, which: u8) {
        let Some((at, reads, allowed)) = self.message(slot, which) else {
            return;
        };
        let message = &self.model.messages[at];
        let chat = &self.model.permissions(slot).chat;
        let text = if message.to.is_empty() {
            chat.public.text
        } else {
            chat.private.text
        };
        let allowed =
            allowed && text && reads && message.author == self.model.peers[slot].participant;
        let edit = EditChatMessageRequest {
            chat_id: message.id.clone(),
            payload_type: Some(0),
            payload: Some(format!("{} {which}", message.payload)),
            ..EditChatMessageRequest::default()
        };
        let should = reply_if(allowed, event::EDIT_MESSAGE);
        let Some((_, effects)) = self.request(slot, event::EDIT_MESSAGE, &edit, should) else {
            return;
        };
        let message = &mut self.model.messages[at];
        (message.payload, message.edited) = (edit.payload.unwrap_or_default(), true);
        self.settle(&effects);
    }

    pub(super) fn delete(&mut self, slot: usize, which: u8) {
        let Some((at, reads, _)) = self.message(slot, which) else {
            return;
        };
        let mine = self.model.messages[at].author == self.model.peers[slot].participant;
        let delete = DeleteChatMessageRequest {
            chat_id: self.model.messages[at].id.clone(),
            channel_id: None,
        };
        let should = reply_if(mine && reads, event::DELETE_MESSAGE);
        let Some((_, effects)) = self.request(slot, event::DELETE_MESSAGE, &delete, should) else {
            return;
        };
        self.model.messages.remove(at);
        self.settle(&effects);
    }

    pub(super) fn pin_message(&mut self, slot: usize, which: u8, pinned: bool) {
        let Some((at, reads, allowed)) = self.message(slot, which) else {
            return;
        };
        let pin = PinChatMessageRequest {
            chat_id: self.model.messages[at].id.clone(),
            pinned,
            channel_id: None,
        };
        let should = reply_if(allowed && reads, event::PIN_MESSAGE);
        let Some((_, effects)) = self.request(slot, event::PIN_MESSAGE, &pin, should) else {
            return;
        };
        self.model.messages[at].pinned = pinned;
        self.settle(&effects);
    }

    pub(super) fn read_page(&mut self, slot: usize, which: u8, c: u8) {
        let at = usize::from(which).checked_rem(self.model.messages.len());
        let at_ms = at.map_or(0, |at| self.model.messages[at].at_ms);
        let (size, reversed) = (usize::from(c % 5) + 1, c > 127);
        let request = GetPaginatedChatMessageRoomRequest {
            time_stamp: at_ms,
            size: i32::try_from(size).expect("small"),
            reversed,
            ..GetPaginatedChatMessageRoomRequest::default()
        };
        let event = event::GET_PAGINATED_MESSAGES;
        let Some((reply, effects)) = self.request(slot, event, &request, Ok(Some(event))) else {
            return;
        };
        let page: GetPaginatedChatMessageRoomResponse = reply.expect("a reply").decode();
        let page: Vec<_> = page
            .messages
            .into_iter()
            .map(|message| message.chat_id)
            .collect();
        let (inside, model) = (self.model.is_inside(slot), &self.model);
        let readable = model
            .messages
            .iter()
            .filter(|message| inside && model.can_read(slot, message));
        let mut expected: Vec<_> = readable
            .filter(|message| {
                if reversed {
                    message.at_ms <= at_ms
                } else {
                    message.at_ms >= at_ms
                }
            })
            .map(|message| message.id.clone())
            .collect();
        if reversed {
            expected.reverse();
        }
        expected.truncate(size);
        assert_eq!(page, expected);
        self.settle(&effects);
    }
}
