//! Counts what a message holds before it is decoded.
//!
//! Two bytes on the wire may become a string, a message or a number of a list in memory: a frame of
//! a megabyte can hold half a million of them. The count takes no memory and ends at the bound, so
//! that what is too much costs about as much as the bound.

use prost::Message;

/// Which fields of a message are messages, and which are lists of numbers, by tag. Written by
/// `build.rs` for each message of `proto/`.
#[derive(Debug)]
pub struct Shape {
    messages: &'static [(u32, &'static Shape)],
    packed: &'static [(u32, Packed)],
}

/// How the numbers of a list are written one after the other.
#[derive(Debug, Clone, Copy)]
enum Packed {
    Varint,
    #[expect(dead_code, reason = "no message has such a list yet")]
    Fixed32,
    #[expect(dead_code, reason = "no message has such a list yet")]
    Fixed64,
}

impl Packed {
    fn count(self, list: &[u8]) -> usize {
        match self {
            // The last byte of each number has its highest bit clear.
            Self::Varint => list.iter().filter(|byte| **byte < 0x80).count(),
            Self::Fixed32 => list.len() / 4,
            Self::Fixed64 => list.len() / 8,
        }
    }
}

/// A message whose fields can be counted before it is decoded.
pub trait Scanned: Message + Default {
    /// What must be known of it.
    fn shape() -> &'static Shape;
}

impl Scanned for () {
    fn shape() -> &'static Shape {
        &NOTHING
    }
}

static NOTHING: Shape = Shape {
    messages: &[],
    packed: &[],
};

/// Why the fields of a message are not counted to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncounted {
    /// The bytes are no message.
    Malformed,
    /// There are more than the bound.
    TooMany,
}

/// Messages within messages, at most. No message of ours comes near.
const DEPTH: usize = 16;

/// Counts the fields of a message: each that is written, those of the messages in it, and each number
/// of a list. Unknown fields count as well.
///
/// # Errors
/// When the bytes are no message, or it holds more than `most`. Groups, which no client uses, are
/// refused with what is malformed.
pub fn count<M: Scanned>(bytes: &[u8], most: usize) -> Result<usize, Uncounted> {
    let mut left = most;
    walk(bytes, M::shape(), &mut left, DEPTH)?;
    Ok(most - left)
}

fn walk(mut rest: &[u8], shape: &Shape, left: &mut usize, depth: usize) -> Result<(), Uncounted> {
    let depth = depth.checked_sub(1).ok_or(Uncounted::Malformed)?;
    while !rest.is_empty() {
        spend(left, 1)?;
        let key = varint(&mut rest)?;
        let tag = u32::try_from(key >> 3).map_err(|_| Uncounted::Malformed)?;
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
                    walk(value, inner, left, depth)?;
                } else if let Some((_, list)) = shape.packed.iter().find(|(it, _)| *it == tag) {
                    spend(left, list.count(value))?;
                }
            }
            _ => return Err(Uncounted::Malformed),
        }
    }
    Ok(())
}

fn spend(left: &mut usize, count: usize) -> Result<(), Uncounted> {
    *left = left.checked_sub(count).ok_or(Uncounted::TooMany)?;
    Ok(())
}

fn take<'b>(rest: &mut &'b [u8], length: u64) -> Result<&'b [u8], Uncounted> {
    let length = usize::try_from(length).map_err(|_| Uncounted::Malformed)?;
    let (taken, behind) = rest.split_at_checked(length).ok_or(Uncounted::Malformed)?;
    *rest = behind;
    Ok(taken)
}

/// A number in groups of seven bits, the lowest first.
fn varint(rest: &mut &[u8]) -> Result<u64, Uncounted> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first().ok_or(Uncounted::Malformed)?;
        *rest = behind;
        number |= u64::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Uncounted::Malformed)
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
    fn every_field_counts_those_of_messages_within_and_numbers_of_lists_too() {
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
        // The peer, its id, its flags and what is in them; the list and its three numbers.
        let bytes = join.encode_to_vec();
        assert_eq!(count::<JoinRoomRequest>(&bytes, 8), Ok(8));
        assert_eq!(count::<JoinRoomRequest>(&bytes, 7), Err(Uncounted::TooMany));
    }

    #[test]
    fn a_megabyte_of_empty_fields_is_too_much_after_a_few_of_them() {
        let ids = [0x0A, 0x00].repeat(1 << 19);
        let counted = count::<SendChatMessageToPeersRequest>(&ids, 100);
        assert_eq!(counted, Err(Uncounted::TooMany));
        let keys = [0x1A, 0x00].repeat(1 << 19);
        let counted = count::<PluginStoreInsertKeysRequest>(&keys, 1 << 19);
        assert_eq!(counted, Ok(1 << 19));
        let counted = count::<PluginStoreInsertKeysRequest>(&keys, (1 << 19) - 1);
        assert_eq!(counted, Err(Uncounted::TooMany));
    }

    #[test]
    fn what_is_cut_off_or_a_group_is_malformed() {
        for bytes in [
            &[0x0A][..],
            &[0x0A, 0x02, 0x00],
            &[0x80],
            &[0x0B, 0x0C],
            &[0x09, 0x00],
        ] {
            let counted = count::<SendChatMessageToPeersRequest>(bytes, 100);
            assert_eq!(counted, Err(Uncounted::Malformed), "{bytes:?}");
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
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let counted = count::<JoinRoomRequest>(&bytes, 1_000);
            // What can be counted may be refused by the decoder; what cannot, it may take only when
            // it holds groups.
            if let Ok(fields) = counted {
                prop_assert!(fields <= bytes.len());
            }
        }
    }
}
