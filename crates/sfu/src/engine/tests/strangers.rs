//! Packets that nobody here should have sent.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::check::assert_empty;
use super::feed::{assert_plays, in_order};
use super::world::{World, client_address, home, member, settings};
use crate::engine::{Route, Taken, ice};
use crate::wire::{self, Kind};
use crate::{Direction, Source};

const SECOND: Duration = Duration::from_secs(1);

/// What is sent to anybody and what is known, which a stranger must not change.
fn known(world: &World) -> impl PartialEq + std::fmt::Debug + use<> {
    let engine = &world.engine;
    let mut routes = engine
        .by_route
        .iter()
        .map(|(r, p)| (format!("{r:?}"), *p))
        .collect::<Vec<_>>();
    routes.sort();
    let sent = world
        .guests
        .iter()
        .map(|guest| guest.media)
        .collect::<Vec<_>>();
    (
        routes,
        engine.connected_transports(),
        engine.open_transports(),
        sent,
    )
}

#[test]
fn who_does_not_know_the_password_does_not_connect() {
    let mut world = World::new();
    let (mut client, opened) = world.open(member(1), Direction::Publish);
    let password = opened.answer.split("a=ice-pwd:").nth(1).unwrap();
    let password = password.lines().next().unwrap();
    client.accept(&opened.answer.replace(password, "guessedguessedguessed1"));
    let guest = world.admit(client, opened.transport_id);
    world.run(20 * SECOND);
    assert!(!world.connected(guest));
    assert_eq!(world.guests[guest].heard, 0);
    assert!(world.engine.by_route.is_empty());
    assert_eq!(world.engine.connected_transports(), 0);
}

#[test]
fn only_a_check_that_is_signed_is_passed_on_to_another_thread() {
    let mut world = World::new();
    for (name, signs, taken) in [
        ("asomebodysomebody", false, Taken::No),
        ("bsomebodysomebody", false, Taken::No),
        ("bsomebodysomebody", true, Taken::Elsewhere(b'b')),
    ] {
        let (mut client, opened) = world.open(member(1), Direction::Publish);
        let mut answer = opened.answer.replace(&opened.transport_id, name);
        if signs {
            let key = settings().passwords;
            let password = |ufrag: &str| ice::password(&key, ufrag);
            answer = answer.replace(&password(&opened.transport_id), &password(name));
        }
        client.accept(&answer);
        client.timeout(world.now);
        let (sent, _) = client.poll();
        assert!(!sent.is_empty());
        for (_, mut datagram) in sent {
            let (engine, source) = (&mut world.engine, client_address(0));
            let route = Route::Udp(0, source);
            assert_eq!(
                engine.receive(world.now, route, source, &mut datagram),
                taken
            );
        }
        world.engine.flush(|route, _| panic!("answered {route:?}"));
    }
}

#[test]
fn media_is_not_taken_from_an_address_that_has_not_shown_the_password() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.consume(ben, &[(ada, camera)]);
    world.guests[ada.out].silent = true;
    world.run(SECOND);
    let before = known(&world);
    let said = world.guests[ada.out].said.clone();
    assert!(said.len() > 50);
    for datagram in &said {
        assert!(!world.receive(client_address(77), datagram));
    }
    world.engine.flush(|route, _| panic!("sent to {route:?}"));
    assert_eq!(known(&world), before);
    // They were good ones.
    let seen_at = world.guests[ada.out].seen_at;
    assert!(said.iter().any(|datagram| world.receive(seen_at, datagram)));
}

