//! Cameras that send several layers, of which each receiver gets one.

use std::time::Duration;

use super::feed::{Tag, assert_plays, in_order};
use super::world::{Person, World};
use crate::client::RIDS;
use crate::engine::transport::middle;
use crate::wire::rtcp::ReportBlock;
use crate::{Source, Want};

const SECOND: Duration = Duration::from_secs(1);

/// The layer of the last packet that came on a line: 0 is the best.
fn layer_now(world: &World, person: Person, mid: &str) -> u8 {
    let heard = in_order(&world.guests[person.into].client.heard, mid);
    heard.last().unwrap().0.feed % 10
}

fn prefer(world: &mut World, person: Person, mid: &str, rid: &str) {
    let wish = (mid.to_owned(), rid.to_owned());
    world.engine.prefer(world.now, person.member, &[wish]);
    world.check();
}

#[test]
fn everybody_gets_the_layer_that_they_prefer() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let line = |world: &mut World, person| world.consume(person, &[(ada, camera)]).remove(0);
    let (first, second) = (line(&mut world, ben), line(&mut world, cy));
    world.run(8 * SECOND);
    assert_eq!(layer_now(&world, ben, &first), 0);
    assert_eq!(layer_now(&world, cy, &second), 0);
    for (rid, layer) in [("q", 2), ("h", 1), ("f", 0), ("q", 2)] {
        prefer(&mut world, cy, &second, rid);
        world.run(6 * SECOND);
        assert_eq!(layer_now(&world, cy, &second), layer, "{rid}");
        assert_eq!(layer_now(&world, ben, &first), 0);
        let report = world
            .engine
            .report(world.now, cy.member)
            .unwrap()
            .receive
            .unwrap();
        assert_eq!(report.tracks[0].layer.as_deref(), Some(rid));
    }
    for (person, mid) in [(ben, first), (cy, second)] {
        let heard = in_order(&world.guests[person.into].client.heard, &mid);
        assert_plays(&heard, 90_000);
    }
}

#[test]
fn a_layer_begins_with_a_key_frame_and_the_older_one_goes_on_until_then() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    world.run(8 * SECOND);
    // The publisher does not hear that a key frame is wanted.
    world.guests[ada.out].deaf = true;
    prefer(&mut world, ben, &mid, "q");
    world.run(2 * SECOND);
    assert_eq!(layer_now(&world, ben, &mid), 0);
    world.guests[ada.out].deaf = false;
    world.run(SECOND);
    assert_eq!(layer_now(&world, ben, &mid), 2);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &mid),
        90_000,
    );
}

#[test]
fn changes_of_layers_are_whole_on_paths_that_lose_packets() {
    for seed in 0..4 {
        let mut world = World::seeded(seed);
        let [ada, ben] = world.people();
        let camera = world.publish(ada, Source::Camera, &RIDS);
        let mid = world.consume(ben, &[(ada, camera)]).remove(0);
        world.run(6 * SECOND);
        world.guests[ada.out].up.loss = 30;
        world.guests[ben.into].down.loss = 30;
        for rid in ["q", "f", "h", "q", "h", "f", "q"] {
            prefer(&mut world, ben, &mid, rid);
            world.run(2 * SECOND);
        }
        world.guests[ada.out].up.loss = 0;
        world.guests[ben.into].down.loss = 0;
        world.run(3 * SECOND);
        let heard = in_order(&world.guests[ben.into].client.heard, &mid);
        let feeds = heard.iter().map(|(tag, _)| tag.feed).collect::<Vec<_>>();
        let changes = feeds.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes >= 4, "seed {seed}: {changes}");
        assert_plays(&heard, 90_000);
    }
}

#[test]
fn a_layer_that_is_not_sent_any_more_gives_way_to_another() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    world.run(8 * SECOND);
    assert_eq!(layer_now(&world, ben, &mid), 0);
    // As a browser does whose own path is narrow.
    world.guests[ada.out].feeds[0].muted = true;
    world.run(4 * SECOND);
    assert_eq!(layer_now(&world, ben, &mid), 1);
    world.guests[ada.out].feeds[0].muted = false;
    world.run(5 * SECOND);
    assert_eq!(layer_now(&world, ben, &mid), 0);
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    assert_plays(&heard, 90_000);
}

