//! Who may publish and receive, at every moment (docs/spec/media.md 2 to 4;
//! docs/spec/signalling.md 3.3 and 6.8).

use parlor_live::{
    Answer, Command, ConnectionId, Input, Limits, MediaOrder, Newcomer, Person, Source,
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

use crate::people::{all, guest, host, peer, somebody, user, viewer, waiting};
use crate::permissions::update;
use crate::plane::track;
use crate::world::{Done, World, join};

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

/// A change of one kind of media during the call.
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

fn toggled(done: &Done, to: ConnectionId) -> PeerProducerToggleBroadcastResponse {
    done.one(to, event::PRODUCER_TOGGLED)
}

fn closed(done: &Done, to: ConnectionId) -> String {
    let closed: PeerProducerCloseBroadcastResponse = done.one(to, event::PRODUCER_CLOSED);
    closed.producer_state.expect("a state").producer_id
}

/// A webinar's speaker, on the stage and with media.
fn on_stage(world: &mut World, who: &Newcomer) -> ConnectionId {
    let socket = world.present(who);
    let asked = world.ask(socket, event::JOIN_STAGE, &());
    assert!(!asked.refused(), "{asked:?}");
    socket
}

#[test]
fn a_source_is_published_only_with_its_permission_and_with_a_stage_only_on_it() {
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
                let watches = world.present(&guest(0));
                let mut who = somebody(1, view, all());
                // All others are the opposite.
                for other in SOURCES {
                    let other = kind(&mut who.permissions.media, other);
                    *other = if permission == Allowed {
                        NotAllowed
                    } else {
                        Allowed
                    };
                }
                *kind(&mut who.permissions.media, source) = permission;
                let socket = if staged {
                    on_stage(&mut world, &who)
                } else {
                    world.present(&who)
                };
                let may = match (view, permission) {
                    (ViewType::GroupCall, permission) => permission == Allowed,
                    (_, permission) => staged && permission != NotAllowed,
                };
                let asked = world.media(socket, event::PRODUCE, &track(source));
                let what = format!("{source:?} {permission:?} {view:?} {staged}");
                assert_eq!(asked.refused(), !may, "{what}");
                assert_eq!(asked.done.media.is_empty(), !may, "{what}");
                let told = asked.done.of(watches, event::PRODUCER_CREATED).len();
                assert_eq!(told, usize::from(may), "{what}");
                checks += 1;
            }
        }
    }
    assert_eq!(checks, 36);
}

#[test]
fn what_is_forbidden_during_the_call_stops_at_once_and_goes_on_when_it_is_allowed_again() {
    for source in SOURCES {
        let mut world = World::new(Limits::default());
        let (boss, socket) = (world.present(&host(0)), world.present(&guest(1)));
        let id = world.publish(socket, source);
        let set = |world: &mut World, now| {
            let update = update(1, patch(source, now));
            let asked = world.ask(boss, event::UPDATE_USER_PRESET, &update);
            assert!(!asked.refused());
            asked.done
        };
        let done = set(&mut world, StreamPermissionType::NotAllowed);
        assert!(!world.flows(&id));
        if source.is_screen() {
            // Clients end it themselves, and take no notice of one that pauses.
            assert_eq!(closed(&done, boss), id);
            assert!(world.ask(socket, event::PRODUCE, &track(source)).refused());
            set(&mut world, StreamPermissionType::Allowed);
            world.publish(socket, source);
            continue;
        }
        for to in [boss, socket] {
            let told = toggled(&done, to);
            assert_eq!(told.participant_id, peer(1, 0).to_string());
            assert!(told.producer_state.expect("a state").pause);
            assert!(told.initiator_participant_id.is_none());
        }
        assert!(world.toggle(socket, &id, false).refused() && !world.flows(&id));
        assert!(!world.toggle(socket, &id, true).refused());
        assert!(world.ask(socket, event::PRODUCE, &track(source)).refused());
        let done = set(&mut world, StreamPermissionType::Allowed);
        // Nobody's microphone is turned on by somebody else.
        assert!(done.of(boss, event::PRODUCER_TOGGLED).is_empty() && !world.flows(&id));
        assert!(!world.toggle(socket, &id, false).refused() && world.flows(&id));
        // Another preset, when it comes back, is no other.
        let mut who = guest(1);
        *kind(&mut who.permissions.media, source) = MediaPermission::NotAllowed;
        let mut world = World::new(Limits::default());
        let (boss, socket) = (world.present(&host(0)), world.present(&guest(1)));
        let id = world.publish(socket, source);
        let (_, done) = world.connect(&who);
        assert!(!world.flows(&id) && toggled(&done, boss).producer_state.expect("a state").pause);
    }
}

