//! Retransmission of lost packets.

use std::time::Duration;

use super::feed::{assert_plays, in_order};
use super::simulation::{Link, Simulation};
use crate::Source;

const SECOND: Duration = Duration::from_secs(1);

/// Datagram loss, per thousand.
const LOSS: u64 = 50;

#[test]
fn video_lost_on_the_way_to_a_subscriber_is_retransmitted() {
    for seed in 0..5 {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben, cy] = sim.peers();
        let camera = sim.publish(ada, Source::Camera, &[]);
        let mids = sim.consume(ben, &[(ada, camera)]);
        let cy_mids = sim.consume(cy, &[(ada, camera)]);
        sim.run(SECOND);
        sim.endpoints[ben.receive].down.loss = LOSS;
        sim.run(6 * SECOND);
        sim.endpoints[ben.receive].down.loss = 0;
        sim.run(2 * SECOND);
        // The server repairs the loss without involving the publisher.
        assert_eq!(sim.endpoints[ada.publish].client.rtcp.nacks, 0);
        assert_eq!(
            sim.endpoints[cy.receive].media,
            in_order(&sim.endpoints[cy.receive].client.received, &cy_mids[0],).len()
                + padding(&sim, cy.receive)
        );
        let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
        assert_plays(&received, 90_000);
        assert!(received.len() > 800, "seed {seed}: {}", received.len());
    }
}

/// Returns the number of padding datagrams sent to an endpoint to probe its path.
fn padding(sim: &Simulation, endpoint: usize) -> usize {
    let endpoint = &sim.endpoints[endpoint];
    endpoint.media - endpoint.client.received.len()
}

#[test]
fn audio_lost_on_the_way_to_a_subscriber_is_retransmitted_unchanged() {
    for seed in 0..5 {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben] = sim.peers();
        let microphone = sim.publish(ada, Source::Microphone, &[]);
        let mids = sim.consume(ben, &[(ada, microphone)]);
        sim.run(SECOND);
        let client = &mut sim.endpoints[ben.receive].client;
        let ssrc = client.received[0].ssrc;
        client.enable_nacks(ssrc);
        sim.endpoints[ben.receive].down.loss = LOSS;
        sim.run(10 * SECOND);
        sim.endpoints[ben.receive].down.loss = 0;
        sim.run(2 * SECOND);
        let endpoint = &sim.endpoints[ben.receive];
        let received = in_order(&endpoint.client.received, &mids[0]);
        assert_plays(&received, 48_000);
        // The simulation has checked that the retransmitted packets are identical.
        assert!(
            endpoint.media > received.len() + 5,
            "{} of {}",
            endpoint.media,
            received.len()
        );
    }
}

#[test]
fn packets_lost_before_a_pause_are_retransmitted() {
    let mut sim = Simulation::seeded(3);
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let mids = sim.consume(ben, &[(ada, microphone)]);
    sim.run(SECOND);
    let client = &mut sim.endpoints[ben.receive].client;
    let ssrc = client.received[0].ssrc;
    client.enable_nacks(ssrc);
    sim.endpoints[ben.receive].down.loss = 200;
    for round in 0..20 {
        sim.run(Duration::from_millis(500));
        sim.engine
            .pause(sim.now, ada.member, microphone, round % 2 == 0);
    }
    sim.endpoints[ben.receive].down.loss = 0;
    sim.run(2 * SECOND);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
    // The last packets before a pause may never be retransmitted, or only after it.
    assert!(received.len() > 230, "{}", received.len());
}

#[test]
fn video_lost_on_the_way_from_a_publisher_is_nacked() {
    for seed in 0..5 {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben] = sim.peers();
        let camera = sim.publish(ada, Source::Camera, &[]);
        let mids = sim.consume(ben, &[(ada, camera)]);
        sim.run(SECOND);
        sim.endpoints[ada.publish].up.loss = LOSS;
        sim.run(6 * SECOND);
        sim.endpoints[ada.publish].up.loss = 0;
        sim.run(2 * SECOND);
        let rtcp = sim.endpoints[ada.publish].client.rtcp;
        assert!(rtcp.nacks > 10, "{rtcp:?}");
        let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
        assert_plays(&received, 90_000);
        let report = sim
            .engine
            .report(sim.now, ada.member)
            .unwrap()
            .publish
            .unwrap();
        assert!(report.tracks[0].lost > 10, "{report:?}");
    }
}

#[test]
fn lost_audio_does_not_cause_key_frame_requests() {
    let mut sim = Simulation::seeded(1);
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let mids = sim.consume(ben, &[(ada, microphone)]);
    sim.run(SECOND);
    // The simulated publisher does not retransmit audio.
    sim.endpoints[ada.publish].up.loss = LOSS;
    sim.run(3 * SECOND);
    sim.endpoints[ada.publish].up.loss = 0;
    sim.run(3 * SECOND);
    let rtcp = sim.endpoints[ada.publish].client.rtcp;
    assert!(rtcp.nacks > 3, "{rtcp:?}");
    assert_eq!(rtcp.plis, 0, "{rtcp:?}");
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
    let (first, last) = (&received[0], &received[received.len() - 1]);
    let missing = (last.1.index - first.1.index + 1) - received.len() as u64;
    assert_eq!(
        u64::from(last.0.frame - first.0.frame + 1) - received.len() as u64,
        missing
    );
    assert!(missing > 3);
}

