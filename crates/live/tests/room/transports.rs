//! What becomes of tracks when transports, sockets and peers come and go (docs/spec/media.md 2 and 5).

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

use crate::people::{guest, host, peer, user, waiting};
use crate::plane::{BAD, offer, track};
use crate::tracks::two;
use crate::world::{Done, World, join};

fn bad() -> SessionDescription {
    SessionDescription {
        sdp: BAD.to_owned(),
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
fn whoever_means_a_transport_that_is_gone_makes_a_new_one_and_is_reminded_to_use_it() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    let request = |transport: &str| RenegotiateRequest {
        transport_id: transport.to_owned(),
        description: Some(offer()),
    };
    let asked = world.media(two, event::RENEGOTIATE, &request("another"));
    assert_eq!(asked.error_code(), "internal_error");
    // The room thinks it is there, and the media plane has given it up.
    world
        .plane
        .transports
        .retain(|(whose, _), _| *whose == peer(0, 0));
    let asked = world.subscribe(two, &[&cam]);
    let text = format!("{:?}", asked.replies);
    assert_eq!(asked.error_code(), "internal_error");
    assert!(text.contains("Backend error"), "{text}");
    let produce = world.media(two, event::PRODUCE, &track(Source::Camera));
    assert_eq!(produce.error_code(), "internal_error");
    world.transport(two, false);
    for _ in 0..3 {
        let poke: SelectedPeersDiffResponse =
            world.pass(2_000).one(two, event::SELECTED_PEERS_DIFF);
        assert!(poke.entries.is_empty());
    }
    assert!(world.pass(60_000).frames.is_empty());
    // Not any more once it receives something.
    world.transport(two, false);
    world.pass(2_000);
    let mic = world.publish(one, Source::Microphone);
    assert!(!world.subscribe(two, &[&mic]).refused());
    world.pass(2_000);
    assert!(world.pass(2_000).frames.is_empty());
}

#[test]
fn the_media_plane_is_told_who_was_let_in() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let (waits, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    let request = CreateTransportRequest {
        description: Some(offer()),
        ..CreateTransportRequest::default()
    };
    let admitted = |world: &mut World| {
        let ordered = world.ask(waits, event::CREATE_TRANSPORT, &request).done;
        let orders = ordered.media.iter().filter_map(|order| match order {
            MediaOrder::Open { admitted, .. } => Some(*admitted),
            _ => None,
        });
        orders.collect::<Vec<_>>()
    };
    // Clients make their transports before they ask to join, and while they wait.
    assert_eq!(admitted(&mut world), [false]);
    world.ask(waits, event::JOIN_ROOM, &());
    assert_eq!(admitted(&mut world), [false]);
    let request = AcceptWaitingRoomRequests {
        user_ids: vec![user(1).to_string()],
    };
    world.ask(boss, event::ACCEPT_WAITING_ROOM_REQUESTS, &request);
    let done = world.ask(waits, event::JOIN_ROOM, &()).done;
    let told = MediaOrder::Admit { peer: peer(1, 0) };
    assert_eq!(done.media.iter().filter(|order| **order == told).count(), 1);
    assert_eq!(admitted(&mut world), [true]);
}

#[test]
fn a_peer_that_comes_back_publishes_anew_and_goes_on_receiving() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let (cam, mic) = (
        world.publish(one, Source::Camera),
        world.publish(two, Source::Microphone),
    );
    assert!(!world.subscribe(one, &[&mic]).refused());
    let done = world.close(one, false);
    assert!(done.frames.is_empty() && done.media.is_empty());
    assert!(world.pass(40_000).frames.is_empty() && world.flows(&cam));
    let one = join(&mut world, &host(0));
    let asked = world.ask(one, event::MEDIA_JOIN, &prejoined());
    assert_eq!(asked.done.events(two), [event::PRODUCER_CLOSED]);
    assert!(world.plane.producers.len() == 1 && world.receives(peer(0, 0), &mic));
    let asked = world.ask(one, event::MEDIA_JOIN_COMPLETE, &());
    assert!(asked.done.events(two).is_empty());
    world.publish(one, Source::Camera);
}

