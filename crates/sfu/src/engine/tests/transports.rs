//! How transports come, stay and go.

use std::net::SocketAddr;
use std::time::Duration;

use is::stun::StunMessage;
use parlor_protocol::MeetingId;
use uuid::Uuid;

use super::check::assert_empty;
use super::world::{TIMEOUT, World, address, member, settings};
use crate::client::Client;
use crate::engine::{Engine, FIRST_CHECK, Route, Settings, Taken};
use crate::events::{Event, Events, Listener};
use crate::relay::{LinkId, Via};
use crate::sdp::Candidate;
use crate::{Direction, Error, Member};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn both_transports_of_a_client_connect() {
    let mut world = World::new();
    let publish = world.join(member(1), Direction::Publish);
    let receive = world.join(member(1), Direction::Receive);
    assert_ne!(
        world.guests[publish].transport,
        world.guests[receive].transport
    );
    assert_eq!(world.engine.open_transports(), 2);
    assert_eq!(world.engine.connected_transports(), 0);

    world.run(3 * SECOND);
    assert!(world.connected(publish));
    assert!(world.connected(receive));
    assert_eq!(world.engine.connected_transports(), 2);
    let report = world.engine.report(world.now, member(1)).unwrap();
    let remote = report.publish.unwrap().remote;
    assert_eq!(remote, Some(world.guests[publish].seen_at));
    assert!(report.receive.unwrap().connected);
    assert_eq!(world.engine.report(world.now, member(2)), None);
}

#[test]
fn transports_connect_on_a_path_that_loses_a_fifth() {
    // The client here sends a flight at most five times within these seconds, whatever the server
    // does: one in 150 loses all of them, or all that they are answered with.
    let mut unlucky = Vec::new();
    for seed in 0..40 {
        let mut world = World::seeded(seed);
        let guest = world.join(member(1), Direction::Publish);
        world.guests[guest].up.loss = 200;
        world.guests[guest].down.loss = 200;
        world.run(20 * SECOND);
        assert_eq!(world.engine.open_transports(), 1, "seed {seed}");
        if world.connected(guest) {
            assert_eq!(world.engine.connected_transports(), 1, "seed {seed}");
        } else {
            unlucky.push(seed);
        }
    }
    assert!(unlucky.len() <= 4, "not connected: seeds {unlucky:?}");
}

#[test]
fn a_connected_transport_lasts_and_sleeps() {
    let mut world = World::new();
    let publish = world.join(member(1), Direction::Publish);
    let receive = world.join(member(1), Direction::Receive);
    world.run(3 * SECOND);
    let woken = world.run(600 * SECOND);
    assert!(world.connected(publish) && world.connected(receive));
    assert_eq!(world.engine.connected_transports(), 2);
    assert!(woken <= 300, "woken {woken} times in ten minutes");
}

#[test]
fn a_new_transport_takes_the_place_of_the_older_one() {
    let mut world = World::new();
    let old = world.join(member(1), Direction::Publish);
    let other = world.join(member(1), Direction::Receive);
    world.run(3 * SECOND);
    assert!(world.connected(old));

    let new = world.join(member(1), Direction::Publish);
    assert_eq!(world.engine.open_transports(), 2);
    assert_eq!(world.engine.connected_transports(), 1);
    let old_id = &world.guests[old].transport;
    assert!(!world.engine.by_ufrag.contains_key(old_id));
    world.run(40 * SECOND);
    assert!(!world.connected(old));
    assert!(world.connected(new));
    assert!(world.connected(other));
    assert_eq!(world.engine.connected_transports(), 2);
}

#[test]
fn closing_frees_everything_of_the_member_and_nothing_else() {
    let mut world = World::new();
    let elsewhere = Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(2)),
        ..member(1)
    };
    world.join(member(1), Direction::Publish);
    world.join(member(1), Direction::Receive);
    let same_peer = world.join(elsewhere, Direction::Publish);
    let same_meeting = world.join(member(2), Direction::Publish);
    world.run(3 * SECOND);
    assert_eq!(world.engine.connected_transports(), 4);

    let now = world.now;
    world.engine.close(now, member(1), false);
    world.engine.close(now, member(1), false);
    world.engine.close(now, member(3), false);
    assert_eq!(world.engine.open_transports(), 2);
    world.run(30 * SECOND);
    assert!(world.connected(same_peer));
    assert!(world.connected(same_meeting));
    assert_eq!(world.engine.connected_transports(), 2);

    let now = world.now;
    world.engine.close(now, elsewhere, false);
    world.engine.close(now, member(2), false);
    assert_empty(&world.engine);
}

