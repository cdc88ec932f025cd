//! Disconnects sockets during chat, and checks for lost messages, ghosts and false joins.

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

/// Number of messages in a round.
const PER_ROUND: usize = 10;

/// Reconnects all peers except two: one that sends messages, and one that watches for joins and
/// leaves.
pub(super) async fn run(options: &Options) -> Result<Report> {
    let target = options.target().await?;
    let meeting = target.meeting().await?;
    let mut identities = target
        .add_participants(&meeting, PRESET, options.reconnect_peers().max(3))
        .await?;
    let peers = identities.len();
    let sender = Peer::enter(
        &identities
            .pop()
            .context("at least three participants are needed")?,
    )
    .await?;
    let watcher = Peer::enter(
        &identities
            .pop()
            .context("at least three participants are needed")?,
    )
    .await?;
    let seen = Shared::default();
    let mut bots = Vec::new();
    for (number, identity) in identities.into_iter().enumerate() {
        let mut bot = Bot::open(identity, number, &seen).await?.keep_messages();
        bot.join().await?;
        bots.push((bot, HashSet::new()));
    }
    watcher.settle().await?;
    watcher.forget();
    let cpu = target.process.map(Process::cpu).transpose()?;
    let (mut times, began) = (Times::default(), Instant::now());
    for round in 0..options.rounds() {
        // The bots reconnect one after another while messages are sent, so that some of them are
        // disconnected when a message is delivered.
        let mut next = Vec::with_capacity(bots.len());
        let per_message = bots.len().div_ceil(PER_ROUND).max(1);
        for (index, (bot, mut received)) in bots.into_iter().enumerate() {
            if index % per_message == 0 {
                say(&sender, round * PER_ROUND + index / per_message).await?;
            }
            let (identity, before) = bot.disconnect();
            received.extend(before);
            let started = Instant::now();
            let mut bot = Bot::open(identity, index, &seen).await?.keep_messages();
            let entered = bot.enter().await?;
            times.add(started.elapsed());
            received.extend(entered.history);
            next.push((bot, received));
        }
        bots = next;
    }
    let took = began.elapsed();
    sender.settle().await?;
    let sent: HashSet<String> = sender.received().iter().filter_map(text_of).collect();
    let mut lost = 0;
    for (bot, received) in &mut bots {
        bot.listen_until(Instant::now() + Duration::from_millis(20))
            .await?;
        received.extend(bot.received.drain());
        lost += sent.difference(received).count();
    }
    watcher.settle().await?;
    let presence = watcher
        .take_pushes(&[event::JOIN_ROOM, event::LEAVE_ROOM])
        .len();
    let roster = watcher.roster().await?;
    let ghosts = roster.len().abs_diff(peers);
    let mut report = Report::default();
    for (count, what) in [
        (lost, "messages were lost"),
        (ghosts, "ghosts in the roster"),
        (presence, "false join and leave pushes"),
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
        cpu: cpu_since(target.process, cpu)?,
        remark: format!(
            "{} messages, {lost} lost, {ghosts} ghosts, {presence} false joins and leaves",
            sent.len()
        ),
        ..Row::default()
    });
    Ok(report)
}

async fn say(sender: &Peer, number: usize) -> Result<()> {
    let message = parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: format!("{number} round and round"),
    };
    sender.tell(event::SEND_MESSAGE_TO_ROOM, &message).await?;
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