#[test]
fn the_layer_that_is_asked_for_at_first_is_the_first() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    world.run(2 * SECOND);
    let want = Want {
        producer: camera,
        publisher: ada.member.peer,
        preferred_rid: Some("q".to_owned()),
    };
    let transport = world.guests[ben.into].transport.clone();
    let consumed = world
        .engine
        .consume(ben.member, &transport, &[want])
        .unwrap();
    world.answer(ben, &consumed.offer.unwrap());
    let mid = consumed.mids[0].clone().unwrap();
    world.run(5 * SECOND);
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    assert!(heard.iter().all(|(tag, _)| tag.feed % 10 == 2));
    assert_plays(&heard, 90_000);
}

#[test]
fn only_the_layers_that_somebody_waits_for_are_asked_for_key_frames() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    world.run(8 * SECOND);
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    let plis = world.guests[ada.out].client.told.plis;
    prefer(&mut world, ben, &mid, "q");
    world.run(5 * SECOND);
    assert_eq!(world.guests[ada.out].client.told.plis, plis + 1);
    let now = in_order(&world.guests[ben.into].client.heard, &mid);
    let keys = now[heard.len()..].iter().filter(|(tag, _)| tag.key);
    let keys = keys
        .map(|(Tag { feed, .. }, _)| *feed % 10)
        .collect::<Vec<_>>();
    assert_eq!(keys, [2]);
}

#[test]
fn a_layer_that_comes_or_goes_is_noticed_at_once() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    world.run(8 * SECOND);
    for round in 0..5 {
        // At any time between two looks.
        world.run(Duration::from_millis(130));
        for (muted, layer, most) in [(true, 1, 700), (false, 0, 200)] {
            let before = layer_now(&world, ben, &mid);
            assert_ne!(before, layer, "round {round}");
            world.guests[ada.out].feeds[0].muted = muted;
            world.run(Duration::from_millis(most));
            assert_eq!(layer_now(&world, ben, &mid), layer, "round {round}");
            world.run(Duration::from_millis(1070));
        }
    }
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    assert_plays(&heard, 90_000);
}

#[test]
fn a_key_frame_whose_first_packet_is_late_is_sent_whole() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.run(SECOND);
    world.guests[ada.out].silent = true;
    world.guests[ada.out].deaf = true;
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    let already = world.guests[ada.out].said.len();
    world.guests[ada.out].feeds[0].key = true;
    world.run(Duration::from_millis(100));
    let said = world.guests[ada.out].said[already..].to_vec();
    assert!(said.len() >= 8);
    let seen_at = world.guests[ada.out].seen_at;
    for datagram in said[1..].iter().chain(&said[..1]) {
        assert!(world.receive(seen_at, datagram));
    }
    // Sooner than anybody could ask for it again.
    world.run(Duration::from_millis(15));
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    assert_eq!(heard.len(), said.len());
    assert_plays(&heard, 90_000);
}

#[test]
fn a_report_that_is_repeated_does_not_tell_the_round_trip() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    world.run(8 * SECOND);
    let ssrc = in_order(&world.guests[ben.into].client.heard, &mid)[0]
        .1
        .ssrc;
    // What a client says that repeats the last report at once.
    let round_trip = |world: &mut World| {
        let (_, track) = world.engine.tracks.iter().next().unwrap();
        let (report, _) = track.layers[0].report.unwrap();
        let block = ReportBlock {
            ssrc,
            fraction_lost: 0,
            lost: 0,
            highest: 0,
            jitter: 0,
            lsr: middle(report.ntp),
            dlsr: 0,
        };
        let now = world.now;
        world.engine.subscriber_of(ben.member).block(now, &block)
    };
    assert!(round_trip(&mut world).is_some());
    for paused in [true, false] {
        world.engine.pause(world.now, ada.member, camera, paused);
    }
    let before = world.guests[ben.into].client.told.sender_reports;
    world.run(Duration::from_millis(150));
    let after = world.guests[ben.into].client.told.sender_reports;
    assert_eq!(after, before + 1);
    assert_eq!(round_trip(&mut world), None);
    world.run(6 * SECOND);
    assert!(round_trip(&mut world).is_some());
}
