//! Producers and consumers when transports, connections and peers come and go (docs/spec/media.md 2
//! and 5).

use parlor_live::{Input, Limits, MediaAnswer, MediaOrder, Source};
use parlor_protocol::preset::WaitingRoomType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    PeerJoinRequest, ProducerCreateRequest, SelectedPeersDiffResponse,
};
use parlor_protocol::signal::media::{
    CreateTransportRequest, RenegotiateRequest, SessionDescription,
};
use parlor_protocol::signal::socket::room::{AcceptWaitingRoomRequests, RemoveParticipantsRequest};

use crate::media_plane::{INVALID_OFFER, offer, track};
use crate::participants::{host, participant, peer, user, waiting};
use crate::tracks::two;
use crate::world::{Effects, World, join};

fn bad() -> SessionDescription {
    SessionDescription {
        sdp: INVALID_OFFER.to_owned(),
        ..offer()
    }
}

fn prejoined() -> PeerJoinRequest {
    PeerJoinRequest {
        prejoined: true,
        ..PeerJoinRequest::default()
    }
}

#[test]
fn a_client_that_uses_a_freed_transport_is_reminded_after_creating_a_new_one() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    let request = |transport: &str| RenegotiateRequest {
        transport_id: transport.to_owned(),
        description: Some(offer()),
    };
    let outcome = world.request_media(two, event::RENEGOTIATE, &request("another"));
    assert_eq!(outcome.error_code(), "internal_error");
    // The room knows the transport, but the media plane has freed it.
    world
        .media_plane
        .transports
        .retain(|(owner, _), _| *owner == peer(0, 0));
    let outcome = world.subscribe(two, &[&cam]);
    let text = format!("{:?}", outcome.replies);
    assert_eq!(outcome.error_code(), "internal_error");
    assert!(text.contains("Backend error"), "{text}");
    let produce = world.request_media(two, event::PRODUCE, &track(Source::Camera));
    assert_eq!(produce.error_code(), "internal_error");
    world.transport(two, false);
    for _ in 0..3 {
        let reminder: SelectedPeersDiffResponse = world
            .advance(2_000)
            .only_frame(two, event::SELECTED_PEERS_DIFF);
        assert!(reminder.entries.is_empty());
    }
    assert!(world.advance(60_000).frames.is_empty());
    // No longer once it has consumers.
    world.transport(two, false);
    world.advance(2_000);
    let mic = world.publish(one, Source::Microphone);
    assert!(!world.subscribe(two, &[&mic]).is_rejected());
    world.advance(2_000);
    assert!(world.advance(2_000).frames.is_empty());
}

#[test]
fn the_media_plane_is_notified_of_admitted_peers() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let (waiting_peer, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    let request = CreateTransportRequest {
        description: Some(offer()),
        ..CreateTransportRequest::default()
    };
    let admitted = |world: &mut World| {
        let ordered = world
            .request(waiting_peer, event::CREATE_TRANSPORT, &request)
            .effects;
        let orders = ordered.media.iter().filter_map(|order| match order {
            MediaOrder::Open { admitted, .. } => Some(*admitted),
            _ => None,
        });
        orders.collect::<Vec<_>>()
    };
    // Clients create transports before they join, and while they wait.
    assert_eq!(admitted(&mut world), [false]);
    world.request(waiting_peer, event::JOIN_ROOM, &());
    assert_eq!(admitted(&mut world), [false]);
    let request = AcceptWaitingRoomRequests {
        user_ids: vec![user(1).to_string()],
    };
    world.request(boss, event::ACCEPT_WAITING_ROOM_REQUESTS, &request);
    let effects = world.request(waiting_peer, event::JOIN_ROOM, &()).effects;
    let admit = MediaOrder::Admit { peer: peer(1, 0) };
    assert_eq!(
        effects
            .media
            .iter()
            .filter(|order| **order == admit)
            .count(),
        1
    );
    assert_eq!(admitted(&mut world), [true]);
}

#[test]
fn a_reconnected_peer_publishes_again_and_keeps_its_consumers() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let (cam, mic) = (
        world.publish(one, Source::Camera),
        world.publish(two, Source::Microphone),
    );
    assert!(!world.subscribe(one, &[&mic]).is_rejected());
    let effects = world.close(one, false);
    assert!(effects.frames.is_empty() && effects.media.is_empty());
    assert!(world.advance(40_000).frames.is_empty() && world.is_forwarded(&cam));
    let one = join(&mut world, &host(0));
    let outcome = world.request(one, event::MEDIA_JOIN, &prejoined());
    assert_eq!(outcome.effects.events(two), [event::PRODUCER_CLOSED]);
    assert!(world.media_plane.producers.len() == 1 && world.receives(peer(0, 0), &mic));
    let outcome = world.request(one, event::MEDIA_JOIN_COMPLETE, &());
    assert!(outcome.effects.events(two).is_empty());
    world.publish(one, Source::Camera);
}