#[test]
fn what_was_there_before_is_not_there_again() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let tracks = [
        (ada, world.publish(ada, Source::Microphone, &[])),
        (ada, world.publish(ada, Source::Camera, &[])),
    ];
    let mids = world.consume(ben, &tracks);
    world.run(2 * SECOND);
    let (seen_at, said) = (
        world.guests[ada.out].seen_at,
        world.guests[ada.out].said.clone(),
    );
    // What is still on its way is new when it comes.
    world.guests[ada.out]
        .feeds
        .iter_mut()
        .for_each(|feed| feed.muted = true);
    world.run(SECOND);
    let before = known(&world);
    for datagram in said.iter().chain(said.iter().rev()) {
        assert!(!world.receive(seen_at, datagram));
    }
    world.run(Duration::from_millis(1));
    assert_eq!(known(&world), before);
    world.guests[ada.out]
        .feeds
        .iter_mut()
        .for_each(|feed| feed.muted = false);
    world.run(SECOND);
    for (mid, clock_rate) in mids.iter().zip([48_000, 90_000]) {
        assert_plays(
            &in_order(&world.guests[ben.into].client.heard, mid),
            clock_rate,
        );
    }
}

#[test]
fn what_was_changed_on_the_way_is_dropped() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    world.guests[ada.out].silent = true;
    let already = world.guests[ada.out].said.len();
    world.run(Duration::from_millis(200));
    let before = known(&world);
    let seen_at = world.guests[ada.out].seen_at;
    let said = world.guests[ada.out].said[already..].to_vec();
    assert!(said.len() > 15);
    for (number, datagram) in said.iter().enumerate() {
        // In the header, in the payload, in the tag; or without its end.
        let mut changed = datagram.clone();
        let at = [2, 9, 40, datagram.len() - 1][number % 4];
        changed[at] ^= 1 << (number % 8);
        assert!(!world.receive(seen_at, &changed), "{number}");
        assert!(!world.receive(seen_at, &datagram[..datagram.len() - 1]));
    }
    assert_eq!(known(&world), before);
    // The right ones are not spoilt by the wrong ones.
    for datagram in &said {
        assert!(world.receive(seen_at, datagram));
    }
    world.guests[ada.out].silent = false;
    world.run(2 * SECOND);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &mids[0]),
        90_000,
    );
}

#[test]
fn media_that_comes_before_there_are_keys_is_dropped() {
    let mut world = World::new();
    let guest = world.join(member(1), Direction::Publish);
    // Its first check has come, and nothing of DTLS.
    let (sent, _) = {
        world.guests[guest].client.timeout(world.now);
        world.guests[guest].client.poll()
    };
    let seen_at = world.guests[guest].seen_at;
    for (_, datagram) in &sent {
        assert_eq!(wire::kind(datagram), Kind::Stun);
        assert!(world.receive(seen_at, datagram));
    }
    assert_eq!(world.engine.by_route.len(), 1);
    let mut packet = vec![0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];
    packet.resize(100, 1);
    assert!(!world.receive(seen_at, &packet));
    let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
    report.resize(60, 1);
    assert!(!world.receive(seen_at, &report));
    world.run(3 * SECOND);
    assert!(world.connected(guest));
}

#[test]
fn what_one_client_may_send_is_not_taken_for_what_another_sent() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    world.guests[ada.out].silent = true;
    let already = world.guests[ada.out].said.len();
    world.run(Duration::from_millis(200));
    let said = world.guests[ada.out].said[already..].to_vec();
    let before = known(&world);
    for guest in [cy.out, cy.into, ben.into, ada.into] {
        let seen_at = world.guests[guest].seen_at;
        for datagram in &said {
            assert!(!world.receive(seen_at, datagram));
        }
    }
    assert_eq!(known(&world), before);
}

/// Somebody with a transport of their own sends a check with the address of another. Whether it is
/// taken.
fn claim(world: &mut World, peer: u128, victim: SocketAddr) -> bool {
    let (mut client, opened) = world.open(member(peer), Direction::Publish);
    client.accept(&opened.answer);
    client.timeout(world.now);
    let (sent, _) = client.poll();
    assert_eq!(sent[0].0, home());
    world.receive(victim, &sent[0].1)
}

