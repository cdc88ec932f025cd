//! Kills the server with SIGKILL at random moments under load, and counts the lost writes.
//!
//! `PARLOR_CRASH_RUNS` sets the number of kills per database (default 30). `PARLOR_CRASH_SEED`
//! repeats the moments of an earlier run. The load itself is concurrent and not reproducible.

mod check;
mod frozen;
mod ledger;
mod load;
mod small_disk;

use std::env;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use parlor_testkit::server::{ACCOUNT_ID, Builder};
use parlor_testkit::{Client, Postgres, ServerProcess};
use serde_json::json;

use crate::crash::ledger::Ledger;
use crate::process::BINARY;

const RUNS: u64 = 30;

/// One in this many starts is killed during recovery, before the server is ready.
const KILLED_STARTS: u64 = 3;

#[tokio::test]
async fn a_kill_loses_no_acknowledged_write_on_sqlite() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let builder = ServerProcess::builder(BINARY).data_dir(folder.path());
    kill_repeatedly("SQLite", &builder).await
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_write_on_postgresql() -> Result<()> {
    let url = Postgres::shared_durable().await?.database().await?;
    let builder = ServerProcess::builder(BINARY).database(&url);
    kill_repeatedly("PostgreSQL", &builder).await
}

/// The meeting of one round, and the expected state of its participants.
struct Meeting {
    /// Path of the participants, without the origin.
    participants: String,
    ledger: Ledger,
}

async fn kill_repeatedly(database: &str, builder: &Builder) -> Result<()> {
    let runs = setting("PARLOR_CRASH_RUNS")?.unwrap_or(RUNS);
    let seed = match setting("PARLOR_CRASH_SEED")? {
        Some(seed) => seed,
        None => SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos().into(),
    };
    println!("{database}: {runs} kills, PARLOR_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let mut meetings: Vec<Meeting> = Vec::new();
    let mut app = None;
    for round in 0..runs {
        if random.below(KILLED_STARTS) == 0 {
            start_and_kill(builder, random.below(80)).await?;
        }
        let mut server = builder.start().await?;
        let kit = kit_path(&server, &mut app).await?;
        if let Some(last) = meetings.last_mut() {
            check::after_kill(&server.client(), last, &mut random).await?;
        }
        let client = server.client();
        let participants = create_meeting(&client, &kit, round).await?;
        let load = load::begin(&client, &participants, round);
        tokio::time::sleep(Duration::from_millis(20 + random.below(400))).await;
        server.kill()?;
        meetings.push(Meeting {
            participants,
            ledger: load.end().await?,
        });
    }
    let mut server = builder.start().await?;
    for meeting in &mut meetings {
        check::after_kill(&server.client(), meeting, &mut random).await?;
    }
    let stopped = server.terminate().await?;
    ensure!(stopped.success(), "SIGTERM ended it with {stopped}");
    report(database, runs, &meetings)
}

/// Starts the server and kills it after `delay` milliseconds, whether it is ready or not.
async fn start_and_kill(builder: &Builder, delay: u64) -> Result<()> {
    match tokio::time::timeout(Duration::from_millis(delay), builder.start()).await {
        // Dropping the server, or the future that starts it, kills it.
        Err(_) | Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.context("a start after a kill failed")),
    }
}

/// Returns the path of the only app, and checks that it is the same after every start.
async fn kit_path(server: &ServerProcess, app: &mut Option<String>) -> Result<String> {
    let kit = format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit");
    let apps = server.client().get(&format!("{kit}/apps")).await?;
    let apps = apps.expect(200)?;
    let [only] = apps.as_array().context("a list")?.as_slice() else {
        anyhow::bail!("the first start must create exactly one app: {apps}")
    };
    let id = only["id"].as_str().context("an app has an id")?;
    let known = app.get_or_insert_with(|| id.to_owned());
    ensure!(known == id, "app {known} became app {id}");
    Ok(format!("{kit}/{id}"))
}

async fn create_meeting(client: &Client, kit: &str, round: u64) -> Result<String> {
    let title = json!({ "title": format!("round {round}") });
    let meeting = client.post(&format!("{kit}/meetings"), &title).await?;
    let meeting = meeting.expect(201)?;
    let id = meeting["id"].as_str().context("a meeting has an id")?;
    Ok(format!("{kit}/meetings/{id}/participants"))
}

fn report(database: &str, runs: u64, meetings: &[Meeting]) -> Result<()> {
    let count = |of: fn(&Ledger) -> usize| -> usize {
        meetings.iter().map(|meeting| of(&meeting.ledger)).sum()
    };
    let lost = count(|ledger| ledger.lost.len());
    let half_visible = count(|ledger| ledger.half_visible.len());
    let acknowledged = count(|ledger| ledger.acknowledged);
    println!(
        "{database}: {runs} kills, {acknowledged} acknowledged writes, {lost} lost, \
         {half_visible} half-visible"
    );
    let findings: Vec<&String> = meetings
        .iter()
        .flat_map(|meeting| meeting.ledger.findings())
        .take(20)
        .collect();
    ensure!(findings.is_empty(), "the first findings: {findings:#?}");
    ensure!(
        acknowledged > 0,
        "no write was acknowledged, so the test proves nothing"
    );
    Ok(())
}

fn setting(name: &str) -> Result<Option<u64>> {
    match env::var(name) {
        Ok(text) => Ok(Some(text.parse().with_context(|| name.to_owned())?)),
        Err(_) => Ok(None),
    }
}

/// Pseudo-random numbers from a seed (splitmix64 by Sebastiano Vigna).
struct Random(u64);

impl Random {
    /// Returns a number below `end`, which is small enough for the bias of `%` not to matter.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
