//! Media from publisher to subscriber.

use std::time::Duration;

use super::feed::{assert_plays, in_order};
use super::invariants::assert_empty;
use super::simulation::{Link, Simulation};
use crate::events::Listener;
use crate::{Direction, Event, Source};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn audio_and_video_arrive_completely_and_in_order() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.run(SECOND);
    assert_eq!(sim.engine.producers(), 2);
    let mids = sim.consume(ben, &[(ada, microphone), (ada, camera)]);
    assert_eq!(sim.engine.consumers(), 2);
    sim.run(10 * SECOND);

    let received = &sim.endpoints[ben.receive].client.received;
    let (audio, video) = (in_order(received, &mids[0]), in_order(received, &mids[1]));
    assert_plays(&audio, 48_000);
    assert_plays(&video, 90_000);
    assert!((490..=510).contains(&audio.len()), "{}", audio.len());
    assert!((980..=1010).contains(&video.len()), "{}", video.len());
    // No packet was held back, and none was reordered.
    for list in [&audio, &video] {
        assert!(list.windows(2).all(|pair| pair[0].1.at <= pair[1].1.at));
    }
    assert!(
        audio
            .iter()
            .all(|(_, received)| received.level == Some(-30))
    );
    assert_ne!(audio[0].1.ssrc, video[0].1.ssrc);
    let rtcp = sim.endpoints[ben.receive].client.rtcp;
    assert!(rtcp.sender_reports >= 10, "{rtcp:?}");
    let rtcp = sim.endpoints[ada.publish].client.rtcp;
    assert_eq!(rtcp.nacks, 0);
    assert!(
        rtcp.receiver_reports >= 9 && rtcp.feedbacks >= 50,
        "{rtcp:?}"
    );
    // A peer receives only what it has subscribed to.
    assert_eq!(sim.endpoints[ada.receive].media, 0);
    assert_eq!(sim.dropped, 0);
    let report = sim
        .engine
        .report(sim.now, ben.member)
        .unwrap()
        .receive
        .unwrap();
    assert_eq!(report.tracks.len(), 2);
    let trip = report.round_trip_ms.unwrap();
    assert!((15.0..40.0).contains(&trip), "{trip}");
}

#[test]
fn a_key_frame_is_requested_for_a_new_subscriber() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.run(3 * SECOND);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, 0);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(Duration::from_millis(200));
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, 1);
    let received = &sim.endpoints[ben.receive].client.received;
    assert_plays(&in_order(received, &mids[0]), 90_000);

    sim.consume(cy, &[(ada, camera)]);
    sim.run(Duration::from_millis(200));
    // The next request waits for the minimum interval.
    sim.run(SECOND);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, 2);
    sim.run(10 * SECOND);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, 2);
}

#[test]
fn a_subscriber_that_cannot_decode_gets_a_key_frame() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(3 * SECOND);
    let before = sim.endpoints[ada.publish].client.rtcp.plis;
    let client = &mut sim.endpoints[ben.receive].client;
    let ssrc = client.received[0].ssrc;
    client.received.clear();
    client.request_key_frame(ssrc);
    sim.run(SECOND);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, before + 1);
    let packet = in_order(&sim.endpoints[ben.receive].client.received, &mids[0]);
    assert!(packet.iter().any(|(tag, _)| tag.key));
}

#[test]
fn nothing_is_forwarded_before_the_client_answers() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let tracks = [
        sim.publish(ada, Source::Microphone, &[]),
        sim.publish(ada, Source::Camera, &[]),
    ];
    let wanted = tracks.map(|track| (ada, track));
    let consumed = sim.request_tracks(ben, &wanted);
    sim.run(3 * SECOND);
    assert_eq!(sim.endpoints[ben.receive].media, 0);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, 0);
    sim.answer(ben, &consumed.offer.unwrap());
    sim.run(SECOND);
    assert!(sim.endpoints[ben.receive].media > 100);
}

