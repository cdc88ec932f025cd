//! The engine and clients in virtual time: no sockets, no waiting.

mod offers;
mod world;

use parlor_protocol::MeetingId;
use proptest::prelude::*;
use uuid::Uuid;

use self::world::{TIMEOUT, World, address, client_address, member, open};
use super::*;
use crate::client::Client;

#[test]
fn both_transports_of_a_client_connect() {
    let mut world = World::new();
    let (publish, publish_id) = world.join(member(1), Direction::Publish);
    let (receive, receive_id) = world.join(member(1), Direction::Receive);
    assert_ne!(publish_id, receive_id);
    assert_eq!(world.engine.open_transports(), 2);
    assert_eq!(world.engine.connected_transports(), 0);

    world.run(Duration::from_secs(3));
    assert!(world.connected(publish));
    assert!(world.connected(receive));
    assert_eq!(world.engine.connected_transports(), 2);
    world.assert_consistent();
}

#[test]
fn a_connected_transport_lasts_and_sleeps() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    world.run(Duration::from_secs(3));
    let woken = world.run(Duration::from_secs(600));
    assert!(world.connected(guest));
    assert_eq!(world.engine.connected_transports(), 1);
    // Reports are due every second.
    assert!(woken <= 700, "woken {woken} times in ten minutes");
}

#[test]
fn a_new_transport_takes_the_place_of_the_older_one() {
    let mut world = World::new();
    let (old, old_id) = world.join(member(1), Direction::Publish);
    let (other, _) = world.join(member(1), Direction::Receive);
    world.run(Duration::from_secs(3));
    assert!(world.connected(old));

    let (new, new_id) = world.join(member(1), Direction::Publish);
    assert_ne!(old_id, new_id);
    assert_eq!(world.engine.open_transports(), 2);
    assert_eq!(world.engine.connected_transports(), 1);
    assert!(!world.engine.by_ufrag.contains_key(&old_id));
    world.run(Duration::from_secs(30));
    assert!(!world.connected(old));
    assert!(world.connected(new));
    assert!(world.connected(other));
    assert_eq!(world.engine.connected_transports(), 2);
    world.assert_consistent();
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
    let (same_peer, _) = world.join(elsewhere, Direction::Publish);
    let (same_meeting, _) = world.join(member(2), Direction::Publish);
    world.run(Duration::from_secs(3));
    assert_eq!(world.engine.connected_transports(), 4);

    world.engine.close(member(1));
    world.engine.close(member(1));
    world.engine.close(member(3));
    assert_eq!(world.engine.open_transports(), 2);
    world.run(Duration::from_secs(30));
    assert!(world.connected(same_peer));
    assert!(world.connected(same_meeting));
    assert_eq!(world.engine.connected_transports(), 2);
    world.assert_consistent();

    world.engine.close(elsewhere);
    world.engine.close(member(2));
    assert!(world.engine.by_path.is_empty());
    assert_eq!(world.engine.next_timeout(), None);
    world.assert_consistent();
}

#[test]
fn a_transport_that_never_connects_is_freed() {
    let mut world = World::new();
    world.open(member(1), Direction::Publish);
    world.run(Duration::from_millis(60_699));
    assert_eq!(world.engine.open_transports(), 1);
    world.run(Duration::from_millis(1));
    assert_eq!(world.engine.open_transports(), 0);
    world.assert_consistent();
}

#[test]
fn what_was_lost_is_sent_again_in_time() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    let hears = |sent: usize, world: &mut World| {
        (0..1000).find(|_| {
            world.run(Duration::from_millis(10));
            world.guests[guest].heard > sent
        })
    };
    // The answer to the client's first request; then the server's part of the handshake, of
    // which nothing arrives.
    hears(0, &mut world).unwrap();
    world.guests[guest].deaf = true;
    let hello = world.guests[guest].heard;
    hears(hello, &mut world).unwrap();
    world.guests[guest].silent = true;
    world.run(Duration::from_millis(10));
    let flight = world.guests[guest].heard;
    let waited = hears(flight, &mut world).unwrap();
    assert!(waited < 150, "waited {waited}0 ms");
}

#[test]
fn a_transport_that_falls_silent_is_freed_later() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    let (talks, _) = world.join(member(2), Direction::Publish);
    world.run(Duration::from_secs(3));
    world.guests[guest].silent = true;

    world.run(Duration::from_secs(25));
    assert_eq!(world.engine.connected_transports(), 1);
    assert_eq!(world.engine.open_transports(), 2);
    world.assert_consistent();
    world.run(TIMEOUT);
    assert_eq!(world.engine.open_transports(), 1);
    assert!(world.connected(talks));
    world.assert_consistent();
}

#[test]
fn a_transport_that_was_silent_for_a_while_connects_again() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    world.run(Duration::from_secs(3));
    world.guests[guest].silent = true;
    world.run(Duration::from_secs(18));
    assert_eq!(world.engine.connected_transports(), 0);
    world.guests[guest].silent = false;
    world.run(Duration::from_secs(10));
    assert_eq!(world.engine.connected_transports(), 1);
    world.run(2 * TIMEOUT);
    assert_eq!(world.engine.connected_transports(), 1);
    world.assert_consistent();
}

#[test]
fn a_client_that_says_goodbye_is_freed_at_once() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    world.run(Duration::from_secs(3));
    world.guests[guest].client.close();
    world.carry();
    assert_eq!(world.engine.open_transports(), 0);
    world.assert_consistent();
}

#[test]
fn a_client_whose_address_changes_stays_connected() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    world.run(Duration::from_secs(3));
    world.guests[guest].seen_at = address("203.0.113.5:4000");
    world.run(Duration::from_secs(60));
    assert!(world.connected(guest));
    assert_eq!(world.engine.connected_transports(), 1);
    assert_eq!(world.engine.by_path.len(), 2);
    world.assert_consistent();
}