#[test]
fn a_transport_that_never_connects_is_freed() {
    let mut world = World::new();
    world.open(member(1), Direction::Publish);
    world.run(FIRST_CHECK.saturating_sub(Duration::from_millis(1)));
    assert_eq!(world.engine.open_transports(), 1);
    world.run(Duration::from_millis(1));
    assert_empty(&world.engine);
}

#[test]
fn what_was_lost_is_sent_again_in_time() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    let hears = |sent: usize, world: &mut World| {
        (0..1000).find(|_| {
            world.run(Duration::from_millis(10));
            world.guests[guest].heard > sent
        })
    };
    // The answer to the client's first check; then the server's part of the handshake, of which
    // nothing arrives, and nothing else comes that would wake it.
    hears(0, &mut world).unwrap();
    world.guests[guest].deaf = true;
    let hello = world.guests[guest].heard;
    hears(hello, &mut world).unwrap();
    world.guests[guest].silent = true;
    world.run(Duration::from_millis(30));
    let flight = world.guests[guest].heard;
    let waited = hears(flight, &mut world).unwrap();
    assert!(waited < 20, "waited {waited}0 ms");
}

#[test]
fn a_transport_that_falls_silent_is_freed_later() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    let talks = world.join(member(2), Direction::Publish);
    world.run(3 * SECOND);
    world.guests[guest].silent = true;

    world.run(45 * SECOND);
    assert_eq!(world.engine.connected_transports(), 1);
    assert_eq!(world.engine.open_transports(), 2);
    world.run(TIMEOUT);
    assert_eq!(world.engine.open_transports(), 1);
    assert!(world.connected(talks));
}

#[test]
fn a_transport_that_was_silent_for_a_while_connects_again() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    world.run(3 * SECOND);
    // str0m gives up on a path before the engine does, so only one way is cut, and the client's
    // checks are let through every now and then.
    world.guests[guest].silent = true;
    world.run(12 * SECOND);
    world.guests[guest].silent = false;
    world.run(10 * SECOND);
    assert_eq!(world.engine.connected_transports(), 1);
    world.run(2 * TIMEOUT);
    assert!(world.connected(guest));
    assert_eq!(world.engine.connected_transports(), 1);
}

#[test]
fn a_client_that_says_goodbye_is_freed_at_once() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    world.run(3 * SECOND);
    world.guests[guest].client.close();
    world.run(Duration::from_millis(20));
    assert_empty(&world.engine);
}

#[test]
fn a_client_whose_address_changes_stays_connected() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    world.run(3 * SECOND);
    world.guests[guest].seen_at = address("203.0.113.5:4000");
    world.run(60 * SECOND);
    assert!(world.connected(guest));
    assert_eq!(world.engine.connected_transports(), 1);
    assert_eq!(world.engine.by_route.len(), 2);
}

#[test]
fn a_client_that_comes_from_everywhere_is_remembered_only_so_often() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    let mut most = 0;
    for port in 0..200 {
        world.guests[guest].seen_at = SocketAddr::from(([203, 0, 113, 5], 4000 + port));
        world.run(3 * SECOND);
        most = most.max(world.engine.by_route.len());
    }
    assert!((10..=64).contains(&most), "{most}");
}

#[test]
fn who_does_not_have_the_offered_certificate_is_freed() {
    let mut world = World::new();
    let mut client = world.client(Direction::Publish);
    let other = world.client(Direction::Publish);
    let fingerprint = |offer: &str| {
        let at = offer.find("a=fingerprint:").unwrap();
        offer[at..].lines().next().unwrap().to_owned()
    };
    let offer = client.offer();
    let offer = offer.replace(&fingerprint(offer), &fingerprint(other.offer()));
    let offer = super::world::read(&offer);
    let opened = world
        .engine
        .open_alone(world.now, member(1), Direction::Publish, &offer)
        .unwrap();
    client.accept(&opened.answer);
    world.admit(client, opened.transport_id);
    world.run(20 * SECOND);
    assert_empty(&world.engine);
}

