//! What people publish and receive, and who is told (docs/spec/media.md 2 and 3).

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

use crate::people::{guest, host, peer};
use crate::plane::{app_data, offer, track};
use crate::world::{World, join};

/// Two people with media.
pub(crate) fn two(world: &mut World) -> [ConnectionId; 2] {
    [host(0), guest(1)].map(|who| world.present(&who))
}

fn close(producer: &str) -> ProducerCloseRequest {
    ProducerCloseRequest {
        producer_id: producer.to_owned(),
        description: Some(offer()),
        producing_transport_id: None,
    }
}

#[test]
fn whoever_is_there_or_comes_later_learns_of_a_track_and_its_publisher_does_not() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let asked = world.media(one, event::PRODUCE, &track(Source::Screen));
    assert_eq!(asked.done.events(one), [event::PRODUCE]);
    let told: PeerProducerCreateBroadcastResponse = asked.done.one(two, event::PRODUCER_CREATED);
    assert_eq!(told.participant_id, peer(0, 0).to_string());
    let state = told.producer_state.expect("a state");
    assert_eq!(state.kind(), ProducerKind::Video);
    assert!(state.screen_share && !state.pause);
    assert_eq!(state.app_data, Some(app_data("2")));
    assert_eq!(state.mime_type.as_deref(), Some("video/VP8"));
    assert!(state.producing_transport_id.is_some());
    let sound = world.publish(one, Source::Microphone);
    world.toggle(one, &sound, true);
    let three = join(&mut world, &guest(2));
    let there = world.connect_media(three).participants;
    assert_eq!(there.len(), 2);
    let states = &there[0].producer_states;
    assert_eq!(states[0], state);
    assert_eq!(states[1].kind(), ProducerKind::Audio);
    assert!(states[1].pause && states[1].producer_id == sound);
    assert!(there[1].producer_states.is_empty());
}

#[test]
fn nothing_is_published_or_received_before_the_media_join_is_complete() {
    let mut world = World::new(Limits::default());
    let one = world.present(&host(0));
    let track_of_one = world.publish(one, Source::Camera);
    let (two, _) = world.connect(&guest(1));
    for step in 0..3 {
        match step {
            0 => {
                world.ask(two, event::MEDIA_JOIN, &());
                world.transport(two, true);
                world.transport(two, false);
            }
            1 => assert!(!world.ask(two, event::JOIN_ROOM, &()).refused()),
            _ => {
                world.ask(two, event::MEDIA_JOIN_COMPLETE, &());
                break;
            }
        }
        assert!(
            world
                .ask(two, event::PRODUCE, &track(Source::Camera))
                .refused()
        );
        let asked = world.subscribe(two, &[&track_of_one]);
        assert!(asked.refused() && asked.done.media.is_empty(), "{asked:?}");
    }
    world.publish(two, Source::Camera);
    assert!(!world.subscribe(two, &[&track_of_one]).refused());
}

#[test]
fn a_consumer_is_called_like_its_producer_and_its_stream_like_its_line() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let (cam, mic) = (
        world.publish(one, Source::Camera),
        world.publish(one, Source::Microphone),
    );
    let asked = world.subscribe(two, &[&cam, &mic, &cam]);
    let told: ConsumePeerResponse = asked.reply(event::CONSUME);
    let description = told.description.expect("an offer");
    assert_eq!((&*description.r#type, description.target), ("offer", 1));
    let map = told.consumer_ids_map.expect("a map").map;
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
    let lines: Vec<_> = world.plane.consumers.values().collect();
    assert!(mids.iter().all(|mid| lines.contains(&mid)));
    let answer = RenegotiateRequest {
        transport_id: world.plane.transports[&(peer(1, 0), false)].clone(),
        description: Some(offer()),
    };
    assert!(!world.media(two, event::RENEGOTIATE, &answer).refused());
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
    assert!(!world.ask(two, event::UPDATE_SIMULCAST, &wish).refused());
    let layer = (peer(1, 0), mids[0].clone(), "q".to_owned());
    assert_eq!(world.plane.layers, [layer]);
    // What clients call ids here are the lines.
    let no_more = ConsumerCloseRequest {
        consumer_ids: vec![mids[0].clone()],
        description: Some(offer()),
        consuming_transport_id: None,
    };
    let asked = world.media(two, event::CLOSE_CONSUMER, &no_more);
    let told: ConsumerClosingResponse = asked.reply(event::CLOSE_CONSUMER);
    assert_eq!(told.description.expect("an answer").r#type, "answer");
    assert!(!world.receives(peer(1, 0), &cam) && world.receives(peer(1, 0), &mic));
}

#[test]
fn what_is_not_there_is_missing_and_the_rest_comes() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    let unknown = peer(9, 9).to_string();
    let asked = world.subscribe(two, &["nonsense", &unknown, &cam]);
    let told: ConsumePeerResponse = asked.reply(event::CONSUME);
    let map = told.consumer_ids_map.expect("a map").map;
    let missing = Some("not_found_track_error");
    assert_eq!(map["nonsense"].error_code.as_deref(), missing);
    assert_eq!(map[&unknown].error_code.as_deref(), missing);
    assert!(map[&cam].error_code.is_none());
    // With nothing to agree on the media plane is not asked, and nothing is offered.
    let asked = world.subscribe(two, &[&unknown]);
    let told: ConsumePeerResponse = asked.reply(event::CONSUME);
    assert!(told.description.is_none() && told.consumer_ids_map.is_some());
    // Nobody receives themselves.
    let told: ConsumePeerResponse = world.subscribe(one, &[&cam]).reply(event::CONSUME);
    let map = told.consumer_ids_map.expect("a map").map;
    assert_eq!(map[&cam].error_code.as_deref(), missing);
}

#[test]
fn a_second_track_from_the_same_source_takes_the_place_of_the_first() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let first = world.publish(one, Source::Camera);
    let asked = world.media(one, event::PRODUCE, &track(Source::Camera));
    assert_eq!(
        asked.done.events(two),
        [event::PRODUCER_CLOSED, event::PRODUCER_CREATED]
    );
    assert!(!world.flows(&first) && world.plane.producers.len() == 1);
    // Of two that are asked for at once the later one stays.
    let one_more = world.ask(one, event::PRODUCE, &track(Source::Camera));
    let another = world.ask(one, event::PRODUCE, &track(Source::Camera));
    let late = world.answer(0);
    assert!(
        late.of(one, event::MEDIA_ERROR).len() == 1
            && late.of(two, event::PRODUCER_CREATED).is_empty()
    );
    let done = world.answer(0);
    assert_eq!(
        done.of(one, event::PRODUCE)[0].id.as_deref(),
        Some(&*another.id)
    );
    assert!(one_more.id != another.id && world.plane.producers.len() == 1);
}

