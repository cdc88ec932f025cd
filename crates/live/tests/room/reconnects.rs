//! Lines that break: what stays, what changed meanwhile, and when somebody has left
//! (docs/spec/signalling.md 1.5; docs/spec/media.md 5).

use parlor_live::Limits;
use parlor_protocol::preset::{MediaPermission, ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::PeerJoinRequest;
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, PeerInfoResponse, PeerStatusUpdate, StageType,
};

use crate::people::{all, guest, host, peer, somebody, user, viewer, waiting};
use crate::world::{World, join};

#[test]
fn whoever_was_turned_away_has_their_minute_though_their_line_broke_before() {
    let mut world = World::new(Limits::default());
    let boss = join(&mut world, &host(0));
    let who = waiting(1, WaitingRoomType::SkipOnAccept);
    let (lost, _) = world.connect(&who);
    world.ask(lost, event::JOIN_ROOM, &());
    world.close(lost, false);
    world.pass(1_000);
    let (socket, _) = world.connect(&who);
    let deny = AcceptWaitingRoomRequests {
        user_ids: vec![user(1).to_string()],
    };
    world.ask(boss, event::DENY_WAITING_ROOM_REQUESTS, &deny);
    // The grace of the line that broke is over after 45 s.
    assert!(world.pass(59_999).closed.is_empty());
    assert_eq!(world.pass(1).closed[0].0, socket);
}

#[test]
fn whoever_comes_back_with_another_preset_is_shown_as_they_are_now() {
    let mut world = World::new(Limits::default());
    let watches = join(&mut world, &host(0));
    let mut who = somebody(1, ViewType::Webinar, all());
    let socket = join(&mut world, &who);
    world.ask(socket, event::JOIN_STAGE, &());
    // Hidden now: whoever leaves their sight is the one they knew.
    who.permissions.hidden_participant = true;
    let (_, done) = world.connect(&who);
    assert_eq!(done.events(watches), [event::LEAVE_ROOM]);
    who.permissions.hidden_participant = false;
    who.preset_name = "other".to_owned();
    let (_, done) = world.connect(&who);
    let shown: PeerInfoResponse = done.one(watches, event::JOIN_ROOM);
    let flags = shown.peer.and_then(|peer| peer.flags);
    assert_eq!(
        flags.map(|flags| flags.preset_name).as_deref(),
        Some("other")
    );
}

#[test]
fn the_stage_of_a_peer_is_that_of_the_call_it_comes_back_to() {
    let mut world = World::new(Limits::default());
    let watches = join(&mut world, &host(0));
    let webinar = viewer(1, ViewType::Webinar);
    let lost = join(&mut world, &webinar);
    let mut group = guest(1);
    group.permissions.stage_access = Some(MediaPermission::NotAllowed);
    let mut lost = lost;
    for (who, stage) in [
        (&group, StageType::OnStage),
        (&webinar, StageType::OffStage),
        (&group, StageType::OnStage),
    ] {
        world.close(lost, false);
        let (socket, done) = world.connect(who);
        let told: PeerStatusUpdate = done.one(watches, event::PEER_STAGE_STATUS_UPDATE);
        assert_eq!(told.stage_type(), stage);
        let asked = world.ask(socket, event::JOIN_ROOM, &());
        let me: PeerInfoResponse = asked.reply(event::JOIN_ROOM);
        assert_eq!(me.peer.expect("a peer").stage_type(), stage);
        lost = socket;
    }
    // A stage of the preset's own is found again after a crash.
    let mut staged = group.clone();
    staged.permissions.stage_enabled = true;
    world.connect(&staged);
    world.crash(world.now_ms);
    let socket = join(&mut world, &staged);
    let asked = world.ask(socket, event::JOIN_ROOM, &());
    let me: PeerInfoResponse = asked.reply(event::JOIN_ROOM);
    assert_eq!(me.peer.expect("a peer").stage_type(), StageType::OffStage);
}

#[test]
fn whoever_comes_back_and_never_joins_again_left_when_the_line_broke() {
    let mut world = World::new(Limits::default());
    join(&mut world, &host(0));
    let socket = join(&mut world, &guest(1));
    world.pass(1_000);
    world.close(socket, false);
    world.pass(10_000);
    let (again, _) = world.connect(&guest(1));
    world.pass(10_000);
    world.close(again, false);
    world.pass(10_000);
    world.connect(&guest(1));
    world.pass(45_000);
    let mut records = world.kept.peers.values();
    let record = records.find(|record| record.peer == peer(1, 0));
    assert_eq!(record.expect("a record").consumed_ms, 1_000);
}

#[test]
fn a_session_does_not_end_before_its_last_peer_has_left() {
    let mut world = World::new(Limits::default());
    let (lost, stays) = (join(&mut world, &guest(1)), join(&mut world, &guest(2)));
    world.close(lost, false);
    world.pass(40_000);
    let left_ms = world.now_ms;
    world.close(stays, true);
    world.pass(5_000);
    world.pass(60_000);
    let session = world.kept.sessions.values().next().expect("a session");
    assert_eq!(session.ended_ms, Some(left_ms + 60_000));
}

#[test]
fn the_media_of_a_peer_that_comes_back_go_on_and_nobody_is_told() {
    let mut world = World::new(Limits::default());
    let (watches, socket) = (join(&mut world, &host(0)), join(&mut world, &guest(1)));
    for socket in [watches, socket] {
        world.ask(socket, event::MEDIA_JOIN, &());
        world.ask(socket, event::MEDIA_JOIN_COMPLETE, &());
    }
    world.close(socket, false);
    let socket = join(&mut world, &guest(1));
    let again = |prejoined| PeerJoinRequest {
        prejoined,
        ..PeerJoinRequest::default()
    };
    let told = |world: &mut World, event, prejoined| {
        let asked = world.ask(socket, event, &again(prejoined));
        assert!(!asked.refused());
        asked.done.events(watches)
    };
    assert!(told(&mut world, event::MEDIA_JOIN, true).is_empty());
    assert!(told(&mut world, event::MEDIA_JOIN_COMPLETE, true).is_empty());
    // It begins anew.
    let gone = told(&mut world, event::MEDIA_JOIN, false);
    assert_eq!(gone, [event::MEDIA_PEER_LEFT]);
    let ready = told(&mut world, event::MEDIA_JOIN_COMPLETE, true);
    assert_eq!(ready, [event::MEDIA_PEER_JOINED]);
}
