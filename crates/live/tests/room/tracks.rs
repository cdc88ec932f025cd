//! Publishing, subscribing, and notifications (docs/spec/media.md 2 and 3).

use parlor_live::{ConnectionId, Limits, Rate, Source};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerResponse, ConsumerCloseRequest, ConsumerClosingResponse,
    PeerProducerCloseBroadcastResponse, PeerProducerCreateBroadcastResponse,
    PeerProducerToggleBroadcastResponse, ProducerCloseRequest, ProducerClosingResponse,
    ProducerCreateRequest, UpdateConsumerSimulcastConfigRequest,
    UpdateConsumersSimulcastConfigRequest,
};
use parlor_protocol::signal::media::{ProducerKind, RenegotiateRequest, Simulcast};

use crate::media_plane::{app_data, offer, track};
use crate::participants::{host, participant, peer};
use crate::world::{World, join};

/// Two participants with media.
pub(crate) fn two(world: &mut World) -> [ConnectionId; 2] {
    [host(0), participant(1)].map(|profile| world.join_with_media(&profile))
}

fn close(producer: &str) -> ProducerCloseRequest {
    ProducerCloseRequest {
        producer_id: producer.to_owned(),
        description: Some(offer()),
        producing_transport_id: None,
    }
}

#[test]
fn a_producer_is_announced_to_present_and_later_peers_but_not_to_its_publisher() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let outcome = world.request_media(one, event::PRODUCE, &track(Source::Screen));
    assert_eq!(outcome.effects.events(one), [event::PRODUCE]);
    let push: PeerProducerCreateBroadcastResponse =
        outcome.effects.only_frame(two, event::PRODUCER_CREATED);
    assert_eq!(push.participant_id, peer(0, 0).to_string());
    let state = push.producer_state.expect("a state");
    assert_eq!(state.kind(), ProducerKind::Video);
    assert!(state.screen_share && !state.pause);
    assert_eq!(state.app_data, Some(app_data("2")));
    assert_eq!(state.mime_type.as_deref(), Some("video/VP8"));
    assert!(state.producing_transport_id.is_some());
    let sound = world.publish(one, Source::Microphone);
    world.toggle(one, &sound, true);
    let three = join(&mut world, &participant(2));
    let existing = world.connect_media(three).participants;
    assert_eq!(existing.len(), 2);
    let states = &existing[0].producer_states;
    assert_eq!(states[0], state);
    assert_eq!(states[1].kind(), ProducerKind::Audio);
    assert!(states[1].pause && states[1].producer_id == sound);
    assert!(existing[1].producer_states.is_empty());
}

#[test]
fn nothing_is_published_or_received_before_the_media_join_is_complete() {
    let mut world = World::new(Limits::default());
    let one = world.join_with_media(&host(0));
    let track_of_one = world.publish(one, Source::Camera);
    let (two, _) = world.connect(&participant(1));
    for step in 0..3 {
        match step {
            0 => {
                world.request(two, event::MEDIA_JOIN, &());
                world.transport(two, true);
                world.transport(two, false);
            }
            1 => assert!(!world.request(two, event::JOIN_ROOM, &()).is_rejected()),
            _ => {
                world.request(two, event::MEDIA_JOIN_COMPLETE, &());
                break;
            }
        }
        assert!(
            world
                .request(two, event::PRODUCE, &track(Source::Camera))
                .is_rejected()
        );
        let outcome = world.subscribe(two, &[&track_of_one]);
        assert!(
            outcome.is_rejected() && outcome.effects.media.is_empty(),
            "{outcome:?}"
        );
    }
    world.publish(two, Source::Camera);
    assert!(!world.subscribe(two, &[&track_of_one]).is_rejected());
}

