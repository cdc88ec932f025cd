//! Encodes held messages directly: the history may be megabytes, and cloning each message would
//! dominate the cost.

use prost::encoding::{encode_varint, encoded_len_varint};
use uuid::Uuid;

use super::ChatMessage;
use crate::frame::{header_len, put_length, put_text, text_len};

/// Encoded size of an id field: tag, length and UUID text.
const ID: usize = 2 + 36;

fn length_of_text(text: &str) -> usize {
    if text.is_empty() { 0 } else { text_len(text) }
}

impl ChatMessage {
    fn seconds(&self) -> u64 {
        self.milliseconds() / 1000
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.at_ms).unwrap_or_default()
    }

    fn number(&self) -> u64 {
        u64::try_from(self.kind.number()).unwrap_or_default()
    }

    /// Encoded size of `socket.chat.ChatMessage`.
    pub(super) fn wire_len(&self) -> usize {
        let flag = |on: bool| 2 * usize::from(on);
        let seconds = match self.seconds() {
            0 => 0,
            seconds => 1 + encoded_len_varint(seconds),
        };
        3 * ID
            + length_of_text(&self.name)
            + flag(self.pinned)
            + flag(self.edited)
            + flag(self.number() != 0)
            + length_of_text(&self.payload)
            + self.targets.len() * ID
            + seconds
            + 1
            + encoded_len_varint(self.milliseconds())
    }

    /// Appends `socket.chat.ChatMessage`, byte for byte like the encoded result of `wire`.
    fn write(&self, to: &mut Vec<u8>) {
        put_id(1, self.id, to);
        put_id(2, self.peer.uuid(), to);
        put_id(3, self.participant.uuid(), to);
        if !self.name.is_empty() {
            put_text(4, &self.name, to);
        }
        let numbers = [
            (5, u64::from(self.pinned)),
            (6, u64::from(self.edited)),
            (7, self.number()),
        ];
        for (tag, number) in numbers {
            put_number(tag, number, to);
        }
        if !self.payload.is_empty() {
            put_text(8, &self.payload, to);
        }
        for target in &self.targets {
            put_id(10, target.uuid(), to);
        }
        put_number(11, self.seconds(), to);
        to.push(12 << 3);
        encode_varint(self.milliseconds(), to);
    }
}

/// Appends an id field in one write, because a private message may have thousands of targets.
fn put_id(tag: u8, id: Uuid, to: &mut Vec<u8>) {
    let mut field = [0; ID];
    (field[0], field[1]) = (tag << 3 | 2, 36);
    id.hyphenated().encode_lower(&mut field[2..]);
    to.extend_from_slice(&field);
}

/// Appends a numeric field unless it is zero.
fn put_number(tag: u8, number: u64, to: &mut Vec<u8>) {
    if number != 0 {
        to.push(tag << 3);
        encode_varint(number, to);
    }
}

/// Encoded size of the `messages` field of a response.
pub(super) fn length(messages: &[&ChatMessage]) -> usize {
    let one = |message: &&ChatMessage| {
        let length = message.wire_len();
        header_len(length) + length
    };
    messages.iter().map(one).sum()
}

/// Appends the `messages` field of a response.
pub(super) fn write(messages: &[&ChatMessage], to: &mut Vec<u8>) {
    for message in messages {
        put_length(1, message.wire_len(), to);
        message.write(to);
    }
}

#[cfg(test)]
mod tests {
    use parlor_protocol::ids::{ParticipantId, PeerId, SessionId};
    use parlor_protocol::signal::socket::chat::GetChatMessagesResponse;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::chat::PayloadType;

    fn message() -> impl Strategy<Value = ChatMessage> {
        let parts = (
            any::<(u128, u128, bool, bool)>(),
            (".{0,9}", ".{0,300}"),
            prop::collection::vec(any::<u128>(), 0..4),
            0..4_i32,
            prop_oneof![Just(0), -5..5_000_i64, any::<i64>()],
        );
        parts.prop_map(
            |((id, by, pinned, edited), (name, payload), targets, kind, at_ms)| {
                let id = Uuid::from_u128(id);
                let participant = |id| ParticipantId::from_uuid(Uuid::from_u128(id));
                ChatMessage {
                    id,
                    session: SessionId::from_uuid(id),
                    peer: PeerId::from_uuid(id),
                    participant: participant(by),
                    name,
                    kind: PayloadType::from_number(kind).unwrap(),
                    payload,
                    pinned,
                    edited,
                    targets: targets.into_iter().map(participant).collect(),
                    at_ms,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn messages_are_written_as_they_are_encoded(messages in prop::collection::vec(message(), 0..4)) {
            let these: Vec<&ChatMessage> = messages.iter().collect();
            let mut written = Vec::new();
            write(&these, &mut written);
            prop_assert_eq!(written.len(), length(&these));
            let encoded = GetChatMessagesResponse {
                messages: messages.iter().map(ChatMessage::wire).collect(),
            };
            prop_assert_eq!(written, encoded.encode_to_vec());
        }
    }
}
