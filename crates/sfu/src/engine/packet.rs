//! A packet on its way through the engine.

use super::history::StoredPacket;
use super::key_frame;
use super::rtp_munger::SourceFields;
use crate::sdp::Codec;
use crate::wire::vp8;

/// A decrypted packet of a publisher.
pub(super) struct Packet<'a> {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// The audio level or the video orientation, as received.
    pub(super) extension: Option<u8>,
    pub(super) payload: &'a [u8],
    /// Whether a decoder can start here: the first packet of a key frame, or any audio packet.
    pub(super) is_keyframe_start: bool,
    pub(super) vp8: Option<vp8::Descriptor>,
}

impl<'a> Packet<'a> {
    pub(super) fn new(
        codec: Codec,
        (index, timestamp, marker, extension): (u64, u32, bool, Option<u8>),
        payload: &'a [u8],
    ) -> Self {
        let (is_keyframe_start, vp8) = key_frame::inspect(codec, payload);
        Self {
            index,
            timestamp,
            marker,
            extension,
            payload,
            is_keyframe_start,
            vp8,
        }
    }

    /// Restores a packet from the history.
    pub(super) fn stored(codec: Codec, stored: &'a StoredPacket) -> Self {
        let numbers = (
            stored.index,
            stored.timestamp,
            stored.marker,
            stored.extension,
        );
        Self::new(codec, numbers, &stored.payload)
    }

    pub(super) fn source_fields(&self) -> SourceFields {
        SourceFields {
            index: self.index,
            timestamp: self.timestamp,
            picture_id: self
                .vp8
                .as_ref()
                .and_then(|descriptor| descriptor.picture_id),
            tl0: self
                .vp8
                .as_ref()
                .and_then(|descriptor| descriptor.tl0_pic_idx),
        }
    }
}
