//! How transports are opened, kept and freed.

use std::net::SocketAddr;
use std::time::Duration;

use is::stun::StunMessage;
use parlor_protocol::MeetingId;
use uuid::Uuid;

use super::invariants::assert_empty;
use super::simulation::{Simulation, TIMEOUT, address, member, settings};
use crate::client::Client;
use crate::engine::{Disposition, Engine, FIRST_CHECK_TIMEOUT, Route, Settings};
use crate::events::{Event, Events, Listener};
use crate::relay::{LinkId, Via};
use crate::sdp::Candidate;
use crate::{Direction, Error, Member};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn both_transports_of_a_client_connect() {
    let mut sim = Simulation::new();
    let publish = sim.join(member(1), Direction::Publish);
    let receive = sim.join(member(1), Direction::Receive);
    assert_ne!(
        sim.endpoints[publish].transport,
        sim.endpoints[receive].transport
    );
    assert_eq!(sim.engine.open_transports(), 2);
    assert_eq!(sim.engine.connected_transports(), 0);

    sim.run(3 * SECOND);
    assert!(sim.is_connected(publish));
    assert!(sim.is_connected(receive));
    assert_eq!(sim.engine.connected_transports(), 2);
    let report = sim.engine.report(sim.now, member(1)).unwrap();
    let remote = report.publish.unwrap().remote;
    assert_eq!(remote, Some(sim.endpoints[publish].observed_address));
    assert!(report.receive.unwrap().connected);
    assert_eq!(sim.engine.report(sim.now, member(2)), None);
}

#[test]
fn transports_connect_on_a_path_that_loses_a_fifth() {
    // The client sends a flight at most five times within this time, whatever the server does: one
    // in 150 loses all of them, or all responses.
    let mut failed = Vec::new();
    for seed in 0..40 {
        let mut sim = Simulation::seeded(seed);
        let endpoint = sim.join(member(1), Direction::Publish);
        sim.endpoints[endpoint].up.loss = 200;
        sim.endpoints[endpoint].down.loss = 200;
        sim.run(20 * SECOND);
        assert_eq!(sim.engine.open_transports(), 1, "seed {seed}");
        if sim.is_connected(endpoint) {
            assert_eq!(sim.engine.connected_transports(), 1, "seed {seed}");
        } else {
            failed.push(seed);
        }
    }
    assert!(failed.len() <= 4, "not connected: seeds {failed:?}");
}

#[test]
fn a_connected_transport_stays_connected_with_few_timeouts() {
    let mut sim = Simulation::new();
    let publish = sim.join(member(1), Direction::Publish);
    let receive = sim.join(member(1), Direction::Receive);
    sim.run(3 * SECOND);
    let woken = sim.run(600 * SECOND);
    assert!(sim.is_connected(publish) && sim.is_connected(receive));
    assert_eq!(sim.engine.connected_transports(), 2);
    assert!(woken <= 300, "woken {woken} times in ten minutes");
}

#[test]
fn a_new_transport_replaces_the_older_one() {
    let mut sim = Simulation::new();
    let old = sim.join(member(1), Direction::Publish);
    let other = sim.join(member(1), Direction::Receive);
    sim.run(3 * SECOND);
    assert!(sim.is_connected(old));

    let new = sim.join(member(1), Direction::Publish);
    assert_eq!(sim.engine.open_transports(), 2);
    assert_eq!(sim.engine.connected_transports(), 1);
    let old_id = &sim.endpoints[old].transport;
    assert!(!sim.engine.by_ufrag.contains_key(old_id));
    sim.run(40 * SECOND);
    assert!(!sim.is_connected(old));
    assert!(sim.is_connected(new));
    assert!(sim.is_connected(other));
    assert_eq!(sim.engine.connected_transports(), 2);
}

#[test]
fn closing_frees_everything_of_the_member_and_nothing_else() {
    let mut sim = Simulation::new();
    let other_meeting = Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(2)),
        ..member(1)
    };
    sim.join(member(1), Direction::Publish);
    sim.join(member(1), Direction::Receive);
    let same_peer = sim.join(other_meeting, Direction::Publish);
    let same_meeting = sim.join(member(2), Direction::Publish);
    sim.run(3 * SECOND);
    assert_eq!(sim.engine.connected_transports(), 4);

    let now = sim.now;
    sim.engine.close(now, member(1), false);
    sim.engine.close(now, member(1), false);
    sim.engine.close(now, member(3), false);
    assert_eq!(sim.engine.open_transports(), 2);
    sim.run(30 * SECOND);
    assert!(sim.is_connected(same_peer));
    assert!(sim.is_connected(same_meeting));
    assert_eq!(sim.engine.connected_transports(), 2);

    let now = sim.now;
    sim.engine.close(now, other_meeting, false);
    sim.engine.close(now, member(2), false);
    assert_empty(&sim.engine);
}

