//! Commands in any order.

use std::collections::BTreeSet;
use std::time::Duration;

use parlor_protocol::{MeetingId, ProducerId};
use proptest::prelude::*;
use uuid::Uuid;

use super::invariants::{assert_empty, check_invariants};
use super::simulation::{Peer, Simulation, member, producer, random, read, settings};
use crate::client::RIDS;
use crate::engine::Settings;
use crate::events::Listener;
use crate::{ConsumeRequest, Direction, Error, Produce, Source};

#[test]
fn commands_for_a_replaced_transport_are_rejected() {
    let mut sim = Simulation::new();
    let old = sim.peer(1);
    let other = sim.peer(2);
    let new = sim.peer(1);
    let camera = sim.publish(other, Source::Camera, &[]);
    let want = ConsumeRequest {
        producer: camera,
        publisher: other.member.peer,
        preferred_rid: None,
    };
    let stale = [
        &sim.endpoints[old.receive].transport,
        &sim.endpoints[new.publish].transport,
    ];
    for transport in stale.map(Clone::clone) {
        let consumed = sim
            .engine
            .consume(new.member, &transport, std::slice::from_ref(&want));
        assert_eq!(consumed, Err(Error::NoTransport));
    }
    let transport = sim.endpoints[new.receive].transport.clone();
    assert!(sim.engine.consume(new.member, &transport, &[want]).is_ok());
    let (mid, offer) = sim.endpoints[old.publish].client.offer_track(true, &[]);
    let produce = Produce {
        transport: sim.endpoints[old.publish].transport.clone(),
        producer: producer(50),
        mid,
        source: Source::Microphone,
        paused: false,
        offer: String::new(),
    };
    let produced = sim
        .engine
        .produce(sim.now, new.member, &produce, &read(&offer));
    assert_eq!(produced, Err(Error::NoTransport));
    sim.check_invariants();
}

#[test]
fn a_media_section_has_one_track_of_its_kind() {
    let mut sim = Simulation::new();
    let ada = sim.peer(1);
    let endpoint = &mut sim.endpoints[ada.publish];
    let (mid, offer) = endpoint.client.offer_track(false, &[]);
    let offer = read(&offer);
    let produce = |name: u128, mid: &str, source: Source, transport: &str| Produce {
        transport: transport.to_owned(),
        producer: producer(name),
        mid: mid.to_owned(),
        source,
        paused: false,
        offer: String::new(),
    };
    let transport = endpoint.transport.clone();
    let mut command = |name, mid: &str, source| {
        let produce = produce(name, mid, source, &transport);
        let produced = sim.engine.produce(sim.now, ada.member, &produce, &offer);
        check_invariants(&sim.engine);
        produced
    };
    assert!(matches!(
        command(1, &mid, Source::Microphone),
        Err(Error::BadOffer(_))
    ));
    assert!(matches!(
        command(1, "nothing", Source::Camera),
        Err(Error::BadOffer(_))
    ));
    assert!(command(1, &mid, Source::Camera).is_ok());
    assert!(matches!(
        command(2, &mid, Source::Camera),
        Err(Error::BadOffer(_))
    ));
    assert!(matches!(
        command(1, &mid, Source::Camera),
        Err(Error::BadOffer(_))
    ));
    assert_eq!(sim.engine.producers(), 1);
}

#[test]
fn a_rejected_track_does_not_change_the_transport() {
    let mut sim = Simulation::new();
    let ada = sim.peer(1);
    let transport = sim.endpoints[ada.publish].transport.clone();
    let taken = sim.publish(ada, Source::Microphone, &[]);
    let sent = sim.engine.by_producer[&(ada.member.meeting, taken)];
    let sent = sim.engine.tracks[sent].uplink.mid.clone();
    for (name, mid, source) in [
        (producer(50), None, Source::Microphone),
        (producer(50), Some("nothing"), Source::Camera),
        (producer(50), Some(&*sent), Source::Microphone),
        (taken, None, Source::Camera),
    ] {
        // Each of these offers has a media section that the others lack.
        let (own, offer) = sim.endpoints[ada.publish].client.offer_track(false, &[]);
        let produce = Produce {
            transport: transport.clone(),
            producer: name,
            mid: mid.unwrap_or(&own).to_owned(),
            source,
            paused: false,
            offer: String::new(),
        };
        let produced = sim
            .engine
            .produce(sim.now, ada.member, &produce, &read(&offer));
        assert!(matches!(produced, Err(Error::BadOffer(_))), "{produced:?}");
    }
    sim.publish(ada, Source::Camera, &[]);
    assert_eq!(sim.engine.producers(), 2);
}

