use proptest::prelude::*;

use super::*;

mod transport_cc;

/// Parses a compound and formats its packets, including the items of all lists.
fn formatted(compound: &[u8]) -> Vec<String> {
    parse(compound)
        .map(|packet| format_packet(&packet))
        .collect()
}

fn format_packet(packet: &Rtcp<'_>) -> String {
    match packet {
        Rtcp::SenderReport { sender, blocks } => {
            format!("{sender:?} {:?}", blocks.clone().collect::<Vec<_>>())
        }
        Rtcp::ReceiverReport { ssrc, blocks } => {
            format!("receiver {ssrc} {:?}", blocks.clone().collect::<Vec<_>>())
        }
        Rtcp::Nack {
            sender,
            media,
            lost,
        } => {
            format!(
                "nack {sender} {media} {:?}",
                lost.clone().collect::<Vec<_>>()
            )
        }
        Rtcp::Pli { sender, media } => format!("pli {sender} {media}"),
        Rtcp::Fir { sender, entries } => {
            format!("fir {sender} {:?}", entries.clone().collect::<Vec<_>>())
        }
        Rtcp::TransportCc(feedback) => format!(
            "cc {} {} {} {} {:?}",
            feedback.sender,
            feedback.media,
            feedback.reference_time,
            feedback.feedback_count,
            feedback.arrivals().collect::<Vec<_>>()
        ),
        Rtcp::Remb {
            sender,
            bitrate,
            ssrcs,
        } => {
            format!(
                "remb {sender} {bitrate} {:?}",
                ssrcs.clone().collect::<Vec<_>>()
            )
        }
        Rtcp::Sdes => "sdes".to_owned(),
        Rtcp::Bye { ssrcs } => format!("bye {:?}", ssrcs.clone().collect::<Vec<_>>()),
        Rtcp::Other => "other".to_owned(),
    }
}

const SENDER: SenderInfo = SenderInfo {
    ssrc: 1,
    ntp: 0x0102_0304_0506_0708,
    rtp: 9,
    packets: 10,
    octets: 11,
};

fn block(ssrc: u32) -> ReportBlock {
    ReportBlock {
        ssrc,
        fraction_lost: 3,
        lost: -5,
        highest: 0x0001_0002,
        jitter: 77,
        lsr: 0xAABB_CCDD,
        dlsr: 65_536,
    }
}

#[test]
fn a_sender_report_has_the_layout_of_rfc_3550() {
    let mut out = Vec::new();
    write_sender_report(&mut out, &SENDER, &[block(2)]);
    #[rustfmt::skip]
    let expected = [
        0x81, 200, 0, 12,
        0, 0, 0, 1,
        1, 2, 3, 4, 5, 6, 7, 8,
        0, 0, 0, 9,
        0, 0, 0, 10,
        0, 0, 0, 11,
        0, 0, 0, 2,
        3, 0xFF, 0xFF, 0xFB,
        0, 1, 0, 2,
        0, 0, 0, 77,
        0xAA, 0xBB, 0xCC, 0xDD,
        0, 1, 0, 0,
    ];
    assert_eq!(out, expected);
}

