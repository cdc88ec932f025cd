use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

const RTT: Duration = Duration::from_millis(50);
/// An index from which nothing underflows, just before the 16 bits wrap.
const FIRST: u64 = 0x1_FFFE;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A stream of packets of 1000 bytes, numbered from the first one.
struct Stream {
    start: Instant,
    reception: Reception,
}

impl Stream {
    fn new(clock_rate: u32) -> Self {
        Self {
            start: Instant::now(),
            reception: Reception::new(clock_rate),
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + ms(millis)
    }

    fn packet(&mut self, millis: u64, number: u64) -> Novelty {
        let now = self.at(millis);
        let timestamp = u32::try_from(millis * 90).expect("short");
        self.reception
            .packet(now, FIRST + number, timestamp, 1000, false)
    }

    /// Returns the numbers of the NACKs that are due, relative to the first packet.
    fn nacks(&mut self, millis: u64) -> Vec<u16> {
        let mut out = Vec::new();
        self.reception.nacks(self.at(millis), RTT, &mut out);
        out.iter()
            .map(|number| number.wrapping_sub(0xFFFE))
            .collect()
    }
}

#[test]
fn novelty_distinguishes_late_duplicate_and_old_packets() {
    let mut stream = Stream::new(90_000);
    assert_eq!(stream.packet(0, 0), Novelty::InOrder);
    assert_eq!(stream.packet(1, 3), Novelty::InOrder);
    assert_eq!(stream.packet(2, 1), Novelty::Late);
    assert_eq!(stream.packet(3, 1), Novelty::Duplicate);
    assert_eq!(stream.packet(3, 3), Novelty::Duplicate);
    assert_eq!(stream.packet(4, 1025), Novelty::InOrder);
    assert_eq!(stream.packet(5, 2), Novelty::Late);
    assert_eq!(stream.packet(6, 1), Novelty::TooOld);
    assert_eq!(stream.packet(7, 40_000), Novelty::InOrder);
    assert_eq!(stream.packet(8, 39_999), Novelty::Late);
    // It shares a bit of the window with 1025.
    assert_eq!(stream.packet(9, 1025 + 38 * 1024), Novelty::Late);
    assert_eq!(stream.packet(9, 1025), Novelty::TooOld);
}

#[test]
fn a_packet_before_the_first_one_counts() {
    let mut stream = Stream::new(90_000);
    stream.packet(0, 5);
    assert_eq!(stream.packet(1, 4), Novelty::Late);
    assert_eq!(stream.reception.lost(), 0);
    assert_eq!(stream.reception.packets(), 2);
}

#[test]
fn a_missing_packet_is_nacked_after_10_ms_or_two_later_packets() {
    let mut stream = Stream::new(90_000);
    stream.packet(0, 0);
    assert_eq!(stream.reception.next_nack(), None);
    stream.packet(1, 2);
    assert_eq!(stream.reception.next_nack(), Some(stream.at(11)));
    assert_eq!(stream.nacks(10), Vec::<u16>::new());
    assert_eq!(stream.nacks(11), [1]);

    stream.packet(12, 4);
    stream.packet(13, 5);
    assert_eq!(stream.reception.next_nack(), Some(stream.at(13)));
    assert_eq!(stream.nacks(13), [3]);

    stream.packet(14, 7);
    stream.packet(15, 6);
    stream.packet(16, 8);
    assert_eq!(stream.nacks(40), Vec::<u16>::new());
    // Both are retried one round trip after their last NACK.
    assert_eq!(stream.nacks(61), [1]);
    assert_eq!(stream.nacks(63), [3]);
    stream.packet(64, 1);
    stream.packet(64, 3);
    assert_eq!(stream.reception.next_nack(), None);
    assert_eq!(stream.nacks(500), Vec::<u16>::new());
    assert!(!stream.reception.take_given_up());
}

#[test]
fn video_is_nacked_at_most_ten_times_and_for_a_second() {
    for (rtt, expected) in [(0, 10), (50, 10), (150, 7), (5_000, 1)] {
        let mut stream = Stream::new(90_000);
        stream.packet(0, 0);
        stream.packet(0, 2);
        let mut requests = 0;
        for millis in 0..1_000 {
            let mut out = Vec::new();
            stream.reception.nacks(stream.at(millis), ms(rtt), &mut out);
            requests += out.len();
        }
        assert_eq!(requests, expected, "at a round trip of {rtt} ms");
        stream.nacks(1_010);
        assert!(stream.reception.take_given_up());
        assert!(!stream.reception.take_given_up());
        assert_eq!(stream.reception.next_nack(), None);
    }
}

#[test]
fn audio_is_nacked_three_times_within_200_ms() {
    let mut stream = Stream::new(48_000);
    stream.packet(0, 0);
    stream.packet(0, 2);
    let requested: Vec<u64> = (0..1_000)
        .filter(|millis| !stream.nacks(*millis).is_empty())
        .collect();
    assert_eq!(requested, [10, 60, 110]);
    assert!(stream.reception.take_given_up());
}

#[test]
fn too_many_missing_packets_are_given_up_at_once() {
    let mut stream = Stream::new(90_000);
    stream.packet(0, 0);
    stream.packet(1, 501);
    assert!(!stream.reception.take_given_up());
    assert_eq!(stream.nacks(11).len(), 500);
    stream.packet(12, 503);
    assert!(stream.reception.take_given_up());
    assert_eq!(stream.reception.next_nack(), None);
    stream.packet(13, 1005);
    assert!(stream.reception.take_given_up());
    assert_eq!(stream.nacks(100), Vec::<u16>::new());
}

#[test]
fn packets_before_a_key_frame_are_not_nacked() {
    let mut stream = Stream::new(90_000);
    for number in [0, 2, 4, 5, 7] {
        stream.packet(0, number);
    }
    stream.reception.key_frame(FIRST + 4);
    assert_eq!(stream.nacks(20), [6]);
    stream.packet(30, 7 + 502);
    stream.reception.key_frame(FIRST + 7 + 502);
    assert!(!stream.reception.take_given_up());
    stream.packet(31, 7 + 502 + 502);
    stream.reception.key_frame(FIRST + 7 + 502);
    assert!(stream.reception.take_given_up());
}

#[test]
fn a_report_covers_the_loss_since_the_last_one() {
    let mut stream = Stream::new(90_000);
    assert_eq!(stream.reception.report(stream.at(0)), None);
    for number in [0, 1, 2, 4, 6, 7] {
        stream.packet(0, number);
    }
    let report = stream
        .reception
        .report(stream.at(0))
        .expect("packets were received");
    assert_eq!(report.fraction_lost, 64);
    assert_eq!(report.lost, 2);
    // The first number was 0xFFFE of the cycle that counts as 0.
    assert_eq!(report.highest, 0x1_0005);
    assert_eq!((report.lsr, report.dlsr), (0, 0));
    assert_eq!(stream.reception.report(stream.at(5)), None);

    let now = stream.at(10);
    stream.reception.sender_report(now, 0x1122_3344_5566_7788);
    stream.packet(20, 3);
    stream.packet(20, 8);
    let report = stream
        .reception
        .report(stream.at(510))
        .expect("packets were received");
    // One more packet was expected, and two arrived.
    assert_eq!(report.fraction_lost, 0);
    assert_eq!(report.lost, 1);
    assert_eq!((report.lsr, report.dlsr), (0x3344_5566, 32_768));

    stream.packet(520, 108);
    let report = stream
        .reception
        .report(stream.at(520))
        .expect("packets were received");
    assert_eq!(report.fraction_lost, 253);
    assert_eq!(report.lost, 100);
}

#[test]
fn retransmitted_packets_count_as_lost() {
    let mut stream = Stream::new(90_000);
    for number in [0, 2, 4, 6] {
        stream.packet(0, number);
    }
    // 1 and 3 were overtaken twice, 5 was not.
    assert_eq!(stream.nacks(0), [1, 3]);
    assert_eq!(stream.packet(5, 1), Novelty::Late);
    let now = stream.at(5);
    let other = stream.reception.packet(now, FIRST + 3, 0, 1000, true);
    assert_eq!(other, Novelty::Late);
    assert_eq!(stream.packet(5, 5), Novelty::Late);
    assert_eq!(
        (stream.reception.packets(), stream.reception.repaired()),
        (7, 2)
    );
    assert_eq!(stream.reception.lost(), 2);
    assert_eq!(stream.reception.bytes(), 7000);
}

#[test]
fn jitter_follows_the_rfc() {
    let mut stream = Stream::new(8_000);
    let mut expected = 0.0_f64;
    for number in 0..200_u32 {
        // Every other packet is 5 ms late.
        let late = u64::from(number % 2) * 5;
        let now = stream.at(u64::from(number) * 20 + late);
        let timestamp = (number * 160).wrapping_sub(1000);
        stream
            .reception
            .packet(now, FIRST + u64::from(number), timestamp, 100, false);
        if number > 0 {
            expected += (40.0 - expected) / 16.0;
        }
    }
    let report = stream
        .reception
        .report(stream.at(4_000))
        .expect("packets were received");
    assert!(
        (f64::from(report.jitter) - expected).abs() <= 1.0,
        "{report:?}"
    );
    assert!((stream.reception.jitter_ms() - 5.0).abs() < 0.2);
}

#[test]
fn late_and_retransmitted_packets_do_not_count_as_jitter() {
    let mut stream = Stream::new(90_000);
    for number in [0, 2, 4] {
        stream.packet(number * 20, number);
    }
    let timestamp = 20 * 90;
    stream
        .reception
        .packet(stream.at(81), FIRST + 1, timestamp, 1000, false);
    stream
        .reception
        .packet(stream.at(82), FIRST + 5, 4 * timestamp + 1, 1000, true);
    stream.packet(120, 6);
    assert_eq!(
        stream
            .reception
            .report(stream.at(130))
            .map(|report| report.jitter),
        Some(0)
    );
}

#[test]
fn neither_pacing_nor_a_new_source_is_jitter() {
    let mut stream = Stream::new(90_000);
    for number in 0..100 {
        let now = stream.at(number / 10 * 33 + number % 10);
        let timestamp = u32::try_from(number / 10 * 33 * 90).expect("short");
        let timestamp = timestamp + if number < 50 { 0 } else { 0x7000_0000 };
        stream
            .reception
            .packet(now, FIRST + number, timestamp, 1000, false);
    }
    assert_eq!(
        stream
            .reception
            .report(stream.at(500))
            .map(|report| report.jitter),
        Some(0)
    );
}

#[test]
fn the_bit_rate_covers_the_last_second_and_falls_to_zero() {
    let mut stream = Stream::new(90_000);
    assert_eq!(stream.reception.bitrate(stream.at(0)), 0);
    let mut number = 0;
    for millis in (0..5_000).step_by(10) {
        stream.packet(millis, number);
        stream.packet(millis, number);
        number += 1;
        let rate = stream.reception.bitrate(stream.at(millis));
        if millis >= 500 {
            assert!((760_000..=840_000).contains(&rate), "{rate} at {millis}");
        } else {
            assert!(rate <= 840_000, "{rate} at {millis}");
        }
    }
    let mut last = u64::MAX;
    for millis in (5_000..6_200).step_by(50) {
        let rate = stream.reception.bitrate(stream.at(millis));
        assert!(rate <= last, "{rate} at {millis}");
        last = rate;
    }
    assert_eq!(last, 0);
    // After a silence, the rate is measured from the restart.
    for millis in (9_000..9_600).step_by(10) {
        stream.packet(millis, number);
        number += 1;
    }
    let rate = stream.reception.bitrate(stream.at(9_600));
    assert!((760_000..=840_000).contains(&rate), "{rate}");
}

/// What happens to a packet on the path.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives { delay: u64 },
    Duplicated { after: u64 },
    Lost { answered: bool },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Arrives { delay: 0 }),
        3 => (0..40_u64).prop_map(|delay| Fate::Arrives { delay }),
        1 => (0..100_u64).prop_map(|after| Fate::Duplicated { after }),
        2 => any::<bool>().prop_map(|answered| Fate::Lost { answered }),
    ]
}

