use proptest::prelude::*;

use super::*;

const PLENTY: u64 = 1_000_000_000;

fn camera(current: Option<usize>) -> Wanted {
    Wanted {
        priority: Priority::Other,
        preferred: 0,
        layers: [2_500_000, 500_000, 150_000],
        current,
    }
}

fn given(bps: u64, wanted: &[Wanted]) -> Vec<Option<usize>> {
    of(bps, true, wanted)
}

fn of(bps: u64, is_known: bool, wanted: &[Wanted]) -> Vec<Option<usize>> {
    let mut out = vec![Some(9); 3];
    allocate(&Budget { bps, is_known }, wanted, &mut out);
    out
}

fn cost(wanted: &[Wanted], out: &[Option<usize>]) -> u64 {
    let pairs = wanted.iter().zip(out);
    pairs
        .filter_map(|(want, layer)| layer.map(|layer| want.layers[layer]))
        .sum()
}

#[test]
fn with_plenty_every_video_gets_its_preferred_layer() {
    let preferring = |preferred| Wanted {
        preferred,
        ..camera(None)
    };
    let wanted = [preferring(0), preferring(1), preferring(2), preferring(99)];
    assert_eq!(given(PLENTY, &wanted), [Some(0), Some(1), Some(2), Some(2)]);
}

#[test]
fn a_preferred_layer_that_is_not_sent_is_replaced_by_the_nearest_lower_or_else_higher_one() {
    let choice = |preferred, layers| {
        let want = Wanted {
            preferred,
            layers,
            ..camera(None)
        };
        given(PLENTY, &[want])[0]
    };
    assert_eq!(choice(0, [0, 5, 2]), Some(1));
    assert_eq!(choice(0, [0, 0, 2]), Some(2));
    assert_eq!(choice(1, [9, 0, 2]), Some(2));
    assert_eq!(choice(1, [9, 0, 0]), Some(0));
    assert_eq!(choice(2, [9, 5, 0]), Some(1));
    assert_eq!(choice(2, [9, 0, 0]), Some(0));
    assert_eq!(choice(1, [0, 0, 0]), None);
}

#[test]
fn every_video_gets_its_lowest_layer_before_any_is_raised() {
    let wanted = [camera(None); 5];
    assert_eq!(
        given(1_300_000, &wanted),
        [Some(1), Some(2), Some(2), Some(2), Some(2)]
    );
    assert_eq!(
        given(400_000, &wanted),
        [Some(2), Some(2), None, None, None]
    );
}

#[test]
fn an_unknown_budget_allocates_only_lowest_layers() {
    let wanted = [camera(None); 5];
    let some = [Some(2), Some(2), Some(2), Some(2), None];
    assert_eq!(of(800_000, false, &wanted), some);
    assert_eq!(of(PLENTY, false, &wanted), [Some(2); 5]);
    // Nothing can be measured without sending.
    let mut wanted = wanted;
    wanted[3].priority = Priority::Screen;
    wanted[3].layers = [3_000_000, 0, 0];
    let one = [None, None, None, Some(0), None];
    assert_eq!(of(800_000, false, &wanted), one);
    assert_eq!(of(0, false, &wanted), one);
    assert_eq!(of(0, true, &wanted), [None; 5]);
}

#[test]
fn the_rest_of_the_budget_goes_to_screen_then_pinned_then_speaker() {
    let mut wanted = [camera(None); 4];
    wanted[1].priority = Priority::Speaker;
    wanted[2].priority = Priority::Screen;
    wanted[3].priority = Priority::Pinned;
    assert_eq!(
        given(1_150_000, &wanted),
        [Some(2), Some(2), Some(1), Some(2)]
    );
    assert_eq!(
        given(1_550_000, &wanted),
        [Some(2), Some(2), Some(1), Some(1)]
    );
    assert_eq!(
        given(1_950_000, &wanted),
        [Some(2), Some(1), Some(1), Some(1)]
    );
    assert_eq!(given(2_350_000, &wanted), [Some(1); 4]);
    assert_eq!(
        given(4_600_000, &wanted),
        [Some(1), Some(1), Some(0), Some(1)]
    );
}

#[test]
fn equal_videos_are_raised_together() {
    assert_eq!(given(3_600_000, &[camera(None); 2]), [Some(0), Some(1)]);
    assert_eq!(given(3_000_000, &[camera(None); 2]), [Some(1), Some(1)]);
}

#[test]
fn a_layer_is_kept_while_it_fits_and_a_better_one_needs_room_to_spare() {
    let tight = 500_000;
    assert_eq!(given(tight, &[camera(Some(1))]), [Some(1)]);
    assert_eq!(given(tight, &[camera(Some(2))]), [Some(2)]);
    assert_eq!(given(tight, &[camera(None)]), [Some(2)]);
    assert_eq!(given(tight - 1, &[camera(Some(1))]), [Some(2)]);
    assert_eq!(given(tight * 8 / 7 + 1, &[camera(Some(2))]), [Some(1)]);
}

