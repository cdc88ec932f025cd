//! What fits on the path to a receiver.

use std::time::Duration;

use super::feed::{assert_plays, in_order};
use super::world::World;
use crate::Source;
use crate::client::RIDS;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_receiver_behind_a_narrow_path_gets_the_lowest_layer_until_it_is_wide_again() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    let other = world.consume(cy, &[(ada, camera)]).remove(0);
    world.run(10 * SECOND);
    let layer = |world: &World, person: super::world::Person, mid: &str| {
        let heard = in_order(&world.guests[person.into].client.heard, mid);
        heard.last().unwrap().0.feed % 10
    };
    assert_eq!(layer(&world, ben, &mid), 0);

    world.guests[ben.into].down.bps = Some(300_000);
    world.run(6 * SECOND);
    assert_eq!(layer(&world, ben, &mid), 2);
    assert_eq!(layer(&world, cy, &other), 0);
    // It stays so, and fits.
    let before = world.guests[ben.into].media_bytes;
    world.run(10 * SECOND);
    assert_eq!(layer(&world, ben, &mid), 2);
    let bps = (world.guests[ben.into].media_bytes - before) * 8 / 10;
    assert!(bps < 330_000, "{bps} bit/s");
    let report = world
        .engine
        .report(world.now, ben.member)
        .unwrap()
        .receive
        .unwrap();
    let thought = report.available_bps.unwrap();
    assert!((100_000..400_000).contains(&thought), "{thought}");

    world.guests[ben.into].down.bps = None;
    world.run(20 * SECOND);
    assert_eq!(layer(&world, ben, &mid), 0);
    let heard = in_order(&world.guests[cy.into].client.heard, &other);
    assert_plays(&heard, 90_000);
}

#[test]
fn a_path_of_a_megabit_is_found_to_bear_a_camera_and_is_not_flooded() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    world.guests[ben.into].down.bps = Some(1_500_000);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    world.run(15 * SECOND);
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    assert_eq!(heard.last().unwrap().0.feed % 10, 0);
    let before = world.guests[ben.into].media_bytes;
    world.run(10 * SECOND);
    let bps = (world.guests[ben.into].media_bytes - before) * 8 / 10;
    assert!((700_000..1_500_000).contains(&bps), "{bps} bit/s");
    let heard = in_order(&world.guests[ben.into].client.heard, &mid);
    assert_plays(&heard, 90_000);
}
