//! Simulcast cameras, of which each subscriber receives one layer.

use std::time::Duration;

use super::feed::{Tag, assert_plays, in_order};
use super::simulation::{Peer, Simulation};
use crate::client::RIDS;
use crate::engine::transport::ntp_middle;
use crate::wire::rtcp::ReportBlock;
use crate::{ConsumeRequest, Source};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the layer of the last packet on a media section: 0 is the best.
fn layer_now(sim: &Simulation, peer: Peer, mid: &str) -> u8 {
    let received = in_order(&sim.endpoints[peer.receive].client.received, mid);
    received.last().unwrap().0.feed % 10
}

fn prefer(sim: &mut Simulation, peer: Peer, mid: &str, rid: &str) {
    let wish = (mid.to_owned(), rid.to_owned());
    sim.engine.prefer(sim.now, peer.member, &[wish]);
    sim.check_invariants();
}

#[test]
fn every_subscriber_gets_its_preferred_layer() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    let line = |sim: &mut Simulation, peer| sim.consume(peer, &[(ada, camera)]).remove(0);
    let (first, second) = (line(&mut sim, ben), line(&mut sim, cy));
    sim.run(8 * SECOND);
    assert_eq!(layer_now(&sim, ben, &first), 0);
    assert_eq!(layer_now(&sim, cy, &second), 0);
    for (rid, layer) in [("q", 2), ("h", 1), ("f", 0), ("q", 2)] {
        prefer(&mut sim, cy, &second, rid);
        sim.run(6 * SECOND);
        assert_eq!(layer_now(&sim, cy, &second), layer, "{rid}");
        assert_eq!(layer_now(&sim, ben, &first), 0);
        let report = sim
            .engine
            .report(sim.now, cy.member)
            .unwrap()
            .receive
            .unwrap();
        assert_eq!(report.tracks[0].layer.as_deref(), Some(rid));
    }
    for (peer, mid) in [(ben, first), (cy, second)] {
        let received = in_order(&sim.endpoints[peer.receive].client.received, &mid);
        assert_plays(&received, 90_000);
    }
}

#[test]
fn the_old_layer_is_forwarded_until_the_key_frame_of_the_new_one() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    sim.run(8 * SECOND);
    // The publisher does not receive the key frame request.
    sim.endpoints[ada.publish].drops_incoming = true;
    prefer(&mut sim, ben, &mid, "q");
    sim.run(2 * SECOND);
    assert_eq!(layer_now(&sim, ben, &mid), 0);
    sim.endpoints[ada.publish].drops_incoming = false;
    sim.run(SECOND);
    assert_eq!(layer_now(&sim, ben, &mid), 2);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &mid),
        90_000,
    );
}

#[test]
fn layer_switches_are_seamless_on_lossy_paths() {
    for seed in 0..4 {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben] = sim.peers();
        let camera = sim.publish(ada, Source::Camera, &RIDS);
        let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
        sim.run(6 * SECOND);
        sim.endpoints[ada.publish].up.loss = 30;
        sim.endpoints[ben.receive].down.loss = 30;
        for rid in ["q", "f", "h", "q", "h", "f", "q"] {
            prefer(&mut sim, ben, &mid, rid);
            sim.run(2 * SECOND);
        }
        sim.endpoints[ada.publish].up.loss = 0;
        sim.endpoints[ben.receive].down.loss = 0;
        sim.run(3 * SECOND);
        let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
        let feeds = received.iter().map(|(tag, _)| tag.feed).collect::<Vec<_>>();
        let changes = feeds.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes >= 4, "seed {seed}: {changes}");
        assert_plays(&received, 90_000);
    }
}

#[test]
fn a_layer_that_is_no_longer_sent_is_replaced() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    sim.run(8 * SECOND);
    assert_eq!(layer_now(&sim, ben, &mid), 0);
    // Browsers stop sending the highest layer when their uplink is narrow.
    sim.endpoints[ada.publish].feeds[0].muted = true;
    sim.run(4 * SECOND);
    assert_eq!(layer_now(&sim, ben, &mid), 1);
    sim.endpoints[ada.publish].feeds[0].muted = false;
    sim.run(5 * SECOND);
    assert_eq!(layer_now(&sim, ben, &mid), 0);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    assert_plays(&received, 90_000);
}

