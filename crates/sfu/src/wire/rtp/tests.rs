use proptest::prelude::*;

use super::*;

const PLAIN: Outgoing = Outgoing {
    marker: true,
    payload_type: 111,
    sequence: 0xF17B,
    timestamp: 0x8041_F8D3,
    ssrc: 0x5501_A0B2,
};

fn elements(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let header = Header::parse(packet).unwrap();
    header
        .extensions(packet)
        .map(|(id, value)| (id, value.to_vec()))
        .collect()
}

/// A packet with an extension block of this profile and content.
fn with_block(profile: u16, content: &[u8]) -> Vec<u8> {
    assert_eq!(content.len() % 4, 0);
    let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    packet.extend_from_slice(&profile.to_be_bytes());
    let words = u16::try_from(content.len() / 4).unwrap();
    packet.extend_from_slice(&words.to_be_bytes());
    packet.extend_from_slice(content);
    packet.push(7);
    packet
}

#[test]
fn a_header_without_extensions_is_twelve_bytes() {
    let mut out = vec![9];
    assert_eq!(write_header(&mut out, &PLAIN, &[]), 12);
    let expected = [
        0x80, 0xEF, 0xF1, 0x7B, 0x80, 0x41, 0xF8, 0xD3, 0x55, 0x01, 0xA0, 0xB2,
    ];
    assert_eq!(out[1..], expected);
    let header = Header::parse(&out[1..]).unwrap();
    assert_eq!(
        (header.payload, header.extensions, header.profile),
        (12, 0..0, 0)
    );
}

#[test]
fn extensions_are_written_in_the_one_byte_form_and_padded() {
    let mut out = Vec::new();
    let length = write_header(&mut out, &PLAIN, &[(1, &[0x85]), (3, &[0x12, 0x34])]);
    assert_eq!(length, 24);
    assert_eq!(out[0], 0x90);
    assert_eq!(
        out[12..],
        [0xBE, 0xDE, 0, 2, 0x10, 0x85, 0x31, 0x12, 0x34, 0, 0, 0]
    );
}

#[test]
fn extensions_that_do_not_fit_the_one_byte_form_are_left_out() {
    let mut out = Vec::new();
    let long = [1; 17];
    let bad: [(u8, &[u8]); 4] = [(0, &[1]), (15, &[1]), (2, &[]), (3, &long)];
    assert_eq!(write_header(&mut out, &PLAIN, &bad), 12);
    assert_eq!(out.len(), 12);
    assert_eq!(out[0], 0x80);
    let some = [bad[0], (4, &[8][..]), bad[3]];
    out.clear();
    write_header(&mut out, &PLAIN, &some);
    assert_eq!(elements(&out), [(4, vec![8])]);
}

#[test]
fn only_the_first_fourteen_extensions_are_written() {
    let mut out = Vec::new();
    let value = [7; 16];
    write_header(&mut out, &PLAIN, &[(1, &value[..]); 100]);
    assert_eq!(elements(&out), vec![(1, value.to_vec()); 14]);
}

#[test]
fn the_two_byte_form_is_parsed() {
    for profile in [0x1000, 0x100F] {
        let packet = with_block(profile, &[0, 200, 2, 5, 6, 0, 0, 3, 0, 9, 1, 7]);
        assert_eq!(
            elements(&packet),
            [(200, vec![5, 6]), (3, vec![]), (9, vec![7])]
        );
    }
}

#[test]
fn blocks_of_an_unknown_profile_have_no_elements_but_are_skipped() {
    let packet = with_block(0xABAC, &[0x10, 1, 2, 3]);
    assert_eq!(elements(&packet), []);
    assert_eq!(Header::parse(&packet).unwrap().payload, 20);
}

#[test]
fn id_0_with_a_length_and_id_15_end_the_block() {
    assert_eq!(
        elements(&with_block(0xBEDE, &[0x10, 1, 0xF0, 2, 0x20, 3, 0, 0])),
        [(1, vec![1])]
    );
    assert_eq!(
        elements(&with_block(0xBEDE, &[0x10, 1, 0x01, 2, 2, 0x20, 3, 0])),
        [(1, vec![1])]
    );
    assert_eq!(
        elements(&with_block(0xBEDE, &[0x10, 1, 0, 0, 0x20, 3, 0, 0])),
        [(1, vec![1]), (2, vec![3])]
    );
}

#[test]
fn an_element_longer_than_the_block_is_ignored() {
    assert_eq!(
        elements(&with_block(0xBEDE, &[0x10, 1, 0x27, 2])),
        [(1, vec![1])]
    );
    assert_eq!(elements(&with_block(0x1000, &[1, 1, 9, 2])), [(1, vec![9])]);
    assert_eq!(elements(&with_block(0x1000, &[1, 3, 9, 2])), []);
}

