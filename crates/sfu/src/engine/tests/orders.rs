//! Orders in any order.

use std::collections::BTreeSet;
use std::time::Duration;

use parlor_protocol::{MeetingId, ProducerId};
use proptest::prelude::*;
use uuid::Uuid;

use super::check::{assert_empty, check};
use super::world::{Person, World, member, producer, random, read, settings};
use crate::client::RIDS;
use crate::engine::Settings;
use crate::events::Listener;
use crate::{Direction, Error, Produce, Source, Want};

#[test]
fn a_transport_that_is_gone_is_not_taken_for_the_one_that_is() {
    let mut world = World::new();
    let old = world.person(1);
    let other = world.person(2);
    let new = world.person(1);
    let camera = world.publish(other, Source::Camera, &[]);
    let want = Want {
        producer: camera,
        publisher: other.member.peer,
        preferred_rid: None,
    };
    let stale = [
        &world.guests[old.into].transport,
        &world.guests[new.out].transport,
    ];
    for transport in stale.map(Clone::clone) {
        let consumed = world
            .engine
            .consume(new.member, &transport, std::slice::from_ref(&want));
        assert_eq!(consumed, Err(Error::NoTransport));
    }
    let transport = world.guests[new.into].transport.clone();
    assert!(
        world
            .engine
            .consume(new.member, &transport, &[want])
            .is_ok()
    );
    let (mid, offer) = world.guests[old.out].client.offer_track(true, &[]);
    let produce = Produce {
        transport: world.guests[old.out].transport.clone(),
        producer: producer(50),
        mid,
        source: Source::Microphone,
        paused: false,
        offer: String::new(),
    };
    let produced = world
        .engine
        .produce(world.now, new.member, &produce, &read(&offer));
    assert_eq!(produced, Err(Error::NoTransport));
    world.check();
}

#[test]
fn a_line_has_one_track_and_the_kind_that_it_says() {
    let mut world = World::new();
    let ada = world.person(1);
    let guest = &mut world.guests[ada.out];
    let (mid, offer) = guest.client.offer_track(false, &[]);
    let offer = read(&offer);
    let produce = |name: u128, mid: &str, source: Source, transport: &str| Produce {
        transport: transport.to_owned(),
        producer: producer(name),
        mid: mid.to_owned(),
        source,
        paused: false,
        offer: String::new(),
    };
    let transport = guest.transport.clone();
    let mut order = |name, mid: &str, source| {
        let produce = produce(name, mid, source, &transport);
        let produced = world
            .engine
            .produce(world.now, ada.member, &produce, &offer);
        check(&world.engine);
        produced
    };
    assert!(matches!(
        order(1, &mid, Source::Microphone),
        Err(Error::BadOffer(_))
    ));
    assert!(matches!(
        order(1, "nothing", Source::Camera),
        Err(Error::BadOffer(_))
    ));
    assert!(order(1, &mid, Source::Camera).is_ok());
    assert!(matches!(
        order(2, &mid, Source::Camera),
        Err(Error::BadOffer(_))
    ));
    assert!(matches!(
        order(1, &mid, Source::Camera),
        Err(Error::BadOffer(_))
    ));
    assert_eq!(world.engine.producers(), 1);
}

#[test]
fn a_track_that_is_refused_leaves_the_transport_as_it_was() {
    let mut world = World::new();
    let ada = world.person(1);
    let transport = world.guests[ada.out].transport.clone();
    let taken = world.publish(ada, Source::Microphone, &[]);
    let sent = world.engine.by_producer[&(ada.member.meeting, taken)];
    let sent = world.engine.tracks[sent].uplink.mid.clone();
    for (name, mid, source) in [
        (producer(50), None, Source::Microphone),
        (producer(50), Some("nothing"), Source::Camera),
        (producer(50), Some(&*sent), Source::Microphone),
        (taken, None, Source::Camera),
    ] {
        // Each of these offers has a line that the others have not.
        let (own, offer) = world.guests[ada.out].client.offer_track(false, &[]);
        let produce = Produce {
            transport: transport.clone(),
            producer: name,
            mid: mid.unwrap_or(&own).to_owned(),
            source,
            paused: false,
            offer: String::new(),
        };
        let produced = world
            .engine
            .produce(world.now, ada.member, &produce, &read(&offer));
        assert!(matches!(produced, Err(Error::BadOffer(_))), "{produced:?}");
    }
    world.publish(ada, Source::Camera, &[]);
    assert_eq!(world.engine.producers(), 2);
}

