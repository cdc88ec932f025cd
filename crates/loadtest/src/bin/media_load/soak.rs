//! Clients that join and leave for a long time, and a check that the server leaks nothing.
//!
//! | module | purpose |
//! |---|---|
//! | `soak/participant` | Joins, acts and leaves as one participant. |
//! | `soak/sampler` | Samples the server's resource usage. |
//! | `soak/verdict` | Checks the result. |

mod participant;
mod sampler;
mod verdict;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_testkit::media::{MediaClient, Probe, SharedMedia, probe};
use parlor_testkit::signal::Identity;
use parlor_testkit::{LoadTarget, Process};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::options::Options;
use participant::{Rng, plan};
use sampler::{Sampler, Usage};
use verdict::SoakReport;

/// Reconnect grace period of the server.
const GRACE: Duration = Duration::from_secs(2);

/// How long the server may take beyond the grace period until everything is freed.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which the server has closed idle connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(40);

/// Duration of the warm-up, in which one-time allocations are made.
const WARM_UP: Duration = Duration::from_secs(8);

/// One in `SAMPLE` packets is decrypted. Few are enough, because latencies are not reported.
const SAMPLE: u64 = 1000;

/// State shared by all participants.
struct Soak {
    shared: SharedMedia,
    join_pace: tokio::sync::Mutex<Interval>,
    /// Average duration of a visit: such that the participants suffice for the join rate,
    /// including the time to join and leave.
    visit_time: Duration,
    tally: Mutex<Tally>,
}

/// Events so far.
#[derive(Debug, Default)]
struct Tally {
    /// Duration of each join.
    joins: Vec<Duration>,
    given_up: usize,
    reconnected: usize,
    vanished: usize,
    lost_media: usize,
    /// Number of tracks received by clients that have just joined.
    received: usize,
    /// How long each such client waited for the last of its tracks.
    waits: Vec<Duration>,
    failures: Vec<String>,
    /// Producers that are sending and not paused.
    flowing: HashSet<String>,
}

impl Soak {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the soak test and returns the failures.
pub(crate) async fn run(options: &Options) -> Result<Vec<String>> {
    let server = options.common.server()?;
    let grace = GRACE.as_secs().to_string();
    let server = server.argument("--reconnect-grace-secs").argument(&grace);
    let target = LoadTarget::start(server, false).await?;
    let process = target.process.context("the process ID is unknown")?;
    let (mut meetings, mut identities) = (Vec::new(), Vec::new());
    for _ in 0..options.meetings() {
        let meeting = target.meeting().await?;
        meetings.push(meeting.clone());
        let count = options.people();
        identities.extend(
            target
                .add_participants(&meeting, "group_call_host", count)
                .await?,
        );
    }
    let mut join_pace = interval(Duration::from_secs_f64(1.0 / options.rate));
    join_pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    #[expect(clippy::cast_precision_loss, reason = "few participants")]
    let visit_time = Duration::from_secs_f64(0.8 * identities.len() as f64 / options.rate);
    let soak = Arc::new(Soak {
        shared: SharedMedia::start(SAMPLE)?,
        join_pace: tokio::sync::Mutex::new(join_pace),
        visit_time,
        tally: Mutex::default(),
    });

    let answered = verify_probes(&soak, identities.first().context("no participants")?).await?;
    churn(&soak, &identities, WARM_UP).await;
    let (before, _) = idle_usage(&target, &meetings, &[]).await?;

    let sampler = Sampler::start(&target, process)?;
    let (cpu, own) = (process.cpu()?, Process::current().cpu()?);
    let time = Duration::from_secs_f64(options.minutes() * 60.0);
    churn(&soak, &identities, time).await;
    let busy = [(process, cpu), (Process::current(), own)];
    let busy = busy.map(|(process, before)| anyhow::Ok(process.cpu()?.saturating_sub(before)));
    let [cpu, own] = busy;
    let busy = [cpu?, own?];
    let samples = sampler.stop();
    let probes = soak.shared.take_probes();
    let (mut after, ghosts) = idle_usage(&target, &meetings, &probes).await?;
    // Idle connections are not a leak: the server closes them on its own.
    let deadline = Instant::now() + IDLE_TIMEOUT;
    while after.descriptors.len() > before.descriptors.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        after.update_meetings(Usage::of(&target).await?);
    }
    let report = SoakReport {
        time,
        busy,
        before,
        after,
        samples,
        answered,
        transports: probes.len(),
        ghosts,
        live: live_sessions(&target).await?,
        errors: target
            .parlor
            .as_ref()
            .map(parlor_testkit::ServerProcess::errors)
            .unwrap_or_default(),
        tally: std::mem::take(&mut *soak.tally()),
    };
    print!("{}", report.table());
    Ok(report.faults())
}

/// Verifies that probes detect transports that exist, and only those. Returns how many of two
/// transports answered while they existed and afterwards.
async fn verify_probes(soak: &Soak, identity: &Identity) -> Result<[usize; 2]> {
    let (client, _) = MediaClient::enter(
        &identity.in_another_tab(),
        &soak.shared,
        &plan(&mut Rng::new(0)),
    )
    .await?;
    let probes = client.probes();
    let existing = probe::count_alive(&probes).await?;
    client.peer.leave().await?;
    drop(client);
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok([existing, probe::count_alive(&probes).await?])
}

/// Runs all participants, identity join and leave repeatedly, until all of them have left.
async fn churn(soak: &Arc<Soak>, identities: &[Identity], time: Duration) {
    let until = Instant::now() + time;
    let mut participants = JoinSet::new();
    for (seed, identity) in (1..).zip(identities) {
        let (soak, identity) = (Arc::clone(soak), identity.clone());
        participants.spawn(async move {
            participant::run_client(&soak, &identity, Rng::new(seed), until).await;
        });
    }
    while let Some(ended) = participants.join_next().await {
        if let Err(error) = ended {
            soak.tally().failures.push(error.to_string());
        }
    }
}

/// Waits until the server is idle. Returns its resource usage, and how many of these transports it
/// still has. A meeting would stay live for another minute after its last peer has left, so this
/// ends the meetings, but only after the peers are counted, because ending them would also remove
/// leaked peers.
async fn idle_usage(
    target: &LoadTarget,
    meetings: &[String],
    probes: &[Probe],
) -> Result<(Usage, usize)> {
    wait_until(target, GRACE + CLEANUP_TIMEOUT, Usage::has_no_peers).await?;
    // Leaves some time for the sockets and transports to be closed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ghosts = probe::count_alive(probes).await?;
    let mut usage = Usage::of(target).await?;
    for meeting in meetings {
        let path = format!("{}/meetings/{meeting}/active-session/kick-all", target.app);
        // There may be no session.
        target.client.post(&path, &json!({})).await?;
    }
    wait_until(target, CLEANUP_TIMEOUT, Usage::has_no_meetings).await?;
    usage.update_meetings(Usage::of(target).await?);
    Ok((usage, ghosts))
}

async fn wait_until(
    target: &LoadTarget,
    timeout: Duration,
    condition: fn(&Usage) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition(&Usage::of(target).await?) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Returns the number of live sessions.
async fn live_sessions(target: &LoadTarget) -> Result<usize> {
    let path = format!("{}/sessions?status=LIVE", target.app);
    let found = target.client.get(&path).await?.expect(200)?;
    let sessions = found["sessions"].as_array();
    Ok(sessions
        .with_context(|| format!("no sessions in {found}"))?
        .len())
}
