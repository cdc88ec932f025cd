//! Packets from unauthorized senders.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::feed::{assert_plays, in_order};
use super::invariants::assert_empty;
use super::simulation::{Simulation, client_address, member, server_address, settings};
use crate::engine::{Disposition, Route, ice};
use crate::wire::{self, Kind};
use crate::{Direction, Source};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the state that an attacker must not change: routes, transports, and the number of
/// packets sent.
fn observable_state(sim: &Simulation) -> impl PartialEq + std::fmt::Debug + use<> {
    let engine = &sim.engine;
    let mut routes = engine
        .by_route
        .iter()
        .map(|(r, p)| (format!("{r:?}"), *p))
        .collect::<Vec<_>>();
    routes.sort();
    let sent = sim
        .endpoints
        .iter()
        .map(|endpoint| endpoint.media)
        .collect::<Vec<_>>();
    (
        routes,
        engine.connected_transports(),
        engine.open_transports(),
        sent,
    )
}

#[test]
fn a_client_without_the_password_does_not_connect() {
    let mut sim = Simulation::new();
    let (mut client, opened) = sim.open(member(1), Direction::Publish);
    let password = opened.answer.split("a=ice-pwd:").nth(1).unwrap();
    let password = password.lines().next().unwrap();
    client.accept(&opened.answer.replace(password, "guessedguessedguessed1"));
    let endpoint = sim.add_endpoint(client, opened.transport_id);
    sim.run(20 * SECOND);
    assert!(!sim.is_connected(endpoint));
    assert_eq!(sim.endpoints[endpoint].datagrams, 0);
    assert!(sim.engine.by_route.is_empty());
    assert_eq!(sim.engine.connected_transports(), 0);
}

#[test]
fn only_a_signed_check_is_passed_on_to_another_shard() {
    let mut sim = Simulation::new();
    for (name, is_signed, expected) in [
        ("asomebodysomebody", false, Disposition::Dropped),
        ("bsomebodysomebody", false, Disposition::Dropped),
        ("bsomebodysomebody", true, Disposition::OtherShard(b'b')),
    ] {
        let (mut client, opened) = sim.open(member(1), Direction::Publish);
        let mut answer = opened.answer.replace(&opened.transport_id, name);
        if is_signed {
            let key = settings().passwords;
            let password = |ufrag: &str| ice::password(&key, ufrag);
            answer = answer.replace(&password(&opened.transport_id), &password(name));
        }
        client.accept(&answer);
        client.timeout(sim.now);
        let (sent, _) = client.poll();
        assert!(!sent.is_empty());
        for (_, mut datagram) in sent {
            let (engine, source) = (&mut sim.engine, client_address(0));
            let route = Route::Udp(0, source);
            assert_eq!(
                engine.receive(sim.now, route, source, &mut datagram),
                expected
            );
        }
        sim.engine.flush(|route, _| panic!("answered {route:?}"));
    }
}

#[test]
fn media_from_an_unverified_address_is_dropped() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.consume(ben, &[(ada, camera)]);
    sim.endpoints[ada.publish].drops_outgoing = true;
    sim.run(SECOND);
    let before = observable_state(&sim);
    let sent_media = sim.endpoints[ada.publish].sent_media.clone();
    assert!(sent_media.len() > 50);
    for datagram in &sent_media {
        assert!(!sim.receive(client_address(77), datagram));
    }
    sim.engine.flush(|route, _| panic!("sent to {route:?}"));
    assert_eq!(observable_state(&sim), before);
    // The same packets are accepted from the right address.
    let observed_address = sim.endpoints[ada.publish].observed_address;
    assert!(
        sent_media
            .iter()
            .any(|datagram| sim.receive(observed_address, datagram))
    );
}