#[test]
fn a_client_receives_at_most_the_maximum_number_of_tracks() {
    let mut sim = Simulation::of(
        Settings {
            max_consumers: 3,
            ..settings()
        },
        1,
    );
    let [ada, ben] = sim.peers();
    let tracks = [0; 5].map(|_| (ada, sim.publish(ada, Source::Microphone, &[])));
    let consumed = sim.request_tracks(ben, &tracks);
    let given = consumed.mids.iter().filter(|mid| mid.is_some()).count();
    assert_eq!((given, sim.engine.consumers()), (3, 3));
    sim.answer(ben, &consumed.offer.unwrap());
    // Requesting a track again replaces its consumer.
    let again = sim.request_tracks(ben, &tracks[..1]);
    assert!(again.mids[0].is_some());
    assert_eq!(sim.engine.consumers(), 3);
    sim.answer(ben, &again.offer.unwrap());
    sim.run(Duration::from_secs(1));
    let received = &sim.endpoints[ben.receive].client.received;
    let line = again.mids[0].as_ref().unwrap();
    assert!(
        received
            .iter()
            .filter(|received| received.mid == *line)
            .count()
            > 40
    );
}

#[test]
fn a_media_section_that_the_client_rejects_is_not_sent() {
    let mut sim = Simulation::new();
    let [ada, ben] = sim.peers();
    let tracks = [
        (ada, sim.publish(ada, Source::Microphone, &[])),
        (ada, sim.publish(ada, Source::Camera, &[])),
    ];
    let consumed = sim.request_tracks(ben, &tracks);
    let mids = consumed
        .mids
        .into_iter()
        .map(Option::unwrap)
        .collect::<Vec<_>>();
    let endpoint = &mut sim.endpoints[ben.receive];
    let answer = endpoint.client.answer(&consumed.offer.unwrap());
    let (before, camera) = answer.split_at(answer.find(&format!("a=mid:{}", mids[1])).unwrap());
    let answer = format!("{before}{}", camera.replacen("a=recvonly", "a=inactive", 1));
    let transport = endpoint.transport.clone();
    sim.engine
        .apply_answer(sim.now, ben.member, &transport, &read(&answer))
        .unwrap();
    assert_eq!(sim.engine.consumers(), 1);
    sim.run(Duration::from_secs(2));
    let received = &sim.endpoints[ben.receive].client.received;
    assert!(received.len() > 80 && received.iter().all(|received| received.mid == mids[0]));
}

#[test]
fn ssrcs_are_unique_on_a_transport_for_any_random_numbers() {
    let constant_ssrc = |bytes: &mut [u8]| match bytes {
        [_, _, _, _] => bytes.fill(7),
        _ => random(bytes),
    };
    let mut sim = Simulation::of(
        Settings {
            random: constant_ssrc,
            ..settings()
        },
        1,
    );
    let [ada, ben] = sim.peers();
    let tracks = [Source::Microphone, Source::Camera, Source::ScreenAudio];
    let tracks = tracks.map(|source| (ada, sim.publish(ada, source, &[])));
    let mut ssrcs = BTreeSet::new();
    for _ in 0..4 {
        // Requesting a track again creates a new stream.
        let mids = sim.consume(ben, &tracks);
        sim.run(Duration::from_secs(1));
        let received = std::mem::take(&mut sim.endpoints[ben.receive].client.received);
        for mid in mids {
            let packet = received
                .iter()
                .find(|received| received.mid == mid)
                .unwrap();
            assert!(
                ssrcs.insert(packet.ssrc),
                "SSRC {} is used twice",
                packet.ssrc
            );
        }
    }
}

#[test]
fn a_meeting_without_transports_and_listeners_is_dropped() {
    let mut sim = Simulation::new();
    for meeting in 1..1000 {
        let meeting = MeetingId::from_uuid(Uuid::from_u128(meeting));
        let (listener, events) = Listener::new();
        sim.engine.listen(meeting, listener);
        drop(events);
    }
    assert!(
        sim.engine.meetings.len() <= 64,
        "{}",
        sim.engine.meetings.len()
    );
}

