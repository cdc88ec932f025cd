//! Permissions to publish and to receive, at every moment (docs/spec/media.md 2 to 4;
//! docs/spec/signalling.md 3.3 and 6.8).

use parlor_live::{
    Answer, Command, ConnectionId, Input, Limits, MediaOrder, ParticipantRef, PeerProfile, Source,
};
use parlor_protocol::preset::{MediaPermission, MediaPermissions, ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeerResponse, ConsumePeersRequest,
    GlobalPeerPinningBroadcastResponse, GlobalPeerPinningRequest,
    HostMediaControlForAllPeerRequest, HostMediaControlForPeerRequest,
    PeerProducerCloseBroadcastResponse, PeerProducerToggleBroadcastResponse,
};
use parlor_protocol::signal::socket::livestreaming::LeaveStageRequest;
use parlor_protocol::signal::socket::preset::{
    MediaPermissionUpdate, PresetUpdates, StreamPermission, StreamPermissionType,
};

use crate::media_plane::track;
use crate::participants::{all, host, participant, participant_with, peer, user, viewer, waiting};
use crate::permissions::update;
use crate::world::{Effects, World, join};

const SOURCES: [Source; 4] = [
    Source::Microphone,
    Source::Camera,
    Source::Screen,
    Source::ScreenAudio,
];

fn kind(media: &mut MediaPermissions, source: Source) -> &mut MediaPermission {
    let kind = match source {
        Source::Microphone => &mut media.audio,
        Source::Camera => &mut media.video,
        Source::Screen | Source::ScreenAudio => &mut media.screenshare,
    };
    &mut kind.can_produce
}

/// An update of one media permission during the call.
fn patch(source: Source, now: StreamPermissionType) -> PresetUpdates {
    let now = Some(StreamPermission {
        can_produce: Some(now.into()),
        can_consume: None,
    });
    let mut media = MediaPermissionUpdate::default();
    match source {
        Source::Microphone => media.audio = now,
        Source::Camera => media.video = now,
        Source::Screen | Source::ScreenAudio => media.screenshare = now,
    }
    PresetUpdates {
        media: Some(media),
        ..PresetUpdates::default()
    }
}

fn toggled(effects: &Effects, to: ConnectionId) -> PeerProducerToggleBroadcastResponse {
    effects.only_frame(to, event::PRODUCER_TOGGLED)
}

fn closed(effects: &Effects, to: ConnectionId) -> String {
    let closed: PeerProducerCloseBroadcastResponse = effects.only_frame(to, event::PRODUCER_CLOSED);
    closed.producer_state.expect("a state").producer_id
}

/// A webinar participant on the stage, with media.
fn on_stage(world: &mut World, profile: &PeerProfile) -> ConnectionId {
    let socket = world.join_with_media(profile);
    let outcome = world.request(socket, event::JOIN_STAGE, &());
    assert!(!outcome.is_rejected(), "{outcome:?}");
    socket
}

#[test]
fn a_source_requires_its_permission_and_the_stage_if_there_is_one() {
    use MediaPermission::{Allowed, CanRequest, NotAllowed};
    let mut checks = 0;
    for source in SOURCES {
        for permission in [Allowed, CanRequest, NotAllowed] {
            for (view, staged) in [
                (ViewType::GroupCall, false),
                (ViewType::Webinar, false),
                (ViewType::Webinar, true),
            ] {
                let mut world = World::new(Limits::default());
                let watcher = world.join_with_media(&participant(0));
                let mut profile = participant_with(1, view, all());
                // All other permissions are the opposite.
                for other in SOURCES {
                    let other = kind(&mut profile.permissions.media, other);
                    *other = if permission == Allowed {
                        NotAllowed
                    } else {
                        Allowed
                    };
                }
                *kind(&mut profile.permissions.media, source) = permission;
                let socket = if staged {
                    on_stage(&mut world, &profile)
                } else {
                    world.join_with_media(&profile)
                };
                let allowed = match (view, permission) {
                    (ViewType::GroupCall, permission) => permission == Allowed,
                    (_, permission) => staged && permission != NotAllowed,
                };
                let outcome = world.request_media(socket, event::PRODUCE, &track(source));
                let what = format!("{source:?} {permission:?} {view:?} {staged}");
                assert_eq!(outcome.is_rejected(), !allowed, "{what}");
                assert_eq!(outcome.effects.media.is_empty(), !allowed, "{what}");
                let received = outcome
                    .effects
                    .frames_to(watcher, event::PRODUCER_CREATED)
                    .len();
                assert_eq!(received, usize::from(allowed), "{what}");
                checks += 1;
            }
        }
    }
    assert_eq!(checks, 36);
}