#[test]
fn whoever_leaves_the_stage_is_neither_heard_nor_seen_until_it_is_back() {
    for sent_down in [true, false] {
        let mut world = World::new(Limits::default());
        let boss = on_stage(&mut world, &somebody(0, ViewType::Webinar, all()));
        let star = on_stage(&mut world, &somebody(1, ViewType::Webinar, all()));
        let mic = world.publish(star, Source::Microphone);
        let screen = world.publish(star, Source::Screen);
        let down = LeaveStageRequest {
            user_ids: vec![user(1).to_string()],
        };
        let by = if sent_down { boss } else { star };
        let done = world.ask(by, event::LEAVE_STAGE, &down).done;
        assert!(!world.flows(&mic) && !world.flows(&screen));
        assert_eq!(closed(&done, boss), screen);
        assert!(toggled(&done, boss).producer_state.expect("a state").pause);
        assert!(world.toggle(star, &mic, false).refused());
        assert!(
            world
                .ask(star, event::PRODUCE, &track(Source::Camera))
                .refused()
        );
        assert!(!world.ask(star, event::JOIN_STAGE, &()).refused());
        assert!(!world.flows(&mic));
        // Its client goes on with the same microphone.
        assert!(!world.toggle(star, &mic, false).refused() && world.flows(&mic));
    }
}

#[test]
fn a_host_silences_others_who_may_speak_again() {
    let mut world = World::new(Limits::default());
    let (boss, socket) = (world.present(&host(0)), world.present(&guest(1)));
    let third = world.present(&guest(2));
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
        let asked = world.ask(boss, event::HOST_CONTROL_PEER, &request);
        assert_eq!(asked.replies.len(), 1);
        for to in [boss, socket, third] {
            let told = toggled(&asked.done, to);
            let state = told.producer_state.expect("a state");
            assert!(state.pause && state.producer_id == tracks[at]);
            let by = told.initiator_participant_id;
            assert_eq!(by, Some(peer(0, 0).to_string()));
        }
        assert!(!world.flows(&tracks[at]));
        let again = world.ask(boss, event::HOST_CONTROL_PEER, &request).done;
        assert!(again.of(third, event::PRODUCER_TOGGLED).is_empty());
        assert!(!world.toggle(socket, &tracks[at], false).refused());
        assert!(world.flows(&tracks[at]));
    }
    let request = one(false, false, true);
    let done = world.ask(boss, event::HOST_CONTROL_PEER, &request).done;
    assert_eq!(done.of(third, event::PRODUCER_CLOSED).len(), 2);
    assert!(!world.flows(&tracks[2]) && !world.flows(&tracks[3]));
    // Everybody but the one who asks.
    let all = HostMediaControlForAllPeerRequest {
        audio: true,
        ..HostMediaControlForAllPeerRequest::default()
    };
    let done = world.ask(boss, event::HOST_CONTROL_ALL, &all).done;
    assert!(world.flows(&mine) && world.flows(&tracks[1]));
    assert!(!world.flows(&theirs) && !world.flows(&tracks[0]));
    assert_eq!(done.of(third, event::PRODUCER_TOGGLED).len(), 2);
    // Somebody without the permission silences nobody.
    assert!(!world.toggle(third, &theirs, false).refused());
    assert!(world.ask(socket, event::HOST_CONTROL_ALL, &all).refused());
    assert!(world.flows(&theirs));
}

#[test]
fn the_rest_api_mutes_people_with_all_their_clients_and_everybody() {
    let mut world = World::new(Limits::default());
    let mut second = guest(1);
    second.peer = peer(1, 1);
    let sockets = [host(0), guest(1), second].map(|who| world.present(&who));
    let mics = sockets.map(|socket| world.publish(socket, Source::Microphone));
    let cam = world.publish(sockets[1], Source::Camera);
    let (answer, done) = world.command(Command::Mute(vec![Person::Id(user(1))]));
    assert_eq!(answer, Answer::People(vec![user(1)]));
    assert!(world.flows(&mics[0]) && world.flows(&cam));
    assert!(!world.flows(&mics[1]) && !world.flows(&mics[2]));
    assert_eq!(done.of(sockets[1], event::PRODUCER_TOGGLED).len(), 2);
    assert!(!world.toggle(sockets[1], &mics[1], false).refused());
    for allow_unmute in [true, false] {
        let (answer, done) = world.command(Command::MuteAll { allow_unmute });
        assert_eq!(answer, Answer::Count(3));
        assert!(mics.iter().all(|mic| !world.flows(mic)) && world.flows(&cam));
        let told = done.of(sockets[1], event::UPDATE_USER_PRESET).len();
        assert_eq!(told, usize::from(!allow_unmute));
        let refused = world.toggle(sockets[1], &mics[1], false).refused();
        assert_eq!(refused, !allow_unmute);
    }
}

