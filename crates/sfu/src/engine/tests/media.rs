//! What is published arrives.

use std::time::Duration;

use super::check::assert_empty;
use super::feed::{assert_plays, in_order};
use super::world::{Link, World};
use crate::events::Listener;
use crate::{Direction, Event, Source};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn audio_and_video_arrive_whole_and_in_order() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    let camera = world.publish(ada, Source::Camera, &[]);
    world.run(SECOND);
    assert_eq!(world.engine.producers(), 2);
    let mids = world.consume(ben, &[(ada, microphone), (ada, camera)]);
    assert_eq!(world.engine.consumers(), 2);
    world.run(10 * SECOND);

    let heard = &world.guests[ben.into].client.heard;
    let (audio, video) = (in_order(heard, &mids[0]), in_order(heard, &mids[1]));
    assert_plays(&audio, 48_000);
    assert_plays(&video, 90_000);
    assert!((490..=510).contains(&audio.len()), "{}", audio.len());
    assert!((980..=1010).contains(&video.len()), "{}", video.len());
    // None of them waited, and none overtook.
    for list in [&audio, &video] {
        assert!(list.windows(2).all(|pair| pair[0].1.at <= pair[1].1.at));
    }
    assert!(audio.iter().all(|(_, heard)| heard.level == Some(-30)));
    assert_ne!(audio[0].1.ssrc, video[0].1.ssrc);
    let told = world.guests[ben.into].client.told;
    assert!(told.sender_reports >= 10, "{told:?}");
    let told = world.guests[ada.out].client.told;
    assert_eq!(told.nacks, 0);
    assert!(
        told.receiver_reports >= 9 && told.feedbacks >= 50,
        "{told:?}"
    );
    // Nobody is sent what is not for them.
    assert_eq!(world.guests[ada.into].media, 0);
    assert_eq!(world.refused, 0);
    let report = world
        .engine
        .report(world.now, ben.member)
        .unwrap()
        .receive
        .unwrap();
    assert_eq!(report.tracks.len(), 2);
    let trip = report.round_trip_ms.unwrap();
    assert!((15.0..40.0).contains(&trip), "{trip}");
}

#[test]
fn a_key_frame_is_asked_for_when_somebody_begins_to_receive() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.run(3 * SECOND);
    assert_eq!(world.guests[ada.out].client.told.plis, 0);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(Duration::from_millis(200));
    assert_eq!(world.guests[ada.out].client.told.plis, 1);
    let heard = &world.guests[ben.into].client.heard;
    assert_plays(&in_order(heard, &mids[0]), 90_000);

    world.consume(cy, &[(ada, camera)]);
    world.run(Duration::from_millis(200));
    // Not at once again, but soon.
    world.run(SECOND);
    assert_eq!(world.guests[ada.out].client.told.plis, 2);
    world.run(10 * SECOND);
    assert_eq!(world.guests[ada.out].client.told.plis, 2);
}

#[test]
fn who_cannot_decode_gets_a_key_frame() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(3 * SECOND);
    let before = world.guests[ada.out].client.told.plis;
    let client = &mut world.guests[ben.into].client;
    let ssrc = client.heard[0].ssrc;
    client.heard.clear();
    client.ask_keyframe(ssrc);
    world.run(SECOND);
    assert_eq!(world.guests[ada.out].client.told.plis, before + 1);
    let came = in_order(&world.guests[ben.into].client.heard, &mids[0]);
    assert!(came.iter().any(|(tag, _)| tag.key));
}

#[test]
fn nothing_flows_before_the_client_has_agreed() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let tracks = [
        world.publish(ada, Source::Microphone, &[]),
        world.publish(ada, Source::Camera, &[]),
    ];
    let wanted = tracks.map(|track| (ada, track));
    let consumed = world.ask(ben, &wanted);
    world.run(3 * SECOND);
    assert_eq!(world.guests[ben.into].media, 0);
    assert_eq!(world.guests[ada.out].client.told.plis, 0);
    world.answer(ben, &consumed.offer.unwrap());
    world.run(SECOND);
    assert!(world.guests[ben.into].media > 100);
}