#[test]
fn the_way_of_another_cannot_be_taken_over_while_they_are_there() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    let mids = world.consume(ben, &[(ada, microphone)]);
    world.run(SECOND);
    let victim = world.guests[ada.out].seen_at;
    for _ in 0..50 {
        assert!(!claim(&mut world, 66, victim));
        world.run(Duration::from_millis(100));
    }
    let heard = in_order(&world.guests[ben.into].client.heard, &mids[0]);
    assert_plays(&heard, 48_000);
    assert!(heard.len() > 290, "{}", heard.len());

    // Behind one router, another may have it later.
    world.guests[ada.out].silent = true;
    world.run(Duration::from_millis(4900));
    assert!(!claim(&mut world, 67, victim));
    world.run(Duration::from_millis(200));
    assert!(claim(&mut world, 68, victim));
}

#[test]
fn a_packet_moves_its_client_only_to_where_it_has_lately_agreed_to_be() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    world.consume(ben, &[(ada, microphone)]);
    world.run(SECOND);
    let selected = |world: &World| {
        let report = world.engine.report(world.now, ada.member).unwrap();
        report.publish.unwrap().remote.unwrap()
    };
    let (here, there) = (
        world.guests[ada.out].seen_at,
        SocketAddr::from(([203, 0, 113, 5], 4000)),
    );
    world.guests[ada.out].seen_at = there;
    world.run(10 * SECOND);
    assert_eq!(selected(&world), there);
    world.guests[ada.out].seen_at = here;
    world.run(10 * SECOND);
    assert_eq!(selected(&world), here);
    // Whatever comes the other way now does not move it: for a while it still does.
    let say_there = |world: &mut World, seconds: u32| {
        world.run(seconds * SECOND);
        let already = world.guests[ada.out].said.len();
        world.guests[ada.out].silent = true;
        world.run(Duration::from_millis(100));
        world.guests[ada.out].silent = false;
        let said = world.guests[ada.out].said[already].clone();
        assert!(world.receive(there, &said));
        selected(world)
    };
    assert_eq!(say_there(&mut world, 1), there);
    assert_eq!(say_there(&mut world, 31), here);
}

#[test]
fn packets_of_no_track_wake_nobody_again_and_again() {
    let mut world = World::new();
    let [ada] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.run(SECOND);
    world.engine.drop_producer(ada.member, camera);
    world.run(Duration::from_millis(200));
    world.guests[ada.out].feeds[0].muted = true;
    world.run(SECOND);
    let woken = world.run(10 * SECOND);
    assert!(woken < 100, "woken {woken} times in ten seconds");
}

#[test]
fn garbage_is_dropped_and_harms_nobody() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    let ways = [ada.out, ben.into].map(|guest| world.guests[guest].seen_at);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 0..1600);
    // First bytes that look like STUN, DTLS, RTP and RTCP are all among them. Alerts are not: who
    // is on the path can end a DTLS connection before it is up, and dimpl takes them as they come.
    let first = prop::option::of(prop::sample::select(vec![0, 1, 22, 23, 63, 128, 144, 200]));
    let second = prop::sample::select(vec![0, 1, 96, 111, 200, 201, 205, 206, 254]);
    let datagram = (first, second, bytes);
    let world = std::cell::RefCell::new(world);
    runner
        .run(&datagram, |(first, second, mut bytes)| {
            if let (Some(first), [one, two, ..]) = (first, &mut bytes[..]) {
                (*one, *two) = (first, second);
            }
            let mut world = world.borrow_mut();
            prop_assert!(!world.receive(client_address(77), &bytes));
            for way in ways {
                world.receive(way, &bytes);
            }
            Ok(())
        })
        .unwrap();
    let mut world = world.into_inner();
    world.run(3 * SECOND);
    assert_eq!(world.engine.connected_transports(), 4);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &mids[0]),
        90_000,
    );
    let now = world.now;
    world.engine.close(now, ada.member, false);
    world.engine.close(now, ben.member, false);
    assert_empty(&world.engine);
}
