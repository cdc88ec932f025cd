//! The engine, clients, and a network between them that takes no time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parlor_protocol::{MeetingId, PeerId};
use uuid::Uuid;

use crate::client::Client;
use crate::core::{Engine, Offer, SHORTEST_SLEEP, Settings};
use crate::{Direction, Error, Member, Opened};

/// When nothing else happens, so that a transport that is freed then was freed by it.
pub(super) const TIMEOUT: Duration = Duration::from_millis(60_700);

/// What a browser offers at first, in short.
pub(super) const OFFER: &str = "v=0\r
o=- 42 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 1\r
a=extmap-allow-mixed\r
a=msid-semantic: WMS\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:Px4k\r
a=ice-pwd:parlorparlorparlorparlor\r
a=ice-options:trickle\r
a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r
a=setup:actpass\r
a=mid:0\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=sendonly\r
a=msid:- parlor-audio\r
a=rtcp-mux\r
a=rtcp-rsize\r
a=rtpmap:111 opus/48000/2\r
a=rtcp-fb:111 transport-cc\r
a=fmtp:111 minptime=10;useinbandfec=1\r
a=rtpmap:63 red/48000/2\r
a=fmtp:63 111/111\r
a=ssrc:7001 cname:parlor\r
a=ssrc:7001 msid:- parlor-audio\r
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102\r
c=IN IP4 0.0.0.0\r
a=ice-ufrag:Px4k\r
a=ice-pwd:parlorparlorparlorparlor\r
a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r
a=setup:actpass\r
a=mid:1\r
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r
a=sendonly\r
a=msid:- parlor-video\r
a=rtcp-mux\r
a=rtpmap:96 VP8/90000\r
a=rtcp-fb:96 nack pli\r
a=rtpmap:97 rtx/90000\r
a=fmtp:97 apt=96\r
a=rtpmap:102 H264/90000\r
a=rid:f send\r
a=rid:h send\r
a=rid:q send\r
a=simulcast:send f;h;q\r
";

pub(super) fn member(peer: u128) -> Member {
    Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(1)),
        peer: PeerId::from_uuid(Uuid::from_u128(peer)),
    }
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

pub(super) fn open(
    engine: &mut Engine,
    now: Instant,
    member: Member,
    direction: Direction,
    offer: &str,
) -> Result<Opened, Error> {
    let offer = Offer::read(offer).map_err(Error::BadOffer)?;
    engine.open(now, member, direction, offer)
}

/// A client, and the address the engine sees it at: a router on the way may change it.
pub(super) struct Guest {
    pub(super) client: Client,
    pub(super) seen_at: SocketAddr,
    pub(super) wakes: Instant,
    /// Nothing it sends arrives.
    pub(super) silent: bool,
    /// Nothing that is sent to it arrives.
    pub(super) deaf: bool,
    /// How many datagrams were sent to it.
    pub(super) heard: usize,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) engine: Engine,
    pub(super) guests: Vec<Guest>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(100)
    }

    pub(super) fn of(max_transports: usize) -> Self {
        Self {
            now: Instant::now(),
            engine: Engine::new(&Settings {
                advertised: vec![vec![home()]],
                max_transports,
                connect_timeout: TIMEOUT,
            }),
            guests: Vec::new(),
        }
    }

    /// A client opens a transport; its index, and the transport's id.
    pub(super) fn join(&mut self, member: Member, direction: Direction) -> (usize, String) {
        let (mut client, opened) = self.open(member, direction);
        client.accept(&opened.answer);
        (self.admit(client), opened.transport_id)
    }

    pub(super) fn open(&mut self, member: Member, direction: Direction) -> (Client, Opened) {
        let client = Client::new(self.now, client_address(self.guests.len()));
        let opened = open(
            &mut self.engine,
            self.now,
            member,
            direction,
            client.offer(),
        );
        (client, opened.unwrap())
    }

    pub(super) fn admit(&mut self, client: Client) -> usize {
        self.guests.push(Guest {
            client,
            seen_at: client_address(self.guests.len()),
            wakes: self.now,
            silent: false,
            deaf: false,
            heard: 0,
        });
        self.guests.len() - 1
    }

    pub(super) fn receive(&mut self, source: SocketAddr, datagram: &[u8]) -> bool {
        self.engine.receive(self.now, 0, source, datagram)
    }

    /// Carries datagrams until nobody has any.
    pub(super) fn carry(&mut self) {
        loop {
            let mut moved = false;
            for guest in &mut self.guests {
                let (sent, wakes) = guest.client.poll();
                guest.wakes = wakes;
                for (destination, datagram) in sent {
                    assert_eq!(destination, home());
                    if !guest.silent {
                        self.engine.receive(self.now, 0, guest.seen_at, &datagram);
                    }
                    moved = true;
                }
            }
            while let Some(transmit) = self.engine.poll_transmit() {
                assert_eq!(transmit.socket, 0);
                let to = transmit.destination;
                if let Some(guest) = self.guests.iter_mut().find(|guest| guest.seen_at == to) {
                    guest.heard += 1;
                    if !guest.deaf {
                        guest.client.receive(self.now, home(), &transmit.contents);
                    }
                }
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass, from event to event; how many times the engine was woken.
    pub(super) fn run(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut woken = 0;
        loop {
            self.carry();
            let engine = self.engine.next_timeout();
            let clients = self.guests.iter().map(|guest| guest.wakes);
            let next = clients.chain(engine).min().unwrap_or(end);
            if next >= end {
                self.now = end;
                self.engine.timeout(end);
                self.carry();
                return woken;
            }
            self.now = next.max(self.now + SHORTEST_SLEEP);
            if engine.is_some_and(|wakes| wakes <= self.now) {
                woken += 1;
            }
            self.engine.timeout(self.now);
            assert!(
                self.engine
                    .next_timeout()
                    .is_none_or(|wakes| wakes > self.now)
            );
            for guest in &mut self.guests {
                if guest.wakes <= self.now {
                    guest.client.timeout(self.now);
                }
            }
        }
    }

    pub(super) fn connected(&self, guest: usize) -> bool {
        self.guests[guest].client.is_connected()
    }

    /// Nothing is left of what was freed.
    pub(super) fn assert_consistent(&self) {
        let engine = &self.engine;
        assert_eq!(engine.by_member.len(), engine.entries.len());
        assert_eq!(engine.by_ufrag.len(), engine.entries.len());
        assert_eq!(engine.timers.len(), engine.entries.len());
        let connected = engine.entries.values().filter(|e| e.dies.is_none()).count();
        assert_eq!(engine.connected, connected);
        for (path, key) in &engine.by_path {
            assert!(engine.entries[key].paths.contains(path));
        }
        for (wakes, key) in &engine.timers {
            assert_eq!(engine.entries[key].wakes, *wakes);
        }
    }
}
