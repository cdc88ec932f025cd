//! What VP8 puts before its frames: the payload descriptor (RFC 7741 section 4.2), and in a key
//! frame the size of the picture (RFC 6386 section 9.1).

use super::be16;

#[cfg(test)]
mod tests;

/// The payload descriptor of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a bit on the wire, or two of them"
)]
pub struct Descriptor {
    /// S: the payload begins a partition.
    pub start_of_partition: bool,
    /// PID: the partition, 0 to 7.
    pub partition: u8,
    /// N: no other frame is decoded from this one, so it can be dropped.
    pub discardable: bool,
    /// Whether this packet is the first of its frame.
    pub frame_start: bool,
    /// Whether this packet is the first of a key frame.
    pub keyframe_start: bool,
    /// The picture's number, which wraps at [`picture_bits`](Self::picture_bits).
    pub picture_id: Option<u16>,
    /// How many bits the picture's number has: 7 or 15, and 0 when there is none.
    pub picture_bits: u8,
    /// TL0PICIDX: a running number of the frames of temporal layer 0.
    pub tl0_pic_idx: Option<u8>,
    /// TID: the temporal layer, 0 to 3.
    pub temporal: Option<u8>,
    /// Y: the frame depends on temporal layer 0 only, so a receiver can begin this layer here.
    pub sync: bool,
    /// KEYIDX: 0 to 31.
    pub key_index: Option<u8>,
    /// How long the descriptor is, in bytes. VP8's own bytes follow.
    pub length: usize,
    /// Where the picture's number is. Meaningless without one.
    picture_at: usize,
    /// Where TL0PICIDX is. Meaningless without one.
    tl0_at: usize,
}

impl Descriptor {
    /// Reads the descriptor at the begin of an RTP payload. `None` when it does not fit.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut found = Self {
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
            found.extended(payload)?;
        }
        // The lowest bit of VP8's own first byte is 0 in a key frame.
        found.keyframe_start = found.frame_start
            && payload
                .get(found.length)
                .is_some_and(|frame| frame & 1 == 0);
        Some(found)
    }

    /// Reads what follows the first byte when its X bit is set.
    fn extended(&mut self, payload: &[u8]) -> Option<()> {
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

    /// Writes other numbers into the payload that this descriptor was read from, or a copy of it.
    /// Each keeps its width; one that the descriptor does not have is not written.
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

/// The width and height in pixels that an RTP payload gives, if it begins a key frame.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    let descriptor = Descriptor::parse(payload)?;
    if !descriptor.keyframe_start {
        return None;
    }
    // Three bytes of frame tag, the start code, then two sizes of 14 bits whose upper two bits ask
    // for upscaling.
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
