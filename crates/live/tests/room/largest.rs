//! The largest frame of each event, in a meeting of 200 people: what it costs the room, and that it is
//! no more than a slice and what it ends in.
//!
//! With the times: `cargo test --release -p parlor-live --test room largest -- --nocapture`

mod chat;
mod media;
mod people;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use parlor_live::{ConnectionId, Input, Limits, Newcomer, Output};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;

use crate::costs::one_of_many;
use crate::people::{all, somebody};
use crate::slices::limits;
use crate::world::{Received, World, join};

/// People in the meeting.
const MEETING: u32 = 200;
/// What one input may cost, in steps: two milliseconds, of which a step takes a tenth of a microsecond.
const MOST: usize = 20_000;
/// What one input may make others be sent, in bytes: as much as the largest reply holds, that of polls,
/// and some.
const MOST_BYTES: usize = (3 << 20) + (64 << 10);
/// How often each frame is sent: once where times say nothing.
const RUNS: usize = if cfg!(debug_assertions) { 1 } else { 7 };

/// What the inputs cost that one frame leads to: the dearest of them, for each time it was sent.
#[derive(Default)]
struct Row {
    steps: usize,
    /// Inputs: the frame itself, and what it leaves to be done later.
    inputs: usize,
    bytes: usize,
    ms: Vec<f64>,
}

/// What the largest frames cost.
#[derive(Default)]
struct Costs {
    rows: BTreeMap<(u32, &'static str), Row>,
}

impl Costs {
    /// Sends a frame that is taken.
    fn send(
        &mut self,
        what: &'static str,
        world: &mut World,
        from: ConnectionId,
        event: u32,
        request: &impl Message,
    ) {
        let refused = self.measure((event, what), world, from, &request.encode_to_vec());
        assert!(!refused, "{what} with {event}");
    }

    /// The same, as often as times are taken.
    fn send_often(
        &mut self,
        what: &'static str,
        world: &mut World,
        from: ConnectionId,
        event: u32,
        request: &impl Message,
    ) {
        for _ in 0..RUNS {
            self.send(what, world, from, event, request);
        }
    }

    fn print(&mut self) {
        println!("| event | largest frame | inputs | steps | bytes | median ms | worst ms |");
        println!("|--|--|--:|--:|--:|--:|--:|");
        for ((number, what), row) in &mut self.rows {
            row.ms.sort_by(f64::total_cmp);
            let (median, worst) = (row.ms[row.ms.len() / 2], row.ms[row.ms.len() - 1]);
            if *what != EMPTY || worst > 0.2 {
                let (name, inputs) = (event::name(*number).expect("a name"), row.inputs);
                let (steps, bytes) = (row.steps, row.bytes);
                println!(
                    "| {name} | {what} | {inputs} | {steps} | {bytes} | {median:.3} | {worst:.3} |"
                );
            }
        }
    }

    /// Sends a frame, and does what it leaves to be done within a second. Whether it is refused.
    fn measure(
        &mut self,
        name: (u32, &'static str),
        world: &mut World,
        from: ConnectionId,
        payload: &[u8],
    ) -> bool {
        let until = world.monotonic().after(1_000);
        let row = self.rows.entry(name).or_default();
        let (mut longest, mut inputs, mut refused) = (0.0_f64, 0, false);
        let mut input = Input::Frame {
            connection: from,
            bytes: frame(name.0, payload),
        };
        loop {
            let begun = Instant::now();
            let outputs = world.handle_untaken(input);
            longest = longest.max(begun.elapsed().as_secs_f64() * 1_000.0);
            inputs += 1;
            row.steps = row.steps.max(world.room.cost());
            row.bytes = row.bytes.max(bytes_of(&outputs));
            let done = world.see_all(outputs);
            refused |= done.frames.iter().any(Received::is_error);
            let Some(wake) = world.room.wake_at().filter(|wake| *wake <= until) else {
                break;
            };
            let passed = wake.since(world.monotonic()).max(0);
            world.now_ms += passed;
            world.monotonic_ms += passed;
            input = Input::Tick;
        }
        row.inputs = row.inputs.max(inputs);
        row.ms.push(longest);
        refused
    }
}

fn frame(event: u32, payload: &[u8]) -> Bytes {
    let envelope = Envelope {
        event,
        id: Some("id".to_owned()),
        payload: Some(payload.to_vec().into()),
        metadata: None,
    };
    envelope.encode_to_vec().into()
}

/// The bytes of frames, each counted once however many are sent it.
fn bytes_of(outputs: &[Output]) -> usize {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send { frame, .. } => Some((frame.as_ptr(), frame.len())),
        _ => None,
    });
    // A push is the beginning of the reply of the same message.
    let mut buffers = BTreeMap::new();
    for (buffer, bytes) in frames {
        let known = buffers.entry(buffer).or_insert(bytes);
        *known = bytes.max(*known);
    }
    buffers.values().sum()
}