#[test]
fn several_receive_one_and_one_receives_several() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let cameras = [ada, ben, cy].map(|person| (person, world.publish(person, Source::Camera, &[])));
    let mut lines = Vec::new();
    for person in [ada, ben, cy] {
        let others = cameras
            .iter()
            .filter(|(who, _)| who.member != person.member);
        let others = others.copied().collect::<Vec<_>>();
        lines.push((person, world.consume(person, &others)));
    }
    world.run(5 * SECOND);
    for (person, mids) in lines {
        let heard = &world.guests[person.into].client.heard;
        let mut from = Vec::new();
        for mid in mids {
            let packets = in_order(heard, &mid);
            assert_plays(&packets, 90_000);
            assert!(packets.len() > 400, "{}", packets.len());
            from.push(packets[0].0.feed);
        }
        assert_eq!(from.len(), 2);
        assert_ne!(from[0], from[1]);
    }
}

#[test]
fn who_was_asked_for_what_is_not_there_gets_the_rest() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    let gone = super::world::producer(99);
    let consumed = world.ask(ben, &[(ada, gone), (ada, microphone), (ben, microphone)]);
    assert_eq!(consumed.mids.len(), 3);
    assert!(consumed.mids[0].is_none() && consumed.mids[2].is_none());
    world.answer(ben, &consumed.offer.unwrap());
    world.run(SECOND);
    assert!(world.guests[ben.into].media > 40);
    let nothing = world.ask(ben, &[(ada, gone)]);
    assert_eq!((nothing.mids, nothing.offer), (vec![None], None));
}

#[test]
fn a_paused_track_is_not_sent_and_goes_on_where_it_was() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let tracks = [
        world.publish(ada, Source::Microphone, &[]),
        world.publish(ada, Source::Camera, &[]),
    ];
    let mids = world.consume(ben, &tracks.map(|track| (ada, track)));
    world.run(2 * SECOND);
    for track in tracks {
        // Whose it is not cannot do it.
        world.engine.pause(world.now, ben.member, track, true);
        world.engine.pause(world.now, ada.member, track, true);
    }
    world.check();
    let before = world.guests[ben.into].media;
    assert!(before > 100);
    world.run(3 * SECOND);
    assert_eq!(world.guests[ben.into].media, before);
    for track in tracks {
        world.engine.pause(world.now, ada.member, track, false);
    }
    world.run(2 * SECOND);
    let heard = &world.guests[ben.into].client.heard;
    let (audio, video) = (in_order(heard, &mids[0]), in_order(heard, &mids[1]));
    assert_plays(&audio, 48_000);
    assert_plays(&video, 90_000);
    assert!((190..=210).contains(&audio.len()), "{}", audio.len());
    assert!((380..=410).contains(&video.len()), "{}", video.len());
}

#[test]
fn a_track_that_begins_paused_is_sent_once_it_is_not() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.engine.pause(world.now, ada.member, camera, true);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(2 * SECOND);
    assert_eq!(world.guests[ben.into].media, 0);
    assert_eq!(world.guests[ada.out].client.told.plis, 0);
    world.engine.pause(world.now, ada.member, camera, false);
    world.run(SECOND);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &mids[0]),
        90_000,
    );
}

#[test]
fn a_track_that_ends_frees_the_lines_of_those_who_received_it() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let mut most = 0;
    for round in 0..12 {
        let camera = world.publish(ada, Source::Camera, &[]);
        let mids = world.consume(ben, &[(ada, camera)]);
        world.run(Duration::from_millis(500));
        let heard = &mut world.guests[ben.into].client.heard;
        assert_plays(&in_order(heard, &mids[0]), 90_000);
        heard.clear();

        world.engine.drop_producer(ben.member, camera);
        assert_eq!(world.engine.producers(), 1, "dropped by a stranger");
        world.engine.drop_producer(ada.member, camera);
        assert_eq!((world.engine.producers(), world.engine.consumers()), (0, 0));
        let mid = world.guests[ada.out].feeds.pop().unwrap().mid;
        let client = &mut world.guests[ada.out].client;
        let offer = super::world::read(&client.offer_silence(&mid));
        let answer = world.engine.reoffer(ada.member, &offer).unwrap();
        world.guests[ada.out].client.accept(&answer);
        let before = world.guests[ben.into].media;

        // Every other time the client closes the line itself.
        if round % 2 == 0 {
            close_lines(&mut world, ben, &mids);
        }
        world.run(Duration::from_millis(500));
        assert_eq!(world.guests[ben.into].media, before);
        let consumed = world.ask(ben, &[]);
        assert_eq!(consumed.offer, None);
        let microphone = world.publish(ada, Source::Microphone, &[]);
        let consumed = world.ask(ben, &[(ada, microphone)]);
        let offer = consumed.offer.unwrap();
        world.answer(ben, &offer);
        most = most.max(offer.matches("\nm=").count());
        world.engine.drop_producer(ada.member, microphone);
        world.guests[ada.out].feeds.pop();
    }
    assert!(most <= 6, "{most} lines");
}

