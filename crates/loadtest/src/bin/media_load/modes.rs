//! The measurements.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parlor_testkit::Process;
use parlor_testkit::media::{Phases, Plan, Published, ReadMode, SharedMedia, Source};
use parlor_testkit::process::receive_buffer_errors;

use crate::options::{Kind, Options};
use crate::server::{Client, Room, Server};
use crate::table::{Row, quantiles};

/// Number of clients that join concurrently.
const AT_ONCE: usize = 4;

/// How long media flows before the measurement, while the server may still probe the bandwidth.
const SETTLE: Duration = Duration::from_secs(4);

/// Interval at which sockets are read during the measurement.
const READ_INTERVAL: Duration = Duration::from_millis(2);

/// How long to wait for packets in flight after the last one was sent.
const IN_FLIGHT: Duration = Duration::from_millis(300);

/// Payload size of a voice packet, in bytes.
const VOICE_BYTES: usize = 90;

/// The publishers with their sources, and the number of subscribers that receive all of them.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) title: String,
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    talking: usize,
    video: Option<Source>,
    is_simulcast: bool,
}

impl Load {
    pub(crate) fn video(options: &Options) -> Self {
        let layers = if options.is_simulcast {
            ", three layers"
        } else {
            ""
        };
        Self {
            title: format!("video {} kbit/s{layers}", options.kbps),
            publishers: options.video_publishers(),
            subscribers: options.video_subscribers(),
            talking: 0,
            video: Some(Source::video(options.kbps)),
            is_simulcast: options.is_simulcast,
        }
    }

    pub(crate) fn audio(options: &Options) -> Self {
        let publishers = options.audio_publishers();
        let talking = options.talking().min(publishers);
        Self {
            title: format!("audio, {talking} talk"),
            publishers,
            subscribers: options.audio_subscribers(),
            talking,
            video: None,
            is_simulcast: false,
        }
    }

    fn source(&self, publisher: usize) -> Source {
        match self.video {
            Some(video) => video,
            None if publisher < self.talking => Source::Voice { bytes: VOICE_BYTES },
            None => Source::Silence,
        }
    }

    /// Returns the source of each publisher.
    pub(crate) fn sources(&self) -> Vec<Source> {
        (0..self.publishers)
            .map(|publisher| self.source(publisher))
            .collect()
    }

    fn plan(&self, publisher: usize) -> Plan {
        // Spread over a frame interval, because real cameras are not synchronized.
        let after = Duration::from_micros(33_333 * publisher as u64 / self.publishers as u64);
        let smaller = if self.is_simulcast {
            vec![Source::video(500), Source::video(150)]
        } else {
            Vec::new()
        };
        Plan {
            publishes: vec![Published {
                source: self.source(publisher),
                smaller,
                after,
            }],
            ..Plan::default()
        }
    }
}

/// Measures forwarding on each server.
pub(crate) async fn forward(options: &Options, load: &Load, rows: &mut Vec<Row>) -> Result<()> {
    let before = rows.len();
    for kind in &options.servers {
        rows.push(forward_on(*kind, options, load).await?);
    }
    compare(rows.get_mut(before..).unwrap_or_default());
    Ok(())
}

/// Adds a remark with the cost of Parlor's packets relative to Janus's.
fn compare(rows: &mut [Row]) {
    let of = |kind: Kind| rows.iter().position(|row| row.server == kind.name());
    let (Some(parlor), Some(janus)) = (of(Kind::Parlor), of(Kind::Janus)) else {
        return;
    };
    if let (Some(ours), Some(theirs)) = (rows[parlor].cpu_micros(), rows[janus].cpu_micros()) {
        let remark = format!("CPU per packet {:.2} times Janus's; ", ours / theirs);
        rows[parlor].remark.insert_str(0, &remark);
    }
}

