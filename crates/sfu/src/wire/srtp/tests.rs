use proptest::prelude::*;

use super::replay::{IDLE, MAX_STREAMS, WINDOW};
use super::*;
use crate::wire::rtp::{Outgoing, write_header};

mod vectors;

const PROFILES: [Profile; 3] = [
    Profile::Aead128Gcm,
    Profile::Aead256Gcm,
    Profile::AesCm128Sha1_80,
];

/// A client's sealer and the server's opener with the same keys.
fn client_to_server(profile: Profile) -> (Sealer, Opener) {
    let material: Vec<u8> = (0_u8..).take(profile.keying_material_len()).collect();
    let (sealer, _) = pair(profile, &material, false).unwrap();
    let (_, opener) = pair(profile, &material, true).unwrap();
    (sealer, opener)
}

/// An RTP packet, and the length of its header.
fn plain(ssrc: u32, index: u64, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut packet = Vec::new();
    let header = Outgoing {
        marker: false,
        payload_type: 96,
        sequence: (index % 0x1_0000).try_into().unwrap(),
        timestamp: 5,
        ssrc,
    };
    let length = write_header(&mut packet, &header, &[(4, b"mid")]);
    packet.extend_from_slice(payload);
    (packet, length)
}

fn sealed(sealer: &Sealer, ssrc: u32, index: u64) -> Vec<u8> {
    let (mut packet, header) = plain(ssrc, index, b"payload");
    sealer.seal_rtp(&mut packet, 0, header, index);
    packet
}

fn opens(opener: &mut Opener, packet: &[u8]) -> Option<u64> {
    opener
        .open_rtp(&mut packet.to_vec())
        .map(|opened| opened.index)
}

/// A receiver report, followed by other bytes.
fn report(ssrc: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

#[test]
fn sealed_packets_are_opened_in_both_directions() {
    for profile in PROFILES {
        let material: Vec<u8> = (0_u8..).take(profile.keying_material_len()).collect();
        let (client_sealer, mut client_opener) = pair(profile, &material, false).unwrap();
        let (server_sealer, mut server_opener) = pair(profile, &material, true).unwrap();
        let up = sealed(&client_sealer, 1, 7);
        let down = sealed(&server_sealer, 1, 7);
        assert_ne!(up, down, "each has its own keys");
        assert_eq!(opens(&mut server_opener, &up), Some(7));
        assert_eq!(opens(&mut client_opener, &up), None);
        assert_eq!(opens(&mut client_opener, &down), Some(7));
    }
}

#[test]
fn bytes_before_a_packet_are_unchanged() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = client_to_server(profile);
        let mut arena = sealed(&sealer, 1, 7);
        let first = arena.clone();
        let (second, header) = plain(1, 8, b"more");
        arena.extend_from_slice(&second);
        sealer.seal_rtp(&mut arena, first.len(), header, 8);
        let end = arena.len();
        assert_eq!(end, first.len() + second.len() + sealer.overhead());
        arena.extend_from_slice(&report(1, b"abcd"));
        sealer.seal_rtcp(&mut arena, end);
        assert_eq!(arena[..first.len()], first);
        assert_eq!(opens(&mut opener, &arena[first.len()..end]), Some(8));
        assert_eq!(
            opener.open_rtcp(&mut arena[end..]),
            Some(&report(1, b"abcd")[..])
        );
    }
}

#[test]
fn a_packet_that_cannot_be_sealed_is_removed() {
    for profile in PROFILES {
        let (mut sealer, _) = client_to_server(profile);
        let (packet, header) = plain(1, 7, b"payload");
        // A header longer than the packet, a header that is too short, and an index with 49 bits.
        for (header, index) in [(packet.len() + 17, 7), (11, 7), (header, 1 << 48 | 7)] {
            let mut arena = [b"before", packet.as_slice()].concat();
            sealer.seal_rtp(&mut arena, 6, header, index);
            assert_eq!(arena, b"before");
        }
        let mut arena = b"before".to_vec();
        sealer.seal_rtp(&mut arena, 99, 12, 0);
        sealer.seal_rtcp(&mut arena, 99);
        arena.truncate(6);
        arena.extend_from_slice(&[0x80, 201, 0, 1]);
        sealer.seal_rtcp(&mut arena, 6);
        assert_eq!(arena, b"before");
    }
}