#[test]
fn loss_delay_and_reordering_on_both_paths_are_repaired() {
    for seed in 10..15 {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben] = sim.peers();
        let camera = sim.publish(ada, Source::Camera, &[]);
        let mids = sim.consume(ben, &[(ada, camera)]);
        sim.run(SECOND);
        let bad = Link {
            loss: LOSS,
            delay: Duration::from_millis(40),
            jitter: Duration::from_millis(30),
            ..Link::default()
        };
        for (endpoint, link) in [(ada.publish, bad.clone()), (ben.receive, bad)] {
            sim.endpoints[endpoint].up = link.clone();
            sim.endpoints[endpoint].down = link;
        }
        sim.run(6 * SECOND);
        for endpoint in [ada.publish, ben.receive] {
            sim.endpoints[endpoint].up = Link::default();
            sim.endpoints[endpoint].down = Link::default();
        }
        sim.run(2 * SECOND);
        let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
        let (first, last) = (&received[0].1, &received[received.len() - 1].1);
        let missing = (last.index - first.index + 1) - received.len() as u64;
        // Some retransmissions are lost each time.
        assert!(missing <= 4, "seed {seed}: {missing} of {}", received.len());
        assert!(received.len() > 700, "seed {seed}: {}", received.len());
    }
}

#[test]
fn a_stream_continues_when_its_sequence_numbers_wrap() {
    let mut sim = Simulation::seeded(2);
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.endpoints[ada.publish].feeds[0].index = 65_000;
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    sim.endpoints[ada.publish].up.loss = 20;
    sim.endpoints[ben.receive].down.loss = 20;
    sim.run(12 * SECOND);
    sim.endpoints[ada.publish].up.loss = 0;
    sim.endpoints[ben.receive].down.loss = 0;
    sim.run(2 * SECOND);
    assert!(sim.endpoints[ada.publish].feeds[0].index > 66_000);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
    assert_plays(&received, 90_000);
    assert!(received.len() > 1200, "{}", received.len());
}

#[test]
fn packets_that_cannot_be_retransmitted_cause_a_key_frame_request() {
    let mut sim = Simulation::seeded(4);
    let [ada, ben, cy] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    // One small packet per frame, so that video fits even the low estimate after an outage.
    sim.endpoints[ada.publish].feeds[0].packets = 1;
    sim.endpoints[ada.publish].feeds[0].bytes = 100;
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.consume(cy, &[(ada, camera)]);
    sim.run(2 * SECOND);
    let before = sim.endpoints[ada.publish].client.rtcp.plis;
    sim.endpoints[ben.receive].down.loss = 1000;
    sim.run(3 * SECOND);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, before);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]).len();
    sim.endpoints[ben.receive].down.loss = 0;
    sim.run(SECOND / 2);
    let after = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
    let keys = after[received..].iter().filter(|(tag, _)| tag.key);
    assert!(keys.count() > 0);
    sim.run(2 * SECOND);
    let requests = sim.endpoints[ada.publish].client.rtcp.plis - before;
    assert!((1..=2).contains(&requests), "{requests}");
}

#[test]
fn packets_missing_at_the_server_cause_no_key_frame_request() {
    let mut sim = Simulation::seeded(5);
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.consume(ben, &[(ada, camera)]);
    sim.run(2 * SECOND);
    let before = sim.endpoints[ada.publish].client.rtcp;
    sim.endpoints[ada.publish].up.loss = LOSS;
    sim.run(5 * SECOND);
    let rtcp = sim.endpoints[ada.publish].client.rtcp;
    assert!(rtcp.nacks > before.nacks + 10, "{rtcp:?}");
    assert_eq!(rtcp.plis, before.plis, "{rtcp:?}");
}

#[test]
fn a_retransmission_in_flight_is_not_repeated() {
    let mut sim = Simulation::seeded(6);
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.endpoints[ben.receive].down.delay = 3 * SECOND / 10;
    sim.run(5 * SECOND);
    let (media, received) = (
        sim.endpoints[ben.receive].media,
        sim.endpoints[ben.receive].client.received.len(),
    );
    sim.endpoints[ben.receive].down.loss = LOSS;
    sim.run(8 * SECOND);
    sim.endpoints[ben.receive].down.loss = 0;
    sim.run(2 * SECOND);
    let endpoint = &sim.endpoints[ben.receive];
    assert_plays(&in_order(&endpoint.client.received, &mids[0]), 90_000);
    let sent = endpoint.media - media;
    let new = endpoint.client.received.len() - received;
    // One in twenty packets is lost, and one in twenty retransmissions.
    assert!(sent < new + new / 12, "{sent} packets sent, {new} received");
}
