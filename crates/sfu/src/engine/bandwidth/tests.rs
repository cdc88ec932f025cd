//! The estimate on a simulated network, in virtual time.

mod feedback;
mod link;

use self::link::{Network, Simulation, Source};
use super::{ClusterId, float};

const SEEDS: std::ops::Range<u64> = 1..5;
/// The bit rates of a camera's layers, in bits per second.
const LAYERS: &[u64] = &[150_000, 500_000, 2_500_000];
const PLENTY: u64 = 100_000_000;

#[test]
fn the_estimate_settles_below_a_slow_network_within_three_seconds() {
    for seed in SEEDS {
        for source in [Source::Elastic(3_000_000), Source::Layers(LAYERS)] {
            let mut sim = Simulation::new(seed, Network::of(300_000), source);
            assert_eq!(sim.bandwidth.estimate(), 600_000);
            sim.run(3.0);
            sim.longest_wait = 0;
            let (least, average, most) = sim.run(20.0);
            assert!((150_000..=310_000).contains(&least), "{seed}: {least}");
            assert!((230_000..=300_000).contains(&average), "{seed}: {average}");
            assert!(most < 345_000, "{seed}: {most}");
            assert!(sim.longest_wait < 150_000, "{}", sim.longest_wait);
        }
    }
}

#[test]
fn the_estimate_settles_on_a_very_slow_network() {
    for seed in SEEDS {
        let mut sim = Simulation::new(seed, Network::of(100_000), Source::Elastic(3_000_000));
        sim.run(5.0);
        let (_, average, most) = sim.run(10.0);
        assert!((70_000..=105_000).contains(&average), "{seed}: {average}");
        assert!(most < 130_000, "{seed}: {most}");
    }
}

#[test]
fn the_capacity_of_the_network_is_used() {
    for seed in SEEDS {
        for bps in [500_000, 1_000_000, 2_000_000, 5_000_000] {
            let mut sim = Simulation::new(seed, Network::of(bps), Source::Elastic(8_000_000));
            sim.run(3.0);
            sim.longest_wait = 0;
            let (_, average, most) = sim.run(20.0);
            assert!(average > bps * 8 / 10, "{seed} {bps}: {average}");
            assert!(average < bps * 102 / 100, "{seed} {bps}: {average}");
            assert!(most < bps * 12 / 10, "{seed} {bps}: {most}");
            assert!(sim.longest_wait < 150_000, "{}", sim.longest_wait);
        }
    }
}

#[test]
fn the_estimate_reaches_three_megabits_within_two_seconds() {
    for seed in SEEDS {
        for source in [Source::Elastic(3_000_000), Source::Layers(LAYERS)] {
            for delay in [1_000, 25_000, 100_000] {
                let network = Network {
                    delay,
                    ..Network::of(PLENTY)
                };
                let mut sim = Simulation::new(seed, network, source);
                sim.run(2.0);
                let estimate = sim.bandwidth.estimate();
                assert!(
                    estimate > 3_000_000,
                    "{seed} {source:?} {delay}: {estimate}"
                );
            }
        }
    }
}

#[test]
fn the_network_is_not_probed_beyond_the_wanted_rate() {
    for seed in SEEDS {
        let mut sim = Simulation::new(seed, Network::of(PLENTY), Source::Fixed(200_000));
        // Except once, to verify the initial value.
        sim.run(1.0);
        let (probes, wakes) = (sim.probes.len(), sim.wakes);
        assert!((1..20).contains(&probes), "{probes}");
        let (least, _, most) = sim.run(60.0);
        assert_eq!((least, most), (600_000, 600_000));
        assert_eq!((sim.probes.len(), sim.wakes), (probes, wakes));

        let mut sim = Simulation::new(seed, Network::of(PLENTY), Source::Layers(LAYERS));
        let (_, _, most) = sim.run(60.0);
        assert!(most < 2_500_000 * 8 / 5, "{most}");
    }
}

#[test]
fn the_estimate_is_known_within_half_a_second() {
    for seed in SEEDS {
        for bps in [300_000, 10_000_000] {
            let mut sim = Simulation::new(seed, Network::of(bps), Source::Fixed(100_000));
            assert!(!sim.bandwidth.is_known());
            sim.run(0.5);
            assert!(sim.bandwidth.is_known());
            let estimate = sim.bandwidth.estimate();
            let expected = 240_000.min(bps)..=600_000.min(bps * 12 / 10);
            assert!(expected.contains(&estimate), "{seed} {bps}: {estimate}");
        }
        // Nothing is learnt without padding, nor without feedback.
        let mut sim = Simulation::new(seed, Network::of(PLENTY), Source::Unannounced(50_000));
        sim.run(5.0);
        assert!(!sim.bandwidth.is_known());
        let mut sim = Simulation::new(seed, Network::of(PLENTY), Source::Fixed(100_000));
        sim.network.bps = None;
        sim.run(5.0);
        assert!(!sim.bandwidth.is_known());
    }
}