#[test]
fn revoked_media_stops_at_once_and_resumes_when_permitted_again() {
    for source in SOURCES {
        let mut world = World::new(Limits::default());
        let (boss, socket) = (
            world.join_with_media(&host(0)),
            world.join_with_media(&participant(1)),
        );
        let id = world.publish(socket, source);
        let set = |world: &mut World, now| {
            let update = update(1, patch(source, now));
            let outcome = world.request(boss, event::UPDATE_USER_PRESET, &update);
            assert!(!outcome.is_rejected());
            outcome.effects
        };
        let effects = set(&mut world, StreamPermissionType::NotAllowed);
        assert!(!world.is_forwarded(&id));
        if source.is_screen() {
            // Clients close a screen share themselves, and ignore that it is paused.
            assert_eq!(closed(&effects, boss), id);
            assert!(
                world
                    .request(socket, event::PRODUCE, &track(source))
                    .is_rejected()
            );
            set(&mut world, StreamPermissionType::Allowed);
            world.publish(socket, source);
            continue;
        }
        for to in [boss, socket] {
            let push = toggled(&effects, to);
            assert_eq!(push.participant_id, peer(1, 0).to_string());
            assert!(push.producer_state.expect("a state").pause);
            assert!(push.initiator_participant_id.is_none());
        }
        assert!(world.toggle(socket, &id, false).is_rejected() && !world.is_forwarded(&id));
        assert!(!world.toggle(socket, &id, true).is_rejected());
        assert!(
            world
                .request(socket, event::PRODUCE, &track(source))
                .is_rejected()
        );
        let effects = set(&mut world, StreamPermissionType::Allowed);
        // A microphone is never resumed by another peer.
        assert!(
            effects.frames_to(boss, event::PRODUCER_TOGGLED).is_empty() && !world.is_forwarded(&id)
        );
        assert!(!world.toggle(socket, &id, false).is_rejected() && world.is_forwarded(&id));
        // A different preset on reconnection has the same effect.
        let mut profile = participant(1);
        *kind(&mut profile.permissions.media, source) = MediaPermission::NotAllowed;
        let mut world = World::new(Limits::default());
        let (boss, socket) = (
            world.join_with_media(&host(0)),
            world.join_with_media(&participant(1)),
        );
        let id = world.publish(socket, source);
        let (_, effects) = world.connect(&profile);
        assert!(
            !world.is_forwarded(&id)
                && toggled(&effects, boss)
                    .producer_state
                    .expect("a state")
                    .pause
        );
    }
}

#[test]
fn media_of_a_peer_that_leaves_the_stage_is_paused_until_it_returns() {
    for sent_down in [true, false] {
        let mut world = World::new(Limits::default());
        let boss = on_stage(&mut world, &participant_with(0, ViewType::Webinar, all()));
        let star = on_stage(&mut world, &participant_with(1, ViewType::Webinar, all()));
        let mic = world.publish(star, Source::Microphone);
        let screen = world.publish(star, Source::Screen);
        let down = LeaveStageRequest {
            user_ids: vec![user(1).to_string()],
        };
        let by = if sent_down { boss } else { star };
        let effects = world.request(by, event::LEAVE_STAGE, &down).effects;
        assert!(!world.is_forwarded(&mic) && !world.is_forwarded(&screen));
        assert_eq!(closed(&effects, boss), screen);
        assert!(
            toggled(&effects, boss)
                .producer_state
                .expect("a state")
                .pause
        );
        assert!(world.toggle(star, &mic, false).is_rejected());
        assert!(
            world
                .request(star, event::PRODUCE, &track(Source::Camera))
                .is_rejected()
        );
        assert!(!world.request(star, event::JOIN_STAGE, &()).is_rejected());
        assert!(!world.is_forwarded(&mic));
        // The client resumes the same microphone.
        assert!(!world.toggle(star, &mic, false).is_rejected() && world.is_forwarded(&mic));
    }
}

