use proptest::prelude::*;

use super::super::*;

/// Parses a feedback packet. Returns all sequence numbers with their arrival times, in ticks of the
/// receiver's clock.
fn read(packet: &[u8]) -> Vec<(u16, Option<i64>)> {
    let mut packets = parse(packet);
    let Some(Rtcp::TransportCc(feedback)) = packets.next() else {
        panic!("{packet:?}");
    };
    assert!(packets.next().is_none());
    assert_eq!(feedback.arrivals().count(), usize::from(feedback.count));
    let reference = i64::from(feedback.reference_time) * 256;
    feedback
        .arrivals()
        .map(|(sequence, ticks)| (sequence, ticks.map(|ticks| reference + ticks)))
        .collect()
}

/// The expected result of [`read`]: times are rounded to the nearest tick.
fn expected(base: u16, arrivals: &[Option<i64>]) -> Vec<(u16, Option<i64>)> {
    arrivals
        .iter()
        .zip(0..)
        .map(|(arrival, at)| {
            let ticks = arrival.map(|micros| (micros + 125) / 250);
            (base.wrapping_add(at), ticks)
        })
        .collect()
}

fn write(base: u16, arrivals: &[Option<i64>]) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let taken = write_transport_cc(&mut out, 1, 2, 3, base, arrivals);
    (out, taken)
}

#[test]
fn feedback_has_the_layout_of_the_draft() {
    // 640 ms are ten units of the reference time.
    let (out, taken) = write(0xFFFF, &[Some(640_500), None, Some(641_000), Some(740_000)]);
    assert_eq!(taken, 4);
    #[rustfmt::skip]
    let layout = [
        0x8F, 205, 0, 6,
        0, 0, 0, 1,
        0, 0, 0, 2,
        0xFF, 0xFF, 0, 4,
        0, 0, 10, 3,
        // A status vector with two bits per status: small, lost, small, large.
        0b1101_0001, 0b1000_0000,
        2, 2, 0x01, 0x8C,
        0, 0,
    ];
    assert_eq!(out, layout);
    assert_eq!(
        read(&out),
        [
            (0xFFFF, Some(2562)),
            (0, None),
            (1, Some(2564)),
            (2, Some(2960))
        ]
    );
}

#[test]
fn a_long_run_takes_one_chunk() {
    let steady: Vec<_> = (0..100).map(|at| Some(1_000_000 + at * 2000)).collect();
    let (out, taken) = write(7, &steady);
    assert_eq!((taken, out.len()), (100, 20 + 2 + 100 + 2));
    assert_eq!(out[20..22], [0x20, 100]);
    assert_eq!(read(&out), expected(7, &steady));
}

#[test]
fn alternating_packets_take_a_bit_each() {
    let holes: Vec<_> = (0..28)
        .map(|at| (at % 2 == 0).then_some(at * 1000))
        .collect();
    let (out, _) = write(7, &holes);
    assert_eq!(out.len(), 20 + 4 + 14 + 2);
    assert_eq!(out[20..24], [0xAA, 0xAA, 0xAA, 0xAA]);
    assert_eq!(read(&out), expected(7, &holes));
}

#[test]
fn rounding_errors_do_not_accumulate() {
    // Each delta is a third of a tick less than five ticks.
    let arrivals: Vec<_> = (0..500).map(|at| Some(9_000_000 + at * 1167)).collect();
    let (out, taken) = write(0, &arrivals);
    assert_eq!(taken, 500);
    let (_, last) = read(&out)[499];
    assert_eq!(last, Some((9_000_000 + 499 * 1167 + 125) / 250));
}

#[test]
fn a_delta_out_of_range_ends_the_packet() {
    let arrivals = [Some(0), Some(8_191_750), Some(16_383_750), Some(16_383_750)];
    let (out, taken) = write(5, &arrivals);
    assert_eq!(taken, 2);
    assert_eq!(read(&out), expected(5, &arrivals[..2]));
    let (out, taken) = write(7, &arrivals[2..]);
    assert_eq!(taken, 2);
    assert_eq!(read(&out), expected(7, &arrivals[2..]));
}

#[test]
fn nothing_is_written_if_no_packet_arrived() {
    assert_eq!(write(5, &[None; 9]), (vec![], 9));
    assert_eq!(write(5, &[]), (vec![], 0));
}

#[test]
fn feedback_that_does_not_fit_a_datagram_continues_in_the_next() {
    // Of every seven packets, `late` arrive 100 ms after the previous one, and `soon` 1 ms after
    // it. The worst case is seven packets per chunk with large deltas.
    for (late, soon) in [(1, 0), (1, 1), (1, 6), (4, 0), (7, 0), (0, 1), (0, 7)] {
        let mut now = 0;
        let arrivals: Vec<_> = (0..6300)
            .map(|at| match at % 7 {
                at if at < late => Some(100_000),
                at if at < late + soon => Some(1000),
                _ => None,
            })
            .map(|step: Option<i64>| {
                now += step?;
                Some(now)
            })
            .collect();
        let mut covered = Vec::new();
        let (mut base, mut rest) = (0, &arrivals[..]);
        while !rest.is_empty() {
            let (out, taken) = write(base, rest);
            assert!(taken > 0 && out.len() <= 1200, "{taken} {}", out.len());
            if out.is_empty() {
                covered.extend(expected(base, rest));
            } else {
                covered.extend(read(&out));
            }
            base = base.wrapping_add(u16::try_from(taken).unwrap());
            rest = &rest[taken..];
        }
        assert_eq!(covered, expected(0, &arrivals), "{late} {soon}");
    }
}

