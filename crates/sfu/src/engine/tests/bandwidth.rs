//! Bandwidth allocation for subscribers.

use std::time::Duration;

use parlor_protocol::ProducerId;

use super::feed::{assert_plays, in_order};
use super::simulation::{Peer, Simulation};
use crate::Source;
use crate::client::{RIDS, ReceivedPacket};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_receiver_behind_a_narrow_path_gets_the_lowest_layer_until_it_is_wide_again() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    let other = sim.consume(cy, &[(ada, camera)]).remove(0);
    sim.run(10 * SECOND);
    let layer = |sim: &Simulation, peer: Peer, mid: &str| {
        let received = in_order(&sim.endpoints[peer.receive].client.received, mid);
        received.last().unwrap().0.feed % 10
    };
    assert_eq!(layer(&sim, ben, &mid), 0);

    sim.endpoints[ben.receive].down.bps = Some(300_000);
    sim.run(6 * SECOND);
    assert_eq!(layer(&sim, ben, &mid), 2);
    assert_eq!(layer(&sim, cy, &other), 0);
    // The layer is stable and fits.
    let before = sim.endpoints[ben.receive].media_bytes;
    sim.run(10 * SECOND);
    assert_eq!(layer(&sim, ben, &mid), 2);
    let bps = (sim.endpoints[ben.receive].media_bytes - before) * 8 / 10;
    assert!(bps < 330_000, "{bps} bit/s");
    let report = sim
        .engine
        .report(sim.now, ben.member)
        .unwrap()
        .receive
        .unwrap();
    let thought = report.available_bps.unwrap();
    assert!((100_000..400_000).contains(&thought), "{thought}");

    sim.endpoints[ben.receive].down.bps = None;
    sim.run(20 * SECOND);
    assert_eq!(layer(&sim, ben, &mid), 0);
    let received = in_order(&sim.endpoints[cy.receive].client.received, &other);
    assert_plays(&received, 90_000);
}

#[test]
fn a_path_of_1_5_megabits_carries_a_camera_and_is_not_flooded() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    sim.endpoints[ben.receive].down.bps = Some(1_500_000);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    sim.run(15 * SECOND);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    assert_eq!(received.last().unwrap().0.feed % 10, 0);
    let before = sim.endpoints[ben.receive].media_bytes;
    sim.run(10 * SECOND);
    let bps = (sim.endpoints[ben.receive].media_bytes - before) * 8 / 10;
    assert!((700_000..1_500_000).contains(&bps), "{bps} bit/s");
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    assert_plays(&received, 90_000);
}

/// Publishes six cameras and a microphone, to which nobody subscribes yet.
fn crowd(sim: &mut Simulation) -> (Peer, Vec<(Peer, ProducerId)>) {
    let [ada, ben] = sim.peers();
    let mut tracks = vec![(ada, sim.publish(ada, Source::Microphone, &[]))];
    for _ in 0..6 {
        tracks.push((ada, sim.publish(ada, Source::Camera, &RIDS)));
    }
    sim.run(2 * SECOND);
    (ben, tracks)
}

#[test]
fn many_cameras_congest_a_narrow_path_only_briefly() {
    let mut sim = Simulation::new();
    let (ben, tracks) = crowd(&mut sim);
    sim.endpoints[ben.receive].down.bps = Some(300_000);
    let began = sim.now;
    let mids = sim.consume(ben, &tracks);
    let step = Duration::from_millis(50);
    // The queuing delay in front of the path, at each step.
    let waits = (0..200).map(|_| {
        sim.run(step);
        let idle = sim.endpoints[ben.receive].down.idle.unwrap_or(sim.now);
        idle.saturating_duration_since(sim.now)
    });
    let waits = waits.collect::<Vec<_>>();
    let long = waits.iter().rposition(|wait| *wait > step * 5).unwrap_or(0);
    assert!(step * u32::try_from(long).unwrap() < SECOND, "{waits:?}");
    let endpoint = &sim.endpoints[ben.receive];
    let received = in_order(&endpoint.client.received, &mids[0]);
    let late = |at: &ReceivedPacket| at.at > began + 2 * SECOND;
    let spoken = received
        .iter()
        .filter(|(_, received)| late(received))
        .count();
    assert!(spoken > 390, "{spoken} of 400");
    let seen = endpoint
        .client
        .received
        .iter()
        .find(|received| received.mid != mids[0]);
    let first = seen.unwrap().at - began;
    assert!(first < Duration::from_millis(400), "{first:?}");
}

#[test]
fn on_a_wide_path_all_cameras_start_at_once_and_rise_soon() {
    let mut sim = Simulation::new();
    let (ben, tracks) = crowd(&mut sim);
    sim.endpoints[ben.receive].down.bps = Some(10_000_000);
    let began = sim.now;
    let mids = sim.consume(ben, &tracks);
    sim.run(4 * SECOND);
    let client = &sim.endpoints[ben.receive].client;
    for mid in &mids[1..] {
        let received = in_order(&client.received, mid);
        let first = received[0].1.at - began;
        assert!(first < Duration::from_millis(500), "{first:?}");
        let well = received.iter().find(|(tag, _)| tag.feed % 10 == 0).unwrap();
        let well = well.1.at - began;
        assert!(well < 3 * SECOND, "{well:?}");
        assert_eq!(received.last().unwrap().0.feed % 10, 0);
        assert_plays(&received, 90_000);
    }
}