#[test]
fn a_header_that_overlaps_the_tag_is_not_sealed() {
    for profile in PROFILES {
        let (sealer, _) = client_to_server(profile);
        let (mut packet, _) = plain(1, 7, b"");
        let header = packet.len() + 1;
        sealer.seal_rtp(&mut packet, 0, header, 7);
        assert!(packet.is_empty());
    }
}

#[test]
fn srtcp_indices_are_not_reused() {
    let (mut sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
    sealer.rtcp_index = 0x7FFF_FFFF;
    let mut last = report(1, b"abcd");
    sealer.seal_rtcp(&mut last, 0);
    assert!(opener.open_rtcp(&mut last).is_some());
    let mut none = report(1, b"abcd");
    sealer.seal_rtcp(&mut none, 0);
    assert!(none.is_empty());
}

#[test]
fn a_packet_that_was_changed_anywhere_is_refused_and_leaves_no_trace() {
    for profile in PROFILES {
        let (sealer, mut opener) = client_to_server(profile);
        let packet = sealed(&sealer, 1, 7);
        for at in 0..packet.len() {
            for bit in 0..8 {
                let mut changed = packet.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(opens(&mut opener, &changed), None, "{profile:?} {at} {bit}");
            }
        }
        for length in 0..packet.len() {
            assert_eq!(opens(&mut opener, &packet[..length]), None);
        }
        assert_eq!(opener.rtp_streams.len(), 0);
        assert_eq!(opens(&mut opener, &packet), Some(7));
    }
}

#[test]
fn a_report_that_was_changed_anywhere_is_refused_and_leaves_no_trace() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = client_to_server(profile);
        let mut packet = report(1, b"abcdefgh");
        sealer.seal_rtcp(&mut packet, 0);
        for at in 0..packet.len() {
            for bit in 0..8 {
                let mut changed = packet.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(
                    opener.open_rtcp(&mut changed),
                    None,
                    "{profile:?} {at} {bit}"
                );
            }
        }
        for length in 0..packet.len() {
            assert_eq!(opener.open_rtcp(&mut packet[..length].to_vec()), None);
        }
        assert_eq!(opener.rtcp_streams.len(), 0);
        assert!(opener.open_rtcp(&mut packet.clone()).is_some());
        assert_eq!(opener.open_rtcp(&mut packet), None, "a replay");
    }
}

#[test]
fn a_report_that_is_authentic_but_not_encrypted_is_refused() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = client_to_server(profile);
        let mut packet = report(1, b"abcd");
        packet.resize(packet.len() + profile.rtcp_overhead(), 0);
        sealer.rtcp.seal_rtcp(1, 5, &mut packet).unwrap();
        assert_eq!(opener.open_rtcp(&mut packet), None);
        let mut encrypted = report(1, b"abcd");
        sealer.seal_rtcp(&mut encrypted, 0);
        assert!(opener.open_rtcp(&mut encrypted).is_some());
    }
}

#[test]
fn packets_are_opened_once_and_in_any_order_within_the_window() {
    for profile in PROFILES {
        let (sealer, mut opener) = client_to_server(profile);
        let highest = 2 * WINDOW;
        assert_eq!(
            opens(&mut opener, &sealed(&sealer, 1, highest)),
            Some(highest)
        );
        let oldest = highest - WINDOW + 1;
        for index in [oldest, highest - 1, highest - 64, highest - 63] {
            let packet = sealed(&sealer, 1, index);
            assert_eq!(opens(&mut opener, &packet), Some(index));
            assert_eq!(opens(&mut opener, &packet), None, "again");
        }
        assert_eq!(
            opens(&mut opener, &sealed(&sealer, 1, oldest - 1)),
            None,
            "too old"
        );
        assert_eq!(opens(&mut opener, &sealed(&sealer, 1, highest)), None);
    }
}