/// The client closes what it receives on these lines.
fn close_lines(world: &mut World, person: super::world::Person, mids: &[String]) {
    let guest = &mut world.guests[person.into];
    let offer = super::world::read(&guest.client.offer_to_close(mids));
    let transport = guest.transport.clone();
    let answer = world
        .engine
        .close_consumers(person.member, &transport, mids, &offer);
    world.guests[person.into].client.accept(&answer.unwrap());
    world.check();
}

#[test]
fn who_closes_a_line_is_sent_nothing_on_it_and_everything_on_the_others() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    let camera = world.publish(ada, Source::Camera, &[]);
    let mids = world.consume(ben, &[(ada, microphone), (ada, camera)]);
    world.run(SECOND);
    close_lines(&mut world, ben, &mids[1..]);
    assert_eq!(world.engine.consumers(), 1);
    world.run(Duration::from_millis(100));
    world.guests[ben.into].client.heard.clear();
    world.run(2 * SECOND);
    let heard = &world.guests[ben.into].client.heard;
    assert!(heard.iter().all(|heard| heard.mid == mids[0]));
    assert_plays(&in_order(heard, &mids[0]), 48_000);
    // And again, in the place that is free.
    let again = world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    let heard = &world.guests[ben.into].client.heard;
    assert_plays(&in_order(heard, &again[0]), 90_000);
    assert_plays(&in_order(heard, &mids[0]), 48_000);
}

#[test]
fn who_may_not_receive_it_any_more_is_sent_nothing_from_that_moment_on() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    let camera = world.publish(ada, Source::Camera, &[]);
    for person in [ben, cy] {
        world.consume(person, &[(ada, microphone), (ada, camera)]);
    }
    world.run(SECOND);
    world.engine.revoke(ben.member, &[microphone, camera]);
    assert_eq!(world.engine.consumers(), 2);
    let (before, other) = (world.guests[ben.into].media, world.guests[cy.into].media);
    world.run(2 * SECOND);
    assert_eq!(world.guests[ben.into].media, before);
    assert!(world.guests[cy.into].media > other + 250);
    // The client finds out with its next offer.
    let again = world.consume(ben, &[(ada, microphone)]);
    world.run(SECOND);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &again[0]),
        48_000,
    );
}

#[test]
fn a_new_transport_to_publish_on_ends_the_tracks_of_the_older_one() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    let mut ada = ada;
    world.guests[ada.out].feeds.clear();
    ada.out = world.join(ada.member, Direction::Publish);
    assert_eq!((world.engine.producers(), world.engine.consumers()), (0, 0));
    world.run(3 * SECOND);
    let camera = world.publish(ada, Source::Camera, &[]);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &mids[0]),
        90_000,
    );
}

#[test]
fn a_new_transport_to_receive_on_ends_what_went_to_the_older_one() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let camera = world.publish(ada, Source::Camera, &[]);
    world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    let mut ben = ben;
    ben.into = world.join(ben.member, Direction::Receive);
    assert_eq!((world.engine.producers(), world.engine.consumers()), (1, 0));
    world.run(3 * SECOND);
    let mids = world.consume(ben, &[(ada, camera)]);
    world.run(SECOND);
    assert_plays(
        &in_order(&world.guests[ben.into].client.heard, &mids[0]),
        90_000,
    );
}

#[test]
fn when_everybody_has_left_nothing_is_left() {
    let mut world = World::new();
    let [ada, ben, cy] = world.people();
    let microphone = world.publish(ada, Source::Microphone, &[]);
    let camera = world.publish(ada, Source::Camera, &["f", "h", "q"]);
    let screen = world.publish(ben, Source::Screen, &[]);
    let all = [(ada, microphone), (ada, camera), (ben, screen)];
    world.consume(cy, &all);
    world.consume(ben, &all[..2]);
    world.consume(ada, &all[2..]);
    world.run(2 * SECOND);
    let now = world.now;
    world.engine.close(now, ada.member, false);
    world.check();
    assert_eq!((world.engine.producers(), world.engine.consumers()), (1, 1));
    world.run(SECOND);
    let now = world.now;
    world.engine.close(now, cy.member, false);
    world.engine.close(now, ben.member, false);
    assert_empty(&world.engine);
}

