//! The modes: what is done to the server, and what is noted.

mod reconnect;

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use parlor_testkit::signal::Identity;
use parlor_testkit::{Process, Stage};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::bot::{Bot, Shared};
use crate::ceiling::Ceiling;
use crate::measure::Times;
use crate::options::{Options, PRESET};
use crate::table::Row;

/// Sockets that are opened at once where the rate does not matter.
const AT_ONCE: usize = 64;

/// How long stragglers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a mode found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// What must not happen at any load.
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

/// The same people, pointed at another server.
fn pointed_at(people: &[Identity], ceiling: &Ceiling) -> Vec<Identity> {
    let pointed = people.iter().map(|person| Identity {
        server: ceiling.address,
        ..person.clone()
    });
    pointed.collect()
}

async fn join(options: &Options) -> Result<Report> {
    let stage = options.stage().await?;
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, PRESET, options.join_peers()).await?;
    let ceiling = Ceiling::start()?;
    let mut report = Report::default();
    let likened = pointed_at(&people, &ceiling);
    report.rows.push(
        storm(
            "ceiling: join",
            likened,
            Some(ceiling.process()),
            options.join_rate(),
            &mut report.faults,
        )
        .await?,
    );
    drop(ceiling);
    let mut row = storm(
        "join one meeting",
        people,
        stage.process,
        options.join_rate(),
        &mut report.faults,
    )
    .await?;
    row.has_ceiling = true;
    report.rows.push(row);
    Ok(report)
}

