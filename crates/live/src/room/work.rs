//! Long work. The first slice runs at once; the rest runs from timers, between other inputs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlor_protocol::ids::{ParticipantId, SessionId};
use parlor_protocol::signal::socket::preset::{PresetUpdates, UpdatePeersPresetResponse};

use super::{Deadline, Monotonic, Room, Turn};
use crate::chat::Reading;
use crate::frame;
use crate::input::ConnectionId;
use crate::media::Silencer;
use crate::output::{Output, Refusal, Source};
use crate::peer::Seat;

/// Between two slices.
pub(super) const SLICE_MS: i64 = 1;
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

/// How much of a slice is spent.
#[derive(Debug)]
pub(crate) struct Slice {
    begun: usize,
    /// How many outputs are counted.
    outputs: usize,
    output_steps: usize,
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
        by: Option<Seat>,
    },
    /// Turn off what somebody publishes.
    Silence {
        seat: Seat,
        sources: Arc<[Source]>,
        by: Silencer,
    },
    /// Let everybody in who waits for somebody who decides: as many as fit into a slice.
    AdmitWaiting,
    /// Somebody who was removed, and has no socket any more, leaves.
    ThrowOut(Seat),
    /// Everybody was removed: the session ends.
    EndSession(SessionId),
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

/// What one person has asked for, in the order in which it was asked for; or what nobody has.
#[derive(Debug)]
struct Queue {
    of: Option<ParticipantId>,
    acts: VecDeque<Act>,
}

/// What is not done yet.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// People are removed before anything else is done: they have no sockets any more.
    removals: VecDeque<Act>,
    /// Served in turn, one act each. None is empty.
    queues: VecDeque<Queue>,
    /// Each gets a slice in turn.
    pub(crate) readings: VecDeque<Reading>,
    due: bool,
    /// [`Act::AdmitWaiting`] is among the acts.
    pub(crate) admit_due: bool,
    /// An act is being done: what comes of it is done after it.
    acting: bool,
    /// Timers that were too many for one input go on then.
    pub(super) paused_until: Option<Monotonic>,
}

impl Work {
    /// What was asked for of people of a session that is over is not done any more.
    pub(crate) fn forget_acts(&mut self) {
        self.queues.clear();
        self.admit_due = false;
    }

    fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.queues.is_empty()
    }

    fn waiting_of(&self, person: ParticipantId) -> usize {
        let mut queues = self.queues.iter();
        let queue = queues.find(|queue| queue.of == Some(person));
        queue.map_or(0, |queue| queue.acts.len())
    }

    fn add(&mut self, of: Option<ParticipantId>, acts: impl IntoIterator<Item = Act>) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.of == of) {
            queue.acts.extend(acts);
            return;
        }
        let acts: VecDeque<Act> = acts.into_iter().collect();
        if !acts.is_empty() {
            self.queues.push_back(Queue { of, acts });
        }
    }

    fn next(&mut self) -> Option<Act> {
        if let Some(removal) = self.removals.pop_front() {
            return Some(removal);
        }
        let mut queue = self.queues.pop_front()?;
        let act = queue.acts.pop_front();
        if !queue.acts.is_empty() {
            self.queues.push_back(queue);
        }
        act
    }
}

impl Room {
    /// Whether a peer's person may ask for so many things more: as long as what waits of theirs is of
    /// a size with the meeting, and what waits of all is not much more.
    pub(crate) fn may_add(&self, seat: Seat, count: usize) -> Result<(), Refusal> {
        let most = 5_000 + 4 * self.peers.len();
        let theirs = self.work.waiting_of(self.peers[seat].user());
        let all: usize = self.work.queues.iter().map(|it| it.acts.len()).sum();
        if (theirs == 0 || theirs + count <= most) && all <= 4 * most {
            Ok(())
        } else {
            Err(Refusal::new(
                429,
                "what was asked for before is not done yet: slow down",
            ))
        }
    }

    /// Does these things in order: now what fits into a slice, the rest later. What the same person
    /// has asked for before comes first.
    pub(crate) fn carry_out(
        &mut self,
        turn: &mut Turn<'_>,
        of: Option<Seat>,
        acts: impl IntoIterator<Item = Act>,
    ) {
        let busy = !self.work.is_empty() || self.work.acting;
        let of = of.map(|seat| self.peers[seat].user());
        self.work.add(of, acts);
        if !busy {
            self.act_for_a_slice(turn);
        }
    }

    /// Removes people, before everything else.
    pub(crate) fn remove_in_order(
        &mut self,
        turn: &mut Turn<'_>,
        acts: impl IntoIterator<Item = Act>,
    ) {
        let busy = !self.work.removals.is_empty() || self.work.acting;
        self.work.removals.extend(acts);
        if !busy {
            self.act_for_a_slice(turn);
        }
    }

    /// The server stops: those who were removed are gone when it starts again.
    pub(super) fn finish_removals(&mut self, turn: &mut Turn<'_>) {
        while let Some(removal) = self.work.removals.pop_front() {
            self.act(turn, removal);
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
        if let Some(reading) = self.work.readings.pop_front() {
            self.go_on_reading(turn, reading);
        }
        if !self.work.readings.is_empty() {
            self.work_soon(turn);
        }
    }

    fn act_for_a_slice(&mut self, turn: &mut Turn<'_>) {
        let mut slice = self.slice(turn);
        self.work.acting = true;
        while let Some(act) = self.work.next() {
            self.steps.add(ACT_STEPS);
            self.act(turn, act);
            if self.is_over_after(turn, &mut slice) {
                break;
            }
        }
        self.work.acting = false;
        if !self.work.is_empty() {
            self.work_soon(turn);
        }
    }

    /// A slice begins.
    pub(crate) fn slice(&self, turn: &Turn<'_>) -> Slice {
        Slice {
            begun: self.steps.count() + self.peers.steps.count(),
            outputs: turn.out.len(),
            output_steps: 0,
        }
    }

    /// Whether a slice is over, after what was done since this was asked last.
    pub(crate) fn is_over_after(&self, turn: &Turn<'_>, slice: &mut Slice) -> bool {
        let new = turn.out.get(slice.outputs..).unwrap_or_default();
        slice.output_steps += new.iter().map(Output::steps).sum::<usize>();
        slice.outputs = turn.out.len();
        let now = self.steps.count() + self.peers.steps.count();
        now - slice.begun + slice.output_steps >= self.limits.slice_steps
    }

    fn act(&mut self, turn: &mut Turn<'_>, act: Act) {
        match act {
            Act::Admit(seat) => self.admit_waiting(turn, seat),
            Act::TurnAway(seat) => self.reject_waiting(turn, seat),
            Act::Grant(seat) => self.grant_to(turn, seat),
            Act::DenyStage(seat) => self.deny_to(turn, seat),
            Act::OffStage(seat) => self.put_off_stage(turn, seat),
            Act::Patch { person, patch, by } => self.patch_person(turn, person, &patch, by),
            Act::Silence { seat, sources, by } => self.silence_peer(turn, seat, &sources, by),
            Act::AdmitWaiting => self.admit_all_who_wait(turn),
            Act::ThrowOut(seat) => self.thrown_out(turn, seat),
            Act::EndSession(session) => self.end_once_empty(turn, session),
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