#[test]
fn a_new_transport_ends_what_was_published_on_the_older_one() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let cam = world.publish(one, Source::Camera);
    let request = CreateTransportRequest {
        description: Some(bad()),
        ..CreateTransportRequest::default()
    };
    let asked = world.media(one, event::CREATE_TRANSPORT, &request);
    assert!(asked.refused() && world.flows(&cam));
    let request = CreateTransportRequest {
        description: Some(offer()),
        ..CreateTransportRequest::default()
    };
    let asked = world.media(one, event::CREATE_TRANSPORT, &request);
    assert_eq!(asked.done.events(two), [event::PRODUCER_CLOSED]);
    assert!(world.plane.producers.is_empty());
    world.publish(one, Source::Camera);
    // Answers that overtake each other change nothing about which transport is the later one.
    for _ in 0..2 {
        assert!(
            world
                .ask(one, event::CREATE_TRANSPORT, &request)
                .replies
                .is_empty()
        );
    }
    let orders = std::mem::take(&mut world.plane.waiting);
    for (order, transport) in orders.iter().zip(["older", "newer"]).rev() {
        let MediaOrder::Open { order, .. } = order else {
            panic!("{order:?}")
        };
        let (order, transport) = (*order, transport.to_owned());
        let answer = "v=0".to_owned();
        let outcome = Ok(MediaAnswer::Opened { transport, answer });
        let done = world.take(Input::Media { order, outcome });
        assert_eq!(done.of(one, event::CREATE_TRANSPORT).len(), 1);
    }
    let publish = |transport: &str| ProducerCreateRequest {
        producing_transport_id: Some(transport.to_owned()),
        ..track(Source::Microphone)
    };
    let asked = world.ask(one, event::PRODUCE, &publish("older"));
    assert_eq!(asked.error_code(), "internal_error");
    let asked = world.ask(one, event::PRODUCE, &publish("newer"));
    assert!(asked.replies.is_empty(), "{asked:?}");
}

#[test]
fn whoever_leaves_publishes_and_receives_nothing_and_the_others_are_told_in_order() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let three = world.present(&guest(2));
    let mic = world.publish(two, Source::Microphone);
    let cam = world.publish(one, Source::Camera);
    assert!(!world.subscribe(three, &[&mic]).refused());
    assert!(!world.subscribe(two, &[&cam]).refused());
    let done = world.close(two, true);
    let left = [event::LEAVE_ROOM, event::MEDIA_PEER_LEFT];
    assert_eq!(done.events(one), left);
    assert_eq!(done.events(three), left);
    assert!(!world.receives(peer(2, 0), &mic) && !world.receives(peer(1, 0), &cam));
    assert!(!world.flows(&mic) && world.flows(&cam));
    // A kick is no other.
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![peer(2, 0).to_string()],
    };
    let mic = world.publish(three, Source::Microphone);
    let done = world.ask(one, event::KICK, &kick).done;
    assert_eq!(done.events(one), left);
    assert_eq!(done.events(three), [event::KICK]);
    assert!(!world.flows(&mic));
    // Nor a line that stays broken.
    let cam = world.publish(one, Source::Camera);
    world.close(one, false);
    world.pass(44_999);
    assert!(world.flows(&cam));
    world.pass(1);
    assert!(world.plane.producers.is_empty() && world.plane.transports.is_empty());
}

#[test]
fn whoever_never_joins_again_on_a_new_socket_has_no_media_either() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    let mic = world.publish(two, Source::Microphone);
    world.close(two, false);
    let (two, _) = world.connect(&guest(1));
    let done = world.pass(45_000);
    assert_eq!(
        done.events(one),
        [event::LEAVE_ROOM, event::MEDIA_PEER_LEFT]
    );
    assert!(!world.flows(&mic) && done.events(two).is_empty());
    assert!(!world.plane.transports.contains_key(&(peer(1, 0), true)));
}

#[test]
fn whoever_leaves_the_media_and_stays_takes_back_each_track() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    world.publish(two, Source::Microphone);
    world.publish(two, Source::Camera);
    let done = world.ask(two, event::MEDIA_LEAVE, &()).done;
    let gone = event::PRODUCER_CLOSED;
    assert_eq!(done.events(one), [gone, gone, event::MEDIA_PEER_LEFT]);
    let closed = done.media.last().expect("an order");
    assert!(matches!(closed, MediaOrder::Close { peer: gone, .. } if *gone == peer(1, 0)));
    assert!(
        world
            .ask(two, event::PRODUCE, &track(Source::Camera))
            .refused()
    );
    world.connect_media(two);
    world.publish(two, Source::Camera);
}