#[test]
fn a_transport_that_never_connects_is_freed() {
    let mut sim = Simulation::new();
    sim.open(member(1), Direction::Publish);
    sim.run(FIRST_CHECK_TIMEOUT.saturating_sub(Duration::from_millis(1)));
    assert_eq!(sim.engine.open_transports(), 1);
    sim.run(Duration::from_millis(1));
    assert_empty(&sim.engine);
}

#[test]
fn a_lost_dtls_flight_is_retransmitted_in_time() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    let receives = |sent: usize, sim: &mut Simulation| {
        (0..1000).find(|_| {
            sim.run(Duration::from_millis(10));
            sim.endpoints[endpoint].datagrams > sent
        })
    };
    // First the response to the client's first check; then the server's flight, which is lost, and
    // nothing else arrives that would trigger a retransmission.
    receives(0, &mut sim).unwrap();
    sim.endpoints[endpoint].drops_incoming = true;
    let hello = sim.endpoints[endpoint].datagrams;
    receives(hello, &mut sim).unwrap();
    sim.endpoints[endpoint].drops_outgoing = true;
    sim.run(Duration::from_millis(30));
    let flight = sim.endpoints[endpoint].datagrams;
    let waited = receives(flight, &mut sim).unwrap();
    assert!(waited < 20, "waited {waited}0 ms");
}

#[test]
fn a_silent_transport_is_freed_after_the_timeout() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    let active = sim.join(member(2), Direction::Publish);
    sim.run(3 * SECOND);
    sim.endpoints[endpoint].drops_outgoing = true;

    sim.run(45 * SECOND);
    assert_eq!(sim.engine.connected_transports(), 1);
    assert_eq!(sim.engine.open_transports(), 2);
    sim.run(TIMEOUT);
    assert_eq!(sim.engine.open_transports(), 1);
    assert!(sim.is_connected(active));
}

#[test]
fn a_transport_that_was_silent_for_a_while_connects_again() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    sim.run(3 * SECOND);
    // str0m gives up on a path earlier than the engine, so only one direction is cut, and the
    // client's checks get through after a while.
    sim.endpoints[endpoint].drops_outgoing = true;
    sim.run(12 * SECOND);
    sim.endpoints[endpoint].drops_outgoing = false;
    sim.run(10 * SECOND);
    assert_eq!(sim.engine.connected_transports(), 1);
    sim.run(2 * TIMEOUT);
    assert!(sim.is_connected(endpoint));
    assert_eq!(sim.engine.connected_transports(), 1);
}

#[test]
fn a_transport_that_its_client_closes_is_freed_at_once() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    sim.run(3 * SECOND);
    sim.endpoints[endpoint].client.close();
    sim.run(Duration::from_millis(20));
    assert_empty(&sim.engine);
}

#[test]
fn a_client_whose_address_changes_stays_connected() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    sim.run(3 * SECOND);
    sim.endpoints[endpoint].observed_address = address("203.0.113.5:4000");
    sim.run(60 * SECOND);
    assert!(sim.is_connected(endpoint));
    assert_eq!(sim.engine.connected_transports(), 1);
    assert_eq!(sim.engine.by_route.len(), 2);
}

#[test]
fn the_number_of_routes_of_a_client_is_limited() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    let mut most = 0;
    for port in 0..200 {
        sim.endpoints[endpoint].observed_address =
            SocketAddr::from(([203, 0, 113, 5], 4000 + port));
        sim.run(3 * SECOND);
        most = most.max(sim.engine.by_route.len());
    }
    assert!((10..=64).contains(&most), "{most}");
}

#[test]
fn a_client_without_the_offered_certificate_is_dropped() {
    let mut sim = Simulation::new();
    let mut client = sim.client(Direction::Publish);
    let other = sim.client(Direction::Publish);
    let fingerprint = |offer: &str| {
        let at = offer.find("a=fingerprint:").unwrap();
        offer[at..].lines().next().unwrap().to_owned()
    };
    let offer = client.offer();
    let offer = offer.replace(&fingerprint(offer), &fingerprint(other.offer()));
    let offer = super::simulation::read(&offer);
    let opened = sim
        .engine
        .open_alone(sim.now, member(1), Direction::Publish, &offer)
        .unwrap();
    client.accept(&opened.answer);
    sim.add_endpoint(client, opened.transport_id);
    sim.run(20 * SECOND);
    assert_empty(&sim.engine);
}

