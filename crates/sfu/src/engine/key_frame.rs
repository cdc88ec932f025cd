//! Detection of the packets where decoding can start, from what each codec's RTP payload format
//! puts before the frame. This part is never end-to-end encrypted, since depacketisers need it
//! (docs/spec/media.md 6.1).

use crate::sdp::Codec;
use crate::wire::vp8;

/// Returns whether decoding can start with this payload, and for VP8 its payload descriptor.
pub(super) fn inspect(codec: Codec, payload: &[u8]) -> (bool, Option<vp8::Descriptor>) {
    let begins = match codec {
        Codec::Opus => !payload.is_empty(),
        Codec::Vp8 => {
            let descriptor = vp8::Descriptor::parse(payload);
            return (
                descriptor.is_some_and(|descriptor| descriptor.keyframe_start),
                descriptor,
            );
        }
        Codec::Vp9 => vp9(payload).unwrap_or_default(),
        Codec::H264 => h264(payload).unwrap_or_default(),
        // The N bit: a new coded video sequence begins (AV1 RTP, 4.4).
        Codec::Av1 => payload.first().is_some_and(|header| header & 0x08 != 0),
    };
    (begins, None)
}

/// The first packet of the lowest spatial layer of a frame without inter prediction (RFC 9628,
/// 4.2).
fn vp9(payload: &[u8]) -> Option<bool> {
    let (first, mut rest) = payload.split_first()?;
    let has = |bit: u8| first & bit != 0;
    if has(0x80) {
        let long = *rest.first()? & 0x80 != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    let layer = if has(0x20) {
        *rest.first()? >> 1 & 7
    } else {
        0
    };
    let (inter_predicted, begins_frame) = (has(0x40), has(0x08));
    Some(!inter_predicted && begins_frame && layer == 0)
}

/// A sequence parameter set, which precedes a key frame: alone, aggregated or fragmented (RFC 6184,
/// 5.2).
fn h264(payload: &[u8]) -> Option<bool> {
    const PARAMETERS: u8 = 7;
    let (first, mut rest) = payload.split_first()?;
    match first & 0x1F {
        PARAMETERS => Some(true),
        24 => {
            while let Some((size, units)) = rest.split_first_chunk() {
                let unit = units.get(..usize::from(u16::from_be_bytes(*size)))?;
                if unit.first()? & 0x1F == PARAMETERS {
                    return Some(true);
                }
                rest = &units[unit.len()..];
            }
            Some(false)
        }
        28 => {
            let header = rest.first()?;
            Some(header & 0x80 != 0 && header & 0x1F == PARAMETERS)
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn key_frames_of_every_codec_are_detected() {
        for (codec, payload, expected) in [
            (Codec::Vp8, &[0x10, 0x00][..], true),
            (Codec::Vp8, &[0x10, 0x01], false),
            (Codec::Vp8, &[0x00, 0x00], false),
            (Codec::Vp9, &[0x88, 0x01], true),
            (Codec::Vp9, &[0x88, 0x81, 0x02], true),
            (Codec::Vp9, &[0xC8, 0x01], false),
            (Codec::Vp9, &[0x80, 0x01], false),
            (Codec::Vp9, &[0xA8, 0x01, 0x02], false),
            (Codec::Vp9, &[0xA8, 0x01, 0x40], true),
            (Codec::H264, &[0x67, 0x42], true),
            (Codec::H264, &[0x65, 0x88], false),
            (Codec::H264, &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], true),
            (Codec::H264, &[0x78, 0, 1, 0x41, 0, 1, 0x41], false),
            (Codec::H264, &[0x78, 0, 9, 0x41], false),
            (Codec::H264, &[0x7C, 0x87], true),
            (Codec::H264, &[0x7C, 0x07], false),
            (Codec::Av1, &[0x18, 0x0A], true),
            (Codec::Av1, &[0x10, 0x0A], false),
            (Codec::Opus, &[0x78], true),
            (Codec::Opus, &[], false),
        ] {
            assert_eq!(
                inspect(codec, payload).0,
                expected,
                "{codec:?} {payload:02x?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_payload_can_be_inspected(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            for codec in Codec::ALL {
                let _ = inspect(codec, &payload);
            }
        }
    }
}
