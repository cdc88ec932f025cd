//! Frames in and out. A frame is one `message.v1.SocketMessage` (docs/spec/signalling.md 4).

use std::collections::BTreeSet;

use bytes::Bytes;
use parlor_protocol::signal::scan::{self, Uncounted};
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::input::Request;
use crate::output::Refusal;

/// A frame to send. The payload is always present: clients fail on messages without one.
pub fn frame(event: u32, id: Option<&str>, message: &impl Message) -> Bytes {
    frame_with(event, id, message.encoded_len(), |frame| {
        put(message, frame);
    })
}

/// Appends a message.
pub(crate) fn put(message: &impl Message, to: &mut Vec<u8>) {
    message.encode(to).expect("a Vec takes everything");
}

/// A frame whose payload has so many bytes, which `write` appends: large ones are copied once. The id
/// comes last, so that a push of the same message is the frame [`without_id`].
pub(crate) fn frame_with(
    event: u32,
    id: Option<&str>,
    length: usize,
    write: impl FnOnce(&mut Vec<u8>),
) -> Bytes {
    let mut frame = Vec::with_capacity(length + id.map_or(0, str::len) + 24);
    if event != 0 {
        encode_key(1, WireType::Varint, &mut frame);
        encode_varint(event.into(), &mut frame);
    }
    put_length(3, length, &mut frame);
    write(&mut frame);
    if let Some(id) = id {
        put_text(2, id, &mut frame);
    }
    frame.into()
}

/// The push of the message that a frame with this id carries: the same bytes, which are not copied.
pub(crate) fn without_id(frame: &Bytes, id: Option<&str>) -> Bytes {
    frame.slice(..frame.len() - id.map_or(0, text_len))
}

/// The bytes of a message in a field with one of the first 15 tags, beside its own.
pub(crate) fn head_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64)
}

/// The bytes of a text in a field with one of the first 15 tags.
pub(crate) fn text_len(text: &str) -> usize {
    head_len(text.len()) + text.len()
}

/// The head of a field whose value has so many bytes.
pub(crate) fn put_length(tag: u32, length: usize, to: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, to);
    encode_varint(length as u64, to);
}

/// A field of text.
pub(crate) fn put_text(tag: u32, text: &str, to: &mut Vec<u8>) {
    put_length(tag, text.len(), to);
    to.extend_from_slice(text.as_bytes());
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
    match scan::count::<Envelope>(&bytes, ENVELOPE) {
        Ok(_) => {}
        Err(Uncounted::TooMany) => {
            let message = "this is no SocketMessage: it has too many fields";
            return Err(Refusal::new(413, message));
        }
        // What the count does not take, the decoder might skip, at the cost of all of it.
        Err(Uncounted::Malformed) => {
            return Err(Refusal::new(400, "this is not a SocketMessage"));
        }
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
