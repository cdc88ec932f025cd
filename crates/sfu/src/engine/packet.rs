//! A packet on its way through the engine.

use super::history::Stored;
use super::key_frame;
use super::rewrite::Numbers;
use crate::sdp::Codec;
use crate::wire::vp8;

/// A packet of a publisher, decrypted.
pub(super) struct Packet<'a> {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// The audio level or the orientation of the picture, as it came.
    pub(super) mark: Option<u8>,
    pub(super) payload: &'a [u8],
    /// Decoding can begin with it.
    pub(super) begins: bool,
    pub(super) picture: Option<vp8::Descriptor>,
}

impl<'a> Packet<'a> {
    pub(super) fn new(
        codec: Codec,
        (index, timestamp, marker, mark): (u64, u32, bool, Option<u8>),
        payload: &'a [u8],
    ) -> Self {
        let (begins, picture) = key_frame::look(codec, payload);
        Self {
            index,
            timestamp,
            marker,
            mark,
            payload,
            begins,
            picture,
        }
    }

    /// One that came before.
    pub(super) fn stored(codec: Codec, stored: &'a Stored) -> Self {
        let numbers = (stored.index, stored.timestamp, stored.marker, stored.mark);
        Self::new(codec, numbers, &stored.payload)
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            index: self.index,
            timestamp: self.timestamp,
            picture: self.picture.as_ref().and_then(|picture| picture.picture_id),
            tl0: self
                .picture
                .as_ref()
                .and_then(|picture| picture.tl0_pic_idx),
        }
    }
}