#[test]
fn replayed_packets_are_dropped() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let tracks = [
        (ada, sim.publish(ada, Source::Microphone, &[])),
        (ada, sim.publish(ada, Source::Camera, &[])),
    ];
    let mids = sim.consume(ben, &tracks);
    sim.run(2 * SECOND);
    let (observed_address, sent_media) = (
        sim.endpoints[ada.publish].observed_address,
        sim.endpoints[ada.publish].sent_media.clone(),
    );
    // Packets still in flight are not replayed.
    sim.endpoints[ada.publish]
        .feeds
        .iter_mut()
        .for_each(|feed| feed.muted = true);
    sim.run(SECOND);
    let before = observable_state(&sim);
    for datagram in sent_media.iter().chain(sent_media.iter().rev()) {
        assert!(!sim.receive(observed_address, datagram));
    }
    sim.run(Duration::from_millis(1));
    assert_eq!(observable_state(&sim), before);
    sim.endpoints[ada.publish]
        .feeds
        .iter_mut()
        .for_each(|feed| feed.muted = false);
    sim.run(SECOND);
    for (mid, clock_rate) in mids.iter().zip([48_000, 90_000]) {
        assert_plays(
            &in_order(&sim.endpoints[ben.receive].client.received, mid),
            clock_rate,
        );
    }
}

#[test]
fn modified_packets_are_dropped() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    sim.endpoints[ada.publish].drops_outgoing = true;
    let sent_before = sim.endpoints[ada.publish].sent_media.len();
    sim.run(Duration::from_millis(200));
    let before = observable_state(&sim);
    let observed_address = sim.endpoints[ada.publish].observed_address;
    let sent_media = sim.endpoints[ada.publish].sent_media[sent_before..].to_vec();
    assert!(sent_media.len() > 15);
    for (number, datagram) in sent_media.iter().enumerate() {
        // Change the header, the payload or the tag, or truncate the packet.
        let mut changed = datagram.clone();
        let at = [2, 9, 40, datagram.len() - 1][number % 4];
        changed[at] ^= 1 << (number % 8);
        assert!(!sim.receive(observed_address, &changed), "{number}");
        assert!(!sim.receive(observed_address, &datagram[..datagram.len() - 1]));
    }
    assert_eq!(observable_state(&sim), before);
    // The genuine packets are still accepted afterwards.
    for datagram in &sent_media {
        assert!(sim.receive(observed_address, datagram));
    }
    sim.endpoints[ada.publish].drops_outgoing = false;
    sim.run(2 * SECOND);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &mids[0]),
        90_000,
    );
}

#[test]
fn media_before_the_handshake_is_dropped() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    // The first connectivity check has arrived, but no DTLS packet.
    let (sent, _) = {
        sim.endpoints[endpoint].client.timeout(sim.now);
        sim.endpoints[endpoint].client.poll()
    };
    let observed_address = sim.endpoints[endpoint].observed_address;
    for (_, datagram) in &sent {
        assert_eq!(wire::kind(datagram), Kind::Stun);
        assert!(sim.receive(observed_address, datagram));
    }
    assert_eq!(sim.engine.by_route.len(), 1);
    let mut packet = vec![0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];
    packet.resize(100, 1);
    assert!(!sim.receive(observed_address, &packet));
    let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
    report.resize(60, 1);
    assert!(!sim.receive(observed_address, &report));
    sim.run(3 * SECOND);
    assert!(sim.is_connected(endpoint));
}

#[test]
fn packets_of_one_client_are_rejected_from_another() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    sim.endpoints[ada.publish].drops_outgoing = true;
    let sent_before = sim.endpoints[ada.publish].sent_media.len();
    sim.run(Duration::from_millis(200));
    let sent_media = sim.endpoints[ada.publish].sent_media[sent_before..].to_vec();
    let before = observable_state(&sim);
    for endpoint in [cy.publish, cy.receive, ben.receive, ada.receive] {
        let observed_address = sim.endpoints[endpoint].observed_address;
        for datagram in &sent_media {
            assert!(!sim.receive(observed_address, datagram));
        }
    }
    assert_eq!(observable_state(&sim), before);
}

/// A client with its own transport sends a check from another client's address. Returns whether the
/// check is accepted.
fn spoof_check(sim: &mut Simulation, peer: u128, victim: SocketAddr) -> bool {
    let (mut client, opened) = sim.open(member(peer), Direction::Publish);
    client.accept(&opened.answer);
    client.timeout(sim.now);
    let (sent, _) = client.poll();
    assert_eq!(sent[0].0, server_address());
    sim.receive(victim, &sent[0].1)
}