#[test]
fn a_client_that_comes_from_everywhere_is_remembered_only_so_often() {
    let mut world = World::new();
    let (guest, _) = world.join(member(1), Direction::Publish);
    let mut most = 0;
    for port in 0..200 {
        world.guests[guest].seen_at = SocketAddr::from(([203, 0, 113, 5], 4000 + port));
        world.run(Duration::from_secs(3));
        most = most.max(world.engine.by_path.len());
        world.assert_consistent();
    }
    assert_eq!(most, PATHS);
    // It was told nothing any more, as if it had fallen silent.
    world.run(2 * TIMEOUT);
    assert_eq!(world.engine.open_transports(), 0);
    assert!(world.engine.by_path.is_empty());
}

#[test]
fn who_does_not_know_the_password_does_not_connect() {
    let mut world = World::new();
    let (mut client, opened) = world.open(member(1), Direction::Publish);
    let password = opened.answer.split("a=ice-pwd:").nth(1).unwrap();
    let password = password.lines().next().unwrap();
    client.accept(&opened.answer.replace(password, "guessedguessedguessed1"));
    let guest = world.admit(client);
    world.run(Duration::from_secs(20));
    assert!(!world.connected(guest));
    assert!(world.engine.by_path.is_empty());
    assert_eq!(world.engine.connected_transports(), 0);
}

#[test]
fn who_does_not_have_the_offered_certificate_is_freed() {
    let mut world = World::new();
    let mut client = Client::new(world.now, client_address(0));
    let other = Client::new(world.now, client_address(1));
    let fingerprint = |offer: &str| {
        let at = offer.find("a=fingerprint:").unwrap();
        offer[at..].lines().next().unwrap().to_owned()
    };
    let offer = client
        .offer()
        .replace(&fingerprint(client.offer()), &fingerprint(other.offer()));
    let opened = open(
        &mut world.engine,
        world.now,
        member(1),
        Direction::Publish,
        &offer,
    )
    .unwrap();
    client.accept(&opened.answer);
    world.admit(client);
    world.run(Duration::from_secs(20));
    assert_eq!(world.engine.open_transports(), 0);
    world.assert_consistent();
}

#[test]
fn a_request_for_another_user_name_is_dropped() {
    let mut world = World::new();
    let (mut client, opened) = world.open(member(1), Direction::Publish);
    let answer = opened
        .answer
        .replace(&opened.transport_id, "somebodysomebody");
    client.accept(&answer);
    client.timeout(world.now);
    let (sent, _) = client.poll();
    assert!(!sent.is_empty());
    for (_, datagram) in sent {
        assert!(!world.receive(client_address(0), &datagram));
    }
    assert!(world.engine.poll_transmit().is_none());
}

#[test]
fn as_many_as_may_be_and_no_more() {
    let mut world = World::of(2);
    world.open(member(1), Direction::Publish);
    world.open(member(1), Direction::Receive);
    let offer = Client::new(world.now, client_address(9)).offer().to_owned();
    let mut publish = |member| {
        open(
            &mut world.engine,
            world.now,
            member,
            Direction::Publish,
            &offer,
        )
    };
    assert_eq!(publish(member(2)), Err(Error::Full));
    // In place of one there is room.
    assert!(publish(member(1)).is_ok());
    world.engine.close(member(1));
    assert_eq!(world.engine.open_transports(), 0);
}

#[test]
fn every_address_is_told_and_answered_from_its_socket() {
    let homes = [address("192.0.2.1:3478"), address("[2001:db8::1]:3479")];
    let now = Instant::now();
    let mut engine = Engine::new(&Settings {
        advertised: vec![vec![homes[0], address("192.0.2.2:3478")], vec![homes[1]]],
        max_transports: 10,
        connect_timeout: TIMEOUT,
    });
    let mut client = Client::new(now, address("[2001:db8::9]:5000"));
    let opened = open(
        &mut engine,
        now,
        member(1),
        Direction::Publish,
        client.offer(),
    )
    .unwrap();
    assert_eq!(opened.answer.matches("a=candidate:").count(), 3);
    client.accept(&opened.answer);
    client.timeout(now);
    let (sent, _) = client.poll();
    assert_eq!(sent[0].0, homes[1]);
    assert!(engine.receive(now, 1, address("[2001:db8::9]:5000"), &sent[0].1));
    assert_eq!(engine.poll_transmit().unwrap().socket, 1);
}

#[test]
fn garbage_is_dropped_and_harms_nobody() {
    let mut world = World::new();
    let (guest, transport_id) = world.join(member(1), Direction::Publish);
    world.run(Duration::from_secs(3));
    let known = world.guests[guest].seen_at;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 0..1600);
    // First bytes that look like STUN, DTLS, RTP and RTCP are all among them.
    let datagram = (
        prop::option::of(prop::sample::select(vec![0, 1, 20, 22, 23, 63, 128, 200])),
        bytes,
    );
    let world = std::cell::RefCell::new(world);
    runner
        .run(&datagram, |(first, mut bytes)| {
            if let (Some(first), Some(byte)) = (first, bytes.first_mut()) {
                *byte = first;
            }
            let mut world = world.borrow_mut();
            prop_assert!(!world.receive(client_address(77), &bytes));
            world.receive(known, &bytes);
            Ok(())
        })
        .unwrap();
    let mut world = world.into_inner();
    assert!(world.engine.by_ufrag.contains_key(&transport_id));
    world.run(Duration::from_secs(60));
    assert!(world.connected(guest));
    assert_eq!(world.engine.connected_transports(), 1);
    world.assert_consistent();
}
