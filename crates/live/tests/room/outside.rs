//! What a room learns of its meeting from outside: that it was changed, that it is gone, and whether
//! it has breakout rooms (docs/spec/signalling.md 6.11).

use parlor_live::{Answer, Closing, Command, Limits, Meeting, Rate};
use parlor_protocol::preset::{ViewType, WaitingRoomType};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    ConnectedMeetingDump, GetConnectedRoomsDumpResponse, RoomInfoResponse,
};

use crate::people::{guest, host, viewer, waiting};
use crate::world::{World, join, meeting};

#[test]
fn a_meeting_that_is_gone_puts_everybody_out_and_takes_nobody_in() {
    let mut world = World::new(Limits::default());
    let inside = join(&mut world, &guest(0));
    let (waits, _) = world.connect(&waiting(1, WaitingRoomType::SkipOnAccept));
    world.ask(waits, event::JOIN_ROOM, &());
    let (looks, _) = world.connect(&guest(2));
    let (answer, done) = world.command(Command::Gone);
    assert_eq!(answer, Answer::Count(1));
    for socket in [inside, waits, looks] {
        assert!(done.events(socket).contains(&event::KICK_ALL), "{done:?}");
    }
    assert!(world.kept.live().is_none());
    // Whoever was on the setup screen clicks "join" now.
    let late = world.ask(looks, event::JOIN_ROOM, &());
    assert!(late.done.frames.is_empty() && late.done.kept.is_empty());
    // A change that was read before the meeting was deleted brings nobody back.
    world.command(Command::Changed(meeting()));
    // And the token of another was checked a moment before.
    let (another, done) = world.connect(&guest(3));
    assert_eq!(
        done.closed,
        [(another, Closing::Final("this meeting is gone"))]
    );
    world.pass(5_000);
    assert!(world.open.is_empty() && world.room.is_over());
    assert_eq!(world.kept.sessions.len(), 1);
}

#[test]
fn of_two_changes_that_arrive_in_the_other_order_the_later_one_holds() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &host(0));
    let change = |version, title: &str| {
        let title = title.to_owned();
        Command::Changed(Meeting {
            title,
            version,
            ..meeting()
        })
    };
    for (version, sent, holds) in [
        (2, "second", "second"),
        (1, "first", "second"),
        (3, "third", "third"),
    ] {
        world.command(change(version, sent));
        let reply: RoomInfoResponse = world
            .ask(socket, event::GET_ROOM_INFO, &())
            .reply(event::GET_ROOM_INFO);
        assert_eq!(reply.room.map(|room| room.title).as_deref(), Some(holds));
    }
}

#[test]
fn a_meeting_without_breakout_rooms_says_so_itself() {
    let mut world = World::new(Limits::default());
    let socket = join(&mut world, &guest(0));
    let asked = world.ask(socket, event::GET_CONNECTED_ROOMS_DUMP, &());
    assert!(asked.done.delegated.is_empty());
    let reply: GetConnectedRoomsDumpResponse = asked.reply(event::GET_CONNECTED_ROOMS_DUMP);
    let alone = ConnectedMeetingDump {
        id: Some(meeting().id.to_string()),
        title: Some(meeting().title),
        participants: Vec::new(),
    };
    assert_eq!(reply.parent_meeting, Some(alone));
    assert!(reply.meetings.is_empty());
    let (outside, _) = world.connect(&guest(1));
    let asked = world.ask(outside, event::GET_CONNECTED_ROOMS_DUMP, &());
    assert_eq!(asked.code(), 403);
}

#[test]
fn breakout_rooms_are_asked_for_so_often_and_not_more() {
    let limits = Limits {
        breakout_reads: Rate::per_second(2),
        ..Limits::default()
    };
    let mut connected = meeting();
    connected.has_rooms = true;
    let mut world = World::of(connected, limits);
    let (one, two) = (join(&mut world, &guest(0)), join(&mut world, &guest(1)));
    let mut ask = |socket| world.ask(socket, event::GET_CONNECTED_ROOMS_DUMP, &());
    for _ in 0..2 {
        assert_eq!(ask(one).done.delegated.len(), 1);
    }
    assert_eq!(ask(one).code(), 429);
    assert_eq!(ask(two).done.delegated.len(), 1);
}

#[test]
fn of_those_inside_the_hidden_and_the_audience_are_not_shown() {
    let mut world = World::new(Limits::default());
    let mut hidden = guest(1);
    hidden.permissions.hidden_participant = true;
    join(&mut world, &hidden);
    join(&mut world, &guest(0));
    join(&mut world, &viewer(2, ViewType::Livestream));
    let (Answer::Who(_, present), _) = world.command(Command::Who) else {
        panic!("a session")
    };
    let shown = present.iter().map(|peer| (peer.participant, peer.shown));
    let expected = [
        (crate::people::user(1), false),
        (crate::people::user(0), true),
        (crate::people::user(2), false),
    ];
    assert!(shown.eq(expected), "{present:?}");
}