#[test]
fn whoever_sees_somebody_no_more_receives_nothing_of_them() {
    let mut world = World::new(Limits::default());
    let boss = on_stage(&mut world, &somebody(0, ViewType::Webinar, all()));
    let star = on_stage(&mut world, &somebody(1, ViewType::Webinar, all()));
    let watches = world.present(&viewer(2, ViewType::Livestream));
    let mic = world.publish(star, Source::Microphone);
    let other = world.publish(boss, Source::Microphone);
    for socket in [watches, boss] {
        let asked = world.subscribe(socket, &[&mic, &other]);
        assert!(!asked.refused());
    }
    let down = LeaveStageRequest::default();
    let done = world.ask(star, event::LEAVE_STAGE, &down).done;
    let left = [event::LEAVE_ROOM, event::MEDIA_PEER_LEFT];
    assert_eq!(done.events(watches), left);
    assert!(!world.receives(peer(2, 0), &mic) && world.receives(peer(2, 0), &other));
    assert!(world.receives(peer(0, 0), &mic));
    let told: ConsumePeerResponse = world.subscribe(watches, &[&mic]).reply(event::CONSUME);
    let map = told.consumer_ids_map.expect("a map").map;
    assert!(map[&mic].error_code.is_some() && told.description.is_none());
    let done = world.ask(star, event::JOIN_STAGE, &()).done;
    let back = [event::JOIN_ROOM, event::MEDIA_PEER_JOINED];
    assert_eq!(done.events(watches), back);
    assert!(!world.subscribe(watches, &[&mic]).refused());
    // Hidden all of a sudden.
    let hidden = PresetUpdates {
        hidden_participant: Some(true),
        ..PresetUpdates::default()
    };
    let done = world
        .ask(boss, event::UPDATE_USER_PRESET, &update(1, hidden))
        .done;
    assert_eq!(done.of(boss, event::MEDIA_PEER_LEFT).len(), 1);
    for viewer in [0, 2] {
        assert!(!world.receives(peer(viewer, 0), &mic));
    }
}

#[test]
fn a_viewer_that_becomes_one_receives_only_the_stage_and_learns_of_all_when_it_decides() {
    let mut world = World::new(Limits::default());
    let boss = on_stage(&mut world, &somebody(0, ViewType::Webinar, all()));
    let off = world.present(&somebody(1, ViewType::Webinar, all()));
    let mut who = viewer(2, ViewType::Livestream);
    who.permissions.can_accept_production_requests = true;
    let watches = world.present(&who);
    let mic = world.publish(boss, Source::Microphone);
    assert!(!world.subscribe(watches, &[&mic]).refused());
    world.ask(off, event::JOIN_STAGE, &());
    let theirs = world.publish(off, Source::Microphone);
    world.ask(off, event::LEAVE_STAGE, &LeaveStageRequest::default());
    assert!(!world.subscribe(watches, &[&theirs]).refused());
    assert!(world.receives(peer(2, 0), &theirs));
    let decides = |world: &mut World, on| {
        let patch = PresetUpdates {
            can_accept_production_requests: Some(on),
            ..PresetUpdates::default()
        };
        world
            .ask(boss, event::UPDATE_USER_PRESET, &update(2, patch))
            .done
    };
    let done = decides(&mut world, false);
    let told = [
        event::LEAVE_ROOM,
        event::MEDIA_PEER_LEFT,
        event::UPDATE_USER_PRESET,
    ];
    assert_eq!(done.events(watches), told);
    assert!(!world.receives(peer(2, 0), &theirs) && world.receives(peer(2, 0), &mic));
    let done = decides(&mut world, true);
    let told = [
        event::JOIN_ROOM,
        event::MEDIA_PEER_JOINED,
        event::UPDATE_USER_PRESET,
    ];
    assert_eq!(done.events(watches), told);
}