#[test]
fn the_route_of_an_active_client_cannot_be_taken_over() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let mids = sim.consume(ben, &[(ada, microphone)]);
    sim.run(SECOND);
    let victim = sim.endpoints[ada.publish].observed_address;
    for _ in 0..50 {
        assert!(!spoof_check(&mut sim, 66, victim));
        sim.run(Duration::from_millis(100));
    }
    let received = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
    assert_plays(&received, 48_000);
    assert!(received.len() > 290, "{}", received.len());

    // Behind a NAT, another client may use the address later.
    sim.endpoints[ada.publish].drops_outgoing = true;
    sim.run(Duration::from_millis(4900));
    assert!(!spoof_check(&mut sim, 67, victim));
    sim.run(Duration::from_millis(200));
    assert!(spoof_check(&mut sim, 68, victim));
}

#[test]
fn a_packet_moves_its_client_only_to_a_route_with_fresh_consent() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    sim.consume(ben, &[(ada, microphone)]);
    sim.run(SECOND);
    let selected = |sim: &Simulation| {
        let report = sim.engine.report(sim.now, ada.member).unwrap();
        report.publish.unwrap().remote.unwrap()
    };
    let (old_address, new_address) = (
        sim.endpoints[ada.publish].observed_address,
        SocketAddr::from(([203, 0, 113, 5], 4000)),
    );
    sim.endpoints[ada.publish].observed_address = new_address;
    sim.run(10 * SECOND);
    assert_eq!(selected(&sim), new_address);
    sim.endpoints[ada.publish].observed_address = old_address;
    sim.run(10 * SECOND);
    assert_eq!(selected(&sim), old_address);
    // A packet that still arrives on the other route moves the client back only while the consent
    // for that route is fresh.
    let send_from_old_route = |sim: &mut Simulation, seconds: u32| {
        sim.run(seconds * SECOND);
        let sent_before = sim.endpoints[ada.publish].sent_media.len();
        sim.endpoints[ada.publish].drops_outgoing = true;
        sim.run(Duration::from_millis(100));
        sim.endpoints[ada.publish].drops_outgoing = false;
        let sent_media = sim.endpoints[ada.publish].sent_media[sent_before].clone();
        assert!(sim.receive(new_address, &sent_media));
        selected(sim)
    };
    assert_eq!(send_from_old_route(&mut sim, 1), new_address);
    assert_eq!(send_from_old_route(&mut sim, 31), old_address);
}

#[test]
fn packets_without_a_track_do_not_keep_the_timer_busy() {
    let mut sim = Simulation::new();
    let [ada] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.run(SECOND);
    sim.engine.drop_producer(ada.member, camera);
    sim.run(Duration::from_millis(200));
    sim.endpoints[ada.publish].feeds[0].muted = true;
    sim.run(SECOND);
    let woken = sim.run(10 * SECOND);
    assert!(woken < 100, "woken {woken} times in ten seconds");
}

#[test]
fn garbage_is_dropped_without_harm() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    let addresses =
        [ada.publish, ben.receive].map(|endpoint| sim.endpoints[endpoint].observed_address);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 0..1600);
    // The first bytes include those of STUN, DTLS, RTP and RTCP, but not of DTLS alerts: an on-path
    // attacker can end a DTLS connection before the handshake is complete, and dimpl accepts such
    // alerts.
    let first = prop::option::of(prop::sample::select(vec![0, 1, 22, 23, 63, 128, 144, 200]));
    let second = prop::sample::select(vec![0, 1, 96, 111, 200, 201, 205, 206, 254]);
    let datagram = (first, second, bytes);
    let sim = std::cell::RefCell::new(sim);
    runner
        .run(&datagram, |(first, second, mut bytes)| {
            if let (Some(first), [one, two, ..]) = (first, &mut bytes[..]) {
                (*one, *two) = (first, second);
            }
            let mut sim = sim.borrow_mut();
            prop_assert!(!sim.receive(client_address(77), &bytes));
            for address in addresses {
                sim.receive(address, &bytes);
            }
            Ok(())
        })
        .unwrap();
    let mut sim = sim.into_inner();
    sim.run(3 * SECOND);
    assert_eq!(sim.engine.connected_transports(), 4);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &mids[0]),
        90_000,
    );
    let now = sim.now;
    sim.engine.close(now, ada.member, false);
    sim.engine.close(now, ben.member, false);
    assert_empty(&sim.engine);
}
