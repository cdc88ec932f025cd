//! The engine without sockets and threads, for those who measure it. Not for anything else: what is
//! here may change with the engine.
//!
//! Clients are told apart by a port. Time is handed in, so that a second of traffic takes as long as
//! its packets do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;

use crate::engine::{Engine, Identity, Route, Settings};
use crate::sdp::{Candidate, Description};
use crate::secret::Secret;
use crate::{Consumed, Direction, Error, Member, Opened, Owner, Produce, Want};

/// Where clients are told to come to. Nobody listens there.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// An engine.
pub struct Bench(Engine);

/// What an engine sent, over and over in the same memory.
#[derive(Debug, Default)]
pub struct Sent {
    bytes: Vec<u8>,
    datagrams: Vec<(u16, usize)>,
}

impl Sent {
    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Each with the port of its client.
    pub fn datagrams(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut start = 0;
        self.datagrams.iter().map(move |&(port, end)| {
            let datagram = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            (port, datagram)
        })
    }
}

fn read(sdp: &str) -> Result<Description, Error> {
    Description::parse(sdp).map_err(|error| Error::BadOffer(error.to_string()))
}

impl Bench {
    /// An engine that nobody has come to yet.
    ///
    /// # Errors
    /// When there is no certificate.
    pub fn new(max_transports: usize) -> Result<Self, String> {
        Ok(Self(Engine::new(Settings {
            candidates: vec![Candidate {
                address: ADDRESS,
                tcp: false,
            }],
            shard: b'A',
            shards: b"A",
            max_transports,
            open: Arc::default(),
            shares: crate::Shares::default(),
            apps: crate::engine::Apps::default(),
            max_consumers: 64,
            connect_timeout: Duration::from_secs(60),
            passwords: Secret::ephemeral().key("ice passwords"),
            identity: Identity::generate().map_err(|error| error.to_string())?,
            random: |bytes| rand::fill(bytes).expect("the system has random bytes"),
        })))
    }

    /// As [`Media::open`](crate::Media::open).
    ///
    /// # Errors
    /// As there.
    pub fn open(
        &mut self,
        now: Instant,
        member: Member,
        direction: Direction,
        offer: &str,
    ) -> Result<Opened, Error> {
        let offer = read(offer)?;
        self.0
            .open(Owner::alone(member), now, member, direction, &offer)
    }

    /// As [`Media::produce`](crate::Media::produce).
    ///
    /// # Errors
    /// As there.
    pub fn produce(
        &mut self,
        now: Instant,
        member: Member,
        produce: &Produce,
    ) -> Result<String, Error> {
        self.0.produce(now, member, produce, &read(&produce.offer)?)
    }

    /// As [`Media::consume`](crate::Media::consume).
    ///
    /// # Errors
    /// As there.
    pub fn consume(
        &mut self,
        member: Member,
        transport: &str,
        wanted: &[Want],
    ) -> Result<Consumed, Error> {
        self.0.consume(member, transport, wanted)
    }

    /// As [`Media::answered`](crate::Media::answered).
    ///
    /// # Errors
    /// As there.
    pub fn answered(
        &mut self,
        now: Instant,
        member: Member,
        transport: &str,
        answer: &str,
    ) -> Result<(), Error> {
        self.0.answered(now, member, transport, &read(answer)?)
    }

    /// A datagram from the client of a port. It is decrypted where it lies.
    pub fn receive(&mut self, now: Instant, port: u16, datagram: &mut [u8]) {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.0.receive(now, Route::Udp(0, from), from, datagram);
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant) {
        self.0.timeout(now);
    }

    /// Adds what is to be sent.
    pub fn flush(&mut self, sent: &mut Sent) {
        self.0.flush(|route, outbox| {
            let Route::Udp(_, to) = route else { return };
            for datagram in outbox.datagrams() {
                sent.bytes.extend_from_slice(datagram);
                sent.datagrams.push((to.port(), sent.bytes.len()));
            }
        });
    }
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").finish_non_exhaustive()
    }
}
