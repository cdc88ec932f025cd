//! Lost connections: the state that is kept, changes during the absence, and when a peer has left
//! (docs/spec/signalling.md 1.5; docs/spec/media.md 5).

use parlor_live::Limits;
use parlor_protocol::preset::{MediaPermission, ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::PeerJoinRequest;
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, PeerInfoResponse, PeerStatusUpdate, StageType,
};

use crate::participants::{all, host, participant, participant_with, peer, user, viewer, waiting};
use crate::world::{World, join};

#[test]
fn a_rejected_peer_keeps_its_minute_after_an_earlier_disconnect() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let profile = waiting(1, WaitingRoomType::SkipOnAccept);
    let (lost, _) = world.connect(&profile);
    world.request(lost, event::JOIN_ROOM, &());
    world.close(lost, false);
    world.advance(1_000);
    let (socket, _) = world.connect(&profile);
    let deny = AcceptWaitingRoomRequests {
        user_ids: vec![user(1).to_string()],
    };
    world.request(boss, event::DENY_WAITING_ROOM_REQUESTS, &deny);
    // The grace period of the lost connection ends after 45 s.
    assert!(world.advance(59_999).closed.is_empty());
    assert_eq!(world.advance(1).closed[0].0, socket);
}

#[test]
fn a_peer_that_reconnects_with_another_preset_is_shown_with_it() {
    let mut world = World::new(Limits::default());
    let watcher = join(&mut world, &host(0));
    let mut profile = participant_with(1, ViewType::Webinar, all());
    let socket = join(&mut world, &profile);
    world.request(socket, event::JOIN_STAGE, &());
    // The peer is hidden now, so a leave is pushed to the peers that could see it.
    profile.permissions.hidden_participant = true;
    let (_, effects) = world.connect(&profile);
    assert_eq!(effects.events(watcher), [event::LEAVE_ROOM]);
    profile.permissions.hidden_participant = false;
    profile.preset_name = "other".to_owned();
    let (_, effects) = world.connect(&profile);
    let shown: PeerInfoResponse = effects.only_frame(watcher, event::JOIN_ROOM);
    let flags = shown.peer.and_then(|peer| peer.flags);
    assert_eq!(
        flags.map(|flags| flags.preset_name).as_deref(),
        Some("other")
    );
}

#[test]
fn a_reconnected_peer_has_the_stage_of_its_new_view() {
    let mut world = World::new(Limits::default());
    let watcher = join(&mut world, &host(0));
    let webinar = viewer(1, ViewType::Webinar);
    let lost = join(&mut world, &webinar);
    let mut group = participant(1);
    group.permissions.stage_access = Some(MediaPermission::NotAllowed);
    let mut lost = lost;
    for (profile, stage) in [
        (&group, StageType::OnStage),
        (&webinar, StageType::OffStage),
        (&group, StageType::OnStage),
    ] {
        world.close(lost, false);
        let (socket, effects) = world.connect(profile);
        let push: PeerStatusUpdate = effects.only_frame(watcher, event::PEER_STAGE_STATUS_UPDATE);
        assert_eq!(push.stage_type(), stage);
        let outcome = world.request(socket, event::JOIN_ROOM, &());
        let me: PeerInfoResponse = outcome.reply(event::JOIN_ROOM);
        assert_eq!(me.peer.expect("a peer").stage_type(), stage);
        lost = socket;
    }
    // The preset's own stage state is restored after a crash.
    let mut staged = group.clone();
    staged.permissions.stage_enabled = true;
    world.connect(&staged);
    world.crash(world.now_ms);
    let socket = join(&mut world, &staged);
    let outcome = world.request(socket, event::JOIN_ROOM, &());
    let me: PeerInfoResponse = outcome.reply(event::JOIN_ROOM);
    assert_eq!(me.peer.expect("a peer").stage_type(), StageType::OffStage);
}

#[test]
fn a_peer_that_reconnects_without_joining_left_when_it_disconnected() {
    let mut world = World::new(Limits::default());
    join(&mut world, &host(0));
    let socket = join(&mut world, &participant(1));
    world.advance(1_000);
    world.close(socket, false);
    world.advance(10_000);
    let (again, _) = world.connect(&participant(1));
    world.advance(10_000);
    world.close(again, false);
    world.advance(10_000);
    world.connect(&participant(1));
    world.advance(45_000);
    let mut records = world.records.peers.values();
    let record = records.find(|record| record.peer == peer(1, 0));
    assert_eq!(record.expect("a record").consumed_ms, 1_000);
}

#[test]
fn a_session_does_not_end_before_its_last_peer_has_left() {
    let mut world = World::new(Limits::default());
    let (lost, stays) = (
        join(&mut world, &participant(1)),
        join(&mut world, &participant(2)),
    );
    world.close(lost, false);
    world.advance(40_000);
    let left_ms = world.now_ms;
    world.close(stays, true);
    world.advance(5_000);
    world.advance(60_000);
    let session = world.records.sessions.values().next().expect("a session");
    assert_eq!(session.ended_ms, Some(left_ms + 60_000));
}

#[test]
fn media_continues_unannounced_after_a_reconnect() {
    let mut world = World::new(Limits::default());
    let (watcher, socket) = (
        join(&mut world, &host(0)),
        join(&mut world, &participant(1)),
    );
    for socket in [watcher, socket] {
        world.request(socket, event::MEDIA_JOIN, &());
        world.request(socket, event::MEDIA_JOIN_COMPLETE, &());
    }
    world.close(socket, false);
    let socket = join(&mut world, &participant(1));
    let again = |prejoined| PeerJoinRequest {
        prejoined,
        ..PeerJoinRequest::default()
    };
    let announced = |world: &mut World, event, prejoined| {
        let outcome = world.request(socket, event, &again(prejoined));
        assert!(!outcome.is_rejected());
        outcome.effects.events(watcher)
    };
    assert!(announced(&mut world, event::MEDIA_JOIN, true).is_empty());
    assert!(announced(&mut world, event::MEDIA_JOIN_COMPLETE, true).is_empty());
    // The media join starts over.
    let left = announced(&mut world, event::MEDIA_JOIN, false);
    assert_eq!(left, [event::MEDIA_PEER_LEFT]);
    let ready = announced(&mut world, event::MEDIA_JOIN_COMPLETE, true);
    assert_eq!(ready, [event::MEDIA_PEER_JOINED]);
}