async fn forward_on(kind: Kind, options: &Options, load: &Load) -> Result<Row> {
    let server = Server::start(kind, options).await?;
    let shared = SharedMedia::start(options.sample)?;
    let process = server.process()?;
    let room = server.room(load.publishers + load.subscribers).await?;
    let mut clients = Vec::new();
    for publisher in 0..load.publishers {
        clients.push(room.enter(&shared, &load.plan(publisher)).await?);
    }
    let before = process.resident()?;
    let plan = Plan {
        subscribes: true,
        ..Plan::default()
    };
    clients.extend(enter(&room, &shared, &plan, load.subscribers).await?);
    shared.thread.set_read_mode(ReadMode::Every(READ_INTERVAL));
    tokio::time::sleep(SETTLE).await;

    let dropped = receive_buffer_errors()?;
    let start = shared.thread.totals().await?;
    let (cpu, own, threads) = (
        process.cpu()?,
        Process::current().cpu()?,
        process.threads()?,
    );
    let clock = Instant::now();
    tokio::time::sleep(Duration::from_secs(options.seconds())).await;
    let took = clock.elapsed();
    let cpu = process.cpu()?.saturating_sub(cpu);
    let own = Process::current().cpu()?.saturating_sub(own);
    let busiest = process.busiest_thread(&threads)?;
    shared.thread.stop_sending();
    tokio::time::sleep(IN_FLIGHT).await;
    let end = shared.thread.totals().await?;
    let dropped = receive_buffer_errors()? - dropped;

    let packets_in = end.sent - start.sent;
    let expected = packets_in * load.subscribers as u64;
    let grown = process.resident()?.saturating_sub(before);
    let mut remarks = Vec::new();
    if let Some(profile) = shared.profile() {
        remarks.push(format!("{profile:?}"));
    }
    let wanted = load.publishers * load.subscribers;
    if end.streams != wanted {
        remarks.push(format!("{} of {wanted} streams arrived", end.streams));
    }
    for (count, what) in [
        (
            end.arrived.others - start.arrived.others,
            "retransmissions and probes",
        ),
        (end.unsent - start.unsent, "not sent"),
        (
            dropped,
            "datagrams dropped at full receive buffers of either side",
        ),
        (
            end.retransmission_requests - start.retransmission_requests,
            "retransmissions requested",
        ),
        (
            end.key_requests - start.key_requests,
            "key frames requested",
        ),
    ] {
        if count > 0 {
            remarks.push(format!("{count} {what}"));
        }
    }
    let row = Row {
        title: load.title.clone(),
        server: kind.name(),
        publishers: load.publishers,
        subscribers: load.subscribers,
        took,
        packets_in,
        packets_out: end.arrived.packets - start.arrived.packets,
        expected: if load.is_simulcast { 0 } else { expected },
        lost: end.arrived.lost.saturating_sub(start.arrived.lost),
        cpu: Some(cpu),
        busiest: Some(busiest),
        own_cpu: Some(own),
        latency: quantiles(end.latencies_ns),
        bytes_each: Some(grown / load.subscribers as u64),
        remark: remarks.join(", "),
    };
    drop(clients);
    Ok(row)
}

async fn enter(
    room: &Room,
    shared: &SharedMedia,
    plan: &Plan,
    count: usize,
) -> Result<Vec<Client>> {
    stream::iter(0..count)
        .map(|_| room.enter(shared, plan))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Measures peers that only connect.
pub(crate) async fn peers(options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    for kind in &options.servers {
        rows.push(peers_on(*kind, options).await?);
    }
    Ok(())
}

async fn peers_on(kind: Kind, options: &Options) -> Result<Row> {
    let server = Server::start(kind, options).await?;
    let shared = SharedMedia::start(options.sample)?;
    let process = server.process()?;
    // Each client has both transports and a silent microphone, as a client that only listens does.
    let plan = Plan {
        publishes: vec![Published::at_once(Source::Silence)],
        subscribes: true,
        connects_both: true,
    };
    let mut clients = Vec::new();
    // The first clients are not measured, because they cause one-time allocations.
    let warm_up = server.room(options.room).await?;
    clients.extend(enter(&warm_up, &shared, &plan, options.room.min(4)).await?);
    let counted = clients.len();
    tokio::time::sleep(SETTLE).await;
    let (resident, cpu) = (process.resident()?, process.cpu()?);
    let clock = Instant::now();
    let mut rooms = vec![warm_up];
    while clients.len() - counted < options.peers() {
        let missing = options.peers() - (clients.len() - counted);
        let room = server.room(options.room).await?;
        clients.extend(enter(&room, &shared, &plan, missing.min(options.room)).await?);
        rooms.push(room);
    }
    let took = clock.elapsed();
    let cpu = process.cpu()?.saturating_sub(cpu);
    tokio::time::sleep(SETTLE).await;
    let grown = process.resident()?.saturating_sub(resident);
    let joined = clients.split_off(counted);
    ensure!(!joined.is_empty(), "no client joined");
    let each = cpu / u32::try_from(joined.len())?;
    Ok(Row {
        title: format!("{} peers in rooms of {}", joined.len(), options.room),
        server: kind.name(),
        publishers: joined.len(),
        subscribers: joined.len(),
        bytes_each: Some(grown / joined.len() as u64),
        remark: format!(
            "{}, {:.1} joins/s, {:.1} ms CPU each",
            phases(&joined),
            len(&joined) / took.as_secs_f64(),
            each.as_secs_f64() * 1e3
        ),
        ..Row::default()
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn len(clients: &[Client]) -> f64 {
    clients.len() as f64
}

/// Selects one of the phases.
type Pick = fn(&Phases) -> Duration;

/// Formats the duration of each phase of joining, p50 and p99.
fn phases(clients: &[Client]) -> String {
    let named: [(&str, Pick); 4] = [
        ("signalling", |phases| phases.signalling),
        ("offers", |phases| phases.offers),
        ("ICE and DTLS", |phases| phases.connecting),
        ("tracks", |phases| phases.tracks),
    ];
    let texts = named.map(|(name, pick)| {
        let mut times: Vec<Duration> = clients.iter().map(|client| pick(&client.phases)).collect();
        times.sort_unstable();
        let at = |part: usize| {
            let index = (times.len() * part).div_ceil(100).saturating_sub(1);
            times
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        format!("{name} {:.1}/{:.1} ms", at(50), at(99))
    });
    texts.join(", ")
}
