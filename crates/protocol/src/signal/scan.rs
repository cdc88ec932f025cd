//! Counts the fields of a message before it is decoded.
//!
//! Two bytes on the wire may become a string, a message or a list element in memory, so a frame of
//! one megabyte can hold half a million of them. Counting allocates nothing and stops at the limit,
//! so an oversized message costs no more than the largest allowed one.

use prost::Message;

/// Which fields of a message are nested messages and which are packed lists, by tag. `build.rs`
/// generates one for each message of `proto/`.
#[derive(Debug)]
pub struct Shape {
    messages: &'static [(u32, &'static Shape)],
    packed: &'static [(u32, Packed)],
}

/// Element encoding of a packed list.
#[derive(Debug, Clone, Copy)]
enum Packed {
    Varint,
    #[expect(dead_code, reason = "no message has such a field yet")]
    Fixed32,
    #[expect(dead_code, reason = "no message has such a field yet")]
    Fixed64,
}

impl Packed {
    fn count(self, list: &[u8]) -> usize {
        match self {
            // The last byte of each varint has its highest bit clear.
            Self::Varint => list.iter().filter(|byte| **byte < 0x80).count(),
            Self::Fixed32 => list.len() / 4,
            Self::Fixed64 => list.len() / 8,
        }
    }
}

/// A message whose fields can be counted before it is decoded.
pub trait Countable: Message + Default {
    /// Field table of the message.
    fn shape() -> &'static Shape;
}

impl Countable for () {
    fn shape() -> &'static Shape {
        &EMPTY
    }
}

static EMPTY: Shape = Shape {
    messages: &[],
    packed: &[],
};

/// Why counting stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountError {
    /// The bytes are not a valid message.
    Malformed,
    /// The message has more fields than allowed.
    TooMany,
}

/// Maximum nesting depth. All messages of the protocol are far below it.
const MAX_DEPTH: usize = 16;

/// Counts the fields of an encoded message, including those of nested messages, the elements of
/// packed lists and unknown fields.
///
/// # Errors
/// Fails if the bytes are not a valid message or have more than `most` fields. Groups, which no
/// client uses, count as malformed.
pub fn count<M: Countable>(bytes: &[u8], most: usize) -> Result<usize, CountError> {
    let mut left = most;
    count_fields(bytes, M::shape(), &mut left, MAX_DEPTH)?;
    Ok(most - left)
}

fn count_fields(
    mut rest: &[u8],
    shape: &Shape,
    left: &mut usize,
    depth: usize,
) -> Result<(), CountError> {
    let depth = depth.checked_sub(1).ok_or(CountError::Malformed)?;
    while !rest.is_empty() {
        spend(left, 1)?;
        let key = varint(&mut rest)?;
        let tag = u32::try_from(key >> 3).map_err(|_| CountError::Malformed)?;
        match key & 7 {
            0 => {
                varint(&mut rest)?;
            }
            1 => {
                take(&mut rest, 8)?;
            }
            5 => {
                take(&mut rest, 4)?;
            }
            2 => {
                let value = varint(&mut rest)?;
                let value = take(&mut rest, value)?;
                if let Some((_, inner)) = shape.messages.iter().find(|(it, _)| *it == tag) {
                    count_fields(value, inner, left, depth)?;
                } else if let Some((_, list)) = shape.packed.iter().find(|(it, _)| *it == tag) {
                    spend(left, list.count(value))?;
                }
            }
            _ => return Err(CountError::Malformed),
        }
    }
    Ok(())
}

fn spend(left: &mut usize, count: usize) -> Result<(), CountError> {
    *left = left.checked_sub(count).ok_or(CountError::TooMany)?;
    Ok(())
}

fn take<'b>(rest: &mut &'b [u8], length: u64) -> Result<&'b [u8], CountError> {
    let length = usize::try_from(length).map_err(|_| CountError::Malformed)?;
    let (taken, tail) = rest.split_at_checked(length).ok_or(CountError::Malformed)?;
    *rest = tail;
    Ok(taken)
}

/// Reads a varint.
fn varint(rest: &mut &[u8]) -> Result<u64, CountError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(CountError::Malformed)?;
        *rest = tail;
        number |= u64::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Ok(number);
        }
    }
    Err(CountError::Malformed)
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::socket::chat::SendChatMessageToPeersRequest;
    use super::super::socket::plugin::{PluginStoreInsertKeysRequest, StoreKeys};
    use super::super::socket::room::{JoinRoomRequest, Peer, PeerFlags};
    use super::*;

    #[test]
    fn nested_fields_and_list_elements_are_counted() {
        let flags = PeerFlags {
            recorder_type: "NONE".to_owned(),
            ..PeerFlags::default()
        };
        let join = JoinRoomRequest {
            peer: Some(Peer {
                peer_id: "p".to_owned(),
                flags: Some(flags),
                ..Peer::default()
            }),
            capabilities: vec![1, 2, 300],
            ..JoinRoomRequest::default()
        };
        // The peer, its id, its flags and the flag set in them; the list and its three numbers.
        let bytes = join.encode_to_vec();
        assert_eq!(count::<JoinRoomRequest>(&bytes, 8), Ok(8));
        assert_eq!(
            count::<JoinRoomRequest>(&bytes, 7),
            Err(CountError::TooMany)
        );
    }

    #[test]
    fn counting_stops_at_the_limit() {
        let ids = [0x0A, 0x00].repeat(1 << 19);
        let counted = count::<SendChatMessageToPeersRequest>(&ids, 100);
        assert_eq!(counted, Err(CountError::TooMany));
        let keys = [0x1A, 0x00].repeat(1 << 19);
        let counted = count::<PluginStoreInsertKeysRequest>(&keys, 1 << 19);
        assert_eq!(counted, Ok(1 << 19));
        let counted = count::<PluginStoreInsertKeysRequest>(&keys, (1 << 19) - 1);
        assert_eq!(counted, Err(CountError::TooMany));
    }

    #[test]
    fn truncated_messages_and_groups_are_malformed() {
        for bytes in [
            &[0x0A][..],
            &[0x0A, 0x02, 0x00],
            &[0x80],
            &[0x0B, 0x0C],
            &[0x09, 0x00],
        ] {
            let counted = count::<SendChatMessageToPeersRequest>(bytes, 100);
            assert_eq!(counted, Err(CountError::Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn the_count_is_exact(keys in prop::collection::vec((".{0,9}", any::<Option<u8>>()), 0..50)) {
            let key = |(store_key, payload): (String, Option<u8>)| StoreKeys {
                store_key,
                payload: payload.map(|byte| vec![byte].into()),
            };
            let request = PluginStoreInsertKeysRequest {
                insert_keys: keys.into_iter().map(key).collect(),
                ..PluginStoreInsertKeysRequest::default()
            };
            let within = |key: &StoreKeys| {
                1 + usize::from(!key.store_key.is_empty()) + usize::from(key.payload.is_some())
            };
            let fields: usize = request.insert_keys.iter().map(within).sum();
            let counted = count::<PluginStoreInsertKeysRequest>(&request.encode_to_vec(), 1_000);
            prop_assert_eq!(counted, Ok(fields));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let counted = count::<JoinRoomRequest>(&bytes, 1_000);
            // The decoder may reject what can be counted. It accepts uncountable input only if it
            // contains groups.
            if let Ok(fields) = counted {
                prop_assert!(fields <= bytes.len());
            }
        }
    }
}