#[test]
fn a_new_transport_closes_the_producers_of_the_old_one() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    let request = CreateTransportRequest {
        description: Some(bad()),
        ..CreateTransportRequest::default()
    };
    let outcome = world.request_media(one, event::CREATE_TRANSPORT, &request);
    assert!(outcome.is_rejected() && world.is_forwarded(&cam));
    let request = CreateTransportRequest {
        description: Some(offer()),
        ..CreateTransportRequest::default()
    };
    let outcome = world.request_media(one, event::CREATE_TRANSPORT, &request);
    assert_eq!(outcome.effects.events(two), [event::PRODUCER_CLOSED]);
    assert!(world.media_plane.producers.is_empty());
    world.publish(one, Source::Camera);
    // Reordered replies do not change which transport is the newer one.
    for _ in 0..2 {
        assert!(
            world
                .request(one, event::CREATE_TRANSPORT, &request)
                .replies
                .is_empty()
        );
    }
    let orders = std::mem::take(&mut world.media_plane.waiting);
    for (order, transport) in orders.iter().zip(["older", "newer"]).rev() {
        let MediaOrder::Open { order, .. } = order else {
            panic!("{order:?}")
        };
        let (order, transport) = (*order, transport.to_owned());
        let answer = "v=0".to_owned();
        let outcome = Ok(MediaAnswer::Opened { transport, answer });
        let effects = world.handle(Input::Media { order, outcome });
        assert_eq!(effects.frames_to(one, event::CREATE_TRANSPORT).len(), 1);
    }
    let publish = |transport: &str| ProducerCreateRequest {
        producing_transport_id: Some(transport.to_owned()),
        ..track(Source::Microphone)
    };
    let outcome = world.request(one, event::PRODUCE, &publish("older"));
    assert_eq!(outcome.error_code(), "internal_error");
    let outcome = world.request(one, event::PRODUCE, &publish("newer"));
    assert!(outcome.replies.is_empty(), "{outcome:?}");
}

#[test]
fn a_departed_peer_has_no_media_and_others_are_notified_in_order() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let three = world.join_with_media(&participant(2));
    let mic = world.publish(two, Source::Microphone);
    let cam = world.publish(one, Source::Camera);
    assert!(!world.subscribe(three, &[&mic]).is_rejected());
    assert!(!world.subscribe(two, &[&cam]).is_rejected());
    let effects = world.close(two, true);
    let left = [event::LEAVE_ROOM, event::MEDIA_PEER_LEFT];
    assert_eq!(effects.events(one), left);
    assert_eq!(effects.events(three), left);
    assert!(!world.receives(peer(2, 0), &mic) && !world.receives(peer(1, 0), &cam));
    assert!(!world.is_forwarded(&mic) && world.is_forwarded(&cam));
    // A kick has the same effect.
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![peer(2, 0).to_string()],
    };
    let mic = world.publish(three, Source::Microphone);
    let effects = world.request(one, event::KICK, &kick).effects;
    assert_eq!(effects.events(one), left);
    assert_eq!(effects.events(three), [event::KICK]);
    assert!(!world.is_forwarded(&mic));
    // Forwarding also ends when a client does not reconnect.
    let cam = world.publish(one, Source::Camera);
    world.close(one, false);
    world.advance(44_999);
    assert!(world.is_forwarded(&cam));
    world.advance(1);
    assert!(world.media_plane.producers.is_empty() && world.media_plane.transports.is_empty());
}

#[test]
fn a_peer_that_reconnects_without_joining_has_no_media() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let mic = world.publish(two, Source::Microphone);
    world.close(two, false);
    let (two, _) = world.connect(&participant(1));
    let effects = world.advance(45_000);
    assert_eq!(
        effects.events(one),
        [event::LEAVE_ROOM, event::MEDIA_PEER_LEFT]
    );
    assert!(!world.is_forwarded(&mic) && effects.events(two).is_empty());
    assert!(
        !world
            .media_plane
            .transports
            .contains_key(&(peer(1, 0), true))
    );
}

#[test]
fn leaving_the_media_closes_each_producer() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    world.publish(two, Source::Microphone);
    world.publish(two, Source::Camera);
    let effects = world.request(two, event::MEDIA_LEAVE, &()).effects;
    let closed = event::PRODUCER_CLOSED;
    assert_eq!(
        effects.events(one),
        [closed, closed, event::MEDIA_PEER_LEFT]
    );
    let order = effects.media.last().expect("an order");
    assert!(matches!(order, MediaOrder::Close { peer: closed, .. } if *closed == peer(1, 0)));
    assert!(
        world
            .request(two, event::PRODUCE, &track(Source::Camera))
            .is_rejected()
    );
    world.connect_media(two);
    world.publish(two, Source::Camera);
}