#[test]
fn a_first_probe_that_was_stalled_is_corrected_soon() {
    for seed in SEEDS {
        let mut sim = Simulation::new(seed, Network::of(PLENTY), Source::Layers(LAYERS));
        // The stall delays the cluster, as on a busy machine.
        sim.run(0.006);
        assert!(!sim.probes.is_empty());
        sim.stall(0.06);
        sim.run(0.5);
        assert!(sim.bandwidth.estimate() < 600_000);
        sim.run(2.5);
        let estimate = sim.bandwidth.estimate();
        assert!(estimate > 2_500_000, "{seed}: {estimate}");
    }
}

#[test]
fn low_traffic_does_not_lower_the_estimate() {
    for seed in SEEDS {
        let mut sim = Simulation::new(seed, Network::of(PLENTY), Source::Elastic(2_000_000));
        sim.sends_padding = false;
        sim.source = Source::Fixed(500_000);
        let (least, _, most) = sim.run(60.0);
        assert_eq!(least, 600_000);
        assert!(most <= 500_000 * 3 / 2 + 25_000, "{most}");
        sim.source = Source::Fixed(30_000);
        let (least, _, _) = sim.run(60.0);
        assert!(least >= most * 99 / 100, "{least} after {most}");
    }
}

#[test]
fn low_traffic_on_a_jittery_network_hardly_lowers_the_estimate() {
    for seed in SEEDS {
        let network = Network {
            jitter: 15_000,
            loss: 10,
            ..Network::of(PLENTY)
        };
        let mut sim = Simulation::new(seed, network, Source::Fixed(40_000));
        let (least, ..) = sim.run(60.0);
        assert!(least >= 500_000, "{seed}: {least}");
    }
}

#[test]
fn without_padding_the_estimate_still_grows_with_few_timeouts() {
    let mut sim = Simulation::new(1, Network::of(2_000_000), Source::Elastic(8_000_000));
    sim.sends_padding = false;
    sim.run(20.0);
    assert!(sim.bandwidth.estimate() > 1_500_000);
    assert!(sim.wakes < 100, "{}", sim.wakes);
}

#[test]
fn a_cluster_is_at_least_five_packets_over_fifteen_milliseconds() {
    for bps in [100_000, 300_000, 2_000_000, PLENTY] {
        let mut sim = Simulation::new(1, Network::of(bps), Source::Elastic(10_000_000));
        // Media counts towards a cluster too, so turn it off to see only padding.
        sim.burst = 0;
        sim.run(10.0);
        let probes = &sim.probes;
        let mut clusters: Vec<ClusterId> = probes.iter().map(|(cluster, ..)| *cluster).collect();
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
        let mut sim = Simulation::new(seed, Network::of(30_000_000), Source::Elastic(60_000_000));
        sim.run(5.0);
        let (least, ..) = sim.run(20.0);
        assert!(least > 22_000_000, "{seed}: {least}");
    }
}

#[test]
fn an_outage_lowers_the_estimate_and_its_end_restores_it() {
    for seed in SEEDS {
        for source in [Source::Elastic(1_500_000), Source::Layers(LAYERS)] {
            let mut sim = Simulation::new(seed, Network::of(2_000_000), source);
            let (.., before) = sim.run(5.0);
            sim.network.bps = None;
            sim.run(3.0);
            let during = sim.bandwidth.estimate();
            assert!(during < before / 3, "{seed}: {during}");
            sim.network.bps = Some(2_000_000);
            sim.run(0.7);
            assert!(sim.bandwidth.loss() < 0.01, "{}", sim.bandwidth.loss());
            sim.run(1.3);
            let after = sim.bandwidth.estimate();
            assert!(after > 1_500_000, "{seed}: {after}");
        }
    }
}

#[test]
fn the_rate_before_an_outage_is_restored_without_a_wanted_rate() {
    let mut sim = Simulation::new(1, Network::of(2_000_000), Source::Unannounced(900_000));
    let (.., before) = sim.run(5.0);
    sim.network.bps = None;
    sim.run(3.0);
    sim.network.bps = Some(2_000_000);
    sim.run(2.0);
    let after = sim.bandwidth.estimate();
    assert!(after > before * 9 / 10, "{after} after {before}");
}

