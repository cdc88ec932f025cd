//! The engine, clients, and a network between them, in a time of their own.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use uuid::Uuid;

use super::check::check;
use super::feed::Feed;
use crate::client::Client;
use crate::engine::{Engine, Identity, Route, Settings, Taken};
use crate::sdp::{Candidate, Description};
use crate::secret::Secret;
use crate::wire::{self, Kind};
use crate::{Consumed, Direction, Error, Member, Opened, Produce, Source, Want};

/// When nothing else happens, so that a transport that is freed then was freed by it.
pub(super) const TIMEOUT: Duration = Duration::from_millis(60_700);

/// The shortest time that anything takes.
const STEP: Duration = Duration::from_micros(100);

/// What may wait in front of a narrow link.
const QUEUE: Duration = Duration::from_millis(400);

thread_local! {
    /// What the engine's random bytes are made from. A test is a thread.
    static SEED: Cell<u64> = const { Cell::new(1) };
}

/// The next of a row of numbers (xorshift64*), and what it is followed by.
fn shift(state: u64) -> (u64, u64) {
    let mut state = state;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D), state)
}

pub(super) fn random(bytes: &mut [u8]) {
    for byte in bytes {
        let (number, next) = shift(SEED.get());
        SEED.set(next);
        *byte = (number >> 56) as u8;
    }
}

pub(super) fn member(peer: u128) -> Member {
    Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(1)),
        peer: PeerId::from_uuid(Uuid::from_u128(peer)),
    }
}

pub(super) fn producer(number: u128) -> ProducerId {
    ProducerId::from_uuid(Uuid::from_u128(number))
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn home() -> SocketAddr {
    address("192.0.2.1:3478")
}

pub(super) fn client_address(n: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], u16::try_from(20_000 + n).unwrap()))
}

pub(super) fn read(text: &str) -> Description {
    Description::parse(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

pub(super) fn settings() -> Settings {
    Settings {
        candidates: vec![Candidate {
            address: home(),
            tcp: false,
        }],
        shard: b'a',
        shards: b"ab",
        max_transports: 100,
        open: Arc::default(),
        shares: crate::Shares::default(),
        apps: crate::engine::Apps::default(),
        max_consumers: 50,
        connect_timeout: TIMEOUT,
        passwords: Secret::from([7; 32]).key("ice passwords"),
        identity: Identity::generate().unwrap(),
        random,
    }
}

/// One way between a client and the server.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Datagrams of a thousand that are lost.
    pub(super) loss: u64,
    pub(super) delay: Duration,
    /// Up to so much more, each by itself: datagrams overtake one another.
    pub(super) jitter: Duration,
    /// Bits per second.
    pub(super) bps: Option<u64>,
    /// When everything that was sent so far is through.
    pub(super) idle: Option<Instant>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            loss: 0,
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            bps: None,
            idle: None,
        }
    }
}

impl Link {
    /// When a datagram arrives. Nothing if it does not.
    fn pass(
        &mut self,
        now: Instant,
        bytes: usize,
        chance: &mut impl FnMut() -> u64,
    ) -> Option<Instant> {
        if chance() % 1000 < self.loss {
            return None;
        }
        let mut left = now;
        if let Some(bps) = self.bps {
            let begins = self.idle.unwrap_or(now).max(now);
            if begins - now > QUEUE {
                return None;
            }
            let bits = (bytes as u64 + 28) * 8;
            left = begins + Duration::from_micros(bits * 1_000_000 / bps);
            self.idle = Some(left);
        }
        let most = u64::try_from(self.jitter.as_micros()).unwrap();
        let jitter = Duration::from_micros(if most == 0 { 0 } else { chance() % most });
        Some(left + self.delay + jitter)
    }
}

