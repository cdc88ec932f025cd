//! What is too much for one input: it is begun at once and goes on in slices, between which others are
//! served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::signal::socket::preset::{PresetUpdates, UpdatePeersPresetResponse};

use super::{Deadline, Room, Turn};
use crate::chat::Search;
use crate::frame;
use crate::input::ConnectionId;
use crate::output::Refusal;
use crate::peer::Seat;

/// Between two slices.
const SLICE_MS: i64 = 1;
/// What one act costs by itself, in steps.
const ACT_STEPS: usize = 20;

/// How much was looked at: a peer, a message, a key of a store, each is one.
#[derive(Debug, Default)]
pub(crate) struct Steps(AtomicUsize);

impl Steps {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thing of many that a request asks for. Between two of them anything may happen: each looks
/// itself whether it is still to be done.
#[derive(Debug)]
pub(crate) enum Act {
    /// Let somebody in who waits.
    Admit(Seat),
    /// Turn somebody away.
    TurnAway(Seat),
    /// Let somebody on the stage.
    Grant(Seat),
    /// Do not.
    DenyStage(Seat),
    /// Send somebody off the stage.
    OffStage(Seat),
    /// Change what somebody may do.
    Patch {
        person: ParticipantId,
        patch: Box<PresetUpdates>,
        by: Seat,
    },
    /// Those who decide are told who waits.
    TellWaiting,
    /// Those who decide are told who asks for the stage.
    TellStageRequests,
    /// Everything before it was done: the answer to who asked for it.
    Answer {
        connection: ConnectionId,
        event: u32,
        id: Option<String>,
        response: Box<UpdatePeersPresetResponse>,
    },
}

/// What is not done yet.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// In the order in which it was asked for.
    acts: VecDeque<Act>,
    /// Each gets a slice in turn.
    pub(crate) searches: VecDeque<Search>,
    due: bool,
}

impl Work {
    /// What was asked for of people of a session that is over is not done any more.
    pub(crate) fn forget_acts(&mut self) {
        self.acts.clear();
    }
}

impl Room {
    /// Whether so many things more may be asked for: as long as what waits is of a size with the
    /// meeting.
    pub(crate) fn may_add(&self, count: usize) -> Result<(), Refusal> {
        let most = 5_000 + 4 * self.peers.len();
        if self.work.acts.is_empty() || self.work.acts.len() + count <= most {
            Ok(())
        } else {
            Err(Refusal::new(
                429,
                "what was asked for before is not done yet: slow down",
            ))
        }
    }

    /// Does these things in order: now what fits into a slice, the rest later. What was asked for
    /// before comes first.
    pub(crate) fn carry_out(&mut self, turn: &mut Turn<'_>, acts: impl IntoIterator<Item = Act>) {
        let busy = !self.work.acts.is_empty();
        self.work.acts.extend(acts);
        if !busy {
            self.act_for_a_slice(turn);
        }
    }

    /// There is work left.
    pub(crate) fn work_soon(&mut self, turn: &Turn<'_>) {
        if !self.work.due {
            self.work.due = true;
            self.at(turn.monotonic.after(SLICE_MS), Deadline::Work);
        }
    }

    /// A slice of what is left.
    pub(super) fn work_on(&mut self, turn: &mut Turn<'_>) {
        self.work.due = false;
        self.act_for_a_slice(turn);
        if let Some(search) = self.work.searches.pop_front() {
            self.go_on_searching(turn, search);
        }
        if !self.work.searches.is_empty() {
            self.work_soon(turn);
        }
    }

    fn act_for_a_slice(&mut self, turn: &mut Turn<'_>) {
        let begun = self.steps.count() + self.peers.steps.count();
        while let Some(act) = self.work.acts.pop_front() {
            self.steps.add(ACT_STEPS);
            self.act(turn, act);
            let now = self.steps.count() + self.peers.steps.count();
            if now - begun >= self.limits.slice_steps {
                break;
            }
        }
        if !self.work.acts.is_empty() {
            self.work_soon(turn);
        }
    }

    fn act(&mut self, turn: &mut Turn<'_>, act: Act) {
        match act {
            Act::Admit(seat) => self.admit_waiting(turn, seat),
            Act::TurnAway(seat) => self.reject_waiting(turn, seat),
            Act::Grant(seat) => self.grant_to(turn, seat),
            Act::DenyStage(seat) => self.deny_to(turn, seat),
            Act::OffStage(seat) => self.put_off_stage(turn, seat),
            Act::Patch { person, patch, by } => self.patch_person(turn, person, &patch, Some(by)),
            Act::TellWaiting => self.waiting_list_changed(turn),
            Act::TellStageRequests => self.tell_stage_requests(turn),
            Act::Answer {
                connection,
                event,
                id,
                response,
            } => {
                if self.peers.seat_at(connection).is_some() {
                    let frame = frame::frame(event, id.as_deref(), &*response);
                    turn.send(vec![connection], frame);
                }
            }
        }
    }
}
