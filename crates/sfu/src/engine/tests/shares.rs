//! Transport limits, and eviction of transports that no client has connected to.

use std::time::{Duration, Instant};

use parlor_protocol::{AppId, MeetingId, ParticipantId};
use uuid::Uuid;

use super::invariants::assert_empty;
use super::simulation::{Simulation, member, settings};
use crate::engine::{Engine, Settings};
use crate::sdp::Description;
use crate::{Direction, Error, Member, Opened, Owner, Share, Shares, Source};

const SECOND: Duration = Duration::from_secs(1);

impl Engine {
    /// Opens a transport like a shard, which counts rejections.
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

    /// Like `open_counted`, for a participant without other transports.
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

fn owner(app: u128, participant: u128) -> Owner {
    Owner {
        app: AppId::from_uuid(Uuid::from_u128(app)),
        participant: ParticipantId::from_uuid(Uuid::from_u128(participant)),
        admitted: true,
    }
}

/// A participant that has not been admitted.
fn unadmitted(app: u128, participant: u128) -> Owner {
    Owner {
        admitted: false,
        ..owner(app, participant)
    }
}

/// Connects a transport of a participant that has not been admitted.
fn connect_unadmitted(sim: &mut Simulation, owner: Owner, member: Member) -> usize {
    let mut client = sim.client(Direction::Publish);
    let offer = super::simulation::read(client.offer());
    let (engine, now) = (&mut sim.engine, sim.now);
    let opened = engine.open_counted(owner, now, member, Direction::Publish, &offer);
    let opened = opened.unwrap();
    client.accept(&opened.answer);
    let endpoint = sim.add_endpoint(client, opened.transport_id);
    sim.run(SECOND);
    assert!(sim.is_connected(endpoint));
    endpoint
}

fn open_in(sim: &mut Simulation, owner: Owner, member: Member) -> Result<(), Error> {
    let client = sim.client(Direction::Publish);
    let offer = super::simulation::read(client.offer());
    let (engine, now) = (&mut sim.engine, sim.now);
    let opened = engine.open_counted(owner, now, member, Direction::Publish, &offer);
    opened.map(|_| ())
}

fn in_meeting(meeting: u128, peer: u128) -> Member {
    Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(meeting)),
        ..member(peer)
    }
}

/// Opens a transport on an engine.
fn open(sim: &Simulation, engine: &mut Engine, owner: Owner, member: Member) -> Result<(), Error> {
    let client = sim.client(Direction::Publish);
    let offer = super::simulation::read(client.offer());
    let opened = engine.open_counted(owner, sim.now, member, Direction::Publish, &offer);
    opened.map(|_| ())
}

#[test]
fn participants_meetings_and_apps_are_limited_to_their_shares() {
    let sim = Simulation::new();
    let shared = Settings {
        shares: Shares {
            participant: 2,
            meeting: 3,
            app: 5,
        },
        ..settings()
    };
    let mut engines = [Engine::new(shared.clone()), Engine::new(shared)];
    let mut try_open =
        |engine: usize, owner, member| open(&sim, &mut engines[engine], owner, member);
    let participant = Err(Error::Share(Share::Participant));
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 1)), Ok(()));
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 2)), Ok(()));
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 3)), participant);
    // A replacement does not count as an additional transport.
    assert_eq!(try_open(0, owner(1, 1), in_meeting(1, 2)), Ok(()));
    assert_eq!(try_open(0, owner(1, 2), in_meeting(1, 3)), Ok(()));
    let meeting = Err(Error::Share(Share::Meeting));
    assert_eq!(try_open(0, owner(1, 3), in_meeting(1, 4)), meeting);
    // The limit of an app applies across all engines.
    assert_eq!(try_open(1, owner(1, 4), in_meeting(2, 4)), Ok(()));
    assert_eq!(try_open(1, owner(1, 5), in_meeting(2, 5)), Ok(()));
    let app = Err(Error::Share(Share::App));
    assert_eq!(try_open(1, owner(1, 6), in_meeting(2, 6)), app);
    assert_eq!(try_open(1, owner(2, 7), in_meeting(3, 7)), Ok(()));

    assert_eq!(engines[0].refused(), [1, 1, 0, 0]);
    assert_eq!(engines[1].refused(), [0, 0, 1, 0]);
    engines[0].close(sim.now, in_meeting(1, 1), false);
    let freed = open(&sim, &mut engines[0], owner(1, 1), in_meeting(1, 9));
    assert_eq!(freed, Ok(()));
    for peer in [2, 3, 9] {
        engines[0].close(sim.now, in_meeting(1, peer), false);
    }
    assert!(engines[0].held.is_empty());
}

