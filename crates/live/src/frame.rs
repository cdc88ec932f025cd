//! Encoding and decoding frames. A frame is one `message.v1.SocketMessage` (docs/spec/signalling.md
//! 4).

use std::collections::BTreeSet;

use bytes::Bytes;
use parlor_protocol::signal::scan::{self, CountError};
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::input::Request;
use crate::output::Refusal;

/// Encodes a frame. The payload is always present, because clients fail on messages without one.
pub fn frame(event: u32, id: Option<&str>, message: &impl Message) -> Bytes {
    frame_with(event, id, message.encoded_len(), |frame| {
        put_message(message, frame);
    })
}

/// Appends an encoded message.
pub(crate) fn put_message(message: &impl Message, to: &mut Vec<u8>) {
    message.encode(to).expect("a Vec grows as needed");
}

/// Encodes a frame whose payload has `length` bytes, which `write` appends. This avoids a second
/// copy of large payloads. The id comes last, so that the push of the same message is a prefix of
/// the frame ([`without_id`]).
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

/// The push of the message in a frame with this id. Shares the frame's bytes.
pub(crate) fn without_id(frame: &Bytes, id: Option<&str>) -> Bytes {
    frame.slice(..frame.len() - id.map_or(0, text_len))
}

/// Size of the tag and length of a field with `length` bytes and a tag up to 15.
pub(crate) fn header_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64)
}

/// Encoded size of a string field with a tag up to 15.
pub(crate) fn text_len(text: &str) -> usize {
    header_len(text.len()) + text.len()
}

/// Appends the tag and length of a length-delimited field.
pub(crate) fn put_length(tag: u32, length: usize, to: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, to);
    encode_varint(length as u64, to);
}

/// Appends a string field.
pub(crate) fn put_text(tag: u32, text: &str, to: &mut Vec<u8>) {
    put_length(tag, text.len(), to);
    to.extend_from_slice(text.as_bytes());
}

/// Encodes the error reply to a request.
pub fn error_frame(id: Option<&str>, refusal: &Refusal) -> Bytes {
    let message = ErrorMessage {
        code: Some(refusal.code),
        message: refusal.message.clone(),
    };
    frame(event::ERROR, id, &message)
}

/// Maximum number of fields in an envelope. It defines four.
const MAX_ENVELOPE_FIELDS: usize = 16;

/// Decodes a frame.
pub(crate) fn read(bytes: Bytes, id_bytes: usize) -> Result<Request, Refusal> {
    match scan::count::<Envelope>(&bytes, MAX_ENVELOPE_FIELDS) {
        Ok(_) => {}
        Err(CountError::TooMany) => {
            let message = "this is not a SocketMessage: it has too many fields";
            return Err(Refusal::new(413, message));
        }
        // The decoder might skip what the counter rejects, but only after reading all of it.
        Err(CountError::Malformed) => {
            return Err(Refusal::new(400, "this is not a SocketMessage"));
        }
    }
    let envelope = Envelope::decode(bytes)
        .map_err(|error| Refusal::new(400, format!("this is not a SocketMessage: {error}")))?;
    // The id is echoed in the reply.
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

/// Parses a list of ids. Invalid ids are ignored.
pub(crate) fn parse_ids<T: std::str::FromStr + Ord>(texts: &[String]) -> BTreeSet<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

impl Request {
    /// Decodes the request's message. An absent payload is an empty message.
    ///
    /// # Errors
    /// Returns 400 if the payload is malformed.
    pub fn message<M: Message + Default>(&self) -> Result<M, Refusal> {
        M::decode(self.payload.clone())
            .map_err(|error| Refusal::new(400, format!("the payload cannot be decoded: {error}")))
    }
}