#[test]
fn a_host_mutes_others_who_may_unmute_themselves() {
    let mut world = World::new(Limits::default());
    let (boss, socket) = (
        world.join_with_media(&host(0)),
        world.join_with_media(&participant(1)),
    );
    let third = world.join_with_media(&participant(2));
    let tracks = SOURCES.map(|source| world.publish(socket, source));
    let mine = world.publish(boss, Source::Microphone);
    let theirs = world.publish(third, Source::Microphone);
    let one = |audio, video, screen| HostMediaControlForPeerRequest {
        participant_id: peer(1, 0).to_string(),
        audio,
        video,
        scree_share: screen,
    };
    for (at, request) in [(0, one(true, false, false)), (1, one(false, true, false))] {
        let outcome = world.request(boss, event::HOST_CONTROL_PEER, &request);
        assert_eq!(outcome.replies.len(), 1);
        for to in [boss, socket, third] {
            let push = toggled(&outcome.effects, to);
            let state = push.producer_state.expect("a state");
            assert!(state.pause && state.producer_id == tracks[at]);
            let by = push.initiator_participant_id;
            assert_eq!(by, Some(peer(0, 0).to_string()));
        }
        assert!(!world.is_forwarded(&tracks[at]));
        let again = world
            .request(boss, event::HOST_CONTROL_PEER, &request)
            .effects;
        assert!(again.frames_to(third, event::PRODUCER_TOGGLED).is_empty());
        assert!(!world.toggle(socket, &tracks[at], false).is_rejected());
        assert!(world.is_forwarded(&tracks[at]));
    }
    let request = one(false, false, true);
    let effects = world
        .request(boss, event::HOST_CONTROL_PEER, &request)
        .effects;
    assert_eq!(effects.frames_to(third, event::PRODUCER_CLOSED).len(), 2);
    assert!(!world.is_forwarded(&tracks[2]) && !world.is_forwarded(&tracks[3]));
    // Everyone except the sender.
    let all = HostMediaControlForAllPeerRequest {
        audio: true,
        ..HostMediaControlForAllPeerRequest::default()
    };
    let effects = world.request(boss, event::HOST_CONTROL_ALL, &all).effects;
    assert!(world.is_forwarded(&mine) && world.is_forwarded(&tracks[1]));
    assert!(!world.is_forwarded(&theirs) && !world.is_forwarded(&tracks[0]));
    assert_eq!(effects.frames_to(third, event::PRODUCER_TOGGLED).len(), 2);
    // A sender without the permission mutes no one.
    assert!(!world.toggle(third, &theirs, false).is_rejected());
    assert!(
        world
            .request(socket, event::HOST_CONTROL_ALL, &all)
            .is_rejected()
    );
    assert!(world.is_forwarded(&theirs));
}

#[test]
fn the_rest_api_mutes_all_clients_of_participants_and_all_participants() {
    let mut world = World::new(Limits::default());
    let mut second = participant(1);
    second.peer = peer(1, 1);
    let sockets = [host(0), participant(1), second].map(|profile| world.join_with_media(&profile));
    let mics = sockets.map(|socket| world.publish(socket, Source::Microphone));
    let cam = world.publish(sockets[1], Source::Camera);
    let (answer, effects) = world.command(Command::Mute(vec![ParticipantRef::Id(user(1))]));
    assert_eq!(answer, Answer::Participants(vec![user(1)]));
    assert!(world.is_forwarded(&mics[0]) && world.is_forwarded(&cam));
    assert!(!world.is_forwarded(&mics[1]) && !world.is_forwarded(&mics[2]));
    assert_eq!(
        effects.frames_to(sockets[1], event::PRODUCER_TOGGLED).len(),
        2
    );
    assert!(!world.toggle(sockets[1], &mics[1], false).is_rejected());
    for allow_unmute in [true, false] {
        let (answer, effects) = world.command(Command::MuteAll { allow_unmute });
        assert_eq!(answer, Answer::Count(3));
        assert!(mics.iter().all(|mic| !world.is_forwarded(mic)) && world.is_forwarded(&cam));
        let received = effects
            .frames_to(sockets[1], event::UPDATE_USER_PRESET)
            .len();
        assert_eq!(received, usize::from(!allow_unmute));
        let rejected = world.toggle(sockets[1], &mics[1], false).is_rejected();
        assert_eq!(rejected, !allow_unmute);
    }
}

