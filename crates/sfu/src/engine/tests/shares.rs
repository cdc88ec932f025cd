//! Nobody has more transports than their share, and those that nobody comes to make room.

use std::time::{Duration, Instant};

use parlor_protocol::{AppId, MeetingId, ParticipantId};
use uuid::Uuid;

use super::check::assert_empty;
use super::world::{World, member, settings};
use crate::engine::{Engine, Settings};
use crate::sdp::Description;
use crate::{Direction, Error, Member, Opened, Owner, Share, Shares, Source};

const SECOND: Duration = Duration::from_secs(1);

impl Engine {
    /// As a shard opens a transport: a refusal is counted.
    fn open_counted(
        &mut self,
        owner: Owner,
        now: Instant,
        member: Member,
        direction: Direction,
        offer: &Description,
    ) -> Result<Opened, Error> {
        let opened = self.open(owner, now, member, direction, offer);
        self.count_refused(&opened);
        opened
    }

    /// The same, for somebody who has nothing else.
    pub(super) fn open_alone(
        &mut self,
        now: Instant,
        member: Member,
        direction: Direction,
        offer: &Description,
    ) -> Result<Opened, Error> {
        self.open_counted(Owner::alone(member), now, member, direction, offer)
    }
}

fn owner(app: u128, person: u128) -> Owner {
    Owner {
        app: AppId::from_uuid(Uuid::from_u128(app)),
        person: ParticipantId::from_uuid(Uuid::from_u128(person)),
        admitted: true,
    }
}

/// Somebody who has not been let in.
fn outside(app: u128, person: u128) -> Owner {
    Owner {
        admitted: false,
        ..owner(app, person)
    }
}

/// A connected transport of somebody who has not been let in.
fn connect_outside(world: &mut World, owner: Owner, member: Member) -> usize {
    let mut client = world.client(Direction::Publish);
    let offer = super::world::read(client.offer());
    let (engine, now) = (&mut world.engine, world.now);
    let opened = engine.open_counted(owner, now, member, Direction::Publish, &offer);
    let opened = opened.unwrap();
    client.accept(&opened.answer);
    let guest = world.admit(client, opened.transport_id);
    world.run(SECOND);
    assert!(world.connected(guest));
    guest
}

fn open_in(world: &mut World, owner: Owner, member: Member) -> Result<(), Error> {
    let client = world.client(Direction::Publish);
    let offer = super::world::read(client.offer());
    let (engine, now) = (&mut world.engine, world.now);
    let opened = engine.open_counted(owner, now, member, Direction::Publish, &offer);
    opened.map(|_| ())
}

fn in_meeting(meeting: u128, peer: u128) -> Member {
    Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(meeting)),
        ..member(peer)
    }
}

/// Opens a transport on an engine; why not, if not.
fn open(world: &World, engine: &mut Engine, owner: Owner, member: Member) -> Result<(), Error> {
    let client = world.client(Direction::Publish);
    let offer = super::world::read(client.offer());
    let opened = engine.open_counted(owner, world.now, member, Direction::Publish, &offer);
    opened.map(|_| ())
}

#[test]
fn a_person_a_meeting_and_an_app_have_no_more_than_their_share() {
    let world = World::new();
    let shared = Settings {
        shares: Shares {
            person: 2,
            meeting: 3,
            app: 5,
        },
        ..settings()
    };
    let mut engines = [Engine::new(shared.clone()), Engine::new(shared)];
    let mut try_open =
        |engine: usize, owner, member| open(&world, &mut engines[engine], owner, member);
    let person = Err(Error::Share(Share::Person));
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 1)), Ok(()));
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 2)), Ok(()));
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 3)), person);
    // One in place of an older one is not one more.
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 2)), Ok(()));
    assert_eq!(try_open(0, owner(1, 2), in_meeting(1, 3)), Ok(()));
    let meeting = Err(Error::Share(Share::Meeting));
    assert_eq!(try_open(0, owner(1, 3), in_meeting(1, 4)), meeting);
    // The app's are counted in all engines.
    assert_eq!(try_open(1, owner(1, 4), in_meeting(2, 4)), Ok(()));
    assert_eq!(try_open(1, owner(1, 5), in_meeting(2, 5)), Ok(()));
    let app = Err(Error::Share(Share::App));
    assert_eq!(try_open(1, owner(1, 6), in_meeting(2, 6)), app);
    assert_eq!(try_open(1, owner(2, 7), in_meeting(3, 7)), Ok(()));

    assert_eq!(engines[0].refused(), [1, 1, 0, 0]);
    assert_eq!(engines[1].refused(), [0, 0, 1, 0]);
    engines[0].close(world.now, in_meeting(1, 1), false);
    let freed = open(&world, &mut engines[0], owner(1, 1), in_meeting(1, 9));
    assert_eq!(freed, Ok(()));
    for peer in [2, 3, 9] {
        engines[0].close(world.now, in_meeting(1, peer), false);
    }
    assert!(engines[0].held.is_empty());
}

