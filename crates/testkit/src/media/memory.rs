//! Clients of Parlor's engine without sockets, to measure the cost of a packet without the
//! system's.
//!
//! Time is virtual, and the traffic is the same in every run. The measured code is in one function
//! that is never inlined, so that instruction counting can be limited to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use parlor_protocol::{MeetingId, PeerId, ProducerId};
use parlor_sfu::bench::{Bench, Sent};
use parlor_sfu::{ConsumeRequest, Direction, Member, Produce, Source as From};
use uuid::Uuid;

use super::reception::ReceiveStats;
use super::sdp::{self, Kind, Line, Session};
use super::stream::key_frame_requests;
use super::transport::Incoming;
use super::{Identity, Source, Stream, Transport};

/// Virtual time of one step.
const STEP: Duration = Duration::from_millis(1);

/// Number of steps until the bandwidth estimate allows the stream.
const SETTLE: u32 = 3000;

/// Maximum number of steps of a handshake.
const HANDSHAKE_STEPS: u32 = 2000;

/// Result of [`measure`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Number of media packets received by the engine.
    pub packets_in: u64,
    /// Number of datagrams sent by the engine.
    pub packets_out: u64,
    /// Time spent in the engine.
    pub took: Duration,
}

/// One client with its transport.
struct Client {
    transport: Transport,
    reception: ReceiveStats,
    member: Member,
    name: String,
    is_connected: bool,
}

struct Simulation {
    bench: Bench,
    sent: Sent,
    now: Instant,
    start: Instant,
    /// Clients by port; sorted, so that every run is the same.
    clients: BTreeMap<u16, Client>,
    identity: Arc<Identity>,
    measured: Measured,
    is_measuring: bool,
    /// Whether the engine has requested a key frame.
    wants_key: bool,
}

/// Forwards one source to `receivers` clients for `time` of virtual time.
///
/// # Errors
/// When the engine rejects a request or an offer.
pub fn measure(source: Source, receivers: u16, time: Duration) -> Result<Measured> {
    let mut simulation = Simulation::new(usize::from(receivers) + 1)?;
    let meeting = MeetingId::from_uuid(Uuid::from_u128(1));
    let member = |number: u16| Member {
        meeting,
        peer: PeerId::from_uuid(Uuid::from_u128(u128::from(number) + 1)),
    };
    let publisher = 1;
    simulation.open(publisher, member(0), Direction::Publish)?;
    for port in 2..=receivers + 1 {
        simulation.open(port, member(port), Direction::Receive)?;
    }
    simulation.connect()?;
    let (mut stream, producer) = simulation.produce(publisher, source)?;
    for port in 2..=receivers + 1 {
        simulation.consume(port, producer, member(0).peer)?;
    }
    stream.start(simulation.now);
    for _ in 0..SETTLE {
        simulation.step(publisher, &mut stream)?;
    }
    simulation.measured = Measured::default();
    simulation.is_measuring = true;
    let steps = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    for _ in 0..steps {
        simulation.step(publisher, &mut stream)?;
    }
    Ok(simulation.measured)
}

/// The measured work of the engine. Not inlined, so that its symbol can be selected by name.
#[inline(never)]
fn measured(simulation: &mut Simulation, datagrams: &mut [(u16, Vec<u8>)]) {
    let clock = Instant::now();
    simulation.work(datagrams);
    simulation.measured.took += clock.elapsed();
}

