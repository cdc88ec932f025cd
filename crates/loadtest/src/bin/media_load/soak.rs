//! People who come and go for long, and what is left of them: nothing.
//!
//! | where | what |
//! |---|---|
//! | `soak/person` | How somebody comes, what they do, and how they go. |
//! | `soak/watch` | What is looked at while they do. |
//! | `soak/verdict` | What must be true in the end. |

mod person;
mod verdict;
mod watch;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_testkit::media::{Guest, Probe, Wires, probe};
use parlor_testkit::signal::Identity;
use parlor_testkit::{Process, Stage};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::options::Options;
use person::{Dice, plan};
use verdict::Found;
use watch::{Rest, Watch};

/// The server waits so long for those whose sockets broke.
const GRACE: Duration = Duration::from_secs(2);

/// It may take so long beyond that until everything is freed.
const LATE: Duration = Duration::from_secs(10);

/// After so long at the latest the server has closed a connection that waits for a request.
const IDLE: Duration = Duration::from_secs(40);

/// How long people come and go before what is there once is there.
const WARM_UP: Duration = Duration::from_secs(8);

/// One packet of so many is decrypted: nobody asks for the times.
const SAMPLE: u64 = 1000;

/// Everything that people share.
struct World {
    wires: Wires,
    turns: tokio::sync::Mutex<Interval>,
    /// About how long somebody stays: so long that the seats suffice for the rate, with time to come
    /// and go.
    stay: Duration,
    tally: Mutex<Tally>,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Tally {
    /// How long each join took.
    joins: Vec<Duration>,
    given_up: usize,
    came_back: usize,
    vanished: usize,
    dead_lines: usize,
    /// Tracks that newcomers have heard, and how long the last of each newcomer's took.
    heard: usize,
    waits: Vec<Duration>,
    failures: Vec<String>,
    /// Tracks that somebody sends and nobody has paused.
    flowing: HashSet<String>,
}

impl World {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has people come and go; what is wrong afterwards.
pub(crate) async fn run(options: &Options) -> Result<Vec<String>> {
    let server = options.task.server()?;
    let grace = GRACE.as_secs().to_string();
    let server = server.argument("--reconnect-grace-secs").argument(&grace);
    let stage = Stage::start(server, false).await?;
    let process = stage.process.context("it was started here")?;
    let (mut meetings, mut seats) = (Vec::new(), Vec::new());
    for _ in 0..options.meetings() {
        let meeting = stage.meeting().await?;
        meetings.push(meeting.clone());
        let people = options.people();
        seats.extend(stage.people(&meeting, "group_call_host", people).await?);
    }
    let mut turns = interval(Duration::from_secs_f64(1.0 / options.rate));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    #[expect(clippy::cast_precision_loss, reason = "a few people")]
    let stay = Duration::from_secs_f64(0.8 * seats.len() as f64 / options.rate);
    let world = Arc::new(World {
        wires: Wires::lay(SAMPLE)?,
        turns: tokio::sync::Mutex::new(turns),
        stay,
        tally: Mutex::default(),
    });

    let answered = witness(&world, seats.first().context("nobody")?).await?;
    churn(&world, &seats, WARM_UP).await;
    let (before, _) = rest(&stage, &meetings, &[]).await?;

    let watch = Watch::start(&stage, process)?;
    let (cpu, own) = (process.cpu()?, Process::own().cpu()?);
    let time = Duration::from_secs_f64(options.minutes() * 60.0);
    churn(&world, &seats, time).await;
    let busy = [(process, cpu), (Process::own(), own)];
    let busy = busy.map(|(process, before)| anyhow::Ok(process.cpu()?.saturating_sub(before)));
    let [cpu, own] = busy;
    let busy = [cpu?, own?];
    let samples = watch.stop();
    let probes = world.wires.take_probes();
    let (mut after, ghosts) = rest(&stage, &meetings, &probes).await?;
    // Connections that wait for a request are no leak: the server closes them by itself.
    let deadline = Instant::now() + IDLE;
    while after.descriptors.len() > before.descriptors.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        after.end(Rest::of(&stage).await?);
    }
    let found = Found {
        time,
        busy,
        before,
        after,
        samples,
        answered,
        transports: probes.len(),
        ghosts,
        live: live_sessions(&stage).await?,
        errors: stage
            .parlor
            .as_ref()
            .map(parlor_testkit::Parlor::errors)
            .unwrap_or_default(),
        tally: std::mem::take(&mut *world.tally()),
    };
    print!("{}", found.table());
    Ok(found.faults())
}

/// Shows that a transport which is there answers, and none which is not: how many of two did in
/// either case.
async fn witness(world: &World, who: &Identity) -> Result<[usize; 2]> {
    let (guest, _) = Guest::enter(
        &who.in_another_tab(),
        &world.wires,
        &plan(&mut Dice::new(0)),
    )
    .await?;
    let probes = guest.probes();
    let there = probe::found(&probes).await?;
    guest.peer.leave().await?;
    drop(guest);
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok([there, probe::found(&probes).await?])
}

/// All seats are taken and left, again and again, until nobody is there any more.
async fn churn(world: &Arc<World>, seats: &[Identity], time: Duration) {
    let until = Instant::now() + time;
    let mut sitting = JoinSet::new();
    for (seed, who) in (1..).zip(seats) {
        let (world, who) = (Arc::clone(world), who.clone());
        sitting.spawn(async move { person::sit(&world, &who, Dice::new(seed), until).await });
    }
    while let Some(ended) = sitting.join_next().await {
        if let Err(error) = ended {
            world.tally().failures.push(error.to_string());
        }
    }
}

/// What the server holds once all its patience is over, and how many of these transports. Meetings
/// would wait a minute for the next to come: somebody ends them then, and no sooner, because that
/// would put out whoever is left.
async fn rest(stage: &Stage, meetings: &[String], probes: &[Probe]) -> Result<(Rest, usize)> {
    until(stage, GRACE + LATE, Rest::is_nobody).await?;
    // What the server closes by itself, it closes soon after.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ghosts = probe::found(probes).await?;
    let mut rest = Rest::of(stage).await?;
    for meeting in meetings {
        let path = format!("{}/meetings/{meeting}/active-session/kick-all", stage.app);
        // There may be none.
        stage.client.post(&path, &json!({})).await?;
    }
    until(stage, LATE, Rest::has_no_meetings).await?;
    rest.end(Rest::of(stage).await?);
    Ok((rest, ghosts))
}

async fn until(stage: &Stage, patience: Duration, is_so: fn(&Rest) -> bool) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so(&Rest::of(stage).await?) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Sessions that have not ended.
async fn live_sessions(stage: &Stage) -> Result<usize> {
    let path = format!("{}/sessions?status=LIVE", stage.app);
    let found = stage.client.get(&path).await?.expect(200)?;
    let sessions = found["sessions"].as_array();
    Ok(sessions
        .with_context(|| format!("no sessions in {found}"))?
        .len())
}
