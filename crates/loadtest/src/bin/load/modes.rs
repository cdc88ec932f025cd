//! The modes of the load generator.

mod reconnect;

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use parlor_testkit::signal::Identity;
use parlor_testkit::{LoadTarget, Process};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::bot::{Bot, Shared};
use crate::ceiling::Ceiling;
use crate::measure::Times;
use crate::options::{Options, PRESET};
use crate::table::Row;

/// Number of sockets opened concurrently where the rate does not matter.
const AT_ONCE: usize = 64;

/// Timeout for the last messages to arrive.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The result of a mode.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Failures, which must not happen at any load.
    pub(crate) faults: Vec<String>,
}

/// Runs one mode.
pub(crate) async fn run(mode: &str, options: &Options, descriptors: u64) -> Result<Report> {
    let local = LocalSet::new();
    local
        .run_until(async {
            match mode {
                "join" => join(options).await,
                "chat" => chat(options).await,
                "idle" => idle(options, descriptors).await,
                "sessions" => sessions(options, descriptors).await,
                _ => reconnect::run(options).await,
            }
        })
        .await
}

/// Returns the same participants as clients of the ceiling.
fn for_ceiling(identities: &[Identity], ceiling: &Ceiling) -> Vec<Identity> {
    let identities = identities.iter().map(|identity| Identity {
        server: ceiling.address,
        ..identity.clone()
    });
    identities.collect()
}

async fn join(options: &Options) -> Result<Report> {
    let target = options.target().await?;
    let meeting = target.meeting().await?;
    let identities = target
        .add_participants(&meeting, PRESET, options.join_peers())
        .await?;
    let ceiling = Ceiling::start()?;
    let mut report = Report::default();
    let ceiling_identities = for_ceiling(&identities, &ceiling);
    report.rows.push(
        measure_joins(
            "ceiling: join",
            ceiling_identities,
            Some(ceiling.process()),
            options.join_rate(),
            &mut report.faults,
        )
        .await?,
    );
    drop(ceiling);
    let mut row = measure_joins(
        "join one meeting",
        identities,
        target.process,
        options.join_rate(),
        &mut report.faults,
    )
    .await?;
    row.has_ceiling = true;
    report.rows.push(row);
    Ok(report)
}

/// Starts joins at a fixed rate, without waiting for earlier ones. A join is measured from when its
/// socket starts to open, because the timer that starts it may be a millisecond late.
async fn measure_joins(
    title: &str,
    identities: Vec<Identity>,
    process: Option<Process>,
    rate: f64,
    faults: &mut Vec<String>,
) -> Result<Row> {
    let seen = Shared::default();
    let count = identities.len();
    let cpu = process.map(Process::cpu).transpose()?;
    let began = Instant::now();
    let (results, mut joined) = mpsc::channel(count);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (number, identity) in identities.into_iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let due = began + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let opening = Instant::now();
        let (seen, results, mut stopped) = (Rc::clone(&seen), results.clone(), stopped.clone());
        tokio::task::spawn_local(async move {
            let entering = async {
                let mut bot = Bot::open(identity, number, &seen).await?;
                let entered = bot.join().await?;
                anyhow::Ok((bot, entered))
            };
            let outcome = entering.await;
            let took = opening.elapsed();
            match outcome {
                Ok((mut bot, entered)) => {
                    let _ = results.try_send(Ok((took, entered.peers)));
                    tokio::select! {
                        // The bot counts errors itself.
                        _ = bot.listen_until(Instant::now() + TIMEOUT) => {}
                        _ = stopped.changed() => {}
                    }
                }
                Err(error) => drop(results.try_send(Err(error))),
            }
        });
    }
    drop(results);
    let (mut times, mut failed, mut last) = (Times::default(), Vec::new(), began);
    for _ in 0..count {
        match joined.recv().await {
            Some(Ok((took, _))) => {
                times.add(took);
                last = Instant::now();
            }
            Some(Err(error)) => failed.push(error),
            None => break,
        }
    }
    let took = last - began;
    wait_until_quiet(&seen).await;
    let cpu = cpu_since(process, cpu)?;
    if let Some(error) = failed.first() {
        faults.push(format!(
            "{title}: {} of {count} joins failed, the first with: {error:#}",
            failed.len()
        ));
    }
    let _ = stop.send(true);
    let seen = seen.borrow();
    // Every peer receives a push for every later join.
    let expected = count * count.saturating_sub(1) / 2;
    if failed.is_empty() && seen.joins != expected {
        faults.push(format!(
            "{title}: {} join pushes instead of {expected}",
            seen.joins
        ));
    }
    Ok(Row {
        title: title.to_owned(),
        peers: count,
        done: times.count(),
        took,
        times,
        frames: seen.frames,
        cpu,
        remark: format!("{rate:.0}/s offered"),
        ..Row::default()
    })
}