#[test]
fn the_number_of_transports_is_limited() {
    let mut sim = Simulation::of(
        Settings {
            max_transports: 2,
            ..settings()
        },
        1,
    );
    sim.open(member(1), Direction::Publish);
    sim.open(member(1), Direction::Receive);
    let client = sim.client(Direction::Publish);
    let full = sim.try_open(member(2), Direction::Publish, &client);
    assert_eq!(full, Err(Error::Full));
    // A transport that replaces another one needs no room.
    assert!(sim.try_open(member(1), Direction::Publish, &client).is_ok());
    let now = sim.now;
    sim.engine.close(now, member(1), false);
    assert_empty(&sim.engine);
    assert!(sim.try_open(member(2), Direction::Publish, &client).is_ok());
}

#[test]
fn a_bad_offer_leaves_the_older_transport_as_it_is() {
    let mut sim = Simulation::new();
    let endpoint = sim.join(member(1), Direction::Publish);
    sim.run(3 * SECOND);
    let client = sim.client(Direction::Publish);
    let lite = client.offer().replace("t=0 0", "t=0 0\r\na=ice-lite");
    let offer = super::simulation::read(&lite);
    let refused = sim
        .engine
        .open_alone(sim.now, member(1), Direction::Publish, &offer);
    assert!(matches!(refused, Err(Error::BadOffer(_))), "{refused:?}");
    sim.run(30 * SECOND);
    assert!(sim.is_connected(endpoint));
    assert_eq!(sim.engine.connected_transports(), 1);
}

#[test]
fn every_address_is_a_candidate_and_responses_take_the_route_of_the_check() {
    let sim = Simulation::new();
    let now = sim.now;
    let addresses = ["192.0.2.1:3478", "192.0.2.2:3478", "[2001:db8::1]:3479"].map(address);
    let candidates = addresses.map(|address| Candidate {
        address,
        tcp: false,
    });
    let mut engine = Engine::new(Settings {
        candidates: candidates.to_vec(),
        ..settings()
    });
    let from = address("[2001:db8::9]:5000");
    let mut client = Client::new(now, from);
    let offer = super::simulation::read(client.offer());
    let opened = engine
        .open_alone(now, member(1), Direction::Publish, &offer)
        .unwrap();
    assert_eq!(opened.answer.matches("a=candidate:").count(), 3);
    let shown = format!("{opened:?}");
    assert!(!shown.contains("ice-pwd") && shown.contains(&opened.transport_id));
    client.accept(&opened.answer);
    client.timeout(now);
    let (sent, _) = client.poll();
    assert_eq!(sent[0].0, addresses[2]);
    let route = Route::Udp(1, from);
    let taken = engine.receive(now, route, from, &mut sent[0].1.clone());
    assert_eq!(taken, Disposition::Accepted);
    let mut back = Vec::new();
    engine.flush(|route, outbox| back.push((route, outbox.datagrams().count())));
    assert_eq!(back, [(route, 1)]);
}

/// Returns the response to a check of a closed transport. `of_another` is whether the transport
/// belonged to another process, `client_offline` whether
/// the client was offline when it was closed.
fn check_response(of_another: bool, client_offline: bool) -> Vec<u8> {
    let sim = Simulation::new();
    let (now, from) = (sim.now, address("198.51.100.7:5000"));
    let mut engine = Engine::new(settings());
    let mut client = Client::new(now, from);
    let offer = super::simulation::read(client.offer());
    let opened = engine.open_alone(now, member(1), Direction::Publish, &offer);
    client.accept(&opened.unwrap().answer);
    client.timeout(now);
    let (sent, _) = client.poll();
    if of_another {
        engine = Engine::new(settings());
    } else {
        engine.close(now, member(1), client_offline);
    }
    let mut check = sent[0].1.clone();
    let taken = engine.receive(now, Route::Udp(0, from), from, &mut check);
    assert_eq!(taken, Disposition::Dropped);
    let mut back = Vec::new();
    engine.flush(|_, outbox| back.extend(outbox.datagrams().flatten().copied()));
    back
}

