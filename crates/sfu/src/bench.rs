//! The engine without sockets and threads, for benchmarks only. This API is unstable and changes
//! with the engine.
//!
//! Clients are identified by a port number. Time is passed in, so a second of simulated traffic
//! takes only as long as it takes to process its packets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;

use crate::engine::{Engine, Identity, Route, Settings};
use crate::sdp::{Candidate, Description};
use crate::secret::Secret;
use crate::{ConsumeRequest, Consumed, Direction, Error, Member, Opened, Owner, Produce};

/// The address advertised to clients. Nothing listens there.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// An engine without sockets.
pub struct Bench(Engine);

/// A reusable buffer for the datagrams that an engine sends.
#[derive(Debug, Default)]
pub struct Sent {
    bytes: Vec<u8>,
    datagrams: Vec<(u16, usize)>,
}

impl Sent {
    /// Removes all datagrams. Keeps the allocated memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }

    /// Returns the number of datagrams.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Returns whether there are no datagrams.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Returns the datagrams, each with the port of its client.
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
    /// Creates an engine without clients.
    ///
    /// # Errors
    /// The DTLS certificate cannot be generated.
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
            apps: crate::engine::AppCounts::default(),
            max_consumers: 64,
            connect_timeout: Duration::from_secs(60),
            passwords: Secret::ephemeral().key("ice passwords"),
            identity: Identity::generate().map_err(|error| error.to_string())?,
            random: |bytes| rand::fill(bytes).expect("the system provides random bytes"),
        })))
    }

    /// See [`Media::open`](crate::Media::open).
    ///
    /// # Errors
    /// See [`Error`].
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

    /// See [`Media::produce`](crate::Media::produce).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn produce(
        &mut self,
        now: Instant,
        member: Member,
        produce: &Produce,
    ) -> Result<String, Error> {
        self.0.produce(now, member, produce, &read(&produce.offer)?)
    }

    /// See [`Media::consume`](crate::Media::consume).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn consume(
        &mut self,
        member: Member,
        transport: &str,
        wanted: &[ConsumeRequest],
    ) -> Result<Consumed, Error> {
        self.0.consume(member, transport, wanted)
    }

    /// See [`Media::apply_answer`](crate::Media::apply_answer).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn apply_answer(
        &mut self,
        now: Instant,
        member: Member,
        transport: &str,
        answer: &str,
    ) -> Result<(), Error> {
        self.0.apply_answer(now, member, transport, &read(answer)?)
    }

    /// Processes a datagram from the client with this port. Decrypts it in place.
    pub fn receive(&mut self, now: Instant, port: u16, datagram: &mut [u8]) {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.0.receive(now, Route::Udp(0, from), from, datagram);
    }

    /// Runs the timers that are due.
    pub fn timeout(&mut self, now: Instant) {
        self.0.timeout(now);
    }

    /// Appends the datagrams that the engine wants to send.
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