impl Simulation {
    fn new(transports: usize) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            bench: Bench::new(transports).map_err(|error| anyhow!(error))?,
            sent: Sent::default(),
            now,
            start: now,
            clients: BTreeMap::new(),
            identity: Identity::new()?,
            measured: Measured::default(),
            is_measuring: false,
            wants_key: false,
        })
    }

    fn open(&mut self, port: u16, member: Member, direction: Direction) -> Result<()> {
        let mut transport = Transport::in_memory(&self.identity, port);
        let offer = sdp::offer(&transport.local_description(), &first_lines());
        let opened = self.bench.open(self.now, member, direction, &offer)?;
        let theirs = Session::read(&opened.answer)?;
        transport.connect(theirs.remote()?, self.now)?;
        let client = Client {
            transport,
            reception: ReceiveStats::new(self.now),
            member,
            name: opened.transport_id,
            is_connected: false,
        };
        self.clients.insert(port, client);
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        for _ in 0..HANDSHAKE_STEPS {
            self.exchange(Vec::new())?;
            if self.clients.values().all(|client| client.is_connected) {
                return Ok(());
            }
        }
        Err(anyhow!("not all clients connected"))
    }

    fn produce(&mut self, port: u16, source: Source) -> Result<(Stream, ProducerId)> {
        let client = self.clients.get(&port).context("no publisher")?;
        let (kind, from) = match source {
            Source::Video { .. } => (Kind::Video, From::Camera),
            Source::Voice { .. } | Source::Silence => (Kind::Audio, From::Microphone),
        };
        let mut lines = first_lines();
        lines.push(Line {
            ssrc: Some(7),
            ..Line::warm_up("2", kind)
        });
        let producer = ProducerId::from_uuid(Uuid::from_u128(9));
        let produce = Produce {
            transport: client.name.clone(),
            producer,
            mid: "2".to_owned(),
            source: from,
            paused: false,
            offer: sdp::offer(&client.transport.local_description(), &lines),
        };
        let answer = self.bench.produce(self.now, client.member, &produce)?;
        let agreed = Session::read(&answer)?.line("2")?.agreed(None);
        Ok((
            Stream::new(source, kind.payload_type(), 7, agreed),
            producer,
        ))
    }

    fn consume(&mut self, port: u16, producer: ProducerId, publisher: PeerId) -> Result<()> {
        let client = self.clients.get_mut(&port).context("no receiver")?;
        let want = ConsumeRequest {
            producer,
            publisher,
            preferred_rid: None,
        };
        let consumed = self.bench.consume(client.member, &client.name, &[want])?;
        let theirs = Session::read(&consumed.offer.context("nothing to receive")?)?;
        let mid = consumed.mids.into_iter().flatten().next();
        let line = theirs.line(&mid.context("no line")?)?;
        client
            .reception
            .expect(line.agreed(None).transport_cc, Some(sdp::RTX));
        let answer = sdp::answer(&client.transport.local_description(), &theirs);
        self.bench
            .apply_answer(self.now, client.member, &client.name, &answer)?;
        Ok(())
    }

    /// Advances time by one step and sends the publisher's packets that are due.
    fn step(&mut self, publisher: u16, stream: &mut Stream) -> Result<()> {
        let mut datagrams = Vec::new();
        if std::mem::take(&mut self.wants_key) {
            stream.request_key();
        }
        let client = self.clients.get_mut(&publisher).context("no publisher")?;
        while stream.due().is_some_and(|due| due <= self.now) {
            let mut packet = Vec::with_capacity(1400);
            let written = stream.write(&mut packet, 0);
            let sealer = client.transport.sealer().context("no keys")?;
            sealer.seal_rtp(&mut packet, 0, written.header_bytes, written.index);
            datagrams.push((publisher, packet));
        }
        self.measured.packets_in += datagrams.len() as u64;
        self.exchange(datagrams)
    }

    fn work(&mut self, datagrams: &mut [(u16, Vec<u8>)]) {
        for (port, datagram) in datagrams {
            self.bench.receive(self.now, *port, datagram);
        }
        self.bench.timeout(self.now);
        self.bench.flush(&mut self.sent);
    }

    fn exchange(&mut self, mut datagrams: Vec<(u16, Vec<u8>)>) -> Result<()> {
        self.now += STEP;
        for (port, client) in &mut self.clients {
            client.tick(self.now)?;
            let sent = client.transport.take_sent();
            datagrams.extend(sent.into_iter().map(|datagram| (*port, datagram)));
        }
        self.sent.clear();
        if self.is_measuring {
            measured(self, &mut datagrams);
        } else {
            self.work(&mut datagrams);
        }
        self.measured.packets_out += self.sent.len() as u64;
        let at_ns = self.now.duration_since(self.start).as_nanos();
        let at_ns = u64::try_from(at_ns).unwrap_or(u64::MAX);
        for (port, datagram) in self.sent.datagrams() {
            let client = self.clients.get_mut(&port).context("no such client")?;
            self.wants_key |= client.take(datagram, self.now, at_ns)?;
        }
        Ok(())
    }
}

impl Client {
    fn tick(&mut self, now: Instant) -> Result<()> {
        if self.transport.next_timeout().is_some_and(|due| due <= now) {
            self.transport.timeout(now)?;
        }
        let transport = &mut self.transport;
        self.reception.reports(now, 1, |packet| {
            if let Some(sealer) = transport.sealer() {
                sealer.seal_rtcp(packet, 0);
                transport.send(packet);
            }
        });
        Ok(())
    }

    /// Handles a datagram. Returns whether it requests a key frame.
    fn take(&mut self, datagram: &[u8], now: Instant, at_ns: u64) -> Result<bool> {
        match self.transport.receive(datagram, now)? {
            Incoming::Connected => self.is_connected = true,
            Incoming::Rtp => {
                ensure!(self.is_connected, "media before the keys");
                self.reception.take(datagram, at_ns);
            }
            Incoming::Rtcp => {
                let mut datagram = datagram.to_vec();
                let opener = self.transport.opener();
                let compound = opener.and_then(|opener| opener.open_rtcp(&mut datagram));
                return Ok(key_frame_requests(compound.unwrap_or_default())
                    .next()
                    .is_some());
            }
            Incoming::Handled => {}
        }
        Ok(false)
    }
}

fn first_lines() -> Vec<Line> {
    vec![
        Line::warm_up("0", Kind::Audio),
        Line::warm_up("1", Kind::Video),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_forwarded_to_every_receiver() {
        let source = Source::Voice { bytes: 90 };
        let found = measure(source, 3, Duration::from_secs(1)).expect("a run");
        assert_eq!(found.packets_in, 50);
        assert!((150..170).contains(&found.packets_out), "{found:?}");
    }
}