#[test]
fn a_check_of_a_closed_transport_gets_an_error_unless_the_client_closed_it() {
    for of_another in [false, true] {
        let response = check_response(of_another, true);
        assert!(
            StunMessage::parse(&response)
                .unwrap()
                .is_failed_binding_response()
        );
    }
    assert!(check_response(false, false).is_empty());
}

/// Listens to the meeting's events.
fn listen(sim: &mut Simulation) -> Events {
    let (listener, events) = Listener::new();
    sim.engine.listen(member(1).meeting, listener);
    events
}

fn freed(peer: u128, direction: Direction, transport_id: &str) -> Event {
    Event::Freed {
        peer: member(peer).peer,
        direction,
        transport_id: transport_id.to_owned(),
    }
}

#[test]
fn a_transport_freed_without_a_command_is_reported_once() {
    let mut sim = Simulation::new();
    let mut events = listen(&mut sim);
    let other_meeting = Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(2)),
        ..member(4)
    };
    let leaves = sim.join(member(1), Direction::Publish);
    let silent = sim.join(member(2), Direction::Receive);
    let stays = sim.join(member(3), Direction::Receive);
    let other = sim.join(other_meeting, Direction::Publish);
    let (_, never) = sim.open(member(5), Direction::Publish);
    sim.run(3 * SECOND);
    assert_eq!(events.try_recv(), None);

    sim.endpoints[leaves].client.close();
    sim.endpoints[other].client.close();
    sim.endpoints[silent].drops_outgoing = true;
    sim.run(SECOND);
    let id = sim.endpoints[leaves].transport.clone();
    assert_eq!(events.try_recv(), Some(freed(1, Direction::Publish, &id)));
    assert_eq!(events.try_recv(), None);
    sim.run(TIMEOUT);
    let id = never.transport_id;
    assert_eq!(events.try_recv(), Some(freed(5, Direction::Publish, &id)));
    assert_eq!(events.try_recv(), None);
    sim.run(TIMEOUT);
    let id = sim.endpoints[silent].transport.clone();
    assert_eq!(events.try_recv(), Some(freed(2, Direction::Receive, &id)));
    sim.run(TIMEOUT);
    assert_eq!(events.try_recv(), None);
    assert!(sim.is_connected(stays));
    assert_eq!(sim.engine.open_transports(), 1);
}

#[test]
fn a_transport_freed_by_a_command_is_not_reported() {
    let mut sim = Simulation::new();
    let mut events = listen(&mut sim);
    let old = sim.join(member(1), Direction::Publish);
    sim.join(member(2), Direction::Publish);
    sim.run(3 * SECOND);
    let new = sim.join(member(1), Direction::Publish);
    let now = sim.now;
    sim.engine.close(now, member(2), false);
    sim.run(3 * SECOND);
    // The client of the older transport closes it, as browsers do.
    sim.endpoints[old].client.close();
    sim.run(SECOND);
    assert_eq!(events.try_recv(), None);
    sim.endpoints[new].client.close();
    sim.run(SECOND);
    let id = sim.endpoints[new].transport.clone();
    assert_eq!(events.try_recv(), Some(freed(1, Direction::Publish, &id)));
    assert_eq!(events.try_recv(), None);
}

#[test]
fn links_of_a_freed_transport_are_released() {
    let mut sim = Simulation::new();
    let (now, link) = (sim.now, |number| Route::Link(LinkId(number), Via::Tcp));
    let check = |sim: &mut Simulation, peer, number| {
        let (mut client, opened) = sim.open(member(peer), Direction::Publish);
        client.accept(&opened.answer);
        client.timeout(now);
        let (mut sent, _) = client.poll();
        let from = address("198.51.100.1:9");
        let taken = sim.engine.receive(now, link(number), from, &mut sent[0].1);
        assert_eq!(taken, Disposition::Accepted);
    };
    check(&mut sim, 1, 7);
    check(&mut sim, 2, 8);
    sim.engine.flush(|_, _| {});
    assert_eq!(sim.engine.released(), None);
    let now = sim.now;
    sim.engine.close(now, member(1), false);
    assert_eq!(sim.engine.released(), Some((LinkId(7), Via::Tcp)));
    assert_eq!(sim.engine.released(), None);
    // A link that has ended before is not released again.
    sim.engine.unlink(LinkId(8), Via::Tcp);
    let now = sim.now;
    sim.engine.close(now, member(2), false);
    assert_eq!(sim.engine.released(), None);
    assert_empty(&sim.engine);
}