#[test]
fn close_orders_state_whether_the_client_knows_that_its_media_is_freed() {
    let client_offline = |effects: &Effects| {
        let closed = effects.media.iter().find_map(|order| match order {
            MediaOrder::Close {
                peer: closed,
                client_offline,
            } if *closed == peer(1, 0) => Some(*client_offline),
            _ => None,
        });
        closed.expect("an order")
    };
    let joined = || {
        let mut world = World::new(Limits::default());
        let [one, two] = two(&mut world);
        (world, one, two)
    };
    let (mut world, _, two) = joined();
    assert!(!client_offline(&world.close(two, true)), "left cleanly");
    let (mut world, _, two) = joined();
    assert!(
        !client_offline(&world.request(two, event::MEDIA_LEAVE, &()).effects),
        "left the media"
    );
    let (mut world, one, _) = joined();
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![peer(1, 0).to_string()],
    };
    assert!(
        !client_offline(&world.request(one, event::KICK, &kick).effects),
        "was kicked"
    );
    let (mut world, _, two) = joined();
    world.close(two, false);
    assert!(client_offline(&world.advance(45_000)), "did not reconnect");
    let (mut world, _, two) = joined();
    world.close(two, false);
    world.connect(&participant(1));
    assert!(
        client_offline(&world.advance(45_000)),
        "reconnected without joining"
    );
}

#[test]
fn freeing_a_transport_closes_its_producers() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    world.publish(two, Source::Camera);
    let key = (peer(1, 0), true);
    let first = world.media_plane.transports[&key].clone();
    let freed = |transport: &str| Input::TransportFreed {
        peer: peer(1, 0),
        publishes: true,
        transport: transport.to_owned(),
    };
    world.media_plane.transports.remove(&key);
    let effects = world.handle(freed(&first));
    assert_eq!(effects.events(one), [event::PRODUCER_CLOSED]);
    let again = world.request(two, event::PRODUCE, &track(Source::Camera));
    assert!(again.is_rejected());

    // A newer transport is not affected.
    world.connect_media(two);
    let camera = world.publish(two, Source::Camera);
    let effects = world.handle(freed(&first));
    assert!(effects.events(one).is_empty() && world.is_forwarded(&camera));
}

#[test]
fn late_replies_of_the_media_plane_are_ignored() {
    for way in 0..4 {
        let mut world = World::new(Limits::default());
        let [one, two] = two(&mut world);
        let outcome = world.request(one, event::PRODUCE, &track(Source::Camera));
        assert!(outcome.replies.is_empty() && outcome.effects.events(two).is_empty());
        match way {
            0 => drop(world.close(one, true)),
            1 => drop(world.request(one, event::MEDIA_JOIN, &prejoined())),
            2 => drop(world.request(one, event::MEDIA_LEAVE, &())),
            _ => drop(world.request(one, event::MEDIA_JOIN, &())),
        }
        let effects = world.answer_order(0);
        let rejected = effects.frames_to(one, event::MEDIA_ERROR).len();
        assert_eq!(rejected, usize::from(way > 0), "{way}: {effects:?}");
        assert_eq!(effects.frames.len(), rejected);
        assert!(world.media_plane.producers.is_empty(), "{way}");
    }
    // A transport created just before everything was freed is freed too.
    let mut world = World::new(Limits::default());
    let [one, _] = two(&mut world);
    let request = CreateTransportRequest {
        description: Some(offer()),
        ..CreateTransportRequest::default()
    };
    world.request(one, event::CREATE_TRANSPORT, &request);
    let Some(MediaOrder::Open { order, .. }) = world.media_plane.waiting.pop() else {
        panic!("the room orders a transport")
    };
    world.request(one, event::MEDIA_LEAVE, &());
    let (transport, answer) = ("late".to_owned(), "v=0".to_owned());
    let outcome = Ok(MediaAnswer::Opened { transport, answer });
    let effects = world.handle(Input::Media { order, outcome });
    assert_eq!(effects.events(one), [event::MEDIA_ERROR]);
    for event in [event::MEDIA_JOIN, event::MEDIA_JOIN_COMPLETE] {
        assert!(!world.request(one, event, &()).is_rejected());
    }
    let outcome = world.request(one, event::PRODUCE, &track(Source::Camera));
    assert_eq!(outcome.error_code(), "internal_error");
    // A peer that reconnected does not receive the reply to its previous connection.
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    world.request(one, event::PRODUCE, &track(Source::Camera));
    world.close(one, false);
    let (back, _) = world.connect(&host(0));
    let effects = world.answer_order(0);
    assert!(effects.events(back).is_empty());
    assert_eq!(effects.events(two), [event::PRODUCER_CREATED]);
}