/// Joins at a rate that does not wait for answers; a join counts from when its socket
/// begins to open: the timer that starts it is up to a millisecond late.
async fn storm(
    title: &str,
    people: Vec<Identity>,
    process: Option<Process>,
    rate: f64,
    faults: &mut Vec<String>,
) -> Result<Row> {
    let seen = Shared::default();
    let count = people.len();
    let cpu = process.map(Process::cpu).transpose()?;
    let began = Instant::now();
    let (results, mut joined) = mpsc::channel(count);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (number, person) in people.into_iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let due = began + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let opening = Instant::now();
        let (seen, results, mut stopped) = (Rc::clone(&seen), results.clone(), stopped.clone());
        tokio::task::spawn_local(async move {
            let entering = async {
                let mut bot = Bot::open(person, number, &seen).await?;
                let entered = bot.join().await?;
                anyhow::Ok((bot, entered))
            };
            let outcome = entering.await;
            let took = opening.elapsed();
            match outcome {
                Ok((mut bot, entered)) => {
                    let _ = results.try_send(Ok((took, entered.peers)));
                    tokio::select! {
                        // Whatever ends it is counted by the bot.
                        _ = bot.listen_until(Instant::now() + PATIENCE) => {}
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
    quiet(&seen).await;
    let cpu = cpu_since(process, cpu)?;
    if let Some(error) = failed.first() {
        faults.push(format!(
            "{title}: {} of {count} did not join, the first: {error:#}",
            failed.len()
        ));
    }
    let _ = stop.send(true);
    let seen = seen.borrow();
    // Everybody learns of everybody who comes later.
    let expected = count * count.saturating_sub(1) / 2;
    if failed.is_empty() && seen.joins != expected {
        faults.push(format!(
            "{title}: {} pushes of joins instead of {expected}",
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

/// Waits until no frame has come for a while.
async fn quiet(seen: &Shared) {
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

/// Bots that live until their ends are dropped.
struct Crowd {
    speakers: Vec<mpsc::Sender<String>>,
}

/// Lets people in, many at once.
async fn gather(people: Vec<Identity>, seen: &Shared) -> Result<(Crowd, Times)> {
    let entering = people
        .into_iter()
        .enumerate()
        .map(|(number, person)| async move {
            let began = Instant::now();
            let mut bot = Bot::open(person, number, seen).await?;
            bot.join().await?;
            anyhow::Ok((bot, began.elapsed()))
        });
    let mut entering = futures_util::stream::iter(entering).buffer_unordered(AT_ONCE);
    let (mut speakers, mut times) = (Vec::new(), Times::default());
    while let Some(entered) = entering.next().await {
        let (bot, took) = entered?;
        times.add(took);
        let (speaker, texts) = mpsc::channel(64);
        speakers.push(speaker);
        tokio::task::spawn_local(async move {
            // Whatever ends it is counted by the bot.
            let _ = bot.live(texts).await;
        });
    }
    Ok((Crowd { speakers }, times))
}

async fn chat(options: &Options) -> Result<Report> {
    let stage = options.stage().await?;
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, PRESET, options.chat_peers()).await?;
    let ceiling = Ceiling::start()?;
    let mut report = Report::default();
    let likened = pointed_at(&people, &ceiling);
    let [mut steady, mut burst] = talk(
        "ceiling: chat",
        likened,
        Some(ceiling.process()),
        options,
        &mut report,
    )
    .await?;
    drop(ceiling);
    let [mut own_steady, mut own_burst] =
        talk("chat", people, stage.process, options, &mut report).await?;
    own_steady.has_ceiling = true;
    own_burst.has_ceiling = true;
    steady.title += ", one by one";
    own_steady.title += ", one by one";
    burst.title += ", all at once";
    own_burst.title += ", all at once";
    report.rows.extend([steady, own_steady, burst, own_burst]);
    Ok(report)
}

/// Messages one by one, then one of everybody at once; each counts until it has reached the last.
async fn talk(
    title: &str,
    people: Vec<Identity>,
    process: Option<Process>,
    options: &Options,
    report: &mut Report,
) -> Result<[Row; 2]> {
    let seen = Shared::default();
    let peers = people.len();
    let (crowd, _) = gather(people, &seen).await?;
    quiet(&seen).await;
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
            // About as long as a sentence.
            let text = format!("{number} {}", "and so we talk about the weather ".repeat(2));
            crowd.speakers[number % peers]
                .try_send(text)
                .context("a bot has ended")?;
            if (number + 1) % at_once == 0 {
                arrived(&seen, (number + 1) * peers).await;
            }
        }
        arrived(&seen, count * peers).await;
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
            times.add(last.map_or(PATIENCE, |last| last - *sent));
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
    drop(crowd);
    let [steady, burst] = <[Row; 2]>::try_from(rows).ok().context("two rows")?;
    Ok([steady, burst])
}

/// Waits until so many messages have arrived, or nothing comes any more.
async fn arrived(seen: &Shared, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while seen.borrow().messages.len() < count && Instant::now() < deadline {
        // Gives the one thread to the bots.
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

async fn idle(options: &Options, descriptors: u64) -> Result<Report> {
    let (peers, meetings) = (
        within(options.idle_peers(), descriptors),
        options.idle_meetings(),
    );
    let stage = options.stage().await?;
    let mut people = Vec::new();
    let each = peers.div_ceil(meetings);
    for number in 0..meetings {
        let meeting = stage.meeting().await?;
        let left = peers.saturating_sub(number * each).min(each);
        people.extend(stage.people(&meeting, PRESET, left).await?);
        if people.len() >= peers {
            break;
        }
    }
    hold("idle", people, meetings, &stage).await
}

async fn sessions(options: &Options, descriptors: u64) -> Result<Report> {
    let meetings = within(options.session_meetings(), descriptors);
    let stage = options.stage().await?;
    let stage = &stage;
    let made = futures_util::stream::iter(0..meetings).map(|_| async move {
        let meeting = stage.meeting().await?;
        anyhow::Ok(stage.people(&meeting, PRESET, 1).await?)
    });
    let made: Vec<Result<Vec<Identity>>> = made.buffer_unordered(AT_ONCE).collect().await;
    let mut people = Vec::new();
    for person in made {
        people.extend(person?);
    }
    hold("sessions of one peer", people, meetings, stage).await
}

/// As many sockets as this process may open, with some left for everything else.
fn within(peers: usize, descriptors: u64) -> usize {
    let most = usize::try_from(descriptors)
        .unwrap_or(usize::MAX)
        .saturating_sub(200);
    if peers > most {
        eprintln!("only {most} peers: this process may open {descriptors} files");
    }
    peers.min(most)
}

/// Lets everybody in and looks at what the server needs to keep them.
async fn hold(
    title: &str,
    people: Vec<Identity>,
    meetings: usize,
    stage: &Stage,
) -> Result<Report> {
    let seen = Shared::default();
    let count = people.len();
    let before = stage.process.map(Process::resident).transpose()?;
    let cpu = stage.process.map(Process::cpu).transpose()?;
    let began = Instant::now();
    let (crowd, times) = gather(people, &seen).await?;
    let took = began.elapsed();
    let entering = cpu_since(stage.process, cpu)?;
    quiet(&seen).await;
    let frames = seen.borrow().frames;
    // Long enough for every peer to be pinged.
    let cpu = stage.process.map(Process::cpu).transpose()?;
    tokio::time::sleep(Duration::from_secs(25)).await;
    let resting = cpu_since(stage.process, cpu)?.map(|cpu| cpu.as_secs_f64() / 25.0);
    let after = stage.process.map(Process::resident).transpose()?;
    let grown = after
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    let descriptors = stage.process.map(Process::descriptors).transpose()?;
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
            "{meetings} meetings; {} MB in all; at rest {:.1} % of a core",
            after.unwrap_or_default() / 1_000_000,
            resting.unwrap_or_default() * 100.0
        ),
        ..Row::default()
    });
    drop(crowd);
    Ok(report)
}