#[test]
fn a_client_receives_as_much_as_it_may_and_no_more() {
    let mut world = World::of(
        Settings {
            max_consumers: 3,
            ..settings()
        },
        1,
    );
    let [ada, ben] = world.people();
    let tracks = [0; 5].map(|_| (ada, world.publish(ada, Source::Microphone, &[])));
    let consumed = world.ask(ben, &tracks);
    let given = consumed.mids.iter().filter(|mid| mid.is_some()).count();
    assert_eq!((given, world.engine.consumers()), (3, 3));
    world.answer(ben, &consumed.offer.unwrap());
    // One that is asked for again takes the place that it had.
    let again = world.ask(ben, &tracks[..1]);
    assert!(again.mids[0].is_some());
    assert_eq!(world.engine.consumers(), 3);
    world.answer(ben, &again.offer.unwrap());
    world.run(Duration::from_secs(1));
    let heard = &world.guests[ben.into].client.heard;
    let line = again.mids[0].as_ref().unwrap();
    assert!(heard.iter().filter(|heard| heard.mid == *line).count() > 40);
}

#[test]
fn a_client_that_answers_with_less_is_sent_less() {
    let mut world = World::new();
    let [ada, ben] = world.people();
    let tracks = [
        (ada, world.publish(ada, Source::Microphone, &[])),
        (ada, world.publish(ada, Source::Camera, &[])),
    ];
    let consumed = world.ask(ben, &tracks);
    let mids = consumed
        .mids
        .into_iter()
        .map(Option::unwrap)
        .collect::<Vec<_>>();
    let guest = &mut world.guests[ben.into];
    let answer = guest.client.answer(&consumed.offer.unwrap());
    let (before, camera) = answer.split_at(answer.find(&format!("a=mid:{}", mids[1])).unwrap());
    let answer = format!("{before}{}", camera.replacen("a=recvonly", "a=inactive", 1));
    let transport = guest.transport.clone();
    world
        .engine
        .answered(world.now, ben.member, &transport, &read(&answer))
        .unwrap();
    assert_eq!(world.engine.consumers(), 1);
    world.run(Duration::from_secs(2));
    let heard = &world.guests[ben.into].client.heard;
    assert!(heard.len() > 80 && heard.iter().all(|heard| heard.mid == mids[0]));
}

#[test]
fn no_two_streams_on_a_transport_have_one_ssrc_however_chance_falls() {
    let unlucky = |bytes: &mut [u8]| match bytes {
        [_, _, _, _] => bytes.fill(7),
        _ => random(bytes),
    };
    let mut world = World::of(
        Settings {
            random: unlucky,
            ..settings()
        },
        1,
    );
    let [ada, ben] = world.people();
    let tracks = [Source::Microphone, Source::Camera, Source::ScreenAudio];
    let tracks = tracks.map(|source| (ada, world.publish(ada, source, &[])));
    let mut ssrcs = BTreeSet::new();
    for _ in 0..4 {
        // What is asked for again is a new stream.
        let mids = world.consume(ben, &tracks);
        world.run(Duration::from_secs(1));
        let heard = std::mem::take(&mut world.guests[ben.into].client.heard);
        for mid in mids {
            let came = heard.iter().find(|heard| heard.mid == mid).unwrap();
            assert!(ssrcs.insert(came.ssrc), "{} is there twice", came.ssrc);
        }
    }
}

#[test]
fn a_meeting_that_nobody_is_in_and_nobody_listens_to_is_forgotten() {
    let mut world = World::new();
    for meeting in 1..1000 {
        let meeting = MeetingId::from_uuid(Uuid::from_u128(meeting));
        let (listener, events) = Listener::new();
        world.engine.listen(meeting, listener);
        drop(events);
    }
    assert!(
        world.engine.halls.len() <= 64,
        "{}",
        world.engine.halls.len()
    );
}

