//! Sockets that are pulled while people talk: who is seen twice, and what is not heard.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_testkit::Process;
use parlor_testkit::signal::Peer;

use crate::bot::{Bot, Shared};
use crate::measure::Times;
use crate::modes::{Report, cpu_since};
use crate::options::{Options, PRESET};
use crate::table::Row;

/// Messages between two pulls.
const PER_ROUND: usize = 10;

/// Pulls the sockets of all but two: one who talks, and one who looks on.
pub(super) async fn run(options: &Options) -> Result<Report> {
    let stage = options.stage().await?;
    let meeting = stage.meeting().await?;
    let mut people = stage
        .people(&meeting, PRESET, options.reconnect_peers().max(3))
        .await?;
    let peers = people.len();
    let talker = Peer::enter(&people.pop().context("three or more")?).await?;
    let watcher = Peer::enter(&people.pop().context("three or more")?).await?;
    let seen = Shared::default();
    let mut bots = Vec::new();
    for (number, person) in people.into_iter().enumerate() {
        let mut bot = Bot::open(person, number, &seen).await?.keeps_messages();
        bot.join().await?;
        bots.push((bot, HashSet::new()));
    }
    watcher.settle().await?;
    watcher.forget();
    let cpu = stage.process.map(Process::cpu).transpose()?;
    let (mut times, began) = (Times::default(), Instant::now());
    for round in 0..options.rounds() {
        // Pulled one after the other while the talker goes on, so that pulls fall on messages.
        let mut next = Vec::with_capacity(bots.len());
        let per_message = bots.len().div_ceil(PER_ROUND).max(1);
        for (index, (bot, mut heard)) in bots.into_iter().enumerate() {
            if index % per_message == 0 {
                say(&talker, round * PER_ROUND + index / per_message).await?;
            }
            let (who, before) = bot.pull();
            heard.extend(before);
            let at = Instant::now();
            let mut bot = Bot::open(who, index, &seen).await?.keeps_messages();
            let entered = bot.enter().await?;
            times.add(at.elapsed());
            heard.extend(entered.history);
            next.push((bot, heard));
        }
        bots = next;
    }
    let took = began.elapsed();
    talker.settle().await?;
    let told: HashSet<String> = talker.received().iter().filter_map(text_of).collect();
    let mut lost = 0;
    for (bot, heard) in &mut bots {
        bot.listen_until(Instant::now() + Duration::from_millis(20))
            .await?;
        heard.extend(bot.heard.drain());
        lost += told.difference(heard).count();
    }
    watcher.settle().await?;
    let presence = watcher
        .untaken(&[event::JOIN_ROOM, event::LEAVE_ROOM])
        .len();
    let roster = watcher.roster().await?;
    let ghosts = roster.len().abs_diff(peers);
    let mut report = Report::default();
    for (count, what) in [
        (lost, "messages were lost"),
        (ghosts, "ghosts are in the roster"),
        (presence, "pushes told of joins and leaves"),
    ] {
        if count > 0 {
            report.faults.push(format!("reconnect: {count} {what}"));
        }
    }
    report.rows.push(Row {
        title: "reconnect under chat".to_owned(),
        peers,
        done: times.count(),
        took,
        times,
        frames: seen.borrow().frames,
        cpu: cpu_since(stage.process, cpu)?,
        remark: format!(
            "{} messages, {lost} lost, {ghosts} ghosts, {presence} false joins and leaves",
            told.len()
        ),
        ..Row::default()
    });
    Ok(report)
}

async fn say(talker: &Peer, number: usize) -> Result<()> {
    let message = parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: format!("{number} round and round"),
    };
    talker.tell(event::SEND_MESSAGE_TO_ROOM, &message).await?;
    Ok(())
}

fn text_of(frame: &parlor_testkit::signal::Received) -> Option<String> {
    if frame.event != event::SEND_MESSAGE_TO_ROOM {
        return None;
    }
    let push: parlor_protocol::signal::socket::chat::SendChatMessageToRoomResponse =
        frame.message().ok()?;
    push.message.map(|message| message.payload)
}