#[test]
fn requests_have_the_layout_of_rfc_4585_and_5104() {
    let mut out = Vec::new();
    write_pli(&mut out, 1, 2);
    assert_eq!(out, [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    out.clear();
    write_fir(&mut out, 1, &[(2, 7)]);
    assert_eq!(
        out,
        [
            0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 7, 0, 0, 0
        ]
    );
    out.clear();
    assert_eq!(write_nack(&mut out, 1, 2, &[0xFFFF, 0, 15, 16]), 4);
    assert_eq!(
        out,
        [
            0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0xFF, 0xFF, 0x80, 0x01, 0, 16, 0, 0
        ]
    );
}

#[test]
fn a_compound_is_parsed_packet_by_packet() {
    let mut out = Vec::new();
    write_sender_report(&mut out, &SENDER, &[block(2), block(3)]);
    write_sdes_cname(&mut out, 1, "parlor");
    write_receiver_report(&mut out, 4, &[block(5)]);
    write_nack(&mut out, 1, 2, &[5, 6, 30]);
    write_pli(&mut out, 1, 2);
    write_fir(&mut out, 1, &[(2, 3), (4, 5)]);
    write_bye(&mut out, &[8, 9]);
    let expected = [
        format!("{SENDER:?} {:?}", [block(2), block(3)]),
        "sdes".to_owned(),
        format!("receiver 4 {:?}", [block(5)]),
        "nack 1 2 [5, 6, 30]".to_owned(),
        "pli 1 2".to_owned(),
        "fir 1 [(2, 3), (4, 5)]".to_owned(),
        "bye [8, 9]".to_owned(),
    ];
    assert_eq!(formatted(&out), expected);
}

#[test]
fn a_canonical_name_ends_with_a_zero_and_is_cut_at_255_bytes() {
    for (length, words) in [(0, 2), (1, 2), (2, 3), (5, 3), (6, 4), (255, 66), (300, 66)] {
        let mut out = Vec::new();
        write_sdes_cname(&mut out, 1, &"a".repeat(length));
        assert_eq!(out.len(), 4 + words * 4, "{length}");
        assert_eq!(
            out[..10],
            [
                0x81,
                202,
                0,
                u8::try_from(words).unwrap(),
                0,
                0,
                0,
                1,
                1,
                u8::try_from(length).unwrap_or(255)
            ]
        );
        assert_eq!(out.last(), Some(&0));
        assert_eq!(out.split(|byte| *byte == b'a').count() - 1, length.min(255));
    }
}

#[test]
fn more_than_31_blocks_continue_in_receiver_reports() {
    let blocks: Vec<_> = (0..64).map(block).collect();
    let mut out = Vec::new();
    write_sender_report(&mut out, &SENDER, &blocks);
    let read: Vec<_> = parse(&out)
        .map(|packet| match packet {
            Rtcp::SenderReport { blocks, .. } => blocks.collect::<Vec<_>>(),
            Rtcp::ReceiverReport { ssrc: 1, blocks } => blocks.collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [31, 31, 2]);
    assert_eq!(read.concat(), blocks);
    out.clear();
    write_receiver_report(&mut out, 1, &[]);
    assert_eq!(out, [0x80, 201, 0, 1, 0, 0, 0, 1]);
    out.clear();
    write_bye(&mut out, &(0..40).collect::<Vec<_>>());
    let ended: Vec<u32> = parse(&out)
        .flat_map(|packet| match packet {
            Rtcp::Bye { ssrcs } => ssrcs,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ended, (0..40).collect::<Vec<_>>());
}

#[test]
fn loss_out_of_range_is_clamped() {
    for (lost, expected) in [
        (i32::MAX, 0x7F_FFFF),
        (i32::MIN, -0x80_0000),
        (0x7F_FFFF, 0x7F_FFFF),
        (-0x80_0000, -0x80_0000),
        (-1, -1),
    ] {
        let mut out = Vec::new();
        write_receiver_report(&mut out, 1, &[ReportBlock { lost, ..block(2) }]);
        let Some(Rtcp::ReceiverReport { mut blocks, .. }) = parse(&out).next() else {
            panic!("{out:?}");
        };
        assert_eq!(blocks.next().unwrap().lost, expected);
    }
}

#[test]
fn a_nack_that_does_not_fit_a_datagram_returns_how_many_it_contains() {
    let lost: Vec<u16> = (0..1000).map(|at| at * 20).collect();
    let mut out = Vec::new();
    let taken = write_nack(&mut out, 1, 2, &lost);
    assert!(out.len() < 1200 && taken < lost.len());
    let Some(Rtcp::Nack { lost: read, .. }) = parse(&out).next() else {
        panic!("{out:?}");
    };
    assert_eq!(read.collect::<Vec<_>>(), lost[..taken]);
    out.clear();
    assert_eq!(write_nack(&mut out, 1, 2, &[]), 0);
    assert!(out.is_empty());
}

#[test]
fn a_remb_bitrate_is_a_mantissa_and_an_exponent() {
    let mut packet = vec![
        0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B',
    ];
    packet.extend_from_slice(&[1, 0x0B, 0xFF, 0xFF, 0, 0, 0, 7]);
    assert_eq!(
        formatted(&packet),
        [format!("remb 1 {} [7]", 0x3_FFFF << 2)]
    );
    packet[17] = 0xFF;
    assert_eq!(formatted(&packet), [format!("remb 1 {} [7]", u64::MAX)]);
    packet[16] = 2;
    assert_eq!(
        formatted(&packet),
        ["other"],
        "two streams are announced, but there is only one"
    );
    packet[12] = b'r';
    assert_eq!(formatted(&packet), ["other"]);
}

#[test]
fn padding_is_not_parsed() {
    let mut out = Vec::new();
    write_nack(&mut out, 1, 2, &[5]);
    out[0] |= 0x20;
    out[3] += 1;
    out.extend_from_slice(&[0, 0, 0, 4]);
    assert_eq!(formatted(&out), ["nack 1 2 [5]"]);
    for lie in [0, 17, 255] {
        *out.last_mut().unwrap() = lie;
        assert_eq!(formatted(&out), Vec::<String>::new(), "{lie}");
    }
}

#[test]
fn malformed_packets_are_other_and_parsing_continues() {
    let mut out = Vec::new();
    write_receiver_report(&mut out, 1, &[block(2)]);
    out[0] += 1;
    let after = out.len();
    out.extend_from_slice(&[0x80, 205, 0, 0]);
    out.extend_from_slice(&[0x80, 204, 0, 1, 1, 2, 3, 4]);
    out.extend_from_slice(&[0x82, 205, 0, 1, 1, 2, 3, 4]);
    write_pli(&mut out, 3, 4);
    assert!(out.len() > after);
    assert_eq!(
        formatted(&out),
        ["other", "other", "other", "other", "pli 3 4"]
    );
}

#[test]
fn parsing_stops_at_invalid_framing() {
    let mut out = Vec::new();
    write_pli(&mut out, 1, 2);
    for garbage in [
        &[0x81][..],
        &[0x81, 206, 0, 2, 0, 0, 0, 1],
        &[0x01, 206, 0, 0],
        &[0xA1, 206, 0, 0],
    ] {
        let mut compound = out.clone();
        compound.extend_from_slice(garbage);
        write_pli(&mut compound, 3, 4);
        let got = formatted(&compound);
        assert_eq!(got[0], "pli 1 2");
        assert!(!got.contains(&"pli 3 4".to_owned()), "{got:?}");
    }
}

fn report_block() -> impl Strategy<Value = ReportBlock> {
    (
        any::<(u32, u8, u32, u32)>(),
        -0x80_0000..=0x7F_FFFF_i32,
        any::<(u32, u32)>(),
    )
        .prop_map(
            |((ssrc, fraction_lost, highest, jitter), lost, (lsr, dlsr))| ReportBlock {
                ssrc,
                fraction_lost,
                lost,
                highest,
                jitter,
                lsr,
                dlsr,
            },
        )
}

proptest! {
    #[test]
    fn reports_survive_a_round_trip(
        (ssrc, ntp, rtp, packets, octets) in any::<(u32, u64, u32, u32, u32)>(),
        blocks in prop::collection::vec(report_block(), 0..=31),
    ) {
        let sender = SenderInfo { ssrc, ntp, rtp, packets, octets };
        let mut out = Vec::new();
        write_sender_report(&mut out, &sender, &blocks);
        write_receiver_report(&mut out, ssrc, &blocks);
        prop_assert_eq!(formatted(&out), [format!("{sender:?} {blocks:?}"), format!("receiver {ssrc} {blocks:?}")]);
    }

    #[test]
    fn a_nack_contains_exactly_the_lost_packets(
        start: u16,
        gaps in prop::collection::vec(prop_oneof![1..20_u16, 1..200_u16], 1..200),
    ) {
        let mut at = start;
        let lost: Vec<u16> = gaps.into_iter().map(|gap| { at = at.wrapping_add(gap); at }).collect();
        let mut out = Vec::new();
        let taken = write_nack(&mut out, 1, 2, &lost);
        prop_assert_eq!(formatted(&out), [format!("nack 1 2 {:?}", &lost[..taken])]);
        prop_assert_eq!(taken, lost.len());
    }

    #[test]
    fn parsing_arbitrary_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        formatted(&bytes);
    }

    #[test]
    fn parsing_arbitrary_bytes_in_a_valid_frame_does_not_panic(
        count in 0..32_u8,
        packet_type in 200..=207_u8,
        mut body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        body.truncate(body.len() / 4 * 4);
        let words = u8::try_from(body.len() / 4).unwrap();
        let mut packet = vec![0x80 | count, packet_type, 0, words];
        packet.append(&mut body);
        prop_assert_eq!(formatted(&packet).len(), 1);
    }
}