/// A client, and the address the engine sees it at: a router on the way may change it.
pub(super) struct Guest {
    pub(super) client: Client,
    pub(super) transport: String,
    pub(super) seen_at: SocketAddr,
    pub(super) wakes: Instant,
    pub(super) up: Link,
    pub(super) down: Link,
    /// Nothing it sends arrives.
    pub(super) silent: bool,
    /// Nothing that is sent to it arrives.
    pub(super) deaf: bool,
    /// How many datagrams were sent to it.
    pub(super) heard: usize,
    /// How many of them had media in them, and their bytes.
    pub(super) media: usize,
    pub(super) media_bytes: usize,
    pub(super) feeds: Vec<Feed>,
    /// Every packet of media that was sent to it, by SSRC and number.
    sealed: HashMap<(u32, u16), Vec<u8>>,
    /// Every number of its RTCP.
    reports: HashSet<(u32, u32)>,
    /// Every datagram of media that it sent.
    pub(super) said: Vec<Vec<u8>>,
}

/// Somebody with both connections: the places of the two guests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) member: Member,
    pub(super) out: usize,
    pub(super) into: usize,
}

/// A datagram on its way.
struct Flight {
    guest: usize,
    /// Where it comes from, if it goes to the server.
    to_server: Option<SocketAddr>,
    datagram: Vec<u8>,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) engine: Engine,
    pub(super) guests: Vec<Guest>,
    flights: BTreeMap<(Instant, u64), Flight>,
    flown: u64,
    chance: u64,
    producers: u128,
    /// What became of the datagrams of each kind.
    pub(super) refused: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(settings(), 1)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self::of(settings(), seed)
    }

    pub(super) fn of(settings: Settings, seed: u64) -> Self {
        SEED.set(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self {
            now: Instant::now(),
            engine: Engine::new(settings),
            guests: Vec::new(),
            flights: BTreeMap::new(),
            flown: 0,
            chance: seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1,
            producers: 0,
            refused: 0,
        }
    }

    /// A client opens a transport; its place, and the transport's id.
    pub(super) fn join(&mut self, member: Member, direction: Direction) -> usize {
        let (mut client, opened) = self.open(member, direction);
        client.accept(&opened.answer);
        self.admit(client, opened.transport_id)
    }

    pub(super) fn open(&mut self, member: Member, direction: Direction) -> (Client, Opened) {
        let client = self.client(direction);
        let opened = self.try_open(member, direction, &client);
        (client, opened.unwrap())
    }

    pub(super) fn client(&self, direction: Direction) -> Client {
        let address = client_address(self.guests.len());
        match direction {
            Direction::Publish => Client::new(self.now, address),
            Direction::Receive => Client::receiving(self.now, address),
        }
    }

    pub(super) fn try_open(
        &mut self,
        member: Member,
        direction: Direction,
        client: &Client,
    ) -> Result<Opened, Error> {
        self.engine
            .open_alone(self.now, member, direction, &read(client.offer()))
    }

    pub(super) fn admit(&mut self, client: Client, transport: String) -> usize {
        self.guests.push(Guest {
            client,
            transport,
            seen_at: client_address(self.guests.len()),
            wakes: self.now,
            up: Link::default(),
            down: Link::default(),
            silent: false,
            deaf: false,
            heard: 0,
            media: 0,
            media_bytes: 0,
            feeds: Vec::new(),
            sealed: HashMap::new(),
            reports: HashSet::new(),
            said: Vec::new(),
        });
        self.guests.len() - 1
    }

    /// Somebody opens both connections.
    pub(super) fn person(&mut self, peer: u128) -> Person {
        Person {
            member: member(peer),
            out: self.join(member(peer), Direction::Publish),
            into: self.join(member(peer), Direction::Receive),
        }
    }

    /// So many people, all connected.
    pub(super) fn people<const N: usize>(&mut self) -> [Person; N] {
        let people = std::array::from_fn(|peer| self.person(peer as u128 + 1));
        self.run(Duration::from_secs(3));
        for person in people {
            assert!(self.connected(person.out) && self.connected(person.into));
        }
        people
    }

    /// Somebody publishes a track, and begins to send.
    pub(super) fn publish(&mut self, person: Person, source: Source, rids: &[&str]) -> ProducerId {
        self.producers += 1;
        let name = producer(self.producers);
        let (now, guest) = (self.now, &mut self.guests[person.out]);
        let (mid, offer) = guest.client.offer_track(source.is_audio(), rids);
        let produce = Produce {
            transport: guest.transport.clone(),
            producer: name,
            mid: mid.clone(),
            source,
            paused: false,
            offer: String::new(),
        };
        let answer = self
            .engine
            .produce(now, person.member, &produce, &read(&offer));
        let guest = &mut self.guests[person.out];
        guest.client.accept(&answer.unwrap());
        let id = u8::try_from(self.producers % 24 * 10).unwrap();
        if source.is_audio() {
            guest.feeds.push(Feed::audio(now, id, &mid));
        } else if rids.is_empty() {
            guest.feeds.push(Feed::video(now, id, &mid, None));
        }
        for (rid, id) in rids.iter().zip(id..) {
            guest.feeds.push(Feed::video(now, id, &mid, Some(rid)));
        }
        self.check();
        name
    }

    /// Somebody asks for tracks.
    pub(super) fn ask(&mut self, person: Person, wanted: &[(Person, ProducerId)]) -> Consumed {
        let wanted = wanted.iter().map(|(publisher, producer)| Want {
            producer: *producer,
            publisher: publisher.member.peer,
            preferred_rid: Some("f".to_owned()),
        });
        let wanted = wanted.collect::<Vec<_>>();
        let transport = &self.guests[person.into].transport;
        let consumed = self.engine.consume(person.member, transport, &wanted);
        self.check();
        consumed.unwrap()
    }

    /// Somebody answers what was offered.
    pub(super) fn answer(&mut self, person: Person, offer: &str) -> String {
        let guest = &mut self.guests[person.into];
        let text = guest.client.answer(offer);
        let answer = read(&text);
        let answered = self
            .engine
            .answered(self.now, person.member, &guest.transport, &answer);
        answered.unwrap();
        self.check();
        text
    }

    /// Somebody receives tracks from now on; the mids.
    pub(super) fn consume(
        &mut self,
        person: Person,
        wanted: &[(Person, ProducerId)],
    ) -> Vec<String> {
        let consumed = self.ask(person, wanted);
        self.answer(person, &consumed.offer.unwrap());
        consumed.mids.into_iter().map(Option::unwrap).collect()
    }

    pub(super) fn receive(&mut self, source: SocketAddr, datagram: &[u8]) -> bool {
        let route = Route::Udp(0, source);
        let taken = self
            .engine
            .receive(self.now, route, source, &mut datagram.to_vec());
        taken == Taken::Yes
    }

    /// Takes what everybody sends.
    fn collect(&mut self) {
        let now = self.now;
        let mut chance = self.chance;
        let mut luck = || {
            let (number, next) = shift(chance);
            chance = next;
            number >> 11
        };
        let (flights, flown) = (&mut self.flights, &mut self.flown);
        let mut fly = |at: Option<Instant>, flight: Flight| {
            if let Some(at) = at {
                *flown += 1;
                flights.insert((at.max(now + STEP), *flown), flight);
            }
        };
        for (place, guest) in self.guests.iter_mut().enumerate() {
            let (sent, wakes) = guest.client.poll();
            guest.wakes = wakes;
            for (destination, datagram) in sent {
                assert_eq!(destination, home());
                if wire::kind(&datagram) == Kind::Rtp {
                    guest.said.push(datagram.clone());
                }
                let at = guest.up.pass(now, datagram.len(), &mut luck);
                let flight = Flight {
                    guest: place,
                    to_server: Some(guest.seen_at),
                    datagram,
                };
                fly(at.filter(|_| !guest.silent), flight);
            }
        }
        let guests = &mut self.guests;
        self.engine.flush(|route, outbox| {
            let Route::Udp(0, to) = route else {
                panic!("{route:?} is none of the ways here")
            };
            let known = guests.iter().position(|guest| guest.seen_at == to);
            let Some(place) = known else { return };
            let guest = &mut guests[place];
            for datagram in outbox.datagrams() {
                guest.note(datagram);
                let at = guest.down.pass(now, datagram.len(), &mut luck);
                let flight = Flight {
                    guest: place,
                    to_server: None,
                    datagram: datagram.to_vec(),
                };
                fly(at.filter(|_| !guest.deaf), flight);
            }
        });
        self.chance = chance;
    }

    /// Brings what has arrived.
    fn deliver(&mut self) {
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let mut flight = entry.remove();
            if let Some(source) = flight.to_server {
                let (route, datagram) = (Route::Udp(0, source), &mut flight.datagram);
                let taken = self.engine.receive(self.now, route, source, datagram);
                self.refused += usize::from(taken != Taken::Yes);
            } else {
                let client = &mut self.guests[flight.guest].client;
                client.receive(self.now, home(), &flight.datagram);
            }
        }
    }

    fn publish_what_is_due(&mut self) {
        for guest in &mut self.guests {
            for (mid, rid) in guest.client.keyframes.drain(..) {
                for feed in &mut guest.feeds {
                    feed.key |= !feed.is_audio && feed.mid == mid && feed.rid == rid;
                }
            }
            for feed in &mut guest.feeds {
                if feed.next > self.now {
                    continue;
                }
                if feed.muted {
                    feed.next = self.now + feed.every;
                    continue;
                }
                for say in feed.frame(self.now) {
                    guest
                        .client
                        .say(self.now, &feed.mid, feed.rid.as_deref(), &say);
                    // Each is sent by itself.
                    guest.client.timeout(self.now);
                }
            }
        }
    }

    /// Lets time pass, from event to event; how many times the engine was woken.
    pub(super) fn run(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut woken = 0;
        loop {
            self.collect();
            let engine = self.engine.next_timeout();
            let clients = self.guests.iter().map(|guest| guest.wakes);
            let feeds = self.guests.iter().flat_map(|guest| &guest.feeds);
            let flights = self.flights.keys().next().map(|(at, _)| *at);
            let next = clients
                .chain(feeds.map(|feed| feed.next))
                .chain(engine)
                .chain(flights)
                .min();
            let next = next.map_or(end, |next| next.max(self.now + STEP));
            self.now = next.min(end);
            self.deliver();
            if self
                .engine
                .next_timeout()
                .is_some_and(|wakes| wakes <= self.now)
            {
                woken += 1;
            }
            self.engine.timeout(self.now);
            let wakes = self.engine.next_timeout();
            assert!(wakes.is_none_or(|wakes| wakes > self.now));
            for guest in &mut self.guests {
                if guest.wakes <= self.now {
                    guest.client.timeout(self.now);
                }
            }
            self.publish_what_is_due();
            if next >= end {
                self.collect();
                self.check();
                return woken;
            }
        }
    }

    pub(super) fn connected(&self, guest: usize) -> bool {
        self.guests[guest].client.is_connected()
    }

    /// Everything that the engine knows agrees with everything else that it knows.
    pub(super) fn check(&self) {
        check(&self.engine);
    }
}

impl Guest {
    /// Notes what is sent to the client. Whatever is sent a second time under one number must be
    /// the same to the last bit: in GCM, the key stream is (RFC 7714, 8.4).
    fn note(&mut self, datagram: &[u8]) {
        self.heard += 1;
        match wire::kind(datagram) {
            Kind::Rtp => {
                self.media += 1;
                self.media_bytes += datagram.len();
                let header = wire::rtp::Header::parse(datagram).unwrap();
                let key = (header.ssrc, header.sequence);
                let before = self.sealed.entry(key).or_insert_with(|| datagram.to_vec());
                assert!(before == datagram, "two packets are {key:?}");
            }
            Kind::Rtcp => {
                let (_, index) = datagram.split_last_chunk().unwrap();
                let ssrc = datagram[4..].first_chunk().unwrap();
                let key = (u32::from_be_bytes(*ssrc), u32::from_be_bytes(*index));
                let is_new = self.reports.insert(key);
                assert!(is_new, "two reports are {key:?}");
            }
            _ => {}
        }
    }
}