/// Gives somebody as long a name, picture and id as people have.
fn long(who: &mut Newcomer) {
    who.name = Some("\u{1D54F}".repeat(256));
    who.picture = Some(format!("https://x/{}", "p".repeat(2_038)));
    who.custom_id = "\u{1D54F}".repeat(256);
}

/// Somebody who may do everything, and the others.
struct Crowd {
    world: World,
    boss: ConnectionId,
    others: Vec<ConnectionId>,
}

impl Crowd {
    /// A meeting in which `what` makes everybody else what they are.
    fn of(limits: Limits, view: ViewType, what: impl Fn(&mut Newcomer)) -> Self {
        let mut world = World::new(limits);
        let boss = join(&mut world, &somebody(0, view, all()));
        let other = |n| {
            let mut who = one_of_many(n);
            who.view = view;
            what(&mut who);
            who
        };
        let others = (1..MEETING).map(|n| join(&mut world, &other(n)));
        let others = others.collect();
        world.pass(5_000);
        Self {
            world,
            boss,
            others,
        }
    }

    fn call() -> Self {
        Self::of(limits(), ViewType::GroupCall, |_| {})
    }
}

/// The text of an id of everybody but the first.
fn ids<T: ToString>(which: impl Fn(Newcomer) -> T) -> Vec<String> {
    (1..MEETING)
        .map(|n| which(one_of_many(n)).to_string())
        .collect()
}

/// What is refused before it is decoded.
const EMPTY: &str = "half a million empty fields";

/// Sends such frames with each event. Which of these clients may send.
fn send_empty_fields(costs: &mut Costs) -> BTreeSet<u32> {
    let mut world = World::new(limits());
    let boss = join(&mut world, &somebody(0, ViewType::Webinar, all()));
    let payload = [0x0A, 0x00].repeat((1 << 19) - 100);
    let mut taken = BTreeSet::new();
    for (number, name) in event::ALL {
        let bytes = frame(*number, &payload);
        let connection = boss;
        let done = world.take(Input::Frame { connection, bytes });
        let text = String::from_utf8_lossy(&done.frames[0].payload).into_owned();
        if !text.contains("does not take the event") {
            taken.insert(*number);
            let refused = costs.measure((*number, EMPTY), &mut world, boss, &payload);
            assert!(refused, "{name}");
        }
    }
    taken
}

#[test]
fn no_largest_frame_costs_more_than_two_milliseconds() {
    let mut costs = Costs::default();
    people::send(&mut costs);
    chat::send(&mut costs);
    shared::send(&mut costs);
    media::send(&mut costs);
    let sent: BTreeSet<u32> = costs.rows.keys().map(|(number, _)| *number).collect();
    let taken = send_empty_fields(&mut costs);
    costs.print();
    let names = |numbers: BTreeSet<u32>| numbers.into_iter().map(event::name).collect::<Vec<_>>();
    assert!(taken.is_subset(&sent), "{:?}", names(&taken - &sent));
    let dear = costs.rows.iter();
    let dear = dear.filter(|(_, row)| row.steps > MOST || row.bytes > MOST_BYTES);
    let dear: Vec<_> = dear
        .map(|(name, row)| (name, row.steps, row.bytes))
        .collect();
    assert!(dear.is_empty(), "{dear:?}");
}