#[test]
fn contributing_sources_are_skipped() {
    let mut packet = vec![0x82, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    packet.extend_from_slice(&[0xAA; 8]);
    packet.push(1);
    let header = Header::parse(&packet).unwrap();
    assert_eq!(header.payload, 20);
    assert_eq!(header.unpadded(&packet), Some(20..21));
    assert_eq!(Header::parse(&packet[..19]), None);
}

#[test]
fn packets_that_are_truncated_or_not_rtp_are_rejected() {
    let packet = with_block(0xBEDE, &[0x10, 1, 0, 0]);
    assert!(Header::parse(&packet).is_some());
    for length in 0..20 {
        assert_eq!(Header::parse(&packet[..length]), None, "{length}");
    }
    for first in [0x00, 0x40, 0xC0] {
        let mut other = packet.clone();
        other[0] = first | 0x10;
        assert_eq!(Header::parse(&other), None);
    }
}

#[test]
fn padding_is_removed_if_its_length_is_valid() {
    let mut packet = vec![0xA0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 3];
    let header = Header::parse(&packet).unwrap();
    assert!(header.padded);
    for (padding, expected) in [(1, Some(12..15)), (3, Some(12..13)), (4, Some(12..12))] {
        packet[15] = padding;
        assert_eq!(header.unpadded(&packet), expected);
    }
    for padding in [0, 5, 255] {
        packet[15] = padding;
        assert_eq!(header.unpadded(&packet), None);
    }
    assert_eq!(header.unpadded(&packet[..12]), None);
    assert_eq!(header.unpadded(&packet[..3]), None);
}

#[test]
fn an_audio_level_is_seven_bits_and_a_flag() {
    assert_eq!(audio_level(&[0x80 | 0x1E]), (30, true));
    assert_eq!(audio_level(&[127]), (127, false));
    assert_eq!(audio_level(&[]), (127, false), "an empty value is silence");
}

#[test]
fn sequence_numbers_are_unwrapped_to_the_nearest() {
    assert_eq!(unwrap_sequence(0x1_FFFF, 0), 0x2_0000);
    assert_eq!(unwrap_sequence(0x2_0000, 0xFFFF), 0x1_FFFF);
    assert_eq!(unwrap_sequence(0x1_0005, 0x8004), 0x1_8004);
    assert_eq!(
        unwrap_sequence(0x1_0005, 0x8005),
        0x8005,
        "the lower of two equally near ones"
    );
    assert_eq!(unwrap_sequence(5, 0xFFFF), 0xFFFF, "never negative");
}

fn outgoing() -> impl Strategy<Value = Outgoing> {
    (
        any::<bool>(),
        0..=127_u8,
        any::<u16>(),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(
            |(marker, payload_type, sequence, timestamp, ssrc)| Outgoing {
                marker,
                payload_type,
                sequence,
                timestamp,
                ssrc,
            },
        )
}

proptest! {
    #[test]
    fn headers_survive_a_round_trip(
        outgoing in outgoing(),
        values in prop::collection::vec((1..=14_u8, prop::collection::vec(any::<u8>(), 1..=16)), 0..=14),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let given: Vec<(u8, &[u8])> = values.iter().map(|(id, value)| (*id, value.as_slice())).collect();
        let mut packet = Vec::new();
        let length = write_header(&mut packet, &outgoing, &given);
        prop_assert_eq!(length, packet.len());
        prop_assert_eq!(length % 4, 0);
        packet.extend_from_slice(&payload);
        let header = Header::parse(&packet).unwrap();
        prop_assert_eq!(header.payload, length);
        prop_assert_eq!(header.unpadded(&packet), Some(length..packet.len()));
        prop_assert_eq!(elements(&packet), values);
        let read = Outgoing {
            marker: header.marker,
            payload_type: header.payload_type,
            sequence: header.sequence,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
        };
        prop_assert_eq!(read, outgoing);
    }

    #[test]
    fn an_extended_number_is_near_and_has_the_given_sequence(
        near in prop_oneof![0..0x3_0000_u64, any::<u64>()],
        sequence: u16,
    ) {
        let found = unwrap_sequence(near, sequence);
        prop_assert_eq!(found & 0xFFFF, u64::from(sequence));
        if (0x8000..u64::MAX - 0x8000).contains(&near) {
            prop_assert!(found.abs_diff(near) <= 0x8000);
        }
    }

    #[test]
    fn parsing_arbitrary_bytes_does_not_panic(first: u8, profile in prop_oneof![Just(0xBEDE_u16), Just(0x1000), any::<u16>()], mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let [version, ..] = bytes.as_mut_slice() {
            *version = 0x80 | first & 0x3F;
        }
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&profile.to_be_bytes());
        }
        if let Some(high) = bytes.get_mut(14) {
            *high = 0;
        }
        if let Some(header) = Header::parse(&bytes) {
            prop_assert!(header.payload <= bytes.len());
            prop_assert!(header.extensions(&bytes).count() <= bytes.len());
            if let Some(payload) = header.unpadded(&bytes) {
                prop_assert!(payload.start <= payload.end && payload.end <= bytes.len());
            }
        }
    }
}
