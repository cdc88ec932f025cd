//! The estimate with hand-written feedback, both plausible and malicious.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::LAYERS;
use super::link::{Network, Simulation, Source};
use crate::engine::bandwidth::history::History;
use crate::engine::bandwidth::{Arrived, Bandwidth, Settings};

#[test]
fn a_cluster_of_large_packets_has_five_packets_too() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start, Settings::default());
    bandwidth.set_wanted_bps(2_000_000);
    let mut packets = 0;
    for n in 0..300 {
        let now = start + Duration::from_millis(1) * n;
        if let Some(probe) = bandwidth.poll_probe(now) {
            bandwidth.sent(now, 1_200, Some(probe.cluster));
            packets += 1;
        }
    }
    assert_eq!(packets, 5);
}

#[test]
fn losses_during_an_outage_do_not_count() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start, Settings::default());
    let lost: Vec<_> = (0..100)
        .map(|_| (bandwidth.sent(start, 1_000, None), None))
        .collect();
    let mut now = start + Duration::from_secs(2);
    bandwidth.poll_probe(now);
    for n in 0..100 {
        let number = bandwidth.sent(now, 1_000, None);
        bandwidth.feedback(now, std::iter::once((number, Some(n * 10_000))));
        if n == 0 {
            bandwidth.feedback(now, lost.iter().copied());
        }
        now += Duration::from_millis(10);
        assert!(bandwidth.loss() < 0.01, "{}", bandwidth.loss());
    }
}

#[test]
fn a_few_unacknowledged_packets_are_no_outage() {
    let now = Instant::now();
    let mut bandwidth = Bandwidth::new(now, Settings::default());
    for _ in 0..4 {
        bandwidth.sent(now, 100, None);
    }
    let later = now + Duration::from_secs(60);
    assert_eq!(bandwidth.next_timeout(), None);
    assert_eq!(bandwidth.poll_probe(later), None);
    assert_eq!(bandwidth.estimate(), 600_000);

    bandwidth.sent(later, 100, None);
    let due = bandwidth.next_timeout().unwrap();
    bandwidth.poll_probe(due);
    assert!(bandwidth.estimate() < 600_000);
}

#[test]
fn the_round_trip_is_measured_from_sending_to_feedback() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start, Settings::default());
    assert_eq!(bandwidth.round_trip(), None);
    let first = bandwidth.sent(start, 1_000, None);
    let later = start + Duration::from_millis(5);
    let second = bandwidth.sent(later, 1_000, None);
    assert_eq!((first, second), (0, 1));
    let now = later + Duration::from_millis(80);
    bandwidth.feedback(
        now,
        [(first, Some(1_000)), (second, Some(6_000))].into_iter(),
    );
    assert_eq!(bandwidth.round_trip(), Some(Duration::from_millis(80)));
    // This feedback contains nothing new.
    bandwidth.feedback(
        now + Duration::from_secs(1),
        [
            (first, Some(9)),
            (second, None),
            (2, Some(9)),
            (65_535, Some(9)),
        ]
        .into_iter(),
    );
    assert_eq!(bandwidth.round_trip(), Some(Duration::from_millis(80)));
}

#[test]
fn arrived_packets_are_counted_once() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start, Settings::default());
    assert_eq!(bandwidth.acknowledged(), None);
    for n in 0..100_u32 {
        let now = start + Duration::from_millis(10) * n;
        let number = bandwidth.sent(now, 1_000, None);
        let arrival = i64::from(n) * 10_000;
        for _ in 0..3 {
            bandwidth.feedback(now, std::iter::once((number, Some(arrival))));
        }
    }
    let acknowledged = bandwidth.acknowledged().unwrap();
    assert!(
        (760_000..=840_000).contains(&acknowledged),
        "{acknowledged}"
    );
}

/// Sends 800 kbit/s for two seconds. `fate` returns each packet's feedback, which is sent every
/// tenth of a second.
fn with_feedback(mut arrival_of: impl FnMut(u32) -> Option<Option<i64>>) -> Bandwidth {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start, Settings::default());
    let mut feedback = Vec::new();
    for n in 0..200_u32 {
        let now = start + Duration::from_millis(10) * n;
        let number = bandwidth.sent(now, 1_000, None);
        feedback.extend(arrival_of(n).map(|arrival| (number, arrival)));
        if n % 10 == 9 {
            bandwidth.feedback(now, feedback.drain(..));
        }
    }
    bandwidth
}

#[test]
fn losing_half_of_the_packets_halves_the_estimate() {
    let bandwidth = with_feedback(|n| Some((n % 2 == 0).then_some(i64::from(n) * 10_000)));
    assert!(
        (0.45..0.55).contains(&bandwidth.loss()),
        "{}",
        bandwidth.loss()
    );
    let estimate = bandwidth.estimate();
    assert!((300_000..420_000).contains(&estimate), "{estimate}");
}

#[test]
fn lost_feedback_does_not_distort_the_measurements() {
    let bandwidth = with_feedback(|n| (n / 10 % 3 == 0).then_some(Some(i64::from(n) * 10_000)));
    assert!(bandwidth.loss() < 0.01, "{}", bandwidth.loss());
    let acknowledged = bandwidth.acknowledged().unwrap();
    assert!(
        (700_000..=880_000).contains(&acknowledged),
        "{acknowledged}"
    );
}