#[test]
fn unconnected_transports_are_evicted_when_the_engine_is_full() {
    let few = Settings {
        max_transports: 3,
        ..settings()
    };
    let mut sim = Simulation::of(few, 1);
    let connected = sim.join(member(1), Direction::Publish);
    sim.open(member(2), Direction::Publish);
    sim.run(SECOND);
    sim.open(member(3), Direction::Publish);
    let client = sim.client(Direction::Publish);
    // The others are still protected from eviction.
    let early = sim.try_open(member(4), Direction::Publish, &client);
    assert_eq!(early, Err(Error::Full));
    sim.run(4 * SECOND);
    assert!(sim.try_open(member(4), Direction::Publish, &client).is_ok());
    assert_eq!(sim.engine.open_transports(), 3);
    let evicted = sim.engine.report(sim.now, member(2));
    assert!(evicted.is_none(), "the oldest goes first: {evicted:?}");
    assert!(sim.is_connected(connected));
    assert_eq!(sim.engine.refused(), [0, 0, 0, 1]);
}

#[test]
fn unadmitted_participants_are_evicted_for_admitted_ones() {
    let few = Settings {
        max_transports: 3,
        ..settings()
    };
    let mut sim = Simulation::of(few, 1);
    for peer in 1..=3 {
        connect_unadmitted(&mut sim, unadmitted(1, peer), member(peer));
    }
    // The second has been admitted in the meantime.
    sim.engine.admit(member(2));
    let early = open_in(&mut sim, unadmitted(1, 7), member(7));
    assert_eq!(
        early,
        Err(Error::Full),
        "new transports are protected from eviction"
    );
    for peer in [4, 5] {
        assert_eq!(open_in(&mut sim, owner(1, peer), member(peer)), Ok(()));
    }
    let evicted = [1, 2, 3].map(|peer| sim.engine.report(sim.now, member(peer)).is_none());
    assert_eq!(evicted, [true, false, true]);
    let more = open_in(&mut sim, owner(1, 6), member(6));
    assert_eq!(more, Err(Error::Full), "all participants are admitted");
    assert_eq!(sim.engine.refused(), [0, 0, 0, 2]);
}

#[test]
fn unadmitted_participants_are_evicted_for_meeting_and_app_shares_too() {
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
        let mut sim = Simulation::of(
            Settings {
                shares,
                ..settings()
            },
            1,
        );
        connect_unadmitted(&mut sim, unadmitted(2, 9), in_meeting(9, 9));
        for peer in 1..=2 {
            connect_unadmitted(&mut sim, unadmitted(1, peer), in_meeting(1, peer));
        }
        assert_eq!(open_in(&mut sim, owner(1, 3), in_meeting(1, 3)), Ok(()));
        let other = sim.engine.report(sim.now, in_meeting(9, 9));
        assert!(other.is_some(), "other meetings and apps are not affected");
        assert_eq!(sim.engine.open_transports(), 3);
    }
}

#[test]
fn a_reset_releases_the_shares_of_all_transports() {
    let mut sim = Simulation::new();
    sim.join(member(1), Direction::Publish);
    sim.join(member(2), Direction::Receive);
    sim.run(SECOND);
    sim.engine.reset();
    assert_eq!(sim.engine.open_transports(), 0);
    assert_empty(&sim.engine);
    sim.join(member(1), Direction::Publish);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.engine.connected_transports(), 1);
}

#[test]
fn excessive_audio_is_forwarded_up_to_the_rate_limit() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let voice = sim.publish(ada, Source::Microphone, &[]);
    sim.run(SECOND);
    let mids = sim.consume(ben, &[(ada, voice)]);
    let feed = &mut sim.endpoints[ada.publish].feeds[0];
    (feed.packets, feed.every) = (10, Duration::from_millis(5));
    sim.run(5 * SECOND);
    let received = sim.endpoints[ben.receive].client.received.iter();
    let received = received.filter(|received| received.mid == mids[0]).count();
    // 10,000 were sent.
    assert!((2_000..=3_050).contains(&received), "{received}");
}