#[test]
fn peers_receive_each_others_cameras() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let cameras = [ada, ben, cy].map(|peer| (peer, sim.publish(peer, Source::Camera, &[])));
    let mut lines = Vec::new();
    for peer in [ada, ben, cy] {
        let others = cameras.iter().filter(|(who, _)| who.member != peer.member);
        let others = others.copied().collect::<Vec<_>>();
        lines.push((peer, sim.consume(peer, &others)));
    }
    sim.run(5 * SECOND);
    for (peer, mids) in lines {
        let received = &sim.endpoints[peer.receive].client.received;
        let mut from = Vec::new();
        for mid in mids {
            let packets = in_order(received, &mid);
            assert_plays(&packets, 90_000);
            assert!(packets.len() > 400, "{}", packets.len());
            from.push(packets[0].0.feed);
        }
        assert_eq!(from.len(), 2);
        assert_ne!(from[0], from[1]);
    }
}

#[test]
fn a_request_with_unknown_tracks_yields_the_others() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let unknown = super::simulation::producer(99);
    let consumed = sim.request_tracks(ben, &[(ada, unknown), (ada, microphone), (ben, microphone)]);
    assert_eq!(consumed.mids.len(), 3);
    assert!(consumed.mids[0].is_none() && consumed.mids[2].is_none());
    sim.answer(ben, &consumed.offer.unwrap());
    sim.run(SECOND);
    assert!(sim.endpoints[ben.receive].media > 40);
    let nothing = sim.request_tracks(ben, &[(ada, unknown)]);
    assert_eq!((nothing.mids, nothing.offer), (vec![None], None));
}

#[test]
fn a_paused_track_is_not_forwarded_and_resumes_without_a_gap() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let tracks = [
        sim.publish(ada, Source::Microphone, &[]),
        sim.publish(ada, Source::Camera, &[]),
    ];
    let mids = sim.consume(ben, &tracks.map(|track| (ada, track)));
    sim.run(2 * SECOND);
    for track in tracks {
        // Only the publisher can pause a track.
        sim.engine.pause(sim.now, ben.member, track, true);
        sim.engine.pause(sim.now, ada.member, track, true);
    }
    sim.check_invariants();
    let before = sim.endpoints[ben.receive].media;
    assert!(before > 100);
    sim.run(3 * SECOND);
    assert_eq!(sim.endpoints[ben.receive].media, before);
    for track in tracks {
        sim.engine.pause(sim.now, ada.member, track, false);
    }
    sim.run(2 * SECOND);
    let received = &sim.endpoints[ben.receive].client.received;
    let (audio, video) = (in_order(received, &mids[0]), in_order(received, &mids[1]));
    assert_plays(&audio, 48_000);
    assert_plays(&video, 90_000);
    assert!((190..=210).contains(&audio.len()), "{}", audio.len());
    assert!((380..=410).contains(&video.len()), "{}", video.len());
}

#[test]
fn a_track_that_starts_paused_is_forwarded_after_resuming() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.engine.pause(sim.now, ada.member, camera, true);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(2 * SECOND);
    assert_eq!(sim.endpoints[ben.receive].media, 0);
    assert_eq!(sim.endpoints[ada.publish].client.rtcp.plis, 0);
    sim.engine.pause(sim.now, ada.member, camera, false);
    sim.run(SECOND);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &mids[0]),
        90_000,
    );
}

#[test]
fn closing_a_track_frees_the_media_sections_of_its_subscribers() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let mut most = 0;
    for round in 0..12 {
        let camera = sim.publish(ada, Source::Camera, &[]);
        let mids = sim.consume(ben, &[(ada, camera)]);
        sim.run(Duration::from_millis(500));
        let received = &mut sim.endpoints[ben.receive].client.received;
        assert_plays(&in_order(received, &mids[0]), 90_000);
        received.clear();

        sim.engine.drop_producer(ben.member, camera);
        assert_eq!(sim.engine.producers(), 1, "another peer closed the track");
        sim.engine.drop_producer(ada.member, camera);
        assert_eq!((sim.engine.producers(), sim.engine.consumers()), (0, 0));
        let mid = sim.endpoints[ada.publish].feeds.pop().unwrap().mid;
        let client = &mut sim.endpoints[ada.publish].client;
        let offer = super::simulation::read(&client.offer_silence(&mid));
        let answer = sim.engine.reoffer(ada.member, &offer).unwrap();
        sim.endpoints[ada.publish].client.accept(&answer);
        let before = sim.endpoints[ben.receive].media;

        // Every other time, the client closes the media section itself.
        if round % 2 == 0 {
            close_media_sections(&mut sim, ben, &mids);
        }
        sim.run(Duration::from_millis(500));
        assert_eq!(sim.endpoints[ben.receive].media, before);
        let consumed = sim.request_tracks(ben, &[]);
        assert_eq!(consumed.offer, None);
        let microphone = sim.publish(ada, Source::Microphone, &[]);
        let consumed = sim.request_tracks(ben, &[(ada, microphone)]);
        let offer = consumed.offer.unwrap();
        sim.answer(ben, &offer);
        most = most.max(offer.matches("\nm=").count());
        sim.engine.drop_producer(ada.member, microphone);
        sim.endpoints[ada.publish].feeds.pop();
    }
    assert!(most <= 6, "{most} lines");
}

