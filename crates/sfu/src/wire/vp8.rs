//! The VP8 payload descriptor (RFC 7741 section 4.2), and the frame size in the header of a key
//! frame (RFC 6386 section 9.1).

use super::be16;

#[cfg(test)]
mod tests;

/// The payload descriptor of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a bit in the descriptor, or a combination of two"
)]
pub struct Descriptor {
    /// S: the packet starts a partition.
    pub start_of_partition: bool,
    /// PID: the index of the partition, 0 to 7.
    pub partition: u8,
    /// N: the frame is not a reference frame, so it can be dropped.
    pub discardable: bool,
    /// Whether the packet is the first of its frame.
    pub frame_start: bool,
    /// Whether the packet is the first of a key frame.
    pub keyframe_start: bool,
    /// The picture id. Wraps around at [`picture_bits`](Self::picture_bits) bits.
    pub picture_id: Option<u16>,
    /// The number of bits of the picture id: 7 or 15, or 0 without a picture id.
    pub picture_bits: u8,
    /// TL0PICIDX: the running index of the frames of temporal layer 0.
    pub tl0_pic_idx: Option<u8>,
    /// TID: the temporal layer, 0 to 3.
    pub temporal: Option<u8>,
    /// Y: the frame depends only on temporal layer 0, so a receiver can switch up to this layer.
    pub sync: bool,
    /// KEYIDX: the key frame index, 0 to 31.
    pub key_index: Option<u8>,
    /// The length of the descriptor, in bytes. The VP8 payload header follows.
    pub length: usize,
    /// The offset of the picture id, if there is one.
    picture_at: usize,
    /// The offset of TL0PICIDX, if there is one.
    tl0_at: usize,
}

impl Descriptor {
    /// Parses the descriptor at the start of an RTP payload. Returns `None` if it is truncated.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut descriptor = Self {
            start_of_partition: first & 0x10 != 0,
            partition: first & 0x07,
            discardable: first & 0x20 != 0,
            frame_start: first & 0x17 == 0x10,
            keyframe_start: false,
            picture_id: None,
            picture_bits: 0,
            tl0_pic_idx: None,
            temporal: None,
            sync: false,
            key_index: None,
            length: 1,
            picture_at: 0,
            tl0_at: 0,
        };
        if first & 0x80 != 0 {
            descriptor.parse_extension(payload)?;
        }
        // The lowest bit of the VP8 payload header is 0 in a key frame.
        descriptor.keyframe_start = descriptor.frame_start
            && payload
                .get(descriptor.length)
                .is_some_and(|frame| frame & 1 == 0);
        Some(descriptor)
    }

    /// Parses the extended part of the descriptor, which is present if the X bit is set.
    fn parse_extension(&mut self, payload: &[u8]) -> Option<()> {
        let present = *payload.get(1)?;
        self.length = 2;
        if present & 0x80 != 0 {
            self.picture_at = self.length;
            let short = *payload.get(self.length)?;
            if short & 0x80 == 0 {
                self.picture_id = Some(u16::from(short));
                self.picture_bits = 7;
                self.length += 1;
            } else {
                self.picture_id = Some(be16(payload, self.length)? & 0x7FFF);
                self.picture_bits = 15;
                self.length += 2;
            }
        }
        if present & 0x40 != 0 {
            self.tl0_at = self.length;
            self.tl0_pic_idx = Some(*payload.get(self.length)?);
            self.length += 1;
        }
        if present & 0x30 != 0 {
            let layer = *payload.get(self.length)?;
            self.length += 1;
            if present & 0x20 != 0 {
                self.temporal = Some(layer >> 6);
                self.sync = layer & 0x20 != 0;
            }
            if present & 0x10 != 0 {
                self.key_index = Some(layer & 0x1F);
            }
        }
        Some(())
    }

    /// Replaces picture id and TL0PICIDX in the payload of this descriptor, or in a copy of it.
    /// Keeps the width of each, and does not add missing ones.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0: u8) {
        let [high, low] = picture_id.to_be_bytes();
        match (self.picture_bits, payload.get_mut(self.picture_at..)) {
            (7, Some([short, ..])) => *short = low & 0x7F,
            (15, Some([first, second, ..])) => {
                *first = high | 0x80;
                *second = low;
            }
            _ => {}
        }
        if self.tl0_pic_idx.is_some()
            && let Some(byte) = payload.get_mut(self.tl0_at)
        {
            *byte = tl0;
        }
    }
}

/// Returns the width and height in pixels, if the RTP payload starts a key frame.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    let descriptor = Descriptor::parse(payload)?;
    if !descriptor.keyframe_start {
        return None;
    }
    // A frame tag of three bytes, the start code, then width and height with 14 bits each. The
    // upper two bits of each are for upscaling.
    let frame = payload.get(descriptor.length..)?;
    let [
        _,
        _,
        _,
        0x9D,
        0x01,
        0x2A,
        width_low,
        width_high,
        height_low,
        height_high,
        ..,
    ] = *frame
    else {
        return None;
    };
    let width = u16::from_le_bytes([width_low, width_high]) & 0x3FFF;
    let height = u16::from_le_bytes([height_low, height_high]) & 0x3FFF;
    Some((width, height))
}
