use proptest::prelude::*;

use super::*;

#[test]
fn the_shortest_descriptor_is_one_byte() {
    let found = Descriptor::parse(&[0x10, 0x00]).unwrap();
    assert!(found.frame_start && found.keyframe_start && found.start_of_partition);
    assert_eq!((found.length, found.picture_bits), (1, 0));
    assert_eq!((found.picture_id, found.tl0_pic_idx), (None, None));
    assert!(!Descriptor::parse(&[0x10, 0x01]).unwrap().keyframe_start);
    assert!(!Descriptor::parse(&[0x10]).unwrap().keyframe_start);
}

#[test]
fn a_descriptor_of_a_browser_is_parsed() {
    let payload = [0xB0, 0xE0, 0x92, 0x34, 0x56, 0xA0, 0x01];
    let found = Descriptor::parse(&payload).unwrap();
    assert_eq!((found.picture_id, found.picture_bits), (Some(0x1234), 15));
    assert_eq!(found.tl0_pic_idx, Some(0x56));
    assert_eq!((found.temporal, found.sync), (Some(2), true));
    assert_eq!(found.key_index, None);
    assert!(found.discardable && found.frame_start && !found.keyframe_start);
    assert_eq!(found.length, 6);
}

#[test]
fn a_short_picture_id_and_a_key_index_are_parsed() {
    let found = Descriptor::parse(&[0x83, 0x90, 0x7F, 0xFF, 0]).unwrap();
    assert_eq!((found.picture_id, found.picture_bits), (Some(0x7F), 7));
    assert_eq!((found.temporal, found.sync), (None, false));
    assert_eq!(found.key_index, Some(31));
    assert_eq!((found.partition, found.start_of_partition), (3, false));
    assert_eq!(found.length, 4);
}

#[test]
fn only_the_first_partition_begins_a_frame() {
    assert!(!Descriptor::parse(&[0x11, 0]).unwrap().frame_start);
    assert!(!Descriptor::parse(&[0x11, 0]).unwrap().keyframe_start);
    assert!(!Descriptor::parse(&[0x00, 0]).unwrap().frame_start);
    assert!(!Descriptor::parse(&[0x00, 0]).unwrap().keyframe_start);
}

#[test]
fn a_descriptor_that_does_not_fit_is_none() {
    let whole = [0x80, 0xF0, 0x81, 0x02, 0x03, 0x44];
    assert_eq!(Descriptor::parse(&whole).unwrap().length, 6);
    for length in 0..6 {
        assert_eq!(Descriptor::parse(&whole[..length]), None, "{length}");
    }
}

#[test]
fn patching_keeps_widths_and_everything_else() {
    let mut long = [0x90, 0xE0, 0x92, 0x34, 0x56, 0x40, 0xAA];
    Descriptor::parse(&long)
        .unwrap()
        .patch(&mut long, 0xFFFF, 9);
    assert_eq!(long, [0x90, 0xE0, 0xFF, 0xFF, 9, 0x40, 0xAA]);
    let mut short = [0x90, 0x80, 0x12, 0x34];
    Descriptor::parse(&short)
        .unwrap()
        .patch(&mut short, 0x01FF, 9);
    assert_eq!(short, [0x90, 0x80, 0x7F, 0x34]);
    let mut none = [0x10, 0x34];
    Descriptor::parse(&none).unwrap().patch(&mut none, 1, 1);
    assert_eq!(none, [0x10, 0x34]);
    let whole = Descriptor::parse(&long).unwrap();
    let mut cut = [0x90, 0xE0];
    whole.patch(&mut cut, 1, 1);
    assert_eq!(cut, [0x90, 0xE0], "a copy that is too short is unchanged");
}

#[test]
fn the_size_of_a_key_frame_is_parsed() {
    // 640 by 360 with upscaling bits, after a descriptor with a picture id.
    let payload = [
        0x90, 0x80, 0x05, 0x50, 0x42, 0x01, 0x9D, 0x01, 0x2A, 0x80, 0x42, 0x68, 0x81, 0,
    ];
    assert_eq!(dimensions(&payload), Some((640, 360)));
    let mut delta = payload;
    delta[3] |= 1;
    assert_eq!(dimensions(&delta), None);
    let mut damaged = payload;
    damaged[6] = 0;
    assert_eq!(dimensions(&damaged), None);
    for length in 0..13 {
        assert_eq!(dimensions(&payload[..length]), None, "{length}");
    }
}

proptest! {
    #[test]
    fn patching_arbitrary_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..20), picture: u16, tl0: u8) {
        let _ = dimensions(&bytes);
        let Some(before) = Descriptor::parse(&bytes) else { return Ok(()) };
        prop_assert!(before.length <= bytes.len());
        let mut patched = bytes.clone();
        before.patch(&mut patched, picture, tl0);
        let after = Descriptor::parse(&patched).unwrap();
        let mask = (1_u32 << before.picture_bits) - 1;
        prop_assert_eq!(after.picture_id.map(u32::from), before.picture_id.map(|_| u32::from(picture) & mask));
        prop_assert_eq!(after.tl0_pic_idx, before.tl0_pic_idx.map(|_| tl0));
        let same = Descriptor { picture_id: before.picture_id, tl0_pic_idx: before.tl0_pic_idx, ..after };
        prop_assert_eq!(same, before);
        prop_assert_eq!(&patched[before.length..], &bytes[before.length..]);
    }
}