#[test]
fn the_initially_preferred_layer_is_the_first_to_be_forwarded() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    sim.run(2 * SECOND);
    let want = ConsumeRequest {
        producer: camera,
        publisher: ada.member.peer,
        preferred_rid: Some("q".to_owned()),
    };
    let transport = sim.endpoints[ben.receive].transport.clone();
    let consumed = sim.engine.consume(ben.member, &transport, &[want]).unwrap();
    sim.answer(ben, &consumed.offer.unwrap());
    let mid = consumed.mids[0].clone().unwrap();
    sim.run(5 * SECOND);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    assert!(received.iter().all(|(tag, _)| tag.feed % 10 == 2));
    assert_plays(&received, 90_000);
}

#[test]
fn key_frames_are_requested_only_of_layers_with_waiting_subscribers() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    sim.run(8 * SECOND);
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    let plis = sim.endpoints[ada.publish].client.rtcp.plis;
    prefer(&mut sim, ben, &mid, "q");
    sim.run(5 * SECOND);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, plis + 1);
    let now = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    let keys = now[received.len()..].iter().filter(|(tag, _)| tag.key);
    let keys = keys
        .map(|(Tag { feed, .. }, _)| *feed % 10)
        .collect::<Vec<_>>();
    assert_eq!(keys, [2]);
}

#[test]
fn a_layer_that_comes_or_goes_is_noticed_at_once() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &RIDS);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    sim.run(8 * SECOND);
    for round in 0..5 {
        // At different times between two periodic allocations.
        sim.run(Duration::from_millis(130));
        for (muted, layer, most) in [(true, 1, 700), (false, 0, 200)] {
            let before = layer_now(&sim, ben, &mid);
            assert_ne!(before, layer, "round {round}");
            sim.endpoints[ada.publish].feeds[0].muted = muted;
            sim.run(Duration::from_millis(most));
            assert_eq!(layer_now(&sim, ben, &mid), layer, "round {round}");
            sim.run(Duration::from_millis(1070));
        }
    }
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    assert_plays(&received, 90_000);
}

#[test]
fn a_key_frame_whose_first_packet_is_late_is_forwarded_completely() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.run(SECOND);
    sim.endpoints[ada.publish].drops_outgoing = true;
    sim.endpoints[ada.publish].drops_incoming = true;
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    let sent_before = sim.endpoints[ada.publish].sent_media.len();
    sim.endpoints[ada.publish].feeds[0].key = true;
    sim.run(Duration::from_millis(100));
    let sent_media = sim.endpoints[ada.publish].sent_media[sent_before..].to_vec();
    assert!(sent_media.len() >= 8);
    let observed_address = sim.endpoints[ada.publish].observed_address;
    for datagram in sent_media[1..].iter().chain(&sent_media[..1]) {
        assert!(sim.receive(observed_address, datagram));
    }
    // Sooner than a retransmission could be requested.
    sim.run(Duration::from_millis(15));
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mid);
    assert_eq!(received.len(), sent_media.len());
    assert_plays(&received, 90_000);
}

#[test]
fn a_repeated_sender_report_does_not_yield_a_round_trip_time() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mid = sim.consume(ben, &[(ada, camera)]).remove(0);
    sim.run(8 * SECOND);
    let ssrc = in_order(&sim.endpoints[ben.receive].client.received, &mid)[0]
        .1
        .ssrc;
    // A report block that acknowledges the last sender report at once.
    let round_trip = |sim: &mut Simulation| {
        let (_, track) = sim.engine.tracks.iter().next().unwrap();
        let (report, _) = track.layers[0].report.unwrap();
        let block = ReportBlock {
            ssrc,
            fraction_lost: 0,
            lost: 0,
            highest: 0,
            jitter: 0,
            lsr: ntp_middle(report.ntp),
            dlsr: 0,
        };
        let now = sim.now;
        sim.engine
            .subscriber_of(ben.member)
            .on_report_block(now, &block)
    };
    assert!(round_trip(&mut sim).is_some());
    for paused in [true, false] {
        sim.engine.pause(sim.now, ada.member, camera, paused);
    }
    let before = sim.endpoints[ben.receive].client.rtcp.sender_reports;
    sim.run(Duration::from_millis(150));
    let after = sim.endpoints[ben.receive].client.rtcp.sender_reports;
    assert_eq!(after, before + 1);
    assert_eq!(round_trip(&mut sim), None);
    sim.run(6 * SECOND);
    assert!(round_trip(&mut sim).is_some());
}