#[test]
fn subscribers_who_can_no_longer_see_a_publisher_receive_nothing_from_it() {
    let mut world = World::new(Limits::default());
    let boss = on_stage(&mut world, &participant_with(0, ViewType::Webinar, all()));
    let star = on_stage(&mut world, &participant_with(1, ViewType::Webinar, all()));
    let watcher = world.join_with_media(&viewer(2, ViewType::Livestream));
    let mic = world.publish(star, Source::Microphone);
    let other = world.publish(boss, Source::Microphone);
    for socket in [watcher, boss] {
        let outcome = world.subscribe(socket, &[&mic, &other]);
        assert!(!outcome.is_rejected());
    }
    let down = LeaveStageRequest::default();
    let effects = world.request(star, event::LEAVE_STAGE, &down).effects;
    let left = [event::LEAVE_ROOM, event::MEDIA_PEER_LEFT];
    assert_eq!(effects.events(watcher), left);
    assert!(!world.receives(peer(2, 0), &mic) && world.receives(peer(2, 0), &other));
    assert!(world.receives(peer(0, 0), &mic));
    let reply: ConsumePeerResponse = world.subscribe(watcher, &[&mic]).reply(event::CONSUME);
    let map = reply.consumer_ids_map.expect("a map").map;
    assert!(map[&mic].error_code.is_some() && reply.description.is_none());
    let effects = world.request(star, event::JOIN_STAGE, &()).effects;
    let back = [event::JOIN_ROOM, event::MEDIA_PEER_JOINED];
    assert_eq!(effects.events(watcher), back);
    assert!(!world.subscribe(watcher, &[&mic]).is_rejected());
    // The publisher becomes hidden.
    let hidden = PresetUpdates {
        hidden_participant: Some(true),
        ..PresetUpdates::default()
    };
    let effects = world
        .request(boss, event::UPDATE_USER_PRESET, &update(1, hidden))
        .effects;
    assert_eq!(effects.frames_to(boss, event::MEDIA_PEER_LEFT).len(), 1);
    for viewer in [0, 2] {
        assert!(!world.receives(peer(viewer, 0), &mic));
    }
}

#[test]
fn a_new_viewer_receives_only_the_stage_and_sees_all_when_it_can_admit() {
    let mut world = World::new(Limits::default());
    let boss = on_stage(&mut world, &participant_with(0, ViewType::Webinar, all()));
    let off = world.join_with_media(&participant_with(1, ViewType::Webinar, all()));
    let mut profile = viewer(2, ViewType::Livestream);
    profile.permissions.can_accept_production_requests = true;
    let watcher = world.join_with_media(&profile);
    let mic = world.publish(boss, Source::Microphone);
    assert!(!world.subscribe(watcher, &[&mic]).is_rejected());
    world.request(off, event::JOIN_STAGE, &());
    let theirs = world.publish(off, Source::Microphone);
    world.request(off, event::LEAVE_STAGE, &LeaveStageRequest::default());
    assert!(!world.subscribe(watcher, &[&theirs]).is_rejected());
    assert!(world.receives(peer(2, 0), &theirs));
    let decides = |world: &mut World, on| {
        let patch = PresetUpdates {
            can_accept_production_requests: Some(on),
            ..PresetUpdates::default()
        };
        world
            .request(boss, event::UPDATE_USER_PRESET, &update(2, patch))
            .effects
    };
    let effects = decides(&mut world, false);
    let expected = [
        event::LEAVE_ROOM,
        event::MEDIA_PEER_LEFT,
        event::UPDATE_USER_PRESET,
    ];
    assert_eq!(effects.events(watcher), expected);
    assert!(!world.receives(peer(2, 0), &theirs) && world.receives(peer(2, 0), &mic));
    let effects = decides(&mut world, true);
    let expected = [
        event::JOIN_ROOM,
        event::MEDIA_PEER_JOINED,
        event::UPDATE_USER_PRESET,
    ];
    assert_eq!(effects.events(watcher), expected);
}

#[test]
fn changes_while_the_media_plane_is_busy_are_applied() {
    // A subscriber that can no longer see the publisher.
    let mut world = World::new(Limits::default());
    let (boss, star) = (
        world.join_with_media(&host(0)),
        world.join_with_media(&participant(1)),
    );
    let cam = world.publish(star, Source::Camera);
    let hidden = PresetUpdates {
        hidden_participant: Some(true),
        ..PresetUpdates::default()
    };
    let request = ConsumePeersRequest {
        requests: vec![ConsumePeerRequest {
            producer_id: Some(cam.clone()),
            ..ConsumePeerRequest::default()
        }],
        consuming_transport_id: None,
    };
    assert!(
        world
            .request(boss, event::CONSUME, &request)
            .replies
            .is_empty()
    );
    world.request(boss, event::UPDATE_USER_PRESET, &update(1, hidden));
    let effects = world.answer_order(0);
    let reply: ConsumePeerResponse = effects.only_frame(boss, event::CONSUME);
    let map = reply.consumer_ids_map.expect("a map").map;
    assert_eq!(
        map[&cam].error_code.as_deref(),
        Some("not_found_track_error")
    );
    assert!(!world.receives(peer(0, 0), &cam));
    // A publisher that is muted before its microphone is ready.
    let mut world = World::new(Limits::default());
    let (boss, star) = (
        world.join_with_media(&host(0)),
        world.join_with_media(&participant(1)),
    );
    world.request(star, event::PRODUCE, &track(Source::Microphone));
    world.command(Command::MuteAll { allow_unmute: true });
    let effects = world.answer_order(0);
    assert!(
        toggled(&effects, star)
            .producer_state
            .expect("a state")
            .pause
    );
    assert!(effects.frames_to(boss, event::PRODUCER_TOGGLED).is_empty());
    assert!(
        world
            .media_plane
            .producers
            .values()
            .all(|existing| existing.paused)
    );
    // A publisher that loses the permission before its screen share is ready.
    world.request(star, event::PRODUCE, &track(Source::Screen));
    let patch = patch(Source::Screen, StreamPermissionType::NotAllowed);
    world.request(boss, event::UPDATE_USER_PRESET, &update(1, patch));
    let effects = world.answer_order(0);
    assert_eq!(effects.frames_to(star, event::MEDIA_ERROR).len(), 1);
    assert!(effects.frames_to(boss, event::PRODUCER_CREATED).is_empty());
    assert_eq!(world.media_plane.producers.len(), 1);
}

