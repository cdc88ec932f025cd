//! Measures the cost of the largest frame of each event in a meeting of 200 participants. Each
//! input may cost one slice plus the piece of work that exceeds it.
//!
//! To print the times: `cargo test --release -p parlor-live --test room largest -- --nocapture`

mod chat;
mod media;
mod participants;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use parlor_live::{ConnectionId, Input, Limits, Output, PeerProfile};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;

use crate::costs::one_of_many;
use crate::participants::{all, participant_with};
use crate::slices::limits;
use crate::world::{Received, World, join};

/// Number of participants in the meeting.
const MEETING: u32 = 200;
/// Maximum cost of one input, in steps: two milliseconds at a tenth of a microsecond per step.
const MAX_STEPS: usize = 20_000;
/// Maximum size of the frames that one input causes, in bytes: slightly more than the largest
/// reply, that of polls.
const MAX_BYTES: usize = (3 << 20) + (64 << 10);
/// Number of times each frame is sent: once in debug builds, where times are meaningless.
const RUNS: usize = if cfg!(debug_assertions) { 1 } else { 7 };

/// The cost of one frame and its deferred work: the maximum over all inputs.
#[derive(Default)]
struct Row {
    steps: usize,
    /// Number of inputs: the frame itself and its deferred work.
    inputs: usize,
    bytes: usize,
    /// Duration of the slowest input of each run, in milliseconds.
    ms: Vec<f64>,
}

/// Costs of the largest frames.
#[derive(Default)]
struct Costs {
    rows: BTreeMap<(u32, &'static str), Row>,
}

impl Costs {
    /// Sends a frame that must be accepted.
    fn send(
        &mut self,
        what: &'static str,
        world: &mut World,
        from: ConnectionId,
        event: u32,
        request: &impl Message,
    ) {
        let rejected = self.measure((event, what), world, from, &request.encode_to_vec());
        assert!(!rejected, "{what} with {event}");
    }

    /// Sends a frame that must be accepted, [`RUNS`] times.
    fn send_repeatedly(
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

    /// Sends a frame and runs the work it defers within a second. Returns whether it was rejected.
    fn measure(
        &mut self,
        name: (u32, &'static str),
        world: &mut World,
        from: ConnectionId,
        payload: &[u8],
    ) -> bool {
        let until = world.monotonic().after(1_000);
        let row = self.rows.entry(name).or_default();
        let (mut longest, mut inputs, mut rejected) = (0.0_f64, 0, false);
        let mut input = Input::Frame {
            connection: from,
            bytes: frame(name.0, payload),
        };
        loop {
            let begun = Instant::now();
            let outputs = world.handle_deferred(input);
            longest = longest.max(begun.elapsed().as_secs_f64() * 1_000.0);
            inputs += 1;
            row.steps = row.steps.max(world.room.cost());
            row.bytes = row.bytes.max(bytes_of(&outputs));
            let effects = world.apply_outputs(outputs);
            rejected |= effects.frames.iter().any(Received::is_error);
            let Some(wake) = world.room.next_deadline().filter(|wake| *wake <= until) else {
                break;
            };
            let passed = wake.since(world.monotonic()).max(0);
            world.now_ms += passed;
            world.monotonic_ms += passed;
            input = Input::Tick;
        }
        row.inputs = row.inputs.max(inputs);
        row.ms.push(longest);
        rejected
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

/// The total size of distinct frames, in bytes, regardless of the number of receivers.
fn bytes_of(outputs: &[Output]) -> usize {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send { frame, .. } => Some((frame.as_ptr(), frame.len())),
        _ => None,
    });
    // A push is a prefix of the reply with the same message.
    let mut buffers = BTreeMap::new();
    for (buffer, bytes) in frames {
        let known = buffers.entry(buffer).or_insert(bytes);
        *known = bytes.max(*known);
    }
    buffers.values().sum()
}

/// Sets realistic maximum lengths for the name, picture and id.
fn long(profile: &mut PeerProfile) {
    profile.name = Some("\u{1D54F}".repeat(256));
    profile.picture = Some(format!("https://x/{}", "p".repeat(2_038)));
    profile.custom_id = "\u{1D54F}".repeat(256);
}

/// A host with all permissions, and the other participants.
struct LargeMeeting {
    world: World,
    boss: ConnectionId,
    others: Vec<ConnectionId>,
}

impl LargeMeeting {
    /// Creates a meeting. `modify` changes the profiles of all participants except the host.
    fn of(limits: Limits, view: ViewType, modify: impl Fn(&mut PeerProfile)) -> Self {
        let mut world = World::new(limits);
        let boss = join(&mut world, &participant_with(0, view, all()));
        let other = |n| {
            let mut profile = one_of_many(n);
            profile.view = view;
            modify(&mut profile);
            profile
        };
        let others = (1..MEETING).map(|n| join(&mut world, &other(n)));
        let others = others.collect();
        world.advance(5_000);
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

/// Ids of all participants except the first, as text.
fn ids<T: ToString>(which: impl Fn(PeerProfile) -> T) -> Vec<String> {
    (1..MEETING)
        .map(|n| which(one_of_many(n)).to_string())
        .collect()
}

/// A payload that is rejected before it is decoded.
const EMPTY: &str = "half a million empty fields";

/// Sends a frame with [`EMPTY`] fields for each event. Returns the events that clients may send.
fn send_empty_fields(costs: &mut Costs) -> BTreeSet<u32> {
    let mut world = World::new(limits());
    let boss = join(&mut world, &participant_with(0, ViewType::Webinar, all()));
    let payload = [0x0A, 0x00].repeat((1 << 19) - 100);
    let mut accepted = BTreeSet::new();
    for (number, name) in event::ALL {
        let bytes = frame(*number, &payload);
        let connection = boss;
        let effects = world.handle(Input::Frame { connection, bytes });
        let text = String::from_utf8_lossy(&effects.frames[0].payload).into_owned();
        if !text.contains("clients may not send the event") {
            accepted.insert(*number);
            let rejected = costs.measure((*number, EMPTY), &mut world, boss, &payload);
            assert!(rejected, "{name}");
        }
    }
    accepted
}

#[test]
fn no_largest_frame_costs_more_than_two_milliseconds() {
    let mut costs = Costs::default();
    participants::send(&mut costs);
    chat::send(&mut costs);
    shared::send(&mut costs);
    media::send(&mut costs);
    let sent: BTreeSet<u32> = costs.rows.keys().map(|(number, _)| *number).collect();
    let accepted = send_empty_fields(&mut costs);
    costs.print();
    let names = |numbers: BTreeSet<u32>| numbers.into_iter().map(event::name).collect::<Vec<_>>();
    assert!(accepted.is_subset(&sent), "{:?}", names(&accepted - &sent));
    let too_expensive: Vec<_> = costs
        .rows
        .iter()
        .filter(|(_, row)| row.steps > MAX_STEPS || row.bytes > MAX_BYTES)
        .map(|(name, row)| (name, row.steps, row.bytes))
        .collect();
    assert!(too_expensive.is_empty(), "{too_expensive:?}");
}