#[test]
fn a_subscriber_that_is_sent_nothing_recovers_too() {
    let mut sim = Simulation::new(1, Network::of(2_000_000), Source::Layers(LAYERS));
    sim.run(3.0);
    sim.network.bps = None;
    sim.run(20.0);
    // Not even the lowest layer fits.
    assert!(sim.bandwidth.estimate() < LAYERS[0]);
    sim.network.bps = Some(2_000_000);
    sim.run(5.0);
    assert!(sim.bandwidth.estimate() > 1_500_000);
}

#[test]
fn a_queue_that_a_stall_has_filled_is_drained() {
    for seed in SEEDS {
        let network = Network {
            queue: 2_000_000,
            ..Network::of(2_000_000)
        };
        let mut sim = Simulation::new(seed, network, Source::Elastic(1_500_000));
        sim.run(5.0);
        sim.stall(3.0);
        sim.run(6.0);
        sim.longest_wait = 0;
        sim.run(1.0);
        assert!(sim.longest_wait < 100_000, "{}", sim.longest_wait);
        sim.run(6.0);
        let after = sim.bandwidth.estimate();
        assert!(after > 1_400_000, "{seed}: {after}");
    }
}

#[test]
fn the_estimate_follows_changes_of_the_capacity() {
    for seed in SEEDS {
        for source in [Source::Elastic(2_000_000), Source::Layers(LAYERS)] {
            // The packets already in its queue then take seconds.
            let mut sim = Simulation::new(seed, Network::of(2_000_000), source);
            sim.run(5.0);
            sim.network.bps = Some(300_000);
            sim.run(1.5);
            let (.., most) = sim.run(1.0);
            assert!(most <= 300_000, "{seed}: {most}");
            sim.run(5.5);
            sim.longest_wait = 0;
            sim.run(2.0);
            assert!(sim.longest_wait < 150_000, "{}", sim.longest_wait);
            sim.network.bps = Some(2_000_000);
            sim.run(12.0);
            let after = sim.bandwidth.estimate();
            assert!(after > 1_500_000, "{seed}: {after}");
        }
    }
}

#[test]
fn inherent_loss_is_tolerated() {
    for seed in SEEDS {
        for (loss, least) in [(20, 1_700_000), (50, 1_600_000), (150, 1_000_000)] {
            let network = Network {
                loss,
                ..Network::of(2_000_000)
            };
            let mut sim = Simulation::new(seed, network, Source::Elastic(3_000_000));
            sim.run(5.0);
            let (_, average, _) = sim.run(25.0);
            assert!(average > least, "{seed} {loss}: {average}");
            let measured = f64::from(sim.bandwidth.loss());
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
        let mut sim = Simulation::new(seed, network, Source::Elastic(3_000_000));
        sim.run(3.0);
        let mut heavy = 0;
        for _ in 0..100 {
            let (_, average, _) = sim.run(0.2);
            assert!((350_000..640_000).contains(&average), "{seed}: {average}");
            heavy += u32::from(sim.bandwidth.loss() > 0.15);
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
        let mut sim = Simulation::new(seed, network, Source::Elastic(3_000_000));
        sim.run(5.0);
        let (least, average, _) = sim.run(25.0);
        assert!(least > 800_000, "{seed}: {least}");
        assert!(average > 1_300_000, "{seed}: {average}");
    }
}

#[test]
fn rare_polls_and_lost_feedback_hardly_affect_the_estimate() {
    for seed in SEEDS {
        let mut sim = Simulation::new(seed, Network::of(2_000_000), Source::Elastic(3_000_000));
        sim.poll = 10_000;
        sim.feedback = 200_000;
        sim.feedback_loss = 100;
        sim.run(5.0);
        let (_, average, most) = sim.run(25.0);
        assert!(average > 1_500_000, "{seed}: {average}");
        assert!(most < 2_600_000, "{seed}: {most}");
    }
}

#[test]
fn without_feedback_the_estimate_drops_to_the_minimum() {
    let network = Network {
        bps: None,
        ..Network::of(1_000_000)
    };
    let mut sim = Simulation::new(1, network, Source::Elastic(3_000_000));
    sim.run(0.9);
    assert_eq!(sim.bandwidth.estimate(), 600_000);
    sim.run(1.0);
    assert!(sim.bandwidth.estimate() < 450_000);
    sim.run(8.0);
    assert_eq!(sim.bandwidth.estimate(), 50_000);
    assert!(sim.wakes < 60, "{}", sim.wakes);
}
