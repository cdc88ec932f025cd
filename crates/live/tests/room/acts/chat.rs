//! What people write to each other.

use std::collections::BTreeSet;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    DeleteChatMessageRequest, EditChatMessageRequest, GetPaginatedChatMessageRoomRequest,
    GetPaginatedChatMessageRoomResponse, PinChatMessageRequest, SendChatMessageToPeersRequest,
    SendChatMessageToPeersResponse, SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};

use super::when;
use crate::simulation::Simulation;
use crate::truth::MessageTruth;
use crate::world::Done;

impl Simulation {
    pub(super) fn say(&mut self, slot: usize, c: u8) {
        let chat = &self.truth.may(slot).chat.public;
        let image = c.is_multiple_of(4);
        let may = chat.can_send && if image { chat.files } else { chat.text };
        let payload = if image {
            format!("https://files.test/{c}.png")
        } else {
            format!("text {c}")
        };
        let say = SendChatMessageToRoomRequest {
            payload_type: i32::from(image),
            payload: payload.clone(),
        };
        let event = event::SEND_MESSAGE_TO_ROOM;
        let should = when(may && self.truth.inside(slot), event);
        let Some((reply, done)) = self.ask(slot, event, &say, should) else {
            return;
        };
        let said = reply
            .expect("a reply")
            .read::<SendChatMessageToRoomResponse>()
            .message;
        let said = said.expect("a message");
        self.said(slot, BTreeSet::new(), said, payload, &done);
    }

    fn said(
        &mut self,
        slot: usize,
        to: BTreeSet<usize>,
        said: parlor_protocol::signal::socket::chat::ChatMessage,
        payload: String,
        done: &Done,
    ) {
        assert_eq!(said.peer_id, self.truth.peer_id(slot));
        self.truth.messages.push(MessageTruth {
            at_ms: said.created_at_ms(),
            id: said.chat_id,
            author: self.truth.peers[slot].person,
            to,
            payload,
            pinned: false,
            edited: false,
        });
        self.settle(done);
    }

    pub(super) fn whisper(&mut self, slot: usize, one: usize, two: usize) {
        let truth = &self.truth;
        // Whether one may write to peers that one does not see is open.
        let open = [one, two].into_iter().any(|to| {
            truth.peers[to].unseen
                || (truth.inside(slot) && truth.inside(to) && !truth.sees(slot, to) && to != slot)
        });
        if open {
            return;
        }
        let me = truth.peers[slot].person;
        let receiving = [one, two].into_iter().filter(|to| {
            truth.inside(*to)
                && truth.may(*to).chat.private.can_receive
                && truth.peers[*to].person != me
        });
        let mut to: BTreeSet<usize> = receiving.map(|to| truth.peers[to].person).collect();
        let chat = &truth.may(slot).chat.private;
        let may = truth.inside(slot) && chat.can_send && chat.text && !to.is_empty();
        to.insert(me);
        let say = SendChatMessageToPeersRequest {
            peer_ids: [one, two, slot].map(|to| truth.peer_id(to)).to_vec(),
            payload_type: 0,
            payload: "between us".to_owned(),
        };
        let event = event::SEND_MESSAGE_TO_PEERS;
        let Some((reply, done)) = self.ask(slot, event, &say, when(may, event)) else {
            return;
        };
        let said = reply
            .expect("a reply")
            .read::<SendChatMessageToPeersResponse>()
            .message;
        self.said(slot, to, said.expect("a message"), say.payload, &done);
    }

    /// A message, whether the peer may read it, and whether it may send such messages.
    fn message(&self, slot: usize, which: u8) -> Option<(usize, bool, bool)> {
        let at = usize::from(which).checked_rem(self.truth.messages.len())?;
        let message = &self.truth.messages[at];
        let chat = &self.truth.may(slot).chat;
        let may = if message.to.is_empty() {
            chat.public.can_send
        } else {
            chat.private.can_send
        };
        let reads = self.truth.inside(slot) && self.truth.reads(slot, message);
        Some((at, reads, may))
    }

    pub(super) fn edit(&mut self, slot: usize, which: u8) {
        let Some((at, reads, may)) = self.message(slot, which) else {
            return;
        };
        let message = &self.truth.messages[at];
        let chat = &self.truth.may(slot).chat;
        let text = if message.to.is_empty() {
            chat.public.text
        } else {
            chat.private.text
        };
        let may = may && text && reads && message.author == self.truth.peers[slot].person;
        let edit = EditChatMessageRequest {
            chat_id: message.id.clone(),
            payload_type: Some(0),
            payload: Some(format!("{} {which}", message.payload)),
            ..EditChatMessageRequest::default()
        };
        let should = when(may, event::EDIT_MESSAGE);
        let Some((_, done)) = self.ask(slot, event::EDIT_MESSAGE, &edit, should) else {
            return;
        };
        let message = &mut self.truth.messages[at];
        (message.payload, message.edited) = (edit.payload.unwrap_or_default(), true);
        self.settle(&done);
    }

    pub(super) fn delete(&mut self, slot: usize, which: u8) {
        let Some((at, reads, _)) = self.message(slot, which) else {
            return;
        };
        let mine = self.truth.messages[at].author == self.truth.peers[slot].person;
        let delete = DeleteChatMessageRequest {
            chat_id: self.truth.messages[at].id.clone(),
            channel_id: None,
        };
        let should = when(mine && reads, event::DELETE_MESSAGE);
        let Some((_, done)) = self.ask(slot, event::DELETE_MESSAGE, &delete, should) else {
            return;
        };
        self.truth.messages.remove(at);
        self.settle(&done);
    }

    pub(super) fn pin_message(&mut self, slot: usize, which: u8, pinned: bool) {
        let Some((at, reads, may)) = self.message(slot, which) else {
            return;
        };
        let pin = PinChatMessageRequest {
            chat_id: self.truth.messages[at].id.clone(),
            pinned,
            channel_id: None,
        };
        let should = when(may && reads, event::PIN_MESSAGE);
        let Some((_, done)) = self.ask(slot, event::PIN_MESSAGE, &pin, should) else {
            return;
        };
        self.truth.messages[at].pinned = pinned;
        self.settle(&done);
    }

    pub(super) fn page(&mut self, slot: usize, which: u8, c: u8) {
        let at = usize::from(which).checked_rem(self.truth.messages.len());
        let at_ms = at.map_or(0, |at| self.truth.messages[at].at_ms);
        let (size, reversed) = (usize::from(c % 5) + 1, c > 127);
        let ask = GetPaginatedChatMessageRoomRequest {
            time_stamp: at_ms,
            size: i32::try_from(size).expect("small"),
            reversed,
            ..GetPaginatedChatMessageRoomRequest::default()
        };
        let event = event::GET_PAGINATED_MESSAGES;
        let Some((reply, done)) = self.ask(slot, event, &ask, Ok(Some(event))) else {
            return;
        };
        let page: GetPaginatedChatMessageRoomResponse = reply.expect("a reply").read();
        let page: Vec<_> = page
            .messages
            .into_iter()
            .map(|message| message.chat_id)
            .collect();
        let (inside, truth) = (self.truth.inside(slot), &self.truth);
        let readable = truth
            .messages
            .iter()
            .filter(|message| inside && truth.reads(slot, message));
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
        self.settle(&done);
    }
}
