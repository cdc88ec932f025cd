//! VP8 payload descriptors: parsing, patching of the picture id and TL0PICIDX, and the size of key
//! frames.
#![no_main]

use parlor_sfu::wire::vp8::{self, Descriptor};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let size = vp8::dimensions(bytes);
    let Some(descriptor) = Descriptor::parse(bytes) else {
        assert_eq!(size, None);
        return;
    };
    assert!(descriptor.length <= bytes.len());
    assert!(size.is_none() || descriptor.keyframe_start);

    let mut patched = bytes.to_vec();
    descriptor.patch(&mut patched, 0x5A5A, 0xA5);
    let mut reparsed = Descriptor::parse(&patched).expect("patching keeps the field widths");
    let mask = (1_u32 << descriptor.picture_bits) - 1;
    assert_eq!(
        reparsed.picture_id.map(u32::from),
        descriptor.picture_id.map(|_| 0x5A5A & mask)
    );
    assert_eq!(reparsed.tl0_pic_idx, descriptor.tl0_pic_idx.map(|_| 0xA5));
    (reparsed.picture_id, reparsed.tl0_pic_idx) = (descriptor.picture_id, descriptor.tl0_pic_idx);
    assert_eq!(reparsed, descriptor);
    assert_eq!(
        patched.get(descriptor.length..),
        bytes.get(descriptor.length..)
    );
});