#[test]
fn a_late_packet_is_not_mistaken_for_one_of_the_previous_window() {
    let (sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
    for index in [5, 1000, 2000, 5 + WINDOW, 1000 + WINDOW - 1, 1000 + WINDOW] {
        assert_eq!(opens(&mut opener, &sealed(&sealer, 1, index)), Some(index));
    }
}

#[test]
fn a_jump_clears_the_window() {
    let (sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
    for index in [
        5,
        5 + WINDOW,
        4 + WINDOW,
        6 + 3 * WINDOW,
        5 + 3 * WINDOW,
        5 + 4 * WINDOW,
    ] {
        let packet = sealed(&sealer, 1, index);
        assert_eq!(opens(&mut opener, &packet), Some(index));
        assert_eq!(opens(&mut opener, &packet), None);
    }
}

#[test]
fn wraps_are_counted_when_packets_are_reordered() {
    for profile in PROFILES {
        let (sealer, mut opener) = client_to_server(profile);
        for index in [
            0xFFF0, 0x1_0001, 0xFFFF, 0x1_0000, 0xFFFE, 0x1_8000, 0x1_FFFF, 0x2_0003, 0x2_0000,
        ] {
            let packet = sealed(&sealer, 1, index);
            assert_eq!(opens(&mut opener, &packet), Some(index), "{index:x}");
            assert_eq!(opens(&mut opener, &packet), None, "{index:x} again");
        }
    }
}

#[test]
fn a_stream_with_many_wraps_is_opened() {
    for profile in PROFILES {
        let (sealer, mut opener) = client_to_server(profile);
        let mut index = 1;
        while index < 40 * 0x1_0000 {
            assert_eq!(opens(&mut opener, &sealed(&sealer, 1, index)), Some(index));
            index += 0x7000;
        }
    }
}

#[test]
fn streams_are_independent() {
    let (sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
    for ssrc in 0..10 {
        assert_eq!(opens(&mut opener, &sealed(&sealer, ssrc, 5)), Some(5));
    }
    assert_eq!(opens(&mut opener, &sealed(&sealer, 3, 5)), None);
    assert_eq!(opener.rtp_streams.len(), 10);
}

#[test]
fn a_stream_over_the_limit_is_rejected_until_another_is_idle() {
    let (sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
    let full = u32::try_from(MAX_STREAMS).unwrap();
    for ssrc in 0..full {
        assert_eq!(opens(&mut opener, &sealed(&sealer, ssrc, 5)), Some(5));
    }
    assert_eq!(opens(&mut opener, &sealed(&sealer, full, 5)), None);
    // All streams except 7 continue, so that one is evicted. It was the eighth to arrive.
    let mut index = 6;
    let mut since = MAX_STREAMS as u64 - 8;
    while since < IDLE {
        assert_eq!(
            opens(&mut opener, &sealed(&sealer, full, 5)),
            None,
            "{since}"
        );
        for ssrc in (0..full).filter(|ssrc| *ssrc != 7) {
            assert_eq!(
                opens(&mut opener, &sealed(&sealer, ssrc, index)),
                Some(index)
            );
            since += 1;
        }
        index += 1;
    }
    assert_eq!(opens(&mut opener, &sealed(&sealer, full, 5)), Some(5));
    assert_eq!(opener.rtp_streams.len(), MAX_STREAMS);
    assert_eq!(opens(&mut opener, &sealed(&sealer, full + 1, 5)), None);
    assert_eq!(opens(&mut opener, &sealed(&sealer, 8, index)), Some(index));
}

#[test]
fn reports_of_streams_over_the_limit_are_rejected() {
    let (mut sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
    let full = u32::try_from(MAX_STREAMS).unwrap();
    for ssrc in 0..=full {
        let mut packet = report(ssrc, b"");
        sealer.seal_rtcp(&mut packet, 0);
        assert_eq!(opener.open_rtcp(&mut packet).is_some(), ssrc < full);
    }
}

#[test]
fn keying_material_must_have_the_length_of_the_profile() {
    for (profile, needed) in PROFILES.into_iter().zip([56, 88, 60]) {
        assert_eq!(profile.keying_material_len(), needed);
        for got in [0, needed - 1, needed + 1] {
            let refused = pair(profile, &vec![0; got], true).map(|_| ());
            assert_eq!(refused, Err(BadKey { got, needed }));
        }
    }
}

#[test]
fn the_debug_output_contains_no_keys() {
    for profile in PROFILES {
        let material = vec![0xAB; profile.keying_material_len()];
        let (sealer, opener) = pair(profile, &material, true).unwrap();
        let output = format!("{sealer:?} {opener:?}");
        let expected = format!(
            "Sealer {{ profile: {profile:?}, .. }} \
             Opener {{ profile: {profile:?}, rtp_streams: 0, rtcp_streams: 0, .. }}"
        );
        assert_eq!(output, expected);
    }
}

/// Steps of a reordered stream. The first number advances the front by multiples of eight packets,
/// mostly within the window; the second is how far behind the front the packet is.
fn disorder() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let ahead = prop_oneof![9 => 0..60_u64, 1 => 0..400_u64];
    prop::collection::vec((ahead, 0..1100_u64), 1..300)
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(PROFILES.as_slice())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn payloads_survive_a_round_trip(
        profile in profile(),
        material in prop::collection::vec(any::<u8>(), 88),
        ssrc: u32,
        index in 0..0x1_0000_u64,
        payload in prop::collection::vec(any::<u8>(), 0..1300),
    ) {
        let material = &material[..profile.keying_material_len()];
        let (mut sealer, _) = pair(profile, material, true).unwrap();
        let (_, mut opener) = pair(profile, material, false).unwrap();
        let (packet, header) = plain(ssrc, index, &payload);
        let mut wire = packet.clone();
        sealer.seal_rtp(&mut wire, 0, header, index);
        prop_assert_eq!(wire.len(), packet.len() + sealer.overhead());
        prop_assert_eq!(&wire[..header], &packet[..header]);
        let opened = opener.open_rtp(&mut wire).unwrap();
        prop_assert_eq!((opened.index, opened.end), (index, packet.len()));
        prop_assert_eq!(opened.header.payload, header);
        prop_assert_eq!(&wire[..opened.end], &packet);

        let compound = report(ssrc, &payload);
        let mut wire = compound.clone();
        sealer.seal_rtcp(&mut wire, 0);
        prop_assert_eq!(wire.len(), compound.len() + profile.rtcp_overhead());
        prop_assert_eq!(&wire[..8], &compound[..8]);
        prop_assert_eq!(opener.open_rtcp(&mut wire), Some(compound.as_slice()));
    }

    #[test]
    fn every_packet_of_a_disordered_stream_is_opened_exactly_once(
        start in 0x4000..0x8000_u64,
        steps in disorder(),
    ) {
        let (sealer, mut opener) = client_to_server(Profile::Aead128Gcm);
        let (mut front, mut seen) = (start, std::collections::BTreeSet::new());
        for (ahead, back) in steps {
            front += ahead * 8;
            let index = front - back;
            let fresh = seen.insert(index);
            let highest = *seen.last().unwrap();
            let expected = (fresh && highest - index < WINDOW).then_some(index);
            prop_assert_eq!(opens(&mut opener, &sealed(&sealer, 1, index)), expected);
        }
    }

    #[test]
    fn arbitrary_bytes_are_rejected(profile in profile(), first: u8, mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let [version, ..] = bytes.as_mut_slice() {
            *version = 0x80 | first & 0x3F;
        }
        let (_, mut opener) = client_to_server(profile);
        prop_assert_eq!(opener.open_rtp(&mut bytes.clone()), None);
        prop_assert_eq!(opener.open_rtcp(&mut bytes), None);
    }
}