#[test]
fn no_video_loses_a_layer_to_an_equally_important_one() {
    let wanted = [camera(Some(2)), camera(Some(1))];
    assert_eq!(given(800_000, &wanted), [Some(2), Some(1)]);
}

#[test]
fn the_most_important_video_may_cost_up_to_twice_the_budget() {
    let mut wanted = [camera(Some(2)), camera(Some(2))];
    wanted[1].priority = Priority::Screen;
    wanted[1].layers = [1_000_000, 0, 0];
    wanted[1].current = Some(0);
    assert_eq!(given(500_000, &wanted), [None, Some(0)]);
    assert_eq!(given(499_999, &wanted), [Some(2), None]);
}

#[test]
fn a_better_layer_that_costs_less_is_taken() {
    let still = Wanted {
        layers: [20_000, 500_000, 150_000],
        ..camera(None)
    };
    assert_eq!(given(140_000, &[still]), [Some(0)]);
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let bps = || prop_oneof![1 => Just(0), 4 => 1..3_000_000_u64];
    (
        priority,
        0..4_usize,
        [bps(), bps(), bps()],
        prop::option::of(0..4_usize),
    )
        .prop_map(|(priority, preferred, layers, current)| Wanted {
            priority,
            preferred,
            layers,
            current,
        })
}

proptest! {
    #[test]
    fn the_budget_is_kept_except_for_a_single_lowest_layer(
        budget in 0..20_000_000_u64,
        wanted in prop::collection::vec(any_wanted(), 0..30),
    ) {
        let out = given(budget, &wanted);
        prop_assert_eq!(out.len(), wanted.len());
        let cost = cost(&wanted, &out);
        if cost > budget {
            prop_assert!(cost <= 2 * budget);
            let shown: Vec<usize> = (0..out.len()).filter(|at| out[*at].is_some()).collect();
            prop_assert_eq!(shown.len(), 1);
            let sent = |want: &Wanted| want.layers.iter().any(|bps| *bps > 0);
            let most = wanted.iter().filter(|want| sent(want)).map(|want| want.priority).min();
            prop_assert_eq!(Some(wanted[shown[0]].priority), most);
        }
    }

    #[test]
    fn no_video_gets_an_inactive_layer_or_a_better_one_than_preferred(
        budget in prop_oneof![0..20_000_000_u64, Just(PLENTY)],
        wanted in prop::collection::vec(any_wanted(), 0..30),
    ) {
        for (want, layer) in wanted.iter().zip(given(budget, &wanted)) {
            let Some(layer) = layer else { continue };
            prop_assert!(want.layers[layer] > 0);
            let useful = want.preferred.min(2)..3;
            if layer < want.preferred.min(2) {
                prop_assert!(useful.clone().all(|layer| want.layers[layer] == 0));
                let between = layer + 1..want.preferred.min(2);
                prop_assert!(between.into_iter().all(|layer| want.layers[layer] == 0));
            }
        }
    }

    #[test]
    fn the_allocation_is_stable(
        budget in prop_oneof![0..20_000_000_u64, Just(PLENTY)],
        mut wanted in prop::collection::vec(any_wanted(), 0..30),
    ) {
        let out = given(budget, &wanted);
        for (want, layer) in wanted.iter_mut().zip(&out) {
            want.current = *layer;
        }
        prop_assert_eq!(given(budget, &wanted), out);
    }

    #[test]
    fn a_higher_priority_never_lowers_a_video(
        budget in 0..8_000_000_u64,
        mut wanted in prop::collection::vec(any_wanted(), 1..12),
        who in any::<prop::sample::Index>(),
        more in prop::sample::select(Priority::ALL.to_vec()),
    ) {
        for want in &mut wanted {
            want.current = None;
        }
        let who = who.index(wanted.len());
        prop_assume!(more < wanted[who].priority);
        let before = given(budget, &wanted)[who];
        wanted[who].priority = more;
        let after = given(budget, &wanted)[who];
        let rank = |layer: Option<usize>| layer.unwrap_or(LAYERS);
        prop_assert!(rank(after) <= rank(before), "{:?} became {:?}", before, after);
    }

    #[test]
    fn a_larger_budget_never_lowers_a_single_video(
        want in any_wanted(),
        budget in 0..4_000_000_u64,
        more in 0..1_000_000_u64,
    ) {
        let rank = |layer: Option<usize>| layer.unwrap_or(LAYERS);
        let before = given(budget, &[want])[0];
        let after = given(budget + more, &[want])[0];
        prop_assert!(rank(after) <= rank(before));
    }

    #[test]
    fn any_numbers_can_be_allocated(
        budget in any::<u64>(),
        wanted in prop::collection::vec(
            (any::<usize>(), any::<[u64; 3]>(), any::<Option<usize>>()).prop_map(
                |(preferred, layers, current)| Wanted {
                    priority: Priority::Other,
                    preferred,
                    layers,
                    current,
                },
            ),
            0..10,
        ),
    ) {
        prop_assert_eq!(given(budget, &wanted).len(), wanted.len());
    }
}
