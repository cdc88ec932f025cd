//! The estimate against a network in virtual time.

mod feedback;
mod link;

use self::link::{Network, Source, World};
use super::{Cluster, float};

const SEEDS: std::ops::Range<u64> = 1..5;
/// What a camera gives.
const LAYERS: &[u64] = &[150_000, 500_000, 2_500_000];
const PLENTY: u64 = 100_000_000;

#[test]
fn on_a_slow_network_it_settles_below_it_within_three_seconds() {
    for seed in SEEDS {
        for source in [Source::Elastic(3_000_000), Source::Layers(LAYERS)] {
            let mut world = World::new(seed, Network::of(300_000), source);
            assert_eq!(world.bandwidth.estimate(), 600_000);
            world.run(3.0);
            world.longest_wait = 0;
            let (least, average, most) = world.run(20.0);
            assert!((150_000..=310_000).contains(&least), "{seed}: {least}");
            assert!((230_000..=300_000).contains(&average), "{seed}: {average}");
            assert!(most < 345_000, "{seed}: {most}");
            assert!(world.longest_wait < 150_000, "{}", world.longest_wait);
        }
    }
}

#[test]
fn on_a_very_slow_network_too() {
    for seed in SEEDS {
        let mut world = World::new(seed, Network::of(100_000), Source::Elastic(3_000_000));
        world.run(5.0);
        let (_, average, most) = world.run(10.0);
        assert!((70_000..=105_000).contains(&average), "{seed}: {average}");
        assert!(most < 130_000, "{seed}: {most}");
    }
}

#[test]
fn what_the_network_carries_is_used() {
    for seed in SEEDS {
        for bps in [500_000, 1_000_000, 2_000_000, 5_000_000] {
            let mut world = World::new(seed, Network::of(bps), Source::Elastic(8_000_000));
            world.run(3.0);
            world.longest_wait = 0;
            let (_, average, most) = world.run(20.0);
            assert!(average > bps * 8 / 10, "{seed} {bps}: {average}");
            assert!(average < bps * 102 / 100, "{seed} {bps}: {average}");
            assert!(most < bps * 12 / 10, "{seed} {bps}: {most}");
            assert!(world.longest_wait < 150_000, "{}", world.longest_wait);
        }
    }
}