proptest! {
    /// Compares the state with plain sets, on a path that loses, duplicates and reorders packets,
    /// with a sender that answers some NACKs on the stream itself and some on a separate RTX
    /// stream.
    #[test]
    fn every_packet_is_accounted_for(
        fates in prop::collection::vec(fate(), 1..600),
        first in prop_oneof![Just(FIRST), Just(0x1_0000), 0x1_0000..0x2_0000_u64],
        separate in any::<bool>(),
    ) {
        let start = Instant::now();
        let mut reception = Reception::new(90_000);
        // By arrival time: the index, and whether it is a retransmission.
        let mut arrivals: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
        for (sent, fate) in (0_u64..).zip(&fates) {
            let (at, index) = (sent * 4, first + sent);
            match fate {
                Fate::Arrives { delay } => arrivals.entry(at + delay).or_default().push((index, false)),
                Fate::Duplicated { after } => {
                    arrivals.entry(at).or_default().push((index, false));
                    arrivals.entry(at + after).or_default().push((index, false));
                }
                Fate::Lost { .. } => {}
            }
        }
        let end = fates.len() as u64 * 4 + 1_500;
        let mut received = BTreeSet::new();
        let mut requested: HashMap<u64, Vec<u64>> = HashMap::new();
        let (mut repaired, mut lowest, mut first_received) = (0, None, None);
        for millis in 0..end {
            let now = start + ms(millis);
            for (index, retransmitted) in arrivals.remove(&millis).unwrap_or_default() {
                let novelty = reception.packet(now, index, 0, 10, retransmitted);
                first_received.get_or_insert(index);
                lowest = Some(lowest.map_or(index, |lowest: u64| lowest.min(index)));
                let expected = match received.last() {
                    _ if received.contains(&index) => Novelty::Duplicate,
                    Some(last) if index < *last => Novelty::Late,
                    _ => Novelty::InOrder,
                };
                prop_assert_eq!(novelty, expected);
                if received.insert(index) && (retransmitted || requested.contains_key(&index)) {
                    repaired += 1;
                }
            }
            let mut out = Vec::new();
            reception.nacks(now, RTT, &mut out);
            prop_assert!(reception.next_nack().is_none_or(|next| next > now));
            for number in out {
                let highest = *received.last().expect("packets are missing only after an arrival");
                let ago = (highest & 0xFFFF).wrapping_sub(u64::from(number)) & 0xFFFF;
                let index = highest - ago;
                prop_assert!(!received.contains(&index), "NACK for a packet that has arrived");
                let requests = requested.entry(index).or_default();
                prop_assert!(requests.last().is_none_or(|last| millis - last >= 50));
                requests.push(millis);
                prop_assert!(requests.len() <= 10);
                let sent = usize::try_from(index - first).expect("short");
                if let Fate::Lost { answered: true } = fates[sent] {
                    arrivals.entry(millis + 50).or_default().push((index, separate));
                }
            }
        }
        let (Some(lowest), Some(highest)) = (lowest, received.last()) else {
            prop_assert_eq!(reception.report(start), None);
            return Ok(());
        };
        let unique = received.len() as u64;
        let expected = highest - lowest + 1;
        prop_assert_eq!(reception.packets(), unique);
        prop_assert_eq!(reception.repaired(), repaired);
        prop_assert_eq!(reception.lost(), expected - (unique - repaired));
        prop_assert_eq!(reception.bytes(), unique * 10);
        let report = reception.report(start + ms(end)).expect("packets were received");
        prop_assert_eq!(u64::try_from(report.lost), Ok(reception.lost()));
        prop_assert_eq!(u64::from(report.highest), highest - (first_received.expect("a packet was received") & !0xFFFF));
        // Packets that stayed missing between two others were NACKed and given up; except before
        // the first arrival, which can only come late if packets are reordered.
        let in_order = fates.iter().all(|fate| !matches!(fate, Fate::Arrives { delay } if *delay > 0));
        let missing: Vec<u64> = (lowest..*highest).filter(|index| !received.contains(index)).collect();
        if in_order {
            prop_assert!(missing.iter().all(|index| requested.contains_key(index)));
        }
        if missing.iter().any(|index| requested.contains_key(index)) {
            prop_assert!(reception.take_given_up());
        } else if missing.is_empty() {
            prop_assert!(!reception.take_given_up());
        }
    }

    #[test]
    fn anything_may_come(
        clock_rate in any::<u32>(),
        packets in prop::collection::vec(
            (prop_oneof![any::<u64>(), 0..3_000_u64], any::<u32>(), any::<usize>(), any::<bool>(), 0..200_u64),
            0..300,
        ),
    ) {
        let start = Instant::now();
        let mut reception = Reception::new(clock_rate);
        let mut now = start;
        let mut out = Vec::new();
        for (index, timestamp, bytes, retransmitted, after) in packets {
            // Time that runs backwards occasionally does no harm either.
            now = if after == 0 { start } else { now + ms(after) };
            reception.packet(now, index, timestamp, bytes, retransmitted);
            reception.sender_report(now, index);
            out.clear();
            reception.nacks(now, ms(after), &mut out);
            prop_assert!(out.len() <= 500);
            prop_assert!(reception.missing.len() <= 500);
            reception.bitrate(now);
            reception.key_frame(index);
            reception.report(now);
            reception.jitter_ms();
        }
    }
}