#[test]
fn sent_packets_are_kept_while_the_ring_grows() {
    let mut history = History::default();
    for n in 0..10_000_u64 {
        assert_eq!(history.sent(n * 1_000, 1_200), n);
        assert_eq!(u64::from(History::number(n)), n & 0xffff);
        if n == 400 {
            // The history has grown beyond its initial capacity.
            assert_eq!(history.record_feedback(7, true).unwrap().sent, 7_000);
        }
    }
    let lost = history.record_feedback(9_000, false).unwrap();
    assert_eq!(
        (lost.index, lost.sent, lost.bytes),
        (9_000, 9_000_000, 1_200)
    );
    assert!(history.record_feedback(9_000, false).is_none());
    assert!(history.record_feedback(9_000, true).unwrap().was_lost);
    assert!(history.record_feedback(9_000, true).is_none());
    assert_eq!(history.unacknowledged(), 999);
    // 4096 packets are remembered, and none that were not sent yet.
    assert!(history.record_feedback(5_904, true).is_some());
    assert!(history.record_feedback(5_903, true).is_none());
    assert!(history.record_feedback(10_000, true).is_none());

    for n in 10_000..100_000 {
        history.sent(n * 1_000, 7);
    }
    let number = History::number(99_999);
    assert_eq!(history.record_feedback(number, true).unwrap().index, 99_999);
}

#[test]
fn an_estimate_takes_at_most_forty_kilobytes() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start, Settings::default());
    assert_eq!(bandwidth.history.memory() + bandwidth.batch.capacity(), 0);
    for _ in 0..70_000 {
        bandwidth.sent(start, 1_200, None);
    }
    bandwidth.feedback(start, (0..=u16::MAX).map(|n| (n, Some(i64::from(n)))));
    let memory = size_of::<Bandwidth>()
        + bandwidth.history.memory()
        + bandwidth.batch.capacity() * size_of::<Arrived>();
    assert!((32_768..=40_960).contains(&memory), "{memory}");
}

/// Any input of an estimate, plausible or not.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Sent(usize, u8),
    Feedback(u16, Vec<(u8, Option<i64>)>),
    Wants(u64),
    Poll,
}

fn arrival() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        1 => Just(None),
        4 => (0_i64..10_000_000).prop_map(Some),
        1 => any::<i64>().prop_map(Some),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(Some),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop_oneof![0_usize..1_500, Just(usize::MAX)];
    let feedback = prop::collection::vec((any::<u8>(), arrival()), 0..200);
    prop_oneof![
        4 => (0_u64..2_000_000).prop_map(Step::Wait),
        1 => (0_u64..1 << 50).prop_map(Step::Wait),
        8 => (sizes, any::<u8>()).prop_map(|(bytes, times)| Step::Sent(bytes, times)),
        8 => (0_u16..300, feedback).prop_map(|(back, arrivals)| Step::Feedback(back, arrivals)),
        1 => prop_oneof![0_u64..10_000_000, Just(u64::MAX)].prop_map(Step::Wants),
        4 => Just(Step::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_feedback_does_harm(
        steps in prop::collection::vec(step(), 0..150),
        least in 0_u64..1_000_000,
        most in prop_oneof![0_u64..100_000_000, Just(u64::MAX)],
        start in any::<u64>(),
    ) {
        let mut now = Instant::now();
        let settings = Settings { start_bps: start, min_bps: least, max_bps: most };
        let mut bandwidth = Bandwidth::new(now, settings);
        let mut number = 0_u16;
        let mut cluster = None;
        for step in steps {
            match step {
                Step::Wait(micros) => now += Duration::from_micros(micros),
                Step::Sent(bytes, times) => for _ in 0..times {
                    let expected = number;
                    prop_assert_eq!(bandwidth.sent(now, bytes, cluster), expected);
                    number = number.wrapping_add(1);
                },
                Step::Feedback(back, arrivals) => {
                    let first = number.wrapping_sub(back);
                    bandwidth.feedback(now, arrivals.into_iter().map(|(offset, arrival)| {
                        (first.wrapping_add(u16::from(offset)), arrival)
                    }));
                }
                Step::Wants(bps) => bandwidth.set_wanted_bps(bps),
                Step::Poll => {
                    if let Some(probe) = bandwidth.poll_probe(now) {
                        prop_assert!(probe.bytes > 0);
                        cluster = Some(probe.cluster);
                    }
                    // With a timeout in the past, the driver would never sleep.
                    prop_assert!(bandwidth.next_timeout().is_none_or(|due| due > now));
                }
            }
            let estimate = bandwidth.estimate();
            prop_assert!(estimate >= least && estimate <= most.max(least), "{}", estimate);
            prop_assert!((0.0..=1.0).contains(&bandwidth.loss()));
            let _ = (bandwidth.acknowledged(), bandwidth.round_trip());
        }
    }

    #[test]
    fn simulations_are_reproducible(seed in any::<u64>(), bps in 100_000_u64..5_000_000) {
        let network = Network { jitter: 10_000, loss: 10, ..Network::of(bps) };
        let mut runs = [(); 2].map(|()| Simulation::new(seed, network, Source::Layers(LAYERS)));
        for _ in 0..4 {
            let [one, other] = runs.each_mut().map(|sim| sim.run(0.5));
            prop_assert_eq!(one, other);
        }
    }
}
