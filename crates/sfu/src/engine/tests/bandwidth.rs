//! What fits on the path to a receiver.

use std::time::Duration;

use parlor_protocol::ProducerId;

use super::feed::{assert_plays, in_order};
use super::world::{Person, World};
use crate::Source;
use crate::client::{Heard, RIDS};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_receiver_behind_a_narrow_path_gets_the_lowest_layer_until_it_is_wide_again() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let camera = world.publish(ada, Source::Camera, &RIDS);
    let mid = world.consume(ben, &[(ada, camera)]).remove(0);
    let other = world.consume(cy, &[(ada, camera)]).remove(0);
    world.run(10 * SECOND);
    let layer = |world: &World, person: Person, mid: &str| {
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

/// Six cameras and a microphone, of which nobody receives anything yet.
fn crowd(world: &mut World) -> (Person, Vec<(Person, ProducerId)>) {
    let [ada, ben] = world.people();
    let mut tracks = vec![(ada, world.publish(ada, Source::Microphone, &[]))];
    for _ in 0..6 {
        tracks.push((ada, world.publish(ada, Source::Camera, &RIDS)));
    }
    world.run(2 * SECOND);
    (ben, tracks)
}

#[test]
fn a_room_of_many_cameras_floods_a_narrow_path_for_a_moment_only() {
    let mut world = World::new();
    let (ben, tracks) = crowd(&mut world);
    world.guests[ben.into].down.bps = Some(300_000);
    let began = world.now;
    let mids = world.consume(ben, &tracks);
    let step = Duration::from_millis(50);
    // How long a packet waits in front of the path, at each step.
    let waits = (0..200).map(|_| {
        world.run(step);
        let idle = world.guests[ben.into].down.idle.unwrap_or(world.now);
        idle.saturating_duration_since(world.now)
    });
    let waits = waits.collect::<Vec<_>>();
    let long = waits.iter().rposition(|wait| *wait > step * 5).unwrap_or(0);
    assert!(step * u32::try_from(long).unwrap() < SECOND, "{waits:?}");
    let guest = &world.guests[ben.into];
    let heard = in_order(&guest.client.heard, &mids[0]);
    let late = |at: &Heard| at.at > began + 2 * SECOND;
    let spoken = heard.iter().filter(|(_, heard)| late(heard)).count();
    assert!(spoken > 390, "{spoken} of 400");
    let seen = guest.client.heard.iter().find(|heard| heard.mid != mids[0]);
    let first = seen.unwrap().at - began;
    assert!(first < Duration::from_millis(400), "{first:?}");
}

#[test]
fn on_a_good_line_everybody_is_seen_at_once_and_well_soon() {
    let mut world = World::new();
    let (ben, tracks) = crowd(&mut world);
    world.guests[ben.into].down.bps = Some(10_000_000);
    let began = world.now;
    let mids = world.consume(ben, &tracks);
    world.run(4 * SECOND);
    let client = &world.guests[ben.into].client;
    for mid in &mids[1..] {
        let heard = in_order(&client.heard, mid);
        let first = heard[0].1.at - began;
        assert!(first < Duration::from_millis(500), "{first:?}");
        let well = heard.iter().find(|(tag, _)| tag.feed % 10 == 0).unwrap();
        let well = well.1.at - began;
        assert!(well < 3 * SECOND, "{well:?}");
        assert_eq!(heard.last().unwrap().0.feed % 10, 0);
        assert_plays(&heard, 90_000);
    }
}