#[test]
fn a_track_that_its_publisher_pauses_is_told_once_and_to_others_only() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let mic = world.publish(one, Source::Microphone);
    for pause in [true, false] {
        let done = world.toggle(one, &mic, pause).done;
        assert_eq!(done.events(one), [event::TOGGLE_PRODUCER]);
        let told: PeerProducerToggleBroadcastResponse = done.one(two, event::PRODUCER_TOGGLED);
        assert_eq!(told.producer_state.expect("a state").pause, pause);
        assert!(told.initiator_participant_id.is_none());
        assert_eq!(world.flows(&mic), !pause);
        let again = world.toggle(one, &mic, pause).done;
        assert!(again.events(two).is_empty() && again.media.is_empty());
    }
    // Nobody else's.
    assert!(world.toggle(two, &mic, true).refused() && world.flows(&mic));
}

#[test]
fn a_track_that_ends_is_told_and_the_clients_line_is_closed_even_if_it_had_ended_before() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    assert!(
        world
            .media(two, event::CLOSE_PRODUCER, &close(&cam))
            .refused()
    );
    for told in [1, 0] {
        let asked = world.media(one, event::CLOSE_PRODUCER, &close(&cam));
        let reply: ProducerClosingResponse = asked.reply(event::CLOSE_PRODUCER);
        assert_eq!(reply.description.expect("an answer").r#type, "answer");
        let closed = asked.done.of(two, event::PRODUCER_CLOSED);
        assert_eq!(closed.len(), told);
        for closed in closed {
            let closed: PeerProducerCloseBroadcastResponse = closed.read();
            assert_eq!(closed.producer_state.expect("a state").producer_id, cam);
        }
    }
    assert!(world.plane.producers.is_empty());
    let quiet = ProducerCloseRequest {
        description: None,
        ..close(&cam)
    };
    assert!(!world.media(one, event::CLOSE_PRODUCER, &quiet).refused());
}

#[test]
fn a_client_asks_for_so_much_at_once_and_not_more() {
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
    let told: ConsumePeerResponse = world.subscribe(two, &names).reply(event::CONSUME);
    let map = told.consumer_ids_map.expect("a map").map;
    assert_eq!(map[names[2]].error_code.as_deref(), Some("backend_error"));
    assert_eq!(world.plane.consumers.len(), 2);
    // What has ended makes room.
    let asked = world.media(one, event::CLOSE_PRODUCER, &close(names[0]));
    assert!(!asked.refused());
    let told: ConsumePeerResponse = world.subscribe(two, &names[2..]).reply(event::CONSUME);
    let map = told.consumer_ids_map.expect("a map").map;
    assert!(map[names[2]].error_code.is_none());
    let many = vec!["x"; 257];
    assert!(world.subscribe(two, &many).refused());
    let long = "x".repeat(200);
    assert!(world.subscribe(two, &[&long]).refused());
    let talks = |data: String| ProducerCreateRequest {
        app_data: Some(data),
        ..track(Source::Microphone)
    };
    for data in [
        format!("{{\"mid\":\"2\",\"x\":\"{long}\"}}"),
        "{}".to_owned(),
        "{\"mid\":2}".to_owned(),
        "nonsense".to_owned(),
    ] {
        assert!(world.ask(one, event::PRODUCE, &talks(data)).refused());
    }
    let answer = RenegotiateRequest {
        transport_id: world.plane.transports[&(peer(1, 0), false)].clone(),
        description: Some(offer()),
    };
    for _ in 0..3 {
        assert!(!world.ask(two, event::RENEGOTIATE, &answer).refused());
    }
    assert!(world.ask(two, event::RENEGOTIATE, &answer).refused());
    world.answer(0);
    assert!(!world.ask(two, event::RENEGOTIATE, &answer).refused());
}

#[test]
fn whoever_has_spent_every_rate_can_still_mute_itself() {
    let limits = Limits {
        changes: Rate::per_second(20),
        media: Rate::per_second(2),
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let [one, two] = two(&mut world);
    let mic = world.publish(one, Source::Microphone);
    while !world.ask(one, event::MEDIA_JOIN_COMPLETE, &()).refused() {}
    let done = world.toggle(one, &mic, true).done;
    assert_eq!(done.of(two, event::PRODUCER_TOGGLED).len(), 1);
    assert!(world.toggle(one, &mic, false).refused());
    assert!(!world.flows(&mic));
    // Receiving has a rate of its own; whoever is refused is reminded.
    for _ in 0..2 {
        assert!(!world.subscribe(two, &[&mic]).refused());
    }
    assert!(world.subscribe(two, &[&mic]).refused());
    assert!(!world.ask(two, event::MEDIA_JOIN_COMPLETE, &()).refused());
}