/// Closes media sections from the client's side.
fn close_media_sections(sim: &mut Simulation, peer: super::simulation::Peer, mids: &[String]) {
    let endpoint = &mut sim.endpoints[peer.receive];
    let offer = super::simulation::read(&endpoint.client.offer_to_close(mids));
    let transport = endpoint.transport.clone();
    let answer = sim
        .engine
        .close_consumers(peer.member, &transport, mids, &offer);
    sim.endpoints[peer.receive].client.accept(&answer.unwrap());
    sim.check_invariants();
}

#[test]
fn closing_one_media_section_does_not_affect_the_others() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mids = sim.consume(ben, &[(ada, microphone), (ada, camera)]);
    sim.run(SECOND);
    close_media_sections(&mut sim, ben, &mids[1..]);
    assert_eq!(sim.engine.consumers(), 1);
    sim.run(Duration::from_millis(100));
    sim.endpoints[ben.receive].client.received.clear();
    sim.run(2 * SECOND);
    let received = &sim.endpoints[ben.receive].client.received;
    assert!(received.iter().all(|received| received.mid == mids[0]));
    assert_plays(&in_order(received, &mids[0]), 48_000);
    // Subscribing again reuses the free media section.
    let again = sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    let received = &sim.endpoints[ben.receive].client.received;
    assert_plays(&in_order(received, &again[0]), 90_000);
    assert_plays(&in_order(received, &mids[0]), 48_000);
}

#[test]
fn a_revoked_subscriber_is_sent_nothing_more() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let camera = sim.publish(ada, Source::Camera, &[]);
    for peer in [ben, cy] {
        sim.consume(peer, &[(ada, microphone), (ada, camera)]);
    }
    sim.run(SECOND);
    sim.engine.revoke(ben.member, &[microphone, camera]);
    assert_eq!(sim.engine.consumers(), 2);
    let (before, other) = (
        sim.endpoints[ben.receive].media,
        sim.endpoints[cy.receive].media,
    );
    sim.run(2 * SECOND);
    assert_eq!(sim.endpoints[ben.receive].media, before);
    assert!(sim.endpoints[cy.receive].media > other + 250);
    // The client learns of it with the next offer.
    let again = sim.consume(ben, &[(ada, microphone)]);
    sim.run(SECOND);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &again[0]),
        48_000,
    );
}

#[test]
fn a_new_publish_transport_closes_the_tracks_of_the_older_one() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    let mut ada = ada;
    sim.endpoints[ada.publish].feeds.clear();
    ada.publish = sim.join(ada.member, Direction::Publish);
    assert_eq!((sim.engine.producers(), sim.engine.consumers()), (0, 0));
    sim.run(3 * SECOND);
    let camera = sim.publish(ada, Source::Camera, &[]);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &mids[0]),
        90_000,
    );
}

#[test]
fn a_new_receive_transport_closes_the_consumers_of_the_older_one() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let camera = sim.publish(ada, Source::Camera, &[]);
    sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    let mut ben = ben;
    ben.receive = sim.join(ben.member, Direction::Receive);
    assert_eq!((sim.engine.producers(), sim.engine.consumers()), (1, 0));
    sim.run(3 * SECOND);
    let mids = sim.consume(ben, &[(ada, camera)]);
    sim.run(SECOND);
    assert_plays(
        &in_order(&sim.endpoints[ben.receive].client.received, &mids[0]),
        90_000,
    );
}