#[test]
fn a_consumer_has_the_id_of_its_producer_and_its_stream_that_of_its_line() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let (cam, mic) = (
        world.publish(one, Source::Camera),
        world.publish(one, Source::Microphone),
    );
    let outcome = world.subscribe(two, &[&cam, &mic, &cam]);
    let reply: ConsumePeerResponse = outcome.reply(event::CONSUME);
    let description = reply.description.expect("an offer");
    assert_eq!((&*description.r#type, description.target), ("offer", 1));
    let map = reply.consumer_ids_map.expect("a map").map;
    assert_eq!(map.len(), 2);
    let mut mids = Vec::new();
    for id in [&cam, &mic] {
        let state = &map[id];
        let track = state.producer_track.as_ref().expect("a track");
        assert_eq!((&state.consumer_id, &track.producer_id), (id, id));
        let producer = state.producer_state.as_ref().expect("a state");
        assert_eq!(producer.app_data, Some(app_data("2")));
        assert!(state.error_code.is_none());
        assert!(world.receives(peer(1, 0), id));
        mids.push(track.stream_id.clone());
    }
    let lines: Vec<_> = world.media_plane.consumers.values().collect();
    assert!(mids.iter().all(|mid| lines.contains(&mid)));
    let answer = RenegotiateRequest {
        transport_id: world.media_plane.transports[&(peer(1, 0), false)].clone(),
        description: Some(offer()),
    };
    assert!(
        !world
            .request_media(two, event::RENEGOTIATE, &answer)
            .is_rejected()
    );
    let wish = UpdateConsumersSimulcastConfigRequest {
        requests: vec![UpdateConsumerSimulcastConfigRequest {
            producer_id: cam.clone(),
            mid: mids[0].clone(),
            simulcast: Some(Simulcast {
                preferred_rid: Some("q".to_owned()),
                ..Simulcast::default()
            }),
            ..UpdateConsumerSimulcastConfigRequest::default()
        }],
        consuming_transport_id: None,
    };
    assert!(
        !world
            .request(two, event::UPDATE_SIMULCAST, &wish)
            .is_rejected()
    );
    let layer = (peer(1, 0), mids[0].clone(), "q".to_owned());
    assert_eq!(world.media_plane.layers, [layer]);
    // Clients send mids in the id fields here.
    let no_more = ConsumerCloseRequest {
        consumer_ids: vec![mids[0].clone()],
        description: Some(offer()),
        consuming_transport_id: None,
    };
    let outcome = world.request_media(two, event::CLOSE_CONSUMER, &no_more);
    let reply: ConsumerClosingResponse = outcome.reply(event::CLOSE_CONSUMER);
    assert_eq!(reply.description.expect("an answer").r#type, "answer");
    assert!(!world.receives(peer(1, 0), &cam) && world.receives(peer(1, 0), &mic));
}

#[test]
fn unknown_producers_are_reported_and_the_rest_is_consumed() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    let unknown = peer(9, 9).to_string();
    let outcome = world.subscribe(two, &["invalid", &unknown, &cam]);
    let reply: ConsumePeerResponse = outcome.reply(event::CONSUME);
    let map = reply.consumer_ids_map.expect("a map").map;
    let missing = Some("not_found_track_error");
    assert_eq!(map["invalid"].error_code.as_deref(), missing);
    assert_eq!(map[&unknown].error_code.as_deref(), missing);
    assert!(map[&cam].error_code.is_none());
    // Without media to negotiate, the media plane is not involved and there is no offer.
    let outcome = world.subscribe(two, &[&unknown]);
    let reply: ConsumePeerResponse = outcome.reply(event::CONSUME);
    assert!(reply.description.is_none() && reply.consumer_ids_map.is_some());
    // A peer cannot subscribe to itself.
    let reply: ConsumePeerResponse = world.subscribe(one, &[&cam]).reply(event::CONSUME);
    let map = reply.consumer_ids_map.expect("a map").map;
    assert_eq!(map[&cam].error_code.as_deref(), missing);
}

#[test]
fn a_second_producer_of_a_source_replaces_the_first() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let first = world.publish(one, Source::Camera);
    let outcome = world.request_media(one, event::PRODUCE, &track(Source::Camera));
    assert_eq!(
        outcome.effects.events(two),
        [event::PRODUCER_CLOSED, event::PRODUCER_CREATED]
    );
    assert!(!world.is_forwarded(&first) && world.media_plane.producers.len() == 1);
    // Of two concurrent requests, the later one wins.
    let one_more = world.request(one, event::PRODUCE, &track(Source::Camera));
    let another = world.request(one, event::PRODUCE, &track(Source::Camera));
    let late = world.answer_order(0);
    assert!(
        late.frames_to(one, event::MEDIA_ERROR).len() == 1
            && late.frames_to(two, event::PRODUCER_CREATED).is_empty()
    );
    let effects = world.answer_order(0);
    assert_eq!(
        effects.frames_to(one, event::PRODUCE)[0].id.as_deref(),
        Some(&*another.id)
    );
    assert!(one_more.id != another.id && world.media_plane.producers.len() == 1);
}

#[test]
fn a_pause_is_announced_once_and_only_to_others() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let mic = world.publish(one, Source::Microphone);
    for pause in [true, false] {
        let effects = world.toggle(one, &mic, pause).effects;
        assert_eq!(effects.events(one), [event::TOGGLE_PRODUCER]);
        let push: PeerProducerToggleBroadcastResponse =
            effects.only_frame(two, event::PRODUCER_TOGGLED);
        assert_eq!(push.producer_state.expect("a state").pause, pause);
        assert!(push.initiator_participant_id.is_none());
        assert_eq!(world.is_forwarded(&mic), !pause);
        let again = world.toggle(one, &mic, pause).effects;
        assert!(again.events(two).is_empty() && again.media.is_empty());
    }
    // Another peer's producer cannot be paused.
    assert!(world.toggle(two, &mic, true).is_rejected() && world.is_forwarded(&mic));
}

