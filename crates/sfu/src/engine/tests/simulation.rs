//! The engine, its clients and the network between them, in virtual time.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use uuid::Uuid;

use super::feed::Feed;
use super::invariants::check_invariants;
use crate::client::Client;
use crate::engine::{Disposition, Engine, Identity, Route, Settings};
use crate::sdp::{Candidate, Description};
use crate::secret::Secret;
use crate::wire::{self, Kind};
use crate::{ConsumeRequest, Consumed, Direction, Error, Member, Opened, Produce, Source};

/// Different from all other timeouts, so that a transport freed at this time was freed because of
/// it.
pub(super) const TIMEOUT: Duration = Duration::from_millis(60_700);

/// The shortest step of the virtual time.
const STEP: Duration = Duration::from_micros(100);

/// Maximum queuing delay in front of a narrow link.
const MAX_QUEUE_DELAY: Duration = Duration::from_millis(400);

thread_local! {
    /// State of the engine's random generator. Each test runs in a thread of its own.
    static SEED: Cell<u64> = const { Cell::new(1) };
}

/// One step of xorshift64*: returns the number and the next state.
fn xorshift(state: u64) -> (u64, u64) {
    let mut state = state;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D), state)
}

pub(super) fn random(bytes: &mut [u8]) {
    for byte in bytes {
        let (number, next) = xorshift(SEED.get());
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

pub(super) fn server_address() -> SocketAddr {
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
            address: server_address(),
            tcp: false,
        }],
        shard: b'a',
        shards: b"ab",
        max_transports: 100,
        open: Arc::default(),
        shares: crate::Shares::default(),
        apps: crate::engine::AppCounts::default(),
        max_consumers: 50,
        connect_timeout: TIMEOUT,
        passwords: Secret::from([7; 32]).key("ice passwords"),
        identity: Identity::generate().unwrap(),
        random,
    }
}

/// One direction of the path between a client and the server.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Lost datagrams per thousand.
    pub(super) loss: u64,
    pub(super) delay: Duration,
    /// Maximum additional delay of each datagram, which reorders them.
    pub(super) jitter: Duration,
    /// Capacity, in bits per second.
    pub(super) bps: Option<u64>,
    /// When the queue will be empty.
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
    /// Returns when a datagram arrives, or `None` if it is lost.
    fn transmit(
        &mut self,
        now: Instant,
        bytes: usize,
        chance: &mut impl FnMut() -> u64,
    ) -> Option<Instant> {
        if chance() % 1000 < self.loss {
            return None;
        }
        let mut sent_at = now;
        if let Some(bps) = self.bps {
            let starts = self.idle.unwrap_or(now).max(now);
            if starts - now > MAX_QUEUE_DELAY {
                return None;
            }
            let bits = (bytes as u64 + 28) * 8;
            sent_at = starts + Duration::from_micros(bits * 1_000_000 / bps);
            self.idle = Some(sent_at);
        }
        let most = u64::try_from(self.jitter.as_micros()).unwrap();
        let jitter = Duration::from_micros(if most == 0 { 0 } else { chance() % most });
        Some(sent_at + self.delay + jitter)
    }
}

/// A client's end of one transport, and the address at which the engine sees it, which a NAT may
/// change.
pub(super) struct Endpoint {
    pub(super) client: Client,
    pub(super) transport: String,
    pub(super) observed_address: SocketAddr,
    pub(super) wakes: Instant,
    pub(super) up: Link,
    pub(super) down: Link,
    /// Whether everything it sends is lost.
    pub(super) drops_outgoing: bool,
    /// Whether everything sent to it is lost.
    pub(super) drops_incoming: bool,
    /// Number of datagrams sent to it.
    pub(super) datagrams: usize,
    /// Number and total size of the media datagrams sent to it.
    pub(super) media: usize,
    pub(super) media_bytes: usize,
    pub(super) feeds: Vec<Feed>,
    /// Every media packet sent to it, by SSRC and sequence number.
    sealed: HashMap<(u32, u16), Vec<u8>>,
    /// SSRC and SRTCP index of every RTCP packet sent to it.
    reports: HashSet<(u32, u32)>,
    /// Every media datagram that it has sent.
    pub(super) sent_media: Vec<Vec<u8>>,
}