#[test]
fn what_changes_while_the_media_plane_is_asked_counts() {
    // Somebody who asks to receive, and sees the publisher no more.
    let mut world = World::new(Limits::default());
    let (boss, star) = (world.present(&host(0)), world.present(&guest(1)));
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
    assert!(world.ask(boss, event::CONSUME, &request).replies.is_empty());
    world.ask(boss, event::UPDATE_USER_PRESET, &update(1, hidden));
    let done = world.answer(0);
    let told: ConsumePeerResponse = done.one(boss, event::CONSUME);
    let map = told.consumer_ids_map.expect("a map").map;
    assert_eq!(
        map[&cam].error_code.as_deref(),
        Some("not_found_track_error")
    );
    assert!(!world.receives(peer(0, 0), &cam));
    // Somebody who is muted before its microphone is there.
    let mut world = World::new(Limits::default());
    let (boss, star) = (world.present(&host(0)), world.present(&guest(1)));
    world.ask(star, event::PRODUCE, &track(Source::Microphone));
    world.command(Command::MuteAll { allow_unmute: true });
    let done = world.answer(0);
    assert!(toggled(&done, star).producer_state.expect("a state").pause);
    assert!(done.of(boss, event::PRODUCER_TOGGLED).is_empty());
    assert!(world.plane.producers.values().all(|there| there.paused));
    // Somebody who may not share its screen before it is there.
    world.ask(star, event::PRODUCE, &track(Source::Screen));
    let patch = patch(Source::Screen, StreamPermissionType::NotAllowed);
    world.ask(boss, event::UPDATE_USER_PRESET, &update(1, patch));
    let done = world.answer(0);
    assert_eq!(done.of(star, event::MEDIA_ERROR).len(), 1);
    assert!(done.of(boss, event::PRODUCER_CREATED).is_empty());
    assert_eq!(world.plane.producers.len(), 1);
}

/// Whether a request about a track is refused.
type Refused = fn(&mut World, ConnectionId, &str) -> bool;

#[test]
fn those_who_wait_and_those_outside_publish_and_receive_nothing() {
    let mut world = World::new(Limits::default());
    let boss = world.present(&host(0));
    let mic = world.publish(boss, Source::Microphone);
    let (waits, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    world.ask(waits, event::MEDIA_JOIN, &());
    for publishes in [true, false] {
        world.transport(waits, publishes);
    }
    world.ask(waits, event::JOIN_ROOM, &());
    let asks: [(u32, Refused); 5] = [
        (event::MEDIA_JOIN_COMPLETE, |world, socket, _| {
            world.ask(socket, event::MEDIA_JOIN_COMPLETE, &()).refused()
        }),
        (event::PRODUCE, |world, socket, _| {
            let track = track(Source::Microphone);
            world.ask(socket, event::PRODUCE, &track).refused()
        }),
        (event::CONSUME, |world, socket, mic| {
            world.subscribe(socket, &[mic]).refused()
        }),
        (event::TOGGLE_PRODUCER, |world, socket, mic| {
            world.toggle(socket, mic, true).refused()
        }),
        (event::HOST_CONTROL_ALL, |world, socket, _| {
            let all = HostMediaControlForAllPeerRequest {
                audio: true,
                ..HostMediaControlForAllPeerRequest::default()
            };
            world.ask(socket, event::HOST_CONTROL_ALL, &all).refused()
        }),
    ];
    for (event, refused) in asks {
        assert!(refused(&mut world, waits, &mic), "{event}");
    }
    let cam = world
        .media(boss, event::PRODUCE, &track(Source::Camera))
        .done;
    assert!(cam.events(waits).is_empty());
    let done = world.take(Input::Speaking(vec![peer(0, 0)]));
    assert!(done.events(waits).is_empty());
}

#[test]
fn a_pin_is_told_to_the_media_plane_and_ends_with_its_peer() {
    let mut world = World::new(Limits::default());
    let (boss, star) = (world.present(&host(0)), join(&mut world, &guest(1)));
    let pin = GlobalPeerPinningRequest {
        participant_id: peer(1, 0).to_string(),
    };
    for first in [true, false] {
        let done = world.ask(boss, event::PIN_PEER, &pin).done;
        assert_eq!(done.media.len(), usize::from(first));
        assert_eq!(world.plane.pinned, Some(peer(1, 0)));
    }
    let done = world.close(star, true);
    assert!(done.media.contains(&MediaOrder::Pin { peer: None }));
    assert_eq!(world.plane.pinned, None);
}

#[test]
fn a_pin_of_somebody_hidden_is_told_to_nobody_else() {
    let mut world = World::new(Limits::default());
    let boss = world.present(&host(0));
    let mut hidden = guest(1);
    hidden.permissions.hidden_participant = true;
    hidden.permissions.pin_participant = true;
    let spy = join(&mut world, &hidden);
    let pin = GlobalPeerPinningRequest {
        participant_id: peer(1, 0).to_string(),
    };
    let done = world.ask(spy, event::PIN_PEER, &pin).done;
    let told = |to| {
        let push: GlobalPeerPinningBroadcastResponse = done.one(to, event::PEER_PINNED);
        push.participant_id
    };
    assert_eq!(told(spy), peer(1, 0).to_string());
    assert_eq!(told(boss), "");
}