#[test]
fn whose_client_does_not_know_that_its_media_is_freed_is_said() {
    let away = |done: &Done| {
        let closed = done.media.iter().find_map(|order| match order {
            MediaOrder::Close { peer: gone, away } if *gone == peer(1, 0) => Some(*away),
            _ => None,
        });
        closed.expect("an order")
    };
    let seated = || {
        let mut world = World::new(Limits::default());
        let [one, two] = two(&mut world);
        (world, one, two)
    };
    let (mut world, _, two) = seated();
    assert!(!away(&world.close(two, true)), "said goodbye");
    let (mut world, _, two) = seated();
    assert!(
        !away(&world.ask(two, event::MEDIA_LEAVE, &()).done),
        "left the media"
    );
    let (mut world, one, _) = seated();
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![peer(1, 0).to_string()],
    };
    assert!(
        !away(&world.ask(one, event::KICK, &kick).done),
        "was put out"
    );
    let (mut world, _, two) = seated();
    world.close(two, false);
    assert!(away(&world.pass(45_000)), "did not come back");
    let (mut world, _, two) = seated();
    world.close(two, false);
    world.connect(&guest(1));
    assert!(
        away(&world.pass(45_000)),
        "came back and did not join again"
    );
}

#[test]
fn a_transport_that_the_media_plane_has_freed_takes_its_tracks_with_it() {
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    world.publish(two, Source::Camera);
    let of = (peer(1, 0), true);
    let first = world.plane.transports[&of].clone();
    let freed = |transport: &str| Input::Freed {
        peer: peer(1, 0),
        publishes: true,
        transport: transport.to_owned(),
    };
    world.plane.transports.remove(&of);
    let done = world.take(freed(&first));
    assert_eq!(done.events(one), [event::PRODUCER_CLOSED]);
    let again = world.ask(two, event::PRODUCE, &track(Source::Camera));
    assert!(again.refused());

    // A newer one has nothing to do with it.
    world.connect_media(two);
    let camera = world.publish(two, Source::Camera);
    let done = world.take(freed(&first));
    assert!(done.events(one).is_empty() && world.flows(&camera));
}

#[test]
fn what_the_media_plane_answers_too_late_counts_for_nothing() {
    for way in 0..4 {
        let mut world = World::new(Limits::default());
        let [one, two] = two(&mut world);
        let asked = world.ask(one, event::PRODUCE, &track(Source::Camera));
        assert!(asked.replies.is_empty() && asked.done.events(two).is_empty());
        match way {
            0 => drop(world.close(one, true)),
            1 => drop(world.ask(one, event::MEDIA_JOIN, &prejoined())),
            2 => drop(world.ask(one, event::MEDIA_LEAVE, &())),
            _ => drop(world.ask(one, event::MEDIA_JOIN, &())),
        }
        let done = world.answer(0);
        let refused = done.of(one, event::MEDIA_ERROR).len();
        assert_eq!(refused, usize::from(way > 0), "{way}: {done:?}");
        assert_eq!(done.frames.len(), refused);
        assert!(world.plane.producers.is_empty(), "{way}");
    }
    // A transport that was made just before everything was freed is freed as well.
    let mut world = World::new(Limits::default());
    let [one, _] = two(&mut world);
    let request = CreateTransportRequest {
        description: Some(offer()),
        ..CreateTransportRequest::default()
    };
    world.ask(one, event::CREATE_TRANSPORT, &request);
    let Some(MediaOrder::Open { order, .. }) = world.plane.waiting.pop() else {
        panic!("a transport is ordered")
    };
    world.ask(one, event::MEDIA_LEAVE, &());
    let (transport, answer) = ("late".to_owned(), "v=0".to_owned());
    let outcome = Ok(MediaAnswer::Opened { transport, answer });
    let done = world.take(Input::Media { order, outcome });
    assert_eq!(done.events(one), [event::MEDIA_ERROR]);
    for event in [event::MEDIA_JOIN, event::MEDIA_JOIN_COMPLETE] {
        assert!(!world.ask(one, event, &()).refused());
    }
    let asked = world.ask(one, event::PRODUCE, &track(Source::Camera));
    assert_eq!(asked.error_code(), "internal_error");
    // Whoever is back on another socket is not sent the answer for the older one.
    let mut world = World::new(Limits::default());
    let [one, two] = two(&mut world);
    world.ask(one, event::PRODUCE, &track(Source::Camera));
    world.close(one, false);
    let (back, _) = world.connect(&host(0));
    let done = world.answer(0);
    assert!(done.events(back).is_empty());
    assert_eq!(done.events(two), [event::PRODUCER_CREATED]);
}