/// A command that the rest of the server may send at any time, for any peer.
#[derive(Debug, Clone)]
enum Command {
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

fn command() -> impl Strategy<Value = Command> {
    let source = prop::sample::select(vec![
        Source::Microphone,
        Source::Camera,
        Source::Screen,
        Source::ScreenAudio,
    ]);
    let direction = prop::sample::select(vec![Direction::Publish, Direction::Receive]);
    let wanted = prop::collection::vec((0..4_usize, 0..8_usize), 1..5);
    prop_oneof![
        2 => direction.prop_map(Command::Open),
        6 => (source, any::<bool>()).prop_map(|(source, layers)| Command::Produce(source, layers)),
        2 => (0..8_usize).prop_map(Command::Drop),
        3 => (0..8_usize, any::<bool>()).prop_map(|(track, paused)| Command::Pause(track, paused)),
        8 => wanted.prop_map(Command::Consume),
        6 => Just(Command::Answer),
        1 => Just(Command::AnswerAgain),
        3 => (0..4_usize).prop_map(Command::CloseConsumers),
        2 => (0..4_usize, prop::sample::select(vec!["f", "h", "q", "x"]))
            .prop_map(|(line, rid)| Command::Prefer(line, rid)),
        1 => (0..8_usize).prop_map(Command::Revoke),
        1 => any::<bool>().prop_map(Command::Pin),
        1 => Just(Command::Close),
        4 => (1..400_u64).prop_map(Command::Wait),
    ]
}

/// The client state of a peer.
#[derive(Default)]
struct ClientState {
    publish: Option<usize>,
    receive: Option<usize>,
    producers: Vec<ProducerId>,
    /// An unanswered offer, with its new mids.
    offer: Option<(String, Vec<String>)>,
    /// Negotiated mids.
    mids: Vec<String>,
    /// The last answer, which may be sent again.
    answer: Option<String>,
}

struct Scenario {
    sim: Simulation,
    peers: [ClientState; 4],
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            max_transports: 7,
            max_consumers: 4,
            ..settings()
        };
        Self {
            sim: Simulation::of(settings, seed),
            peers: Default::default(),
        }
    }

    fn peer(&self, index: usize) -> Peer {
        Peer {
            member: member(index as u128 + 1),
            publish: self.peers[index].publish.unwrap_or_default(),
            receive: self.peers[index].receive.unwrap_or_default(),
        }
    }

    fn open(&mut self, index: usize, direction: Direction) {
        let (sim, state) = (&mut self.sim, &mut self.peers[index]);
        let (own, own_member) = match direction {
            Direction::Publish => (state.publish, member(index as u128 + 1)),
            Direction::Receive => (state.receive, member(index as u128 + 1)),
        };
        if own.is_none() && sim.engine.open_transports() == 7 {
            let client = sim.client(direction);
            assert_eq!(
                sim.try_open(own_member, direction, &client),
                Err(Error::Full)
            );
            return;
        }
        let endpoint = Some(sim.join(own_member, direction));
        if let Some(own) = own {
            sim.endpoints[own].feeds.clear();
        }
        match direction {
            Direction::Publish => {
                state.publish = endpoint;
                state.producers.clear();
            }
            Direction::Receive => {
                let (publish, producers) = (state.publish, std::mem::take(&mut state.producers));
                *state = ClientState {
                    publish,
                    receive: endpoint,
                    producers,
                    ..ClientState::default()
                };
            }
        }
    }

    fn consume(&mut self, index: usize, wanted: &[(usize, usize)]) {
        let known = wanted.iter().map(|(publisher, track)| {
            let producers = &self.peers[*publisher].producers;
            let track = producers.get(track % producers.len().max(1)).copied();
            (self.peer(*publisher), track.unwrap_or(producer(999)))
        });
        let known = known.collect::<Vec<_>>();
        let peer = self.peer(index);
        if self.peers[index].receive.is_none() {
            let consumed = self.sim.engine.consume(peer.member, "gone", &[]);
            assert_eq!(consumed, Err(Error::NoTransport));
            return;
        }
        let consumed = self.sim.request_tracks(peer, &known);
        let mids = consumed.mids.into_iter().flatten();
        // An earlier offer that was not answered is offered again.
        let before = self.peers[index].offer.take();
        let (last, lines) = before.map_or((None, Vec::new()), |(offer, mids)| (Some(offer), mids));
        let offer = consumed.offer.or(last);
        self.peers[index].offer =
            offer.map(|offer| (offer, lines.into_iter().chain(mids).collect()));
    }

    fn close_consumers(&mut self, index: usize, line: usize) {
        let peer = self.peer(index);
        let state = &mut self.peers[index];
        let (Some(receive), false) = (state.receive, state.mids.is_empty()) else {
            return;
        };
        let mid = state.mids.remove(line % state.mids.len());
        state.offer = None;
        let endpoint = &mut self.sim.endpoints[receive];
        let mids = std::slice::from_ref(&mid);
        let Some(offer) = endpoint.client.try_offer_to_close(mids) else {
            return;
        };
        let transport = endpoint.transport.clone();
        let engine = &mut self.sim.engine;
        let closed = engine.close_consumers(peer.member, &transport, mids, &read(&offer));
        self.sim.endpoints[receive].client.accept(&closed.unwrap());
    }

    fn run(&mut self, index: usize, command: &Command) {
        let peer = self.peer(index);
        let own = |state: &ClientState, number: usize| {
            let count = state.producers.len().max(1);
            state.producers.get(number % count).copied()
        };
        match command {
            Command::Open(direction) => self.open(index, *direction),
            Command::Produce(source, layers) => {
                if self.peers[index].publish.is_some() && self.peers[index].producers.len() < 8 {
                    let rids: &[&str] = match source {
                        Source::Camera if *layers => &RIDS,
                        _ => &[],
                    };
                    let producer = self.sim.publish(peer, *source, rids);
                    self.peers[index].producers.push(producer);
                }
            }
            Command::Drop(number) => {
                if let Some(track) = own(&self.peers[index], *number) {
                    self.peers[index].producers.retain(|other| *other != track);
                    self.sim.engine.drop_producer(peer.member, track);
                    self.sim.engine.drop_producer(peer.member, track);
                }
            }
            Command::Pause(number, paused) => {
                // For the tracks of all peers: only a peer's own tracks are affected.
                for state in &self.peers {
                    if let Some(track) = own(state, *number) {
                        let (now, engine) = (self.sim.now, &mut self.sim.engine);
                        engine.pause(now, peer.member, track, *paused);
                    }
                }
            }
            Command::Consume(wanted) => self.consume(index, wanted),
            Command::Answer => {
                if let Some((offer, mids)) = self.peers[index].offer.take() {
                    let answer = self.sim.answer(peer, &offer);
                    self.peers[index].answer = Some(answer);
                    self.peers[index].mids.extend(mids);
                }
            }
            Command::AnswerAgain => {
                if let (Some(receive), Some(answer)) =
                    (self.peers[index].receive, &self.peers[index].answer)
                {
                    let transport = self.sim.endpoints[receive].transport.clone();
                    let (now, engine) = (self.sim.now, &mut self.sim.engine);
                    // It may be valid or not.
                    let _ = engine.apply_answer(now, peer.member, &transport, &read(answer));
                }
            }
            Command::CloseConsumers(line) => self.close_consumers(index, *line),
            Command::Prefer(line, rid) => {
                let mid = self.peers[index].mids.get(*line).cloned();
                let preferences = [(mid.unwrap_or_default(), (*rid).to_owned())];
                self.sim
                    .engine
                    .prefer(self.sim.now, peer.member, &preferences);
            }
            Command::Revoke(number) => {
                let tracks = self.peers.iter().filter_map(|state| own(state, *number));
                let tracks = tracks.collect::<Vec<_>>();
                self.sim.engine.revoke(peer.member, &tracks);
            }
            Command::Pin(pinned) => {
                let pinned = pinned.then_some(peer.member.peer);
                self.sim.engine.pin(peer.member.meeting, pinned);
            }
            Command::Close => {
                let now = self.sim.now;
                self.sim.engine.close(now, peer.member, false);
                let state = std::mem::take(&mut self.peers[index]);
                if let Some(publish) = state.publish {
                    self.sim.endpoints[publish].feeds.clear();
                }
            }
            Command::Wait(time) => {
                self.sim.run(Duration::from_millis(*time));
            }
        }
        self.sim.check_invariants();
        assert!(
            self.sim.engine.report(self.sim.now, peer.member).is_none()
                == (self.peers[index].publish.is_none() && self.peers[index].receive.is_none())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Runs without the `catch_unwind` of the shard, so that panics surface, and with media on all
    /// transports.
    #[test]
    fn any_commands_keep_the_invariants_and_leave_nothing_behind(
        seed in any::<u64>(),
        commands in prop::collection::vec((0..4_usize, command()), 1..80),
    ) {
        let mut scenario = Scenario::new(seed);
        for index in 0..3 {
            scenario.open(index, Direction::Publish);
            scenario.open(index, Direction::Receive);
        }
        scenario.sim.run(Duration::from_secs(1));
        for (index, command) in &commands {
            scenario.run(*index, command);
        }
        for index in 0..4 {
            let now = scenario.sim.now;
            scenario.sim.engine.close(now, member(index + 1), false);
            check_invariants(&scenario.sim.engine);
        }
        assert_empty(&scenario.sim.engine);
    }
}