#[test]
fn when_all_are_taken_those_that_nobody_came_to_make_room() {
    let few = Settings {
        max_transports: 3,
        ..settings()
    };
    let mut world = World::of(few, 1);
    let connected = world.join(member(1), Direction::Publish);
    world.open(member(2), Direction::Publish);
    world.run(SECOND);
    world.open(member(3), Direction::Publish);
    let client = world.client(Direction::Publish);
    // They still have time.
    let early = world.try_open(member(4), Direction::Publish, &client);
    assert_eq!(early, Err(Error::Full));
    world.run(4 * SECOND);
    assert!(
        world
            .try_open(member(4), Direction::Publish, &client)
            .is_ok()
    );
    assert_eq!(world.engine.open_transports(), 3);
    let gone = world.engine.report(world.now, member(2));
    assert!(gone.is_none(), "the oldest goes first: {gone:?}");
    assert!(world.connected(connected));
    assert_eq!(world.engine.refused(), [0, 0, 0, 1]);
}

#[test]
fn when_all_are_taken_those_who_wait_outside_make_room_for_those_inside() {
    let few = Settings {
        max_transports: 3,
        ..settings()
    };
    let mut world = World::of(few, 1);
    for peer in 1..=3 {
        connect_outside(&mut world, outside(1, peer), member(peer));
    }
    // The second has come in meanwhile.
    world.engine.admit(member(2));
    let newcomer = open_in(&mut world, outside(1, 7), member(7));
    assert_eq!(newcomer, Err(Error::Full), "nobody outside goes so soon");
    for peer in [4, 5] {
        assert_eq!(open_in(&mut world, owner(1, peer), member(peer)), Ok(()));
    }
    let gone = [1, 2, 3].map(|peer| world.engine.report(world.now, member(peer)).is_none());
    assert_eq!(gone, [true, false, true]);
    let more = open_in(&mut world, owner(1, 6), member(6));
    assert_eq!(more, Err(Error::Full), "all are inside");
    assert_eq!(world.engine.refused(), [0, 0, 0, 2]);
}

#[test]
fn those_who_wait_outside_make_room_in_the_share_of_a_meeting_and_an_app_too() {
    let shares = [
        Shares {
            meeting: 2,
            ..Shares::default()
        },
        Shares {
            app: 2,
            ..Shares::default()
        },
    ];
    for shares in shares {
        let mut world = World::of(
            Settings {
                shares,
                ..settings()
            },
            1,
        );
        connect_outside(&mut world, outside(2, 9), in_meeting(9, 9));
        for peer in 1..=2 {
            connect_outside(&mut world, outside(1, peer), in_meeting(1, peer));
        }
        assert_eq!(open_in(&mut world, owner(1, 3), in_meeting(1, 3)), Ok(()));
        let other = world.engine.report(world.now, in_meeting(9, 9));
        assert!(other.is_some(), "others keep theirs");
        assert_eq!(world.engine.open_transports(), 3);
    }
}

#[test]
fn a_panic_gives_back_what_was_held() {
    let mut world = World::new();
    world.join(member(1), Direction::Publish);
    world.join(member(2), Direction::Receive);
    world.run(SECOND);
    world.engine.start_over();
    assert_eq!(world.engine.open_transports(), 0);
    assert_empty(&world.engine);
    world.join(member(1), Direction::Publish);
    world.run(Duration::from_secs(2));
    assert_eq!(world.engine.connected_transports(), 1);
}

#[test]
fn a_voice_without_measure_is_forwarded_as_far_as_a_voice_may_be() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let voice = world.publish(ada, Source::Microphone, &[]);
    world.run(SECOND);
    let mids = world.consume(ben, &[(ada, voice)]);
    let feed = &mut world.guests[ada.out].feeds[0];
    (feed.packets, feed.every) = (10, Duration::from_millis(5));
    world.run(5 * SECOND);
    let heard = world.guests[ben.into].client.heard.iter();
    let heard = heard.filter(|heard| heard.mid == mids[0]).count();
    // 10,000 were sent.
    assert!((2_000..=3_050).contains(&heard), "{heard}");
}