#[test]
fn closing_a_producer_is_announced_and_closes_the_line_even_if_it_was_closed_before() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    assert!(
        world
            .request_media(two, event::CLOSE_PRODUCER, &close(&cam))
            .is_rejected()
    );
    for announcements in [1, 0] {
        let outcome = world.request_media(one, event::CLOSE_PRODUCER, &close(&cam));
        let reply: ProducerClosingResponse = outcome.reply(event::CLOSE_PRODUCER);
        assert_eq!(reply.description.expect("an answer").r#type, "answer");
        let closed = outcome.effects.frames_to(two, event::PRODUCER_CLOSED);
        assert_eq!(closed.len(), announcements);
        for closed in closed {
            let closed: PeerProducerCloseBroadcastResponse = closed.decode();
            assert_eq!(closed.producer_state.expect("a state").producer_id, cam);
        }
    }
    assert!(world.media_plane.producers.is_empty());
    let quiet = ProducerCloseRequest {
        description: None,
        ..close(&cam)
    };
    assert!(
        !world
            .request_media(one, event::CLOSE_PRODUCER, &quiet)
            .is_rejected()
    );
}

#[test]
fn consumers_and_pending_orders_are_limited_per_client() {
    let limits = Limits {
        media_orders: 3,
        consumers: 2,
        track_bytes: 40,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let [one, two] = two(&mut world);
    let sources = [Source::Microphone, Source::Camera, Source::Screen];
    let tracks = sources.map(|source| world.publish(one, source));
    let names = tracks.each_ref().map(String::as_str);
    let reply: ConsumePeerResponse = world.subscribe(two, &names).reply(event::CONSUME);
    let map = reply.consumer_ids_map.expect("a map").map;
    assert_eq!(map[names[2]].error_code.as_deref(), Some("backend_error"));
    assert_eq!(world.media_plane.consumers.len(), 2);
    // Closed producers free capacity.
    let outcome = world.request_media(one, event::CLOSE_PRODUCER, &close(names[0]));
    assert!(!outcome.is_rejected());
    let reply: ConsumePeerResponse = world.subscribe(two, &names[2..]).reply(event::CONSUME);
    let map = reply.consumer_ids_map.expect("a map").map;
    assert!(map[names[2]].error_code.is_none());
    let many = vec!["x"; 257];
    assert!(world.subscribe(two, &many).is_rejected());
    let long = "x".repeat(200);
    assert!(world.subscribe(two, &[&long]).is_rejected());
    let microphone = |data: String| ProducerCreateRequest {
        app_data: Some(data),
        ..track(Source::Microphone)
    };
    for data in [
        format!("{{\"mid\":\"2\",\"x\":\"{long}\"}}"),
        "{}".to_owned(),
        "{\"mid\":2}".to_owned(),
        "invalid".to_owned(),
    ] {
        assert!(
            world
                .request(one, event::PRODUCE, &microphone(data))
                .is_rejected()
        );
    }
    let answer = RenegotiateRequest {
        transport_id: world.media_plane.transports[&(peer(1, 0), false)].clone(),
        description: Some(offer()),
    };
    for _ in 0..3 {
        assert!(
            !world
                .request(two, event::RENEGOTIATE, &answer)
                .is_rejected()
        );
    }
    assert!(
        world
            .request(two, event::RENEGOTIATE, &answer)
            .is_rejected()
    );
    world.answer_order(0);
    assert!(
        !world
            .request(two, event::RENEGOTIATE, &answer)
            .is_rejected()
    );
}

#[test]
fn a_client_without_remaining_rate_can_still_mute_itself() {
    let limits = Limits {
        changes: Rate::per_second(20),
        media: Rate::per_second(2),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let [one, two] = two(&mut world);
    let mic = world.publish(one, Source::Microphone);
    while !world
        .request(one, event::MEDIA_JOIN_COMPLETE, &())
        .is_rejected()
    {}
    let effects = world.toggle(one, &mic, true).effects;
    assert_eq!(effects.frames_to(two, event::PRODUCER_TOGGLED).len(), 1);
    assert!(world.toggle(one, &mic, false).is_rejected());
    assert!(!world.is_forwarded(&mic));
    // Subscribing has its own rate; a rejected client is reminded.
    for _ in 0..2 {
        assert!(!world.subscribe(two, &[&mic]).is_rejected());
    }
    assert!(world.subscribe(two, &[&mic]).is_rejected());
    assert!(
        !world
            .request(two, event::MEDIA_JOIN_COMPLETE, &())
            .is_rejected()
    );
}