#[test]
fn who_speaks_is_told_to_those_who_listen() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let (listener, mut events) = Listener::new();
    world.engine.listen(ada.member.meeting, listener);
    for (person, level) in [(ada, -25), (ben, -100)] {
        world.publish(person, Source::Microphone, &[]);
        world.guests[person.out].feeds[0].level = level;
    }
    world.run(5 * SECOND);
    let first = vec![ada.member.peer];
    assert_eq!(events.try_recv(), Some(Event::Speaking(first)));
    world.guests[ada.out].feeds[0].level = -100;
    world.guests[ben.out].feeds[0].level = -25;
    world.run(5 * SECOND);
    let then = vec![ben.member.peer, ada.member.peer];
    assert_eq!(events.try_recv(), Some(Event::Speaking(then)));
    assert_eq!(events.try_recv(), None);
    // Nobody is told what nobody asks for any more.
    drop(events);
    for person in [ada, ben] {
        let now = world.now;
        world.engine.close(now, person.member, false);
    }
    assert_empty(&world.engine);
}

#[test]
fn a_screen_has_a_stream_of_its_own_and_goes_with_its_sound() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let sources = [
        Source::Microphone,
        Source::Camera,
        Source::Screen,
        Source::ScreenAudio,
    ];
    let tracks = sources.map(|source| (ada, world.publish(ada, source, &[])));
    let consumed = world.ask(ben, &tracks);
    let offer = consumed.offer.unwrap();
    let streams = offer
        .lines()
        .filter_map(|line| line.strip_prefix("a=msid:"));
    let streams = streams.filter_map(|line| line.split(' ').next());
    let streams = streams.filter(|stream| *stream != "-").collect::<Vec<_>>();
    assert_eq!(streams.len(), 4, "{offer}");
    assert_eq!(streams[0], streams[1]);
    assert_eq!(streams[2], streams[3]);
    assert_ne!(streams[0], streams[2]);
    world.answer(ben, &offer);
    world.run(SECOND);
    let heard = &world.guests[ben.into].client.heard;
    for (mid, clock_rate) in consumed.mids.iter().zip([48_000, 90_000, 90_000, 48_000]) {
        assert_plays(&in_order(heard, mid.as_ref().unwrap()), clock_rate);
    }
}

#[test]
fn packets_that_overtake_one_another_are_put_in_order() {
    for seed in 0..4 {
        let mut world = World::seeded(seed);
        let [ada, ben] = world.people();
        let microphone = world.publish(ada, Source::Microphone, &[]);
        let camera = world.publish(ada, Source::Camera, &[]);
        let mids = world.consume(ben, &[(ada, microphone), (ada, camera)]);
        world.run(SECOND);
        let slow = Link {
            jitter: Duration::from_millis(60),
            ..Link::default()
        };
        world.guests[ada.out].up = slow.clone();
        world.guests[ben.into].down = slow;
        world.run(5 * SECOND);
        world.guests[ada.out].up = Link::default();
        world.guests[ben.into].down = Link::default();
        world.run(SECOND);
        let heard = &world.guests[ben.into].client.heard;
        assert!(heard.windows(2).any(|pair| pair[0].index > pair[1].index));
        assert_plays(&in_order(heard, &mids[0]), 48_000);
        assert_plays(&in_order(heard, &mids[1]), 90_000);
    }
}

#[test]
fn the_same_chances_make_the_same_run() {
    let run = |seed: u64| {
        let mut world = World::seeded(seed);
        let [ada, ben] = world.people();
        let camera = world.publish(ada, Source::Camera, &["f", "h", "q"]);
        let mids = world.consume(ben, &[(ada, camera)]);
        world.guests[ada.out].up.loss = 30;
        world.guests[ben.into].down.loss = 30;
        world.run(5 * SECOND);
        let guest = &world.guests[ben.into];
        let heard = in_order(&guest.client.heard, &mids[0]);
        let heard = heard
            .into_iter()
            .map(|(tag, heard)| (tag, heard.index, heard.payload.len()));
        (guest.media, guest.media_bytes, heard.collect::<Vec<_>>())
    };
    let first = run(7);
    assert!(first.0 > 300);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}