#[test]
fn as_many_as_may_be_and_no_more() {
    let mut world = World::of(
        Settings {
            max_transports: 2,
            ..settings()
        },
        1,
    );
    world.open(member(1), Direction::Publish);
    world.open(member(1), Direction::Receive);
    let client = world.client(Direction::Publish);
    let full = world.try_open(member(2), Direction::Publish, &client);
    assert_eq!(full, Err(Error::Full));
    // In place of one there is room.
    assert!(
        world
            .try_open(member(1), Direction::Publish, &client)
            .is_ok()
    );
    let now = world.now;
    world.engine.close(now, member(1), false);
    assert_empty(&world.engine);
    assert!(
        world
            .try_open(member(2), Direction::Publish, &client)
            .is_ok()
    );
}

#[test]
fn a_bad_offer_leaves_the_older_transport_as_it_is() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    world.run(3 * SECOND);
    let client = world.client(Direction::Publish);
    let lite = client.offer().replace("t=0 0", "t=0 0\r\na=ice-lite");
    let offer = super::world::read(&lite);
    let refused = world
        .engine
        .open_alone(world.now, member(1), Direction::Publish, &offer);
    assert!(matches!(refused, Err(Error::BadOffer(_))), "{refused:?}");
    world.run(30 * SECOND);
    assert!(world.connected(guest));
    assert_eq!(world.engine.connected_transports(), 1);
}

#[test]
fn every_address_is_told_and_answers_go_back_the_way_that_checks_came() {
    let world = World::new();
    let now = world.now;
    let homes = ["192.0.2.1:3478", "192.0.2.2:3478", "[2001:db8::1]:3479"].map(address);
    let candidates = homes.map(|address| Candidate {
        address,
        tcp: false,
    });
    let mut engine = Engine::new(Settings {
        candidates: candidates.to_vec(),
        ..settings()
    });
    let from = address("[2001:db8::9]:5000");
    let mut client = Client::new(now, from);
    let offer = super::world::read(client.offer());
    let opened = engine
        .open_alone(now, member(1), Direction::Publish, &offer)
        .unwrap();
    assert_eq!(opened.answer.matches("a=candidate:").count(), 3);
    let shown = format!("{opened:?}");
    assert!(!shown.contains("ice-pwd") && shown.contains(&opened.transport_id));
    client.accept(&opened.answer);
    client.timeout(now);
    let (sent, _) = client.poll();
    assert_eq!(sent[0].0, homes[2]);
    let route = Route::Udp(1, from);
    let taken = engine.receive(now, route, from, &mut sent[0].1.clone());
    assert_eq!(taken, Taken::Yes);
    let mut back = Vec::new();
    engine.flush(|route, outbox| back.push((route, outbox.datagrams().count())));
    assert_eq!(back, [(route, 1)]);
}

/// What a client hears that checks a transport: whether it is another process's, and if not, whether
/// the client was away when it was closed.
fn answer_to_a_check(of_another: bool, away: bool) -> Vec<u8> {
    let world = World::new();
    let (now, from) = (world.now, address("198.51.100.7:5000"));
    let mut engine = Engine::new(settings());
    let mut client = Client::new(now, from);
    let offer = super::world::read(client.offer());
    let opened = engine.open_alone(now, member(1), Direction::Publish, &offer);
    client.accept(&opened.unwrap().answer);
    client.timeout(now);
    let (sent, _) = client.poll();
    if of_another {
        engine = Engine::new(settings());
    } else {
        engine.close(now, member(1), away);
    }
    let mut check = sent[0].1.clone();
    let taken = engine.receive(now, Route::Udp(0, from), from, &mut check);
    assert_eq!(taken, Taken::No);
    let mut back = Vec::new();
    engine.flush(|_, outbox| back.extend(outbox.datagrams().flatten().copied()));
    back
}