/// A peer with both transports, by the indexes of their endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) member: Member,
    pub(super) publish: usize,
    pub(super) receive: usize,
}

/// A datagram in flight.
struct InFlight {
    endpoint: usize,
    /// The source address, if it goes to the server.
    to_server: Option<SocketAddr>,
    datagram: Vec<u8>,
}

pub(super) struct Simulation {
    pub(super) now: Instant,
    pub(super) engine: Engine,
    pub(super) endpoints: Vec<Endpoint>,
    in_flight: BTreeMap<(Instant, u64), InFlight>,
    sequence: u64,
    chance: u64,
    producers: u128,
    /// Number of datagrams that the engine dropped.
    pub(super) dropped: usize,
}

impl Simulation {
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
            endpoints: Vec::new(),
            in_flight: BTreeMap::new(),
            sequence: 0,
            chance: seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1,
            producers: 0,
            dropped: 0,
        }
    }

    /// Opens a transport and returns the index of its endpoint.
    pub(super) fn join(&mut self, member: Member, direction: Direction) -> usize {
        let (mut client, opened) = self.open(member, direction);
        client.accept(&opened.answer);
        self.add_endpoint(client, opened.transport_id)
    }

    pub(super) fn open(&mut self, member: Member, direction: Direction) -> (Client, Opened) {
        let client = self.client(direction);
        let opened = self.try_open(member, direction, &client);
        (client, opened.unwrap())
    }

    pub(super) fn client(&self, direction: Direction) -> Client {
        let address = client_address(self.endpoints.len());
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

    pub(super) fn add_endpoint(&mut self, client: Client, transport: String) -> usize {
        self.endpoints.push(Endpoint {
            client,
            transport,
            observed_address: client_address(self.endpoints.len()),
            wakes: self.now,
            up: Link::default(),
            down: Link::default(),
            drops_outgoing: false,
            drops_incoming: false,
            datagrams: 0,
            media: 0,
            media_bytes: 0,
            feeds: Vec::new(),
            sealed: HashMap::new(),
            reports: HashSet::new(),
            sent_media: Vec::new(),
        });
        self.endpoints.len() - 1
    }

    /// Opens both transports of a peer.
    pub(super) fn peer(&mut self, peer: u128) -> Peer {
        Peer {
            member: member(peer),
            publish: self.join(member(peer), Direction::Publish),
            receive: self.join(member(peer), Direction::Receive),
        }
    }

    /// Connects `N` peers.
    pub(super) fn peers<const N: usize>(&mut self) -> [Peer; N] {
        let peers = std::array::from_fn(|peer| self.peer(peer as u128 + 1));
        self.run(Duration::from_secs(3));
        for peer in peers {
            assert!(self.is_connected(peer.publish) && self.is_connected(peer.receive));
        }
        peers
    }

    /// Publishes a track and starts sending.
    pub(super) fn publish(&mut self, peer: Peer, source: Source, rids: &[&str]) -> ProducerId {
        self.producers += 1;
        let name = producer(self.producers);
        let (now, endpoint) = (self.now, &mut self.endpoints[peer.publish]);
        let (mid, offer) = endpoint.client.offer_track(source.is_audio(), rids);
        let produce = Produce {
            transport: endpoint.transport.clone(),
            producer: name,
            mid: mid.clone(),
            source,
            paused: false,
            offer: String::new(),
        };
        let answer = self
            .engine
            .produce(now, peer.member, &produce, &read(&offer));
        let endpoint = &mut self.endpoints[peer.publish];
        endpoint.client.accept(&answer.unwrap());
        let id = u8::try_from(self.producers % 24 * 10).unwrap();
        if source.is_audio() {
            endpoint.feeds.push(Feed::audio(now, id, &mid));
        } else if rids.is_empty() {
            endpoint.feeds.push(Feed::video(now, id, &mid, None));
        }
        for (rid, id) in rids.iter().zip(id..) {
            endpoint.feeds.push(Feed::video(now, id, &mid, Some(rid)));
        }
        self.check_invariants();
        name
    }

    /// Requests tracks, without answering the offer.
    pub(super) fn request_tracks(&mut self, peer: Peer, wanted: &[(Peer, ProducerId)]) -> Consumed {
        let wanted = wanted.iter().map(|(publisher, producer)| ConsumeRequest {
            producer: *producer,
            publisher: publisher.member.peer,
            preferred_rid: Some("f".to_owned()),
        });
        let wanted = wanted.collect::<Vec<_>>();
        let transport = &self.endpoints[peer.receive].transport;
        let consumed = self.engine.consume(peer.member, transport, &wanted);
        self.check_invariants();
        consumed.unwrap()
    }

    /// Answers an offer.
    pub(super) fn answer(&mut self, peer: Peer, offer: &str) -> String {
        let endpoint = &mut self.endpoints[peer.receive];
        let text = endpoint.client.answer(offer);
        let answer = read(&text);
        let answered =
            self.engine
                .apply_answer(self.now, peer.member, &endpoint.transport, &answer);
        answered.unwrap();
        self.check_invariants();
        text
    }

    /// Subscribes to tracks and returns their mids.
    pub(super) fn consume(&mut self, peer: Peer, wanted: &[(Peer, ProducerId)]) -> Vec<String> {
        let consumed = self.request_tracks(peer, wanted);
        self.answer(peer, &consumed.offer.unwrap());
        consumed.mids.into_iter().map(Option::unwrap).collect()
    }

    pub(super) fn receive(&mut self, source: SocketAddr, datagram: &[u8]) -> bool {
        let route = Route::Udp(0, source);
        let taken = self
            .engine
            .receive(self.now, route, source, &mut datagram.to_vec());
        taken == Disposition::Accepted
    }

    /// Collects the datagrams that the clients and the engine send.
    fn collect(&mut self) {
        let now = self.now;
        let mut chance = self.chance;
        let mut random_number = || {
            let (number, next) = xorshift(chance);
            chance = next;
            number >> 11
        };
        let (in_flight, sequence) = (&mut self.in_flight, &mut self.sequence);
        let mut send = |at: Option<Instant>, datagram_in_flight: InFlight| {
            if let Some(at) = at {
                *sequence += 1;
                in_flight.insert((at.max(now + STEP), *sequence), datagram_in_flight);
            }
        };
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            let (sent, wakes) = endpoint.client.poll();
            endpoint.wakes = wakes;
            for (target, datagram) in sent {
                assert_eq!(target, server_address());
                if wire::kind(&datagram) == Kind::Rtp {
                    endpoint.sent_media.push(datagram.clone());
                }
                let at = endpoint
                    .up
                    .transmit(now, datagram.len(), &mut random_number);
                let datagram_in_flight = InFlight {
                    endpoint: index,
                    to_server: Some(endpoint.observed_address),
                    datagram,
                };
                send(at.filter(|_| !endpoint.drops_outgoing), datagram_in_flight);
            }
        }
        let endpoints = &mut self.endpoints;
        self.engine.flush(|route, outbox| {
            let Route::Udp(0, to) = route else {
                panic!("unexpected route {route:?}")
            };
            let index = endpoints
                .iter()
                .position(|endpoint| endpoint.observed_address == to);
            let Some(index) = index else { return };
            let endpoint = &mut endpoints[index];
            for datagram in outbox.datagrams() {
                endpoint.record_sent(datagram);
                let at = endpoint
                    .down
                    .transmit(now, datagram.len(), &mut random_number);
                let datagram_in_flight = InFlight {
                    endpoint: index,
                    to_server: None,
                    datagram: datagram.to_vec(),
                };
                send(at.filter(|_| !endpoint.drops_incoming), datagram_in_flight);
            }
        });
        self.chance = chance;
    }

    /// Delivers the datagrams that have arrived.
    fn deliver(&mut self) {
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let mut datagram_in_flight = entry.remove();
            if let Some(source) = datagram_in_flight.to_server {
                let (route, datagram) = (Route::Udp(0, source), &mut datagram_in_flight.datagram);
                let taken = self.engine.receive(self.now, route, source, datagram);
                self.dropped += usize::from(taken != Disposition::Accepted);
            } else {
                let client = &mut self.endpoints[datagram_in_flight.endpoint].client;
                client.receive(self.now, server_address(), &datagram_in_flight.datagram);
            }
        }
    }

    fn send_due_media(&mut self) {
        for endpoint in &mut self.endpoints {
            for (mid, rid) in endpoint.client.keyframes.drain(..) {
                for feed in &mut endpoint.feeds {
                    feed.key |= !feed.is_audio && feed.mid == mid && feed.rid == rid;
                }
            }
            for feed in &mut endpoint.feeds {
                if feed.next > self.now {
                    continue;
                }
                if feed.muted {
                    feed.next = self.now + feed.every;
                    continue;
                }
                for packet in feed.frame(self.now) {
                    endpoint
                        .client
                        .send(self.now, &feed.mid, feed.rid.as_deref(), &packet);
                    // Each packet is sent by itself.
                    endpoint.client.timeout(self.now);
                }
            }
        }
    }

    /// Runs for `time`, event by event. Returns how often the engine's timer fired.
    pub(super) fn run(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut woken = 0;
        loop {
            self.collect();
            let engine = self.engine.next_timeout();
            let clients = self.endpoints.iter().map(|endpoint| endpoint.wakes);
            let feeds = self.endpoints.iter().flat_map(|endpoint| &endpoint.feeds);
            let in_flight = self.in_flight.keys().next().map(|(at, _)| *at);
            let next = clients
                .chain(feeds.map(|feed| feed.next))
                .chain(engine)
                .chain(in_flight)
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
            for endpoint in &mut self.endpoints {
                if endpoint.wakes <= self.now {
                    endpoint.client.timeout(self.now);
                }
            }
            self.send_due_media();
            if next >= end {
                self.collect();
                self.check_invariants();
                return woken;
            }
        }
    }

    pub(super) fn is_connected(&self, endpoint: usize) -> bool {
        self.endpoints[endpoint].client.is_connected()
    }

    /// Checks the invariants of the engine.
    pub(super) fn check_invariants(&self) {
        check_invariants(&self.engine);
    }
}

impl Endpoint {
    /// Records a datagram sent to the client. Packets with the same SSRC and number must be
    /// identical, since their GCM key stream is (RFC 7714, 8.4).
    fn record_sent(&mut self, datagram: &[u8]) {
        self.datagrams += 1;
        match wire::kind(datagram) {
            Kind::Rtp => {
                self.media += 1;
                self.media_bytes += datagram.len();
                let header = wire::rtp::Header::parse(datagram).unwrap();
                let key = (header.ssrc, header.sequence);
                let before = self.sealed.entry(key).or_insert_with(|| datagram.to_vec());
                assert!(before == datagram, "two different packets are {key:?}");
            }
            Kind::Rtcp => {
                let (_, index) = datagram.split_last_chunk().unwrap();
                let ssrc = datagram[4..].first_chunk().unwrap();
                let key = (u32::from_be_bytes(*ssrc), u32::from_be_bytes(*index));
                let is_new = self.reports.insert(key);
                assert!(is_new, "two RTCP packets are {key:?}");
            }
            _ => {}
        }
    }
}