#[test]
fn a_gap_longer_than_a_packet_is_covered() {
    let mut arrivals = vec![None; 5000];
    arrivals.push(Some(77_000));
    let (out, taken) = write(0, &arrivals);
    assert!(taken < 5000 && taken > 0);
    assert_eq!(read(&out), expected(0, &arrivals[..taken]));
}

#[test]
fn reserved_statuses_and_empty_runs_are_not_arrivals() {
    #[rustfmt::skip]
    let packet = [
        0x8F, 205, 0, 6,
        0, 0, 0, 1, 0, 0, 0, 2,
        0, 9, 0, 3,
        0, 0, 1, 0,
        // An empty run of large deltas, two reserved statuses, then a run of small deltas that is
        // longer than the rest of the range.
        0x40, 0, 0x60, 2, 0x20, 9,
        5, 0,
    ];
    assert_eq!(read(&packet), [(9, None), (10, None), (11, Some(261))]);
}

#[test]
fn feedback_with_missing_chunks_or_deltas_is_other() {
    let (out, _) = write(
        7,
        &[
            Some(0),
            Some(250),
            Some(500),
            Some(750),
            Some(1000),
            Some(1250),
        ],
    );
    assert_eq!(out.len(), 28);
    for (length, words) in [(20, 4), (24, 5)] {
        let mut cut = out[..length].to_vec();
        cut[3] = words;
        assert!(matches!(parse(&cut).next(), Some(Rtcp::Other)), "{length}");
    }
    let mut cut = out[..16].to_vec();
    cut[3] = 3;
    assert!(matches!(parse(&cut).next(), Some(Rtcp::Other)));
}

#[test]
fn a_datagram_cannot_ask_for_work_without_end() {
    // Each packet encodes 16 383 lost packets in four bytes.
    let mut packet = vec![0x8F, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x3F, 0xFF];
    packet.extend_from_slice(&[0, 0, 0, 0, 0x1F, 0xFF, 0x1F, 0xFF]);
    packet[15] = 0xFE;
    let compound = packet.repeat(50);
    let statuses: usize = parse(&compound)
        .map(|packet| match packet {
            Rtcp::TransportCc(feedback) => feedback.arrivals().count(),
            _ => 0,
        })
        .sum();
    assert_eq!(statuses, 0x3FFE, "only the first is accepted");
    assert_eq!(parse(&compound).count(), 50);
}

/// The arrival of the next packet relative to the previous one: never, soon, later, or earlier.
fn arrival() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        3 => Just(None),
        6 => (0..60_000_i64).prop_map(Some),
        2 => (0..7_000_000_i64).prop_map(Some),
        1 => (-3_000_000..0_i64).prop_map(Some),
        1 => (8_000_000..20_000_000_i64).prop_map(Some),
    ]
}

/// Arrivals with repetitions, so that there are runs.
fn arrivals() -> impl Strategy<Value = Vec<Option<i64>>> {
    let runs = prop::collection::vec((arrival(), prop_oneof![1..4_usize, 1..40_usize]), 0..80);
    (1_000_000_000..60_000_000_000_i64, runs).prop_map(|(mut now, runs)| {
        let each = runs
            .into_iter()
            .flat_map(|(arrival, times)| std::iter::repeat_n(arrival, times));
        each.map(|step| {
            now += step?;
            now = now.max(1_000_000_000);
            Some(now)
        })
        .collect()
    })
}

proptest! {
    #[test]
    fn feedback_covers_every_packet_once_to_the_nearest_tick(base: u16, arrivals in arrivals()) {
        let mut covered = Vec::new();
        let (mut next, mut rest) = (base, &arrivals[..]);
        while !rest.is_empty() {
            let (out, taken) = write(next, rest);
            prop_assert!(taken > 0 && taken <= rest.len());
            prop_assert!(out.len() <= 1200);
            if out.is_empty() {
                prop_assert!(rest.iter().all(Option::is_none));
                covered.extend(expected(next, rest));
            } else {
                covered.extend(read(&out));
            }
            next = next.wrapping_add(u16::try_from(taken).unwrap());
            rest = &rest[taken..];
        }
        prop_assert_eq!(covered, expected(base, &arrivals));
    }

    #[test]
    fn arbitrary_times_can_be_written(arrivals in prop::collection::vec(any::<Option<i64>>(), 0..20)) {
        let (out, taken) = write(0, &arrivals);
        prop_assert_eq!(taken == 0, arrivals.is_empty());
        if !out.is_empty() {
            prop_assert_eq!(read(&out).len(), taken);
        }
    }

    #[test]
    fn parsing_arbitrary_feedback_does_not_panic(
        count in 0..3000_u16,
        mut rest in prop::collection::vec(any::<u8>(), 4..200),
    ) {
        rest.truncate(rest.len() / 4 * 4);
        let words = u8::try_from(rest.len() / 4 + 3).unwrap();
        let mut packet = vec![0x8F, 205, 0, words, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9];
        packet.extend_from_slice(&count.to_be_bytes());
        packet.append(&mut rest);
        if let Some(Rtcp::TransportCc(feedback)) = parse(&packet).next() {
            prop_assert_eq!(feedback.arrivals().count(), usize::from(count));
        }
    }
}
