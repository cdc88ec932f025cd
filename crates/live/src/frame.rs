//! Frames in and out. A frame is one `message.v1.SocketMessage` (contract: signalling, section 4).

use std::collections::BTreeSet;

use bytes::Bytes;
use parlor_protocol::signal::scan::{self, Uncounted};
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;

use crate::input::Request;
use crate::output::Refusal;

/// A frame to send. The payload is always present: clients fail on messages without one.
pub fn frame(event: u32, id: Option<&str>, message: &impl Message) -> Bytes {
    let envelope = Envelope {
        event,
        id: id.map(str::to_owned),
        payload: Some(message.encode_to_vec().into()),
        metadata: None,
    };
    envelope.encode_to_vec().into()
}

/// The frame that refuses a request.
pub fn error_frame(id: Option<&str>, refusal: &Refusal) -> Bytes {
    let message = ErrorMessage {
        code: Some(refusal.code),
        message: refusal.message.clone(),
    };
    frame(event::ERROR, id, &message)
}

/// Fields of an envelope. It has four.
const ENVELOPE: usize = 16;

/// Reads a frame.
pub(crate) fn read(bytes: Bytes, id_bytes: usize) -> Result<Request, Refusal> {
    if scan::count::<Envelope>(&bytes, ENVELOPE) == Err(Uncounted::TooMany) {
        return Err(Refusal::new(
            413,
            "this is no SocketMessage: it has too many fields",
        ));
    }
    let envelope = Envelope::decode(bytes)
        .map_err(|error| Refusal::new(400, format!("this is not a SocketMessage: {error}")))?;
    // It is sent back with the answer.
    if envelope.id.as_ref().is_some_and(|id| id.len() > id_bytes) {
        return Err(Refusal::new(
            413,
            format!("the id of a request has at most {id_bytes} bytes"),
        ));
    }
    Ok(Request {
        event: envelope.event,
        id: envelope.id,
        payload: envelope.payload.unwrap_or_default(),
    })
}

/// The ids in a list of texts; what is none names nobody.
pub(crate) fn named<T: std::str::FromStr + Ord>(texts: &[String]) -> BTreeSet<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

impl Request {
    /// The request's message; an absent payload is an empty message.
    ///
    /// # Errors
    /// 400 when the payload is no such message.
    pub fn message<M: Message + Default>(&self) -> Result<M, Refusal> {
        M::decode(self.payload.clone())
            .map_err(|error| Refusal::new(400, format!("the payload cannot be read: {error}")))
    }
}