/// Waits until no frames arrive any more.
async fn wait_until_quiet(seen: &Shared) {
    let mut before = usize::MAX;
    while before != seen.borrow().frames {
        before = seen.borrow().frames;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn cpu_since(process: Option<Process>, before: Option<Duration>) -> Result<Option<Duration>> {
    let now = process.map(Process::cpu).transpose()?;
    Ok(now
        .zip(before)
        .map(|(now, before)| now.saturating_sub(before)))
}

/// Running bots, which stop when their senders are dropped.
struct BotSet {
    senders: Vec<mpsc::Sender<String>>,
}

/// Joins all participants, many at once.
async fn join_all(identities: Vec<Identity>, seen: &Shared) -> Result<(BotSet, Times)> {
    let entering = identities
        .into_iter()
        .enumerate()
        .map(|(number, identity)| async move {
            let began = Instant::now();
            let mut bot = Bot::open(identity, number, seen).await?;
            bot.join().await?;
            anyhow::Ok((bot, began.elapsed()))
        });
    let mut entering = futures_util::stream::iter(entering).buffer_unordered(AT_ONCE);
    let (mut senders, mut times) = (Vec::new(), Times::default());
    while let Some(entered) = entering.next().await {
        let (bot, took) = entered?;
        times.add(took);
        let (sender, texts) = mpsc::channel(64);
        senders.push(sender);
        tokio::task::spawn_local(async move {
            // The bot counts errors itself.
            let _ = bot.run(texts).await;
        });
    }
    Ok((BotSet { senders }, times))
}

async fn chat(options: &Options) -> Result<Report> {
    let target = options.target().await?;
    let meeting = target.meeting().await?;
    let identities = target
        .add_participants(&meeting, PRESET, options.chat_peers())
        .await?;
    let ceiling = Ceiling::start()?;
    let mut report = Report::default();
    let ceiling_identities = for_ceiling(&identities, &ceiling);
    let [mut steady, mut burst] = measure_chat(
        "ceiling: chat",
        ceiling_identities,
        Some(ceiling.process()),
        options,
        &mut report,
    )
    .await?;
    drop(ceiling);
    let [mut own_steady, mut own_burst] =
        measure_chat("chat", identities, target.process, options, &mut report).await?;
    own_steady.has_ceiling = true;
    own_burst.has_ceiling = true;
    steady.title += ", one by one";
    own_steady.title += ", one by one";
    burst.title += ", all at once";
    own_burst.title += ", all at once";
    report.rows.extend([steady, own_steady, burst, own_burst]);
    Ok(report)
}

/// Sends messages one by one, then one from every peer at once. A message is measured until it has
/// reached the last peer.
async fn measure_chat(
    title: &str,
    identities: Vec<Identity>,
    process: Option<Process>,
    options: &Options,
    report: &mut Report,
) -> Result<[Row; 2]> {
    let seen = Shared::default();
    let peers = identities.len();
    let (bots, _) = join_all(identities, &seen).await?;
    wait_until_quiet(&seen).await;
    let mut rows = Vec::new();
    for at_once in [1, peers] {
        seen.borrow_mut().messages.clear();
        let frames = seen.borrow().frames;
        let cpu = process.map(Process::cpu).transpose()?;
        let began = Instant::now();
        let (count, mut sent) = (
            if at_once == 1 {
                options.messages()
            } else {
                peers
            },
            Vec::new(),
        );
        for number in 0..count {
            sent.push(Instant::now());
            // The length of an average sentence.
            let text = format!("{number} {}", "and so we talk about the weather ".repeat(2));
            bots.senders[number % peers]
                .try_send(text)
                .context("a bot has stopped")?;
            if (number + 1) % at_once == 0 {
                wait_for_messages(&seen, (number + 1) * peers).await;
            }
        }
        wait_for_messages(&seen, count * peers).await;
        let took = began.elapsed();
        let seen = seen.borrow();
        let mut last = vec![None; count];
        for (number, at) in &seen.messages {
            if let Some(latest) = last.get_mut(*number) {
                *latest = (*latest).max(Some(*at));
            }
        }
        let mut times = Times::default();
        for (sent, last) in sent.iter().zip(last) {
            times.add(last.map_or(TIMEOUT, |last| last - *sent));
        }
        let arrived = seen.messages.len();
        if arrived != count * peers {
            report.faults.push(format!(
                "{title}: {arrived} of {} copies arrived, {} errors, {} sockets closed",
                count * peers,
                seen.errors,
                seen.closed
            ));
        }
        rows.push(Row {
            title: title.to_owned(),
            peers,
            done: count,
            took,
            times,
            frames: seen.frames - frames,
            cpu: cpu_since(process, cpu)?,
            remark: "time to the last peer".to_owned(),
            ..Row::default()
        });
    }
    drop(bots);
    let [steady, burst] = <[Row; 2]>::try_from(rows).ok().context("two rows")?;
    Ok([steady, burst])
}

/// Waits until `count` messages have arrived, or until the timeout.
async fn wait_for_messages(seen: &Shared, count: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while seen.borrow().messages.len() < count && Instant::now() < deadline {
        // Yields the only thread to the bots.
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

async fn idle(options: &Options, descriptors: u64) -> Result<Report> {
    let (peers, meetings) = (
        limit_to_descriptors(options.idle_peers(), descriptors),
        options.idle_meetings(),
    );
    let target = options.target().await?;
    let mut identities = Vec::new();
    let each = peers.div_ceil(meetings);
    for number in 0..meetings {
        let meeting = target.meeting().await?;
        let left = peers.saturating_sub(number * each).min(each);
        identities.extend(target.add_participants(&meeting, PRESET, left).await?);
        if identities.len() >= peers {
            break;
        }
    }
    measure_idle("idle", identities, meetings, &target).await
}

async fn sessions(options: &Options, descriptors: u64) -> Result<Report> {
    let meetings = limit_to_descriptors(options.session_meetings(), descriptors);
    let target = options.target().await?;
    let target = &target;
    let made = futures_util::stream::iter(0..meetings).map(|_| async move {
        let meeting = target.meeting().await?;
        anyhow::Ok(target.add_participants(&meeting, PRESET, 1).await?)
    });
    let made: Vec<Result<Vec<Identity>>> = made.buffer_unordered(AT_ONCE).collect().await;
    let mut identities = Vec::new();
    for identity in made {
        identities.extend(identity?);
    }
    measure_idle("sessions of one peer", identities, meetings, target).await
}

/// Limits the number of peers to the descriptors of this process, and keeps some for other uses.
fn limit_to_descriptors(peers: usize, descriptors: u64) -> usize {
    let max = usize::try_from(descriptors)
        .unwrap_or(usize::MAX)
        .saturating_sub(200);
    if peers > max {
        eprintln!("only {max} peers: this process may open {descriptors} files");
    }
    peers.min(max)
}

/// Joins all participants and measures the server's memory and CPU while they are idle.
async fn measure_idle(
    title: &str,
    identities: Vec<Identity>,
    meetings: usize,
    target: &LoadTarget,
) -> Result<Report> {
    let seen = Shared::default();
    let count = identities.len();
    let before = target.process.map(Process::resident).transpose()?;
    let cpu = target.process.map(Process::cpu).transpose()?;
    let began = Instant::now();
    let (bots, times) = join_all(identities, &seen).await?;
    let took = began.elapsed();
    let entering = cpu_since(target.process, cpu)?;
    wait_until_quiet(&seen).await;
    let frames = seen.borrow().frames;
    // Long enough for every peer to receive a ping.
    let cpu = target.process.map(Process::cpu).transpose()?;
    tokio::time::sleep(Duration::from_secs(25)).await;
    let idle_cpu = cpu_since(target.process, cpu)?.map(|cpu| cpu.as_secs_f64() / 25.0);
    let after = target.process.map(Process::resident).transpose()?;
    let grown = after
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    let descriptors = target.process.map(Process::descriptors).transpose()?;
    let closed = seen.borrow().closed;
    let mut report = Report::default();
    if closed > 0 {
        report.faults.push(format!(
            "{title}: the server closed {closed} of {count} sockets"
        ));
    }
    report.rows.push(Row {
        title: title.to_owned(),
        peers: count,
        done: count,
        took,
        times,
        frames,
        cpu: entering,
        bytes_each: grown.map(|bytes| bytes / count.max(1) as u64),
        descriptors: descriptors.map(|open| open.len()),
        remark: format!(
            "{meetings} meetings; {} MB in total; {:.1} % of a core when idle",
            after.unwrap_or_default() / 1_000_000,
            idle_cpu.unwrap_or_default() * 100.0
        ),
        ..Row::default()
    });
    drop(bots);
    Ok(report)
}