/// Whether a request about a producer is rejected.
type Refused = fn(&mut World, ConnectionId, &str) -> bool;

#[test]
fn waiting_and_outside_peers_publish_and_receive_nothing() {
    let mut world = World::new(Limits::default());
    let boss = world.join_with_media(&host(0));
    let mic = world.publish(boss, Source::Microphone);
    let (waits, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    world.request(waits, event::MEDIA_JOIN, &());
    for publishes in [true, false] {
        world.transport(waits, publishes);
    }
    world.request(waits, event::JOIN_ROOM, &());
    let asks: [(u32, Refused); 5] = [
        (event::MEDIA_JOIN_COMPLETE, |world, socket, _| {
            world
                .request(socket, event::MEDIA_JOIN_COMPLETE, &())
                .is_rejected()
        }),
        (event::PRODUCE, |world, socket, _| {
            let track = track(Source::Microphone);
            world.request(socket, event::PRODUCE, &track).is_rejected()
        }),
        (event::CONSUME, |world, socket, mic| {
            world.subscribe(socket, &[mic]).is_rejected()
        }),
        (event::TOGGLE_PRODUCER, |world, socket, mic| {
            world.toggle(socket, mic, true).is_rejected()
        }),
        (event::HOST_CONTROL_ALL, |world, socket, _| {
            let all = HostMediaControlForAllPeerRequest {
                audio: true,
                ..HostMediaControlForAllPeerRequest::default()
            };
            world
                .request(socket, event::HOST_CONTROL_ALL, &all)
                .is_rejected()
        }),
    ];
    for (event, rejected) in asks {
        assert!(rejected(&mut world, waits, &mic), "{event}");
    }
    let cam = world
        .request_media(boss, event::PRODUCE, &track(Source::Camera))
        .effects;
    assert!(cam.events(waits).is_empty());
    let effects = world.handle(Input::ActiveSpeakers(vec![peer(0, 0)]));
    assert!(effects.events(waits).is_empty());
}

#[test]
fn a_pin_is_forwarded_to_the_media_plane_and_ends_with_its_peer() {
    let mut world = World::new(Limits::default());
    let (boss, star) = (
        world.join_with_media(&host(0)),
        join(&mut world, &participant(1)),
    );
    let pin = GlobalPeerPinningRequest {
        participant_id: peer(1, 0).to_string(),
    };
    for first in [true, false] {
        let effects = world.request(boss, event::PIN_PEER, &pin).effects;
        assert_eq!(effects.media.len(), usize::from(first));
        assert_eq!(world.media_plane.pinned, Some(peer(1, 0)));
    }
    let effects = world.close(star, true);
    assert!(effects.media.contains(&MediaOrder::Pin { peer: None }));
    assert_eq!(world.media_plane.pinned, None);
}

#[test]
fn a_pin_of_a_hidden_peer_is_not_announced_to_others() {
    let mut world = World::new(Limits::default());
    let boss = world.join_with_media(&host(0));
    let mut hidden = participant(1);
    hidden.permissions.hidden_participant = true;
    hidden.permissions.pin_participant = true;
    let hidden = join(&mut world, &hidden);
    let pin = GlobalPeerPinningRequest {
        participant_id: peer(1, 0).to_string(),
    };
    let effects = world.request(hidden, event::PIN_PEER, &pin).effects;
    let pinned = |to| {
        let push: GlobalPeerPinningBroadcastResponse = effects.only_frame(to, event::PEER_PINNED);
        push.participant_id
    };
    assert_eq!(pinned(hidden), peer(1, 0).to_string());
    assert_eq!(pinned(boss), "");
}
