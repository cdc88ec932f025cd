//! Clients of Parlor's engine without sockets: what a packet costs, apart from the system.
//!
//! Time is virtual and traffic the same in every run. What is measured is in one function that is
//! never inlined, so that a counter of instructions can be switched on for it alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use parlor_protocol::{MeetingId, PeerId, ProducerId};
use parlor_sfu::bench::{Bench, Sent};
use parlor_sfu::{Direction, Member, Produce, Source as From, Want};
use uuid::Uuid;

use super::reception::Reception;
use super::sdp::{self, Kind, Line, Session};
use super::stream::keys_asked_for;
use super::transport::Incoming;
use super::{Identity, Source, Stream, Transport};

/// How far time goes on in one turn.
const TURN: Duration = Duration::from_millis(1);

/// Turns until the paths are believed to bear the stream.
const SETTLE: u32 = 3000;

/// Turns that a handshake may take.
const PATIENCE: u32 = 2000;

/// What a run of [`measure`] came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Packets of media that came in.
    pub packets_in: u64,
    /// Datagrams that were to be sent.
    pub packets_out: u64,
    /// How long the engine took for all of it.
    pub took: Duration,
}

/// One connection of somebody.
struct Client {
    transport: Transport,
    reception: Reception,
    member: Member,
    name: String,
    is_connected: bool,
}

struct World {
    bench: Bench,
    sent: Sent,
    now: Instant,
    start: Instant,
    /// In the order of their ports, so that every run is the same.
    clients: BTreeMap<u16, Client>,
    identity: Arc<Identity>,
    measured: Measured,
    is_measuring: bool,
    /// The engine has asked for a keyframe.
    wants_key: bool,
}

/// Forwards one source to so many receivers for so much virtual time.
///
/// # Errors
/// When the engine does not take what the official SDK would say.
pub fn measure(source: Source, receivers: u16, time: Duration) -> Result<Measured> {
    let mut world = World::new(usize::from(receivers) + 1)?;
    let meeting = MeetingId::from_uuid(Uuid::from_u128(1));
    let member = |number: u16| Member {
        meeting,
        peer: PeerId::from_uuid(Uuid::from_u128(u128::from(number) + 1)),
    };
    let publisher = 1;
    world.open(publisher, member(0), Direction::Publish)?;
    for port in 2..=receivers + 1 {
        world.open(port, member(port), Direction::Receive)?;
    }
    world.connect()?;
    let (mut stream, producer) = world.produce(publisher, source)?;
    for port in 2..=receivers + 1 {
        world.consume(port, producer, member(0).peer)?;
    }
    stream.start(world.now);
    for _ in 0..SETTLE {
        world.turn(publisher, &mut stream)?;
    }
    world.measured = Measured::default();
    world.is_measuring = true;
    let turns = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    for _ in 0..turns {
        world.turn(publisher, &mut stream)?;
    }
    Ok(world.measured)
}

/// What the engine does while it is measured. Not inlined, so that it has a name.
#[inline(never)]
fn measured(world: &mut World, datagrams: &mut [(u16, Vec<u8>)]) {
    let clock = Instant::now();
    world.work(datagrams);
    world.measured.took += clock.elapsed();
}

impl World {
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
        let offer = sdp::offer(&transport.says(), &first_lines());
        let opened = self.bench.open(self.now, member, direction, &offer)?;
        let theirs = Session::read(&opened.answer)?;
        transport.connect(theirs.remote()?, self.now)?;
        let client = Client {
            transport,
            reception: Reception::new(self.now),
            member,
            name: opened.transport_id,
            is_connected: false,
        };
        self.clients.insert(port, client);
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        for _ in 0..PATIENCE {
            self.exchange(Vec::new())?;
            if self.clients.values().all(|client| client.is_connected) {
                return Ok(());
            }
        }
        Err(anyhow!("not everybody connected"))
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
            offer: sdp::offer(&client.transport.says(), &lines),
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
        let want = Want {
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
        let answer = sdp::answer(&client.transport.says(), &theirs);
        self.bench
            .answered(self.now, client.member, &client.name, &answer)?;
        Ok(())
    }

    /// One step of time with what the publisher sends in it.
    fn turn(&mut self, publisher: u16, stream: &mut Stream) -> Result<()> {
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
        self.now += TURN;
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
            let client = self.clients.get_mut(&port).context("to nobody")?;
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

    /// Takes a datagram; whether it asks for a keyframe.
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
                return Ok(keys_asked_for(compound.unwrap_or_default())
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