/// Something that the rest of the server may ask for at any time, by anybody.
#[derive(Debug, Clone)]
enum Order {
    Open(Direction),
    Produce(Source, bool),
    Drop(usize),
    Pause(usize, bool),
    Consume(Vec<(usize, usize)>),
    Answer,
    AnswerAgain,
    CloseConsumers(usize),
    Prefer(usize, &'static str),
    Revoke(usize),
    Pin(bool),
    Close,
    Wait(u64),
}

fn order() -> impl Strategy<Value = Order> {
    let source = prop::sample::select(vec![
        Source::Microphone,
        Source::Camera,
        Source::Screen,
        Source::ScreenAudio,
    ]);
    let direction = prop::sample::select(vec![Direction::Publish, Direction::Receive]);
    let wanted = prop::collection::vec((0..4_usize, 0..8_usize), 1..5);
    prop_oneof![
        2 => direction.prop_map(Order::Open),
        6 => (source, any::<bool>()).prop_map(|(source, layers)| Order::Produce(source, layers)),
        2 => (0..8_usize).prop_map(Order::Drop),
        3 => (0..8_usize, any::<bool>()).prop_map(|(track, paused)| Order::Pause(track, paused)),
        8 => wanted.prop_map(Order::Consume),
        6 => Just(Order::Answer),
        1 => Just(Order::AnswerAgain),
        3 => (0..4_usize).prop_map(Order::CloseConsumers),
        2 => (0..4_usize, prop::sample::select(vec!["f", "h", "q", "x"]))
            .prop_map(|(line, rid)| Order::Prefer(line, rid)),
        1 => (0..8_usize).prop_map(Order::Revoke),
        1 => any::<bool>().prop_map(Order::Pin),
        1 => Just(Order::Close),
        4 => (1..400_u64).prop_map(Order::Wait),
    ]
}

/// What somebody knows who gives orders.
#[derive(Default)]
struct Memory {
    out: Option<usize>,
    into: Option<usize>,
    producers: Vec<ProducerId>,
    /// An offer that was not answered, with the lines that are new in it.
    offer: Option<(String, Vec<String>)>,
    /// Lines that were agreed to.
    mids: Vec<String>,
    /// The last answer, which may be given again.
    answer: Option<String>,
}

struct Play {
    world: World,
    people: [Memory; 4],
}

impl Play {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            max_transports: 7,
            max_consumers: 4,
            ..settings()
        };
        Self {
            world: World::of(settings, seed),
            people: Default::default(),
        }
    }

    fn person(&self, who: usize) -> Person {
        Person {
            member: member(who as u128 + 1),
            out: self.people[who].out.unwrap_or_default(),
            into: self.people[who].into.unwrap_or_default(),
        }
    }

    fn open(&mut self, who: usize, direction: Direction) {
        let (world, memory) = (&mut self.world, &mut self.people[who]);
        let (own, mine) = match direction {
            Direction::Publish => (memory.out, member(who as u128 + 1)),
            Direction::Receive => (memory.into, member(who as u128 + 1)),
        };
        if own.is_none() && world.engine.open_transports() == 7 {
            let client = world.client(direction);
            assert_eq!(world.try_open(mine, direction, &client), Err(Error::Full));
            return;
        }
        let guest = Some(world.join(mine, direction));
        if let Some(own) = own {
            world.guests[own].feeds.clear();
        }
        match direction {
            Direction::Publish => {
                memory.out = guest;
                memory.producers.clear();
            }
            Direction::Receive => {
                let (out, producers) = (memory.out, std::mem::take(&mut memory.producers));
                *memory = Memory {
                    out,
                    into: guest,
                    producers,
                    ..Memory::default()
                };
            }
        }
    }

    fn consume(&mut self, who: usize, wanted: &[(usize, usize)]) {
        let known = wanted.iter().map(|(whose, track)| {
            let producers = &self.people[*whose].producers;
            let track = producers.get(track % producers.len().max(1)).copied();
            (self.person(*whose), track.unwrap_or(producer(999)))
        });
        let known = known.collect::<Vec<_>>();
        let person = self.person(who);
        if self.people[who].into.is_none() {
            let nowhere = self.world.engine.consume(person.member, "gone", &[]);
            assert_eq!(nowhere, Err(Error::NoTransport));
            return;
        }
        let consumed = self.world.ask(person, &known);
        let mids = consumed.mids.into_iter().flatten();
        // What was offered before is offered once more.
        let before = self.people[who].offer.take();
        let (last, lines) = before.map_or((None, Vec::new()), |(offer, mids)| (Some(offer), mids));
        let offer = consumed.offer.or(last);
        self.people[who].offer =
            offer.map(|offer| (offer, lines.into_iter().chain(mids).collect()));
    }

    fn close_consumers(&mut self, who: usize, line: usize) {
        let person = self.person(who);
        let memory = &mut self.people[who];
        let (Some(into), false) = (memory.into, memory.mids.is_empty()) else {
            return;
        };
        let mid = memory.mids.remove(line % memory.mids.len());
        memory.offer = None;
        let guest = &mut self.world.guests[into];
        let mids = std::slice::from_ref(&mid);
        let Some(offer) = guest.client.try_offer_to_close(mids) else {
            return;
        };
        let transport = guest.transport.clone();
        let engine = &mut self.world.engine;
        let closed = engine.close_consumers(person.member, &transport, mids, &read(&offer));
        self.world.guests[into].client.accept(&closed.unwrap());
    }

    fn obey(&mut self, who: usize, order: &Order) {
        let person = self.person(who);
        let own = |memory: &Memory, number: usize| {
            let count = memory.producers.len().max(1);
            memory.producers.get(number % count).copied()
        };
        match order {
            Order::Open(direction) => self.open(who, *direction),
            Order::Produce(source, layers) => {
                if self.people[who].out.is_some() && self.people[who].producers.len() < 8 {
                    let rids: &[&str] = match source {
                        Source::Camera if *layers => &RIDS,
                        _ => &[],
                    };
                    let producer = self.world.publish(person, *source, rids);
                    self.people[who].producers.push(producer);
                }
            }
            Order::Drop(number) => {
                if let Some(track) = own(&self.people[who], *number) {
                    self.people[who].producers.retain(|other| *other != track);
                    self.world.engine.drop_producer(person.member, track);
                    self.world.engine.drop_producer(person.member, track);
                }
            }
            Order::Pause(number, paused) => {
                // Of anybody: only one's own does something.
                for memory in &self.people {
                    if let Some(track) = own(memory, *number) {
                        let (now, engine) = (self.world.now, &mut self.world.engine);
                        engine.pause(now, person.member, track, *paused);
                    }
                }
            }
            Order::Consume(wanted) => self.consume(who, wanted),
            Order::Answer => {
                if let Some((offer, mids)) = self.people[who].offer.take() {
                    let answer = self.world.answer(person, &offer);
                    self.people[who].answer = Some(answer);
                    self.people[who].mids.extend(mids);
                }
            }
            Order::AnswerAgain => {
                if let (Some(into), Some(answer)) =
                    (self.people[who].into, &self.people[who].answer)
                {
                    let transport = self.world.guests[into].transport.clone();
                    let (now, engine) = (self.world.now, &mut self.world.engine);
                    // It may fit or not.
                    let _ = engine.answered(now, person.member, &transport, &read(answer));
                }
            }
            Order::CloseConsumers(line) => self.close_consumers(who, *line),
            Order::Prefer(line, rid) => {
                let mid = self.people[who].mids.get(*line).cloned();
                let wishes = [(mid.unwrap_or_default(), (*rid).to_owned())];
                self.world
                    .engine
                    .prefer(self.world.now, person.member, &wishes);
            }
            Order::Revoke(number) => {
                let tracks = self.people.iter().filter_map(|memory| own(memory, *number));
                let tracks = tracks.collect::<Vec<_>>();
                self.world.engine.revoke(person.member, &tracks);
            }
            Order::Pin(pinned) => {
                let peer = pinned.then_some(person.member.peer);
                self.world.engine.pin(person.member.meeting, peer);
            }
            Order::Close => {
                let now = self.world.now;
                self.world.engine.close(now, person.member, false);
                let memory = std::mem::take(&mut self.people[who]);
                if let Some(out) = memory.out {
                    self.world.guests[out].feeds.clear();
                }
            }
            Order::Wait(time) => {
                self.world.run(Duration::from_millis(*time));
            }
        }
        self.world.check();
        assert!(
            self.world
                .engine
                .report(self.world.now, person.member)
                .is_none()
                == (self.people[who].out.is_none() && self.people[who].into.is_none())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Without the net that catches panics, so that one shows; and with media on all the ways that
    /// there are.
    #[test]
    fn whatever_is_asked_for_the_maps_agree_and_nothing_is_left(
        seed in any::<u64>(),
        orders in prop::collection::vec((0..4_usize, order()), 1..80),
    ) {
        let mut play = Play::new(seed);
        for who in 0..3 {
            play.open(who, Direction::Publish);
            play.open(who, Direction::Receive);
        }
        play.world.run(Duration::from_secs(1));
        for (who, order) in &orders {
            play.obey(*who, order);
        }
        for who in 0..4 {
            let now = play.world.now;
            play.world.engine.close(now, member(who + 1), false);
            check(&play.world.engine);
        }
        assert_empty(&play.world.engine);
    }
}