#[test]
fn a_client_is_told_of_a_transport_that_is_no_more_unless_it_knows() {
    for of_another in [false, true] {
        let told = answer_to_a_check(of_another, true);
        assert!(
            StunMessage::parse(&told)
                .unwrap()
                .is_failed_binding_response()
        );
    }
    assert!(answer_to_a_check(false, false).is_empty());
}

/// What happens in the meeting.
fn listen(world: &mut World) -> Events {
    let (listener, events) = Listener::new();
    world.engine.listen(member(1).meeting, listener);
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
fn a_transport_that_nobody_asked_to_free_is_told_of_once() {
    let mut world = World::new();
    let mut events = listen(&mut world);
    let elsewhere = Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(2)),
        ..member(4)
    };
    let leaves = world.join(member(1), Direction::Publish);
    let silent = world.join(member(2), Direction::Receive);
    let stays = world.join(member(3), Direction::Receive);
    let other = world.join(elsewhere, Direction::Publish);
    let (_, never) = world.open(member(5), Direction::Publish);
    world.run(3 * SECOND);
    assert_eq!(events.try_recv(), None);

    world.guests[leaves].client.close();
    world.guests[other].client.close();
    world.guests[silent].silent = true;
    world.run(SECOND);
    let id = world.guests[leaves].transport.clone();
    assert_eq!(events.try_recv(), Some(freed(1, Direction::Publish, &id)));
    assert_eq!(events.try_recv(), None);
    world.run(TIMEOUT);
    let id = never.transport_id;
    assert_eq!(events.try_recv(), Some(freed(5, Direction::Publish, &id)));
    assert_eq!(events.try_recv(), None);
    world.run(TIMEOUT);
    let id = world.guests[silent].transport.clone();
    assert_eq!(events.try_recv(), Some(freed(2, Direction::Receive, &id)));
    world.run(TIMEOUT);
    assert_eq!(events.try_recv(), None);
    assert!(world.connected(stays));
    assert_eq!(world.engine.open_transports(), 1);
}

#[test]
fn a_transport_that_somebody_asked_to_free_is_not_told_of() {
    let mut world = World::new();
    let mut events = listen(&mut world);
    let old = world.join(member(1), Direction::Publish);
    world.join(member(2), Direction::Publish);
    world.run(3 * SECOND);
    let new = world.join(member(1), Direction::Publish);
    let now = world.now;
    world.engine.close(now, member(2), false);
    world.run(3 * SECOND);
    // The client of the older one says goodbye, as browsers do.
    world.guests[old].client.close();
    world.run(SECOND);
    assert_eq!(events.try_recv(), None);
    world.guests[new].client.close();
    world.run(SECOND);
    let id = world.guests[new].transport.clone();
    assert_eq!(events.try_recv(), Some(freed(1, Direction::Publish, &id)));
    assert_eq!(events.try_recv(), None);
}

#[test]
fn links_to_a_transport_that_is_gone_are_let_go_of() {
    let mut world = World::new();
    let (now, link) = (world.now, |number| Route::Link(LinkId(number), Via::Tcp));
    let check = |world: &mut World, peer, number| {
        let (mut client, opened) = world.open(member(peer), Direction::Publish);
        client.accept(&opened.answer);
        client.timeout(now);
        let (mut sent, _) = client.poll();
        let from = address("198.51.100.1:9");
        let taken = world
            .engine
            .receive(now, link(number), from, &mut sent[0].1);
        assert_eq!(taken, Taken::Yes);
    };
    check(&mut world, 1, 7);
    check(&mut world, 2, 8);
    world.engine.flush(|_, _| {});
    assert_eq!(world.engine.released(), None);
    let now = world.now;
    world.engine.close(now, member(1), false);
    assert_eq!(world.engine.released(), Some((LinkId(7), Via::Tcp)));
    assert_eq!(world.engine.released(), None);
    // One that has ended before needs not be let go of.
    world.engine.unlink(LinkId(8), Via::Tcp);
    let now = world.now;
    world.engine.close(now, member(2), false);
    assert_eq!(world.engine.released(), None);
    assert_empty(&world.engine);
}
