//! A request, and how it is answered.

use std::cell::Cell;

use parlor_protocol::signal::scan::{self, Scanned, Uncounted};
use prost::Message;

use super::Turn;
use crate::events::EventRule;
use crate::frame;
use crate::input::{ConnectionId, Request};
use crate::output::Refusal;
use crate::peer::Seat;

/// A request on its way through a handler.
pub(crate) struct RequestContext<'r> {
    /// Who asks.
    pub(crate) seat: Seat,
    /// The socket it came on.
    pub(crate) connection: ConnectionId,
    pub(crate) request: &'r Request,
    /// The rule of its event.
    pub(crate) rule: &'static EventRule,
    /// How many fields its message may have.
    pub(super) elements: usize,
    /// How many fields its message had.
    pub(super) fields: Cell<usize>,
}

impl RequestContext<'_> {
    /// The request's message. Its fields are counted before they are decoded.
    pub(crate) fn message<M: Scanned>(&self) -> Result<M, Refusal> {
        match scan::count::<M>(&self.request.payload, self.elements) {
            Ok(fields) => {
                self.fields.set(self.fields.get() + fields);
                self.request.message()
            }
            Err(Uncounted::TooMany) => Err(Refusal::new(
                413,
                format!("this request holds more than {} fields", self.elements),
            )),
            Err(Uncounted::Malformed) => Err(Refusal::new(400, "the payload cannot be read")),
        }
    }

    /// Answers on the request's own event.
    pub(crate) fn reply(&self, turn: &mut Turn<'_>, message: &impl Message) {
        self.reply_on(turn, self.request.event, message);
    }

    /// The same, with a message of so many bytes, which `write` appends.
    pub(crate) fn reply_with(
        &self,
        turn: &mut Turn<'_>,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.tell_with(turn, Vec::new(), length, write);
    }

    /// Answers on the request's own event and tells others the same: it is encoded once.
    pub(crate) fn tell(
        &self,
        turn: &mut Turn<'_>,
        others: Vec<ConnectionId>,
        message: &impl Message,
    ) {
        let write = |frame: &mut Vec<u8>| frame::put(message, frame);
        self.tell_with(turn, others, message.encoded_len(), write);
    }

    /// The same, with a message of so many bytes, which `write` appends.
    pub(crate) fn tell_with(
        &self,
        turn: &mut Turn<'_>,
        others: Vec<ConnectionId>,
        length: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let id = self.request.id.as_deref();
        let reply = frame::frame_with(self.request.event, id, length, write);
        turn.send(others, frame::without_id(&reply, id));
        turn.send(vec![self.connection], reply);
    }

    /// Answers on another event.
    pub(crate) fn reply_on(&self, turn: &mut Turn<'_>, event: u32, message: &impl Message) {
        let frame = frame::frame(event, self.request.id.as_deref(), message);
        turn.send(vec![self.connection], frame);
    }
}