#[test]
fn nothing_is_left_after_all_peers_have_left() {
    let mut sim = Simulation::new();
    let [ada, ben, cy] = sim.peers();
    let microphone = sim.publish(ada, Source::Microphone, &[]);
    let camera = sim.publish(ada, Source::Camera, &["f", "h", "q"]);
    let screen = sim.publish(ben, Source::Screen, &[]);
    let all = [(ada, microphone), (ada, camera), (ben, screen)];
    sim.consume(cy, &all);
    sim.consume(ben, &all[..2]);
    sim.consume(ada, &all[2..]);
    sim.run(2 * SECOND);
    let now = sim.now;
    sim.engine.close(now, ada.member, false);
    sim.check_invariants();
    assert_eq!((sim.engine.producers(), sim.engine.consumers()), (1, 1));
    sim.run(SECOND);
    let now = sim.now;
    sim.engine.close(now, cy.member, false);
    sim.engine.close(now, ben.member, false);
    assert_empty(&sim.engine);
}

#[test]
fn active_speakers_are_reported_to_listeners() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let (listener, mut events) = Listener::new();
    sim.engine.listen(ada.member.meeting, listener);
    for (peer, level) in [(ada, -25), (ben, -100)] {
        sim.publish(peer, Source::Microphone, &[]);
        sim.endpoints[peer.publish].feeds[0].level = level;
    }
    sim.run(5 * SECOND);
    let first = vec![ada.member.peer];
    assert_eq!(events.try_recv(), Some(Event::Speaking(first)));
    sim.endpoints[ada.publish].feeds[0].level = -100;
    sim.endpoints[ben.publish].feeds[0].level = -25;
    sim.run(5 * SECOND);
    let then = vec![ben.member.peer, ada.member.peer];
    assert_eq!(events.try_recv(), Some(Event::Speaking(then)));
    assert_eq!(events.try_recv(), None);
    // A meeting without listeners reports nothing.
    drop(events);
    for peer in [ada, ben] {
        let now = sim.now;
        sim.engine.close(now, peer.member, false);
    }
    assert_empty(&sim.engine);
}

#[test]
fn a_screen_and_its_audio_share_a_stream_of_their_own() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let sources = [
        Source::Microphone,
        Source::Camera,
        Source::Screen,
        Source::ScreenAudio,
    ];
    let tracks = sources.map(|source| (ada, sim.publish(ada, source, &[])));
    let consumed = sim.request_tracks(ben, &tracks);
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
    sim.answer(ben, &offer);
    sim.run(SECOND);
    let received = &sim.endpoints[ben.receive].client.received;
    for (mid, clock_rate) in consumed.mids.iter().zip([48_000, 90_000, 90_000, 48_000]) {
        assert_plays(&in_order(received, mid.as_ref().unwrap()), clock_rate);
    }
}

#[test]
fn reordered_packets_keep_their_order() {
    for seed in 0..4 {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben] = sim.peers();
        let microphone = sim.publish(ada, Source::Microphone, &[]);
        let camera = sim.publish(ada, Source::Camera, &[]);
        let mids = sim.consume(ben, &[(ada, microphone), (ada, camera)]);
        sim.run(SECOND);
        let slow = Link {
            jitter: Duration::from_millis(60),
            ..Link::default()
        };
        sim.endpoints[ada.publish].up = slow.clone();
        sim.endpoints[ben.receive].down = slow;
        sim.run(5 * SECOND);
        sim.endpoints[ada.publish].up = Link::default();
        sim.endpoints[ben.receive].down = Link::default();
        sim.run(SECOND);
        let received = &sim.endpoints[ben.receive].client.received;
        assert!(
            received
                .windows(2)
                .any(|pair| pair[0].index > pair[1].index)
        );
        assert_plays(&in_order(received, &mids[0]), 48_000);
        assert_plays(&in_order(received, &mids[1]), 90_000);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed: u64| {
        let mut sim = Simulation::seeded(seed);
        let [ada, ben] = sim.peers();
        let camera = sim.publish(ada, Source::Camera, &["f", "h", "q"]);
        let mids = sim.consume(ben, &[(ada, camera)]);
        sim.endpoints[ada.publish].up.loss = 30;
        sim.endpoints[ben.receive].down.loss = 30;
        sim.run(5 * SECOND);
        let endpoint = &sim.endpoints[ben.receive];
        let received = in_order(&endpoint.client.received, &mids[0]);
        let received = received
            .into_iter()
            .map(|(tag, received)| (tag, received.index, received.payload.len()));
        (
            endpoint.media,
            endpoint.media_bytes,
            received.collect::<Vec<_>>(),
        )
    };
    let first = run(7);
    assert!(first.0 > 300);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}