#[test]
fn with_room_and_wishes_it_is_at_three_megabits_within_two_seconds() {
    for seed in SEEDS {
        for source in [Source::Elastic(3_000_000), Source::Layers(LAYERS)] {
            for delay in [1_000, 25_000, 100_000] {
                let network = Network {
                    delay,
                    ..Network::of(PLENTY)
                };
                let mut world = World::new(seed, network, source);
                world.run(2.0);
                let estimate = world.bandwidth.estimate();
                assert!(
                    estimate > 3_000_000,
                    "{seed} {source:?} {delay}: {estimate}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_wanted_is_not_probed_for() {
    for seed in SEEDS {
        let mut world = World::new(seed, Network::of(PLENTY), Source::Fixed(200_000));
        // But for once, to find out whether what it starts with is right.
        world.run(1.0);
        let (probes, wakes) = (world.probes.len(), world.wakes);
        assert!((1..20).contains(&probes), "{probes}");
        let (least, _, most) = world.run(60.0);
        assert_eq!((least, most), (600_000, 600_000));
        assert_eq!((world.probes.len(), world.wakes), (probes, wakes));

        let mut world = World::new(seed, Network::of(PLENTY), Source::Layers(LAYERS));
        let (_, _, most) = world.run(60.0);
        assert!(most < 2_500_000 * 8 / 5, "{most}");
    }
}

#[test]
fn what_it_starts_with_is_a_guess_for_less_than_half_a_second() {
    for seed in SEEDS {
        for bps in [300_000, 10_000_000] {
            let mut world = World::new(seed, Network::of(bps), Source::Fixed(100_000));
            assert!(!world.bandwidth.is_known());
            world.run(0.5);
            assert!(world.bandwidth.is_known());
            let estimate = world.bandwidth.estimate();
            let expected = 240_000.min(bps)..=600_000.min(bps * 12 / 10);
            assert!(expected.contains(&estimate), "{seed} {bps}: {estimate}");
        }
        // Nothing is found out without padding, nor while nothing comes back.
        let mut world = World::new(seed, Network::of(PLENTY), Source::Unsaid(50_000));
        world.run(5.0);
        assert!(!world.bandwidth.is_known());
        let mut world = World::new(seed, Network::of(PLENTY), Source::Fixed(100_000));
        world.network.bps = None;
        world.run(5.0);
        assert!(!world.bandwidth.is_known());
    }
}

#[test]
fn a_first_probe_that_was_held_up_is_made_good_soon() {
    for seed in SEEDS {
        let mut world = World::new(seed, Network::of(PLENTY), Source::Layers(LAYERS));
        // As by a machine that had something else to do.
        world.run(0.006);
        assert!(!world.probes.is_empty());
        world.stall(0.06);
        world.run(0.5);
        assert!(world.bandwidth.estimate() < 600_000);
        world.run(2.5);
        let estimate = world.bandwidth.estimate();
        assert!(estimate > 2_500_000, "{seed}: {estimate}");
    }
}

#[test]
fn little_sent_proves_little_and_lowers_nothing() {
    for seed in SEEDS {
        let mut world = World::new(seed, Network::of(PLENTY), Source::Elastic(2_000_000));
        world.pads = false;
        world.source = Source::Fixed(500_000);
        let (least, _, most) = world.run(60.0);
        assert_eq!(least, 600_000);
        assert!(most <= 500_000 * 3 / 2 + 25_000, "{most}");
        world.source = Source::Fixed(30_000);
        let (least, _, _) = world.run(60.0);
        assert!(least >= most * 99 / 100, "{least} after {most}");
    }
}

#[test]
fn little_sent_over_a_restless_network_lowers_little() {
    for seed in SEEDS {
        let network = Network {
            jitter: 15_000,
            loss: 10,
            ..Network::of(PLENTY)
        };
        let mut world = World::new(seed, network, Source::Fixed(40_000));
        let (least, ..) = world.run(60.0);
        assert!(least >= 500_000, "{seed}: {least}");
    }
}

#[test]
fn without_padding_it_still_grows_and_does_not_ask_all_the_time() {
    let mut world = World::new(1, Network::of(2_000_000), Source::Elastic(8_000_000));
    world.pads = false;
    world.run(20.0);
    assert!(world.bandwidth.estimate() > 1_500_000);
    assert!(world.wakes < 100, "{}", world.wakes);
}

#[test]
fn a_cluster_is_at_least_five_packets_over_fifteen_milliseconds() {
    for bps in [100_000, 300_000, 2_000_000, PLENTY] {
        let mut world = World::new(1, Network::of(bps), Source::Elastic(10_000_000));
        // Media counts as well, so without it there is nothing but padding to see.
        world.burst = 0;
        world.run(10.0);
        let probes = &world.probes;
        let mut clusters: Vec<Cluster> = probes.iter().map(|(cluster, ..)| *cluster).collect();
        clusters.dedup();
        assert!(clusters.len() > 1, "{bps}: {clusters:?}");
        for cluster in clusters {
            let packets: Vec<_> = probes.iter().filter(|(of, ..)| *of == cluster).collect();
            let (first, last) = (packets[0].1, packets[packets.len() - 1].1);
            assert!(packets.len() >= 5, "{packets:?}");
            assert!((15_000..100_000).contains(&(last - first)), "{packets:?}");
        }
    }
}

#[test]
fn its_own_probes_are_not_taken_for_congestion() {
    for seed in SEEDS {
        // The source cannot send as much as the network carries.
        let mut world = World::new(seed, Network::of(30_000_000), Source::Elastic(60_000_000));
        world.run(5.0);
        let (least, ..) = world.run(20.0);
        assert!(least > 22_000_000, "{seed}: {least}");
    }
}

#[test]
fn an_outage_takes_it_down_and_what_was_before_comes_back() {
    for seed in SEEDS {
        for source in [Source::Elastic(1_500_000), Source::Layers(LAYERS)] {
            let mut world = World::new(seed, Network::of(2_000_000), source);
            let (.., before) = world.run(5.0);
            world.network.bps = None;
            world.run(3.0);
            let during = world.bandwidth.estimate();
            assert!(during < before / 3, "{seed}: {during}");
            world.network.bps = Some(2_000_000);
            world.run(0.7);
            assert!(world.bandwidth.loss() < 0.01, "{}", world.bandwidth.loss());
            world.run(1.3);
            let after = world.bandwidth.estimate();
            assert!(after > 1_500_000, "{seed}: {after}");
        }
    }
}

#[test]
fn what_was_before_an_outage_comes_back_without_wishes() {
    let mut world = World::new(1, Network::of(2_000_000), Source::Unsaid(900_000));
    let (.., before) = world.run(5.0);
    world.network.bps = None;
    world.run(3.0);
    world.network.bps = Some(2_000_000);
    world.run(2.0);
    let after = world.bandwidth.estimate();
    assert!(after > before * 9 / 10, "{after} after {before}");
}

#[test]
fn somebody_to_whom_nothing_is_sent_comes_back_too() {
    let mut world = World::new(1, Network::of(2_000_000), Source::Layers(LAYERS));
    world.run(3.0);
    world.network.bps = None;
    world.run(20.0);
    // Not even the lowest layer fits.
    assert!(world.bandwidth.estimate() < LAYERS[0]);
    world.network.bps = Some(2_000_000);
    world.run(5.0);
    assert!(world.bandwidth.estimate() > 1_500_000);
}

#[test]
fn a_network_that_held_everything_back_is_given_time_to_deliver_it() {
    for seed in SEEDS {
        let network = Network {
            queue: 2_000_000,
            ..Network::of(2_000_000)
        };
        let mut world = World::new(seed, network, Source::Elastic(1_500_000));
        world.run(5.0);
        world.stall(3.0);
        world.run(6.0);
        world.longest_wait = 0;
        world.run(1.0);
        assert!(world.longest_wait < 100_000, "{}", world.longest_wait);
        world.run(6.0);
        let after = world.bandwidth.estimate();
        assert!(after > 1_400_000, "{seed}: {after}");
    }
}

#[test]
fn it_follows_a_network_that_gets_slower_and_faster() {
    for seed in SEEDS {
        for source in [Source::Elastic(2_000_000), Source::Layers(LAYERS)] {
            // What it has in its queue then takes seconds.
            let mut world = World::new(seed, Network::of(2_000_000), source);
            world.run(5.0);
            world.network.bps = Some(300_000);
            world.run(1.5);
            let (.., most) = world.run(1.0);
            assert!(most <= 300_000, "{seed}: {most}");
            world.run(5.5);
            world.longest_wait = 0;
            world.run(2.0);
            assert!(world.longest_wait < 150_000, "{}", world.longest_wait);
            world.network.bps = Some(2_000_000);
            world.run(12.0);
            let after = world.bandwidth.estimate();
            assert!(after > 1_500_000, "{seed}: {after}");
        }
    }
}

#[test]
fn loss_that_has_nothing_to_do_with_us_is_put_up_with() {
    for seed in SEEDS {
        for (loss, least) in [(20, 1_700_000), (50, 1_600_000), (150, 1_000_000)] {
            let network = Network {
                loss,
                ..Network::of(2_000_000)
            };
            let mut world = World::new(seed, network, Source::Elastic(3_000_000));
            world.run(5.0);
            let (_, average, _) = world.run(25.0);
            assert!(average > least, "{seed} {loss}: {average}");
            let measured = f64::from(world.bandwidth.loss());
            let true_loss = float(loss) / 1_000.0;
            assert!(
                (measured - true_loss).abs() < 0.1,
                "{measured} for {true_loss}"
            );
        }
    }
}

#[test]
fn a_queue_too_short_to_show_delay_shows_in_losses() {
    for seed in SEEDS {
        let network = Network {
            queue: 4_000,
            ..Network::of(500_000)
        };
        let mut world = World::new(seed, network, Source::Elastic(3_000_000));
        world.run(3.0);
        let mut heavy = 0;
        for _ in 0..100 {
            let (_, average, _) = world.run(0.2);
            assert!((350_000..640_000).contains(&average), "{seed}: {average}");
            heavy += u32::from(world.bandwidth.loss() > 0.15);
        }
        assert!(heavy < 10, "{seed}: {heavy}");
    }
}

#[test]
fn jitter_is_not_taken_for_congestion() {
    for seed in SEEDS {
        let network = Network {
            jitter: 20_000,
            ..Network::of(2_000_000)
        };
        let mut world = World::new(seed, network, Source::Elastic(3_000_000));
        world.run(5.0);
        let (least, average, _) = world.run(25.0);
        assert!(least > 800_000, "{seed}: {least}");
        assert!(average > 1_300_000, "{seed}: {average}");
    }
}

#[test]
fn rare_polls_and_lost_feedback_do_little_harm() {
    for seed in SEEDS {
        let mut world = World::new(seed, Network::of(2_000_000), Source::Elastic(3_000_000));
        world.poll = 10_000;
        world.feedback = 200_000;
        world.feedback_loss = 100;
        world.run(5.0);
        let (_, average, most) = world.run(25.0);
        assert!(average > 1_500_000, "{seed}: {average}");
        assert!(most < 2_600_000, "{seed}: {most}");
    }
}

#[test]
fn without_any_feedback_it_goes_down_to_the_least() {
    let network = Network {
        bps: None,
        ..Network::of(1_000_000)
    };
    let mut world = World::new(1, network, Source::Elastic(3_000_000));
    world.run(0.9);
    assert_eq!(world.bandwidth.estimate(), 600_000);
    world.run(1.0);
    assert!(world.bandwidth.estimate() < 450_000);
    world.run(8.0);
    assert_eq!(world.bandwidth.estimate(), 50_000);
    assert!(world.wakes < 60, "{}", world.wakes);
}
