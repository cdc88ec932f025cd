//! The payload descriptor of VP8, other numbers in it, and the size of a key frame.
#![no_main]

use parlor_sfu::wire::vp8::{self, Descriptor};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let size = vp8::dimensions(bytes);
    let Some(found) = Descriptor::parse(bytes) else {
        assert_eq!(size, None);
        return;
    };
    assert!(found.length <= bytes.len());
    assert!(size.is_none() || found.keyframe_start);

    let mut patched = bytes.to_vec();
    found.patch(&mut patched, 0x5A5A, 0xA5);
    let mut again = Descriptor::parse(&patched).expect("patching keeps widths");
    let mask = (1_u32 << found.picture_bits) - 1;
    assert_eq!(
        again.picture_id.map(u32::from),
        found.picture_id.map(|_| 0x5A5A & mask)
    );
    assert_eq!(again.tl0_pic_idx, found.tl0_pic_idx.map(|_| 0xA5));
    (again.picture_id, again.tl0_pic_idx) = (found.picture_id, found.tl0_pic_idx);
    assert_eq!(again, found);
    assert_eq!(patched.get(found.length..), bytes.get(found.length..));
});
