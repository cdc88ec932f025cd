use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pending(arrivals: &Arrivals) -> Option<(u16, Vec<Option<i64>>)> {
    arrivals
        .pending()
        .map(|(base, times)| (base, times.to_vec()))
}

#[test]
fn arrivals_and_gaps_are_reported_in_order_whatever_the_order_they_came_in() {
    let start = Instant::now();
    let mut arrivals = Arrivals::new();
    assert_eq!(arrivals.pending(), None);
    for (after, sequence) in [(0, 65_534), (1, 0), (2, 65_535), (3, 2), (4, 0)] {
        arrivals.packet(start + ms(after), sequence);
    }
    let times = vec![Some(0), Some(2_000), Some(1_000), None, Some(3_000)];
    assert_eq!(pending(&arrivals), Some((65_534, times)));
    arrivals.consumed(2);
    assert_eq!(
        pending(&arrivals),
        Some((0, vec![Some(1_000), None, Some(3_000)]))
    );
    arrivals.consumed(3);
    assert_eq!(arrivals.pending(), None);
    arrivals.packet(start + ms(5), 5);
    assert_eq!(pending(&arrivals), Some((3, vec![None, None, Some(5_000)])));
}

#[test]
fn a_late_packet_is_reported_again_with_those_after_it() {
    let start = Instant::now();
    let mut arrivals = Arrivals::new();
    for sequence in [10, 11, 13] {
        arrivals.packet(start, sequence);
    }
    arrivals.consumed(4);
    arrivals.packet(start + ms(1), 11);
    assert_eq!(arrivals.pending(), None);
    arrivals.packet(start + ms(2), 12);
    assert_eq!(pending(&arrivals), Some((12, vec![Some(2_000), Some(0)])));
    arrivals.packet(start + ms(3), 9);
    assert_eq!(pending(&arrivals), Some((12, vec![Some(2_000), Some(0)])));
}

#[test]
fn a_report_is_due_50_ms_after_the_first_arrival_or_at_50_packets() {
    let start = Instant::now();
    let mut arrivals = Arrivals::new();
    assert_eq!(arrivals.next_report(), None);
    for sequence in 0..49 {
        arrivals.packet(start + ms(u64::from(sequence)), sequence);
        assert_eq!(arrivals.next_report(), Some(start + ms(50)));
    }
    arrivals.packet(start + ms(49), 49);
    assert!(arrivals.next_report() <= Some(start + ms(49)));
    arrivals.consumed(40);
    assert_eq!(arrivals.next_report(), Some(start + ms(50)));
    arrivals.consumed(usize::MAX);
    assert_eq!(arrivals.next_report(), None);
}

#[test]
fn nothing_is_reported_twice() {
    let start = Instant::now();
    let mut arrivals = Arrivals::new();
    for sequence in 0..1_000 {
        arrivals.packet(start, sequence);
        assert_eq!(pending(&arrivals), Some((sequence, vec![Some(0)])));
        arrivals.consumed(1);
        assert_eq!(arrivals.pending(), None);
    }
}

#[test]
fn a_jump_in_the_numbers_restarts_the_record() {
    let start = Instant::now();
    let mut arrivals = Arrivals::new();
    arrivals.packet(start, 1);
    arrivals.packet(start, 2048);
    assert_eq!(
        pending(&arrivals).map(|(base, times)| (base, times.len())),
        Some((1, 2048))
    );
    arrivals.packet(start, 2049);
    assert_eq!(pending(&arrivals), Some((2049, vec![Some(0)])));
}

proptest! {
    #[test]
    fn anything_may_arrive(
        steps in prop::collection::vec((any::<u16>(), 0..3_u64, 0..2_500_usize), 0..200),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut arrivals = Arrivals::new();
        for (sequence, after, consumed) in steps {
            now += ms(after);
            arrivals.packet(now, sequence);
            let pending = arrivals.pending();
            prop_assert_eq!(pending.is_some(), arrivals.next_report().is_some());
            if let Some((_, times)) = pending {
                prop_assert!(times.len() <= MAX_PENDING + 2 * HISTORY);
                prop_assert!(times.last().is_some_and(Option::is_some));
            }
            prop_assert!(arrivals.times.len() <= MAX_PENDING + 2 * HISTORY);
            if consumed % 3 == 0 {
                arrivals.consumed(consumed);
            }
        }
    }

    /// The reports contain every arrival exactly, for any loss, duplication and reordering, and for
    /// reports split in any way.
    #[test]
    fn every_arrival_is_reported(
        first in any::<u16>(),
        fates in prop::collection::vec((0..10_u8, 0..60_u64), 1..1_000),
        pieces in prop::collection::vec(1..80_usize, 1..20),
    ) {
        // Position on the path and number; fate 0 is lost, 1 is duplicated.
        let mut path = Vec::new();
        for (sent, (fate, delay)) in (0_u64..).zip(&fates) {
            if *fate == 0 && sent > 0 {
                continue;
            }
            // The first one stays first, since packets before it are not reported.
            let delay = if sent == 0 { 0 } else { *delay + 1 };
            path.push((sent + delay, sent));
            if *fate == 1 {
                path.push((sent + delay + 7, sent));
            }
        }
        path.sort_unstable();

        let start = Instant::now();
        let mut arrivals = Arrivals::new();
        let mut happened = BTreeMap::new();
        let mut learned: BTreeMap<u64, Option<i64>> = BTreeMap::new();
        let mut pieces = pieces.iter().cycle();
        let mut report = |arrivals: &mut Arrivals| {
            while let Some((base, times)) = pending(arrivals) {
                let piece = times.len().min(*pieces.next().expect("cycles"));
                // All numbers are less than half of the number space from the first.
                let base = u64::from(base.wrapping_sub(first));
                for (sent, time) in (base..).zip(&times[..piece]) {
                    let known = learned.entry(sent).or_default();
                    assert!(known.is_none() || known == time, "a reported arrival must not change");
                    *known = *time;
                }
                arrivals.consumed(piece);
            }
        };
        for (at, sent) in path {
            let now = start + Duration::from_micros(at * 1_500);
            let low = u16::try_from(sent % 65_536).expect("16 bits");
            arrivals.packet(now, first.wrapping_add(low));
            happened.entry(sent).or_insert_with(|| i64::try_from(at * 1_500).ok());
            if arrivals.next_report().is_some_and(|due| due <= now) {
                report(&mut arrivals);
            }
        }
        report(&mut arrivals);
        for sent in 0..fates.len() as u64 {
            let last = happened.last_key_value().expect("the first packet arrived").0;
            if sent <= *last {
                let expected = happened.get(&sent).copied().flatten();
                prop_assert_eq!(learned.get(&sent).copied(), Some(expected), "number {}", sent);
            }
        }
    }
}
