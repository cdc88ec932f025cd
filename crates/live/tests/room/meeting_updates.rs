//! Updates of the meeting from outside: it was changed or deleted, or has breakout rooms
//! (docs/spec/signalling.md 6.11).

use parlor_live::{Answer, CloseReason, Command, Limits, Meeting, Rate};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    ConnectedMeetingDump, GetConnectedRoomsDumpResponse, RoomInfoResponse,
};

use crate::participants::{host, participant, viewer, waiting};
use crate::world::{World, join, meeting};

#[test]
fn a_deleted_meeting_disconnects_all_peers_and_admits_no_others() {
    let mut world = World::new(Limits::default());
    let inside = join(&mut world, &participant(0));
    let (waiting_room, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    world.request(waiting_room, event::JOIN_ROOM, &());
    let (lobby, _) = world.connect(&participant(2));
    let (answer, effects) = world.command(Command::MeetingDeleted);
    assert_eq!(answer, Answer::Count(1));
    for socket in [inside, waiting_room, lobby] {
        assert!(
            effects.events(socket).contains(&event::KICK_ALL),
            "{effects:?}"
        );
    }
    assert!(world.records.live().is_none());
    // A client on the setup screen joins now.
    let late = world.request(lobby, event::JOIN_ROOM, &());
    assert!(late.effects.frames.is_empty() && late.effects.records.is_empty());
    // An update that was read before the deletion does not revive the meeting.
    world.command(Command::MeetingUpdated(meeting()));
    // A connection whose token was verified just before does not revive it either.
    let (another, effects) = world.connect(&participant(3));
    assert_eq!(
        effects.closed,
        [(another, CloseReason::Final("this meeting was deleted"))]
    );
    world.advance(5_000);
    assert!(world.open.is_empty() && world.room.is_finished());
    assert_eq!(world.records.sessions.len(), 1);
}

#[test]
fn of_two_reordered_updates_the_newer_one_wins() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &host(0));
    let change = |version, title: &str| {
        let title = title.to_owned();
        Command::MeetingUpdated(Meeting {
            title,
            version,
            ..meeting()
        })
    };
    for (version, sent, expected) in [
        (2, "second", "second"),
        (1, "first", "second"),
        (3, "third", "third"),
    ] {
        world.command(change(version, sent));
        let reply: RoomInfoResponse = world
            .request(socket, event::GET_ROOM_INFO, &())
            .reply(event::GET_ROOM_INFO);
        assert_eq!(reply.room.map(|room| room.title).as_deref(), Some(expected));
    }
}

#[test]
fn a_meeting_without_breakout_rooms_replies_itself() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &participant(0));
    let outcome = world.request(socket, event::GET_CONNECTED_ROOMS_DUMP, &());
    assert!(outcome.effects.delegated.is_empty());
    let reply: GetConnectedRoomsDumpResponse = outcome.reply(event::GET_CONNECTED_ROOMS_DUMP);
    let alone = ConnectedMeetingDump {
        id: Some(meeting().id.to_string()),
        title: Some(meeting().title),
        participants: Vec::new(),
    };
    assert_eq!(reply.parent_meeting, Some(alone));
    assert!(reply.meetings.is_empty());
    let (outside, _) = world.connect(&participant(1));
    let outcome = world.request(outside, event::GET_CONNECTED_ROOMS_DUMP, &());
    assert_eq!(outcome.code(), 403);
}

#[test]
fn requests_for_breakout_rooms_are_rate_limited() {
    let limits = Limits {
        breakout_reads: Rate::per_second(2),
        ..Limits::default()
    };
    let mut connected = meeting();
    connected.has_rooms = true;
    let mut world = World::of(connected, limits);
    let (one, two) = (
        join(&mut world, &participant(0)),
        join(&mut world, &participant(1)),
    );
    let mut send = |socket| world.request(socket, event::GET_CONNECTED_ROOMS_DUMP, &());
    for _ in 0..2 {
        assert_eq!(send(one).effects.delegated.len(), 1);
    }
    assert_eq!(send(one).code(), 429);
    assert_eq!(send(two).effects.delegated.len(), 1);
}

#[test]
fn hidden_peers_and_the_audience_are_not_listed() {
    let mut world = World::new(Limits::default());
    let mut hidden = participant(1);
    hidden.permissions.hidden_participant = true;
    join(&mut world, &hidden);
    join(&mut world, &participant(0));
    join(&mut world, &viewer(2, ViewType::Livestream));
    let (Answer::Peers(_, present), _) = world.command(Command::ListPeers) else {
        panic!("a session")
    };
    let shown = present.iter().map(|peer| (peer.participant, peer.shown));
    let expected = [
        (crate::participants::user(1), false),
        (crate::participants::user(0), true),
        (crate::participants::user(2), false),
    ];
    assert!(shown.eq(expected), "{present:?}");
}
