//! The context of a request, and its replies.

use std::cell::Cell;

use parlor_protocol::signal::scan::{self, CountError, Countable};
use prost::Message;

use super::Step;
use crate::events::EventRule;
use crate::frame;
use crate::input::{ConnectionId, Request};
use crate::output::Refusal;
use crate::peer::Slot;

/// A request being handled.
pub(crate) struct RequestContext<'r> {
    /// Slot of the peer that sent it.
    pub(crate) slot: Slot,
    /// Socket that it arrived on.
    pub(crate) connection: ConnectionId,
    pub(crate) request: &'r Request,
    /// Rule of its event.
    pub(crate) rule: &'static EventRule,
    /// Maximum number of fields in its message.
    pub(super) max_fields: usize,
    /// Number of fields counted so far.
    pub(super) field_count: Cell<usize>,
}

impl RequestContext<'_> {
    /// Decodes the request's message. Its fields are counted first.
    pub(crate) fn message<M: Countable>(&self) -> Result<M, Refusal> {
        match scan::count::<M>(&self.request.payload, self.max_fields) {
            Ok(fields) => {
                self.field_count.set(self.field_count.get() + fields);
                self.request.message()
            }
            Err(CountError::TooMany) => Err(Refusal::new(
                413,
                format!("this request has more than {} fields", self.max_fields),
            )),
            Err(CountError::Malformed) => Err(Refusal::new(400, "the payload cannot be decoded")),
        }
    }

    /// Replies on the request's own event.
    pub(crate) fn reply(&self, step: &mut Step<'_>, message: &impl Message) {
        self.reply_on(step, self.request.event, message);
    }

    /// Like [`Self::reply`], with a message of `length` bytes that `write` appends.
    pub(crate) fn reply_with(
        &self,
        step: &mut Step<'_>,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.reply_and_push_with(step, Vec::new(), length, write);
    }

    /// Replies on the request's own event and pushes the same message to `others`. It is encoded
    /// once.
    pub(crate) fn reply_and_push(
        &self,
        step: &mut Step<'_>,
        others: Vec<ConnectionId>,
        message: &impl Message,
    ) {
        let write = |frame: &mut Vec<u8>| frame::put_message(message, frame);
        self.reply_and_push_with(step, others, message.encoded_len(), write);
    }

    /// Like [`Self::reply_and_push`], with a message of `length` bytes that `write` appends.
    pub(crate) fn reply_and_push_with(
        &self,
        step: &mut Step<'_>,
        others: Vec<ConnectionId>,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let id = self.request.id.as_deref();
        let reply = frame::frame_with(self.request.event, id, length, write);
        step.send(others, frame::without_id(&reply, id));
        step.send(vec![self.connection], reply);
    }

    /// Replies on another event.
    pub(crate) fn reply_on(&self, step: &mut Step<'_>, event: u32, message: &impl Message) {
        let frame = frame::frame(event, self.request.id.as_deref(), message);
        step.send(vec![self.connection], frame);
    }
}
