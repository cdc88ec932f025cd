//! Work that is split into slices. The first slice runs at once, the rest from timers between other
//! inputs.

use parlor_protocol::Source;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlor_protocol::ids::{ParticipantId, SessionId};
use parlor_protocol::signal::socket::preset::{PresetUpdates, UpdatePeersPresetResponse};

use super::{Deadline, Monotonic, Room, Step};
use crate::chat::PendingRead;
use crate::frame;
use crate::input::ConnectionId;
use crate::media::MutedBy;
use crate::output::{Output, Refusal};
use crate::peer::Slot;

/// Pause between two slices.
pub(super) const SLICE_MS: i64 = 1;
/// Base cost of one task, in cost units.
const TASK_COST: usize = 20;

/// Counts the cost of work, in cost units: one for each peer, message or key visited.
#[derive(Debug, Default)]
pub(crate) struct CostCounter(AtomicUsize);

impl CostCounter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The budget of a slice.
#[derive(Debug)]
pub(crate) struct Slice {
    start: usize,
    /// Number of outputs already counted.
    outputs: usize,
    output_cost: usize,
}

/// One item of a bulk request. Other inputs may be handled between two tasks, so each task checks
/// whether it still applies.
#[derive(Debug)]
pub(crate) enum Task {
    /// Admit a waiting peer.
    Admit(Slot),
    /// Reject a waiting peer.
    Reject(Slot),
    /// Grant stage access.
    GrantStage(Slot),
    /// Deny stage access.
    DenyStage(Slot),
    /// Remove a peer from the stage.
    RemoveFromStage(Slot),
    /// Change a participant's permissions.
    PatchPermissions {
        participant: ParticipantId,
        patch: Box<PresetUpdates>,
        by: Option<Slot>,
    },
    /// Mute tracks of a peer.
    MuteTracks {
        slot: Slot,
        sources: Arc<[Source]>,
        by: MutedBy,
    },
    /// Admit the peers that wait for a privileged participant: as many as fit into a slice.
    AdmitWaiting,
    /// Finish the removal of a peer whose socket is already detached.
    FinishRemoval(Slot),
    /// End the session after all peers were removed.
    EndSession(SessionId),
    /// Push the waiting list.
    PushWaitingList,
    /// Push the list of stage requests.
    PushStageRequests,
    /// Reply to the requester once all earlier tasks are done.
    Reply {
        connection: ConnectionId,
        event: u32,
        id: Option<String>,
        response: Box<UpdatePeersPresetResponse>,
    },
}

/// Tasks of one participant in request order, or tasks that no participant requested.
#[derive(Debug)]
struct Queue {
    participant: Option<ParticipantId>,
    tasks: VecDeque<Task>,
}

/// Pending work.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Removals of peers whose sockets are already detached. They run before all other tasks.
    removals: VecDeque<Task>,
    /// Served round-robin, one task each. No queue is empty.
    queues: VecDeque<Queue>,
    /// Served round-robin, one slice each.
    pub(crate) pending_reads: VecDeque<PendingRead>,
    due: bool,
    /// Whether [`Task::AdmitWaiting`] is queued.
    pub(crate) admit_due: bool,
    /// Whether a task is running. Tasks that it adds run after it.
    running: bool,
    /// When to resume timers that exceeded the cost limit of one input.
    pub(super) paused_until: Option<Monotonic>,
}

impl Work {
    /// Discards the tasks of a session that has ended.
    pub(crate) fn discard_tasks(&mut self) {
        self.queues.clear();
        self.admit_due = false;
    }

    fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.queues.is_empty()
    }

    fn queued_for(&self, participant: ParticipantId) -> usize {
        let mut queues = self.queues.iter();
        let queue = queues.find(|queue| queue.participant == Some(participant));
        queue.map_or(0, |queue| queue.tasks.len())
    }

    fn add(&mut self, participant: Option<ParticipantId>, tasks: impl IntoIterator<Item = Task>) {
        if let Some(queue) = self
            .queues
            .iter_mut()
            .find(|queue| queue.participant == participant)
        {
            queue.tasks.extend(tasks);
            return;
        }
        let tasks: VecDeque<Task> = tasks.into_iter().collect();
        if !tasks.is_empty() {
            self.queues.push_back(Queue { participant, tasks });
        }
    }

    fn next(&mut self) -> Option<Task> {
        if let Some(removal) = self.removals.pop_front() {
            return Some(removal);
        }
        let mut queue = self.queues.pop_front()?;
        let task = queue.tasks.pop_front();
        if !queue.tasks.is_empty() {
            self.queues.push_back(queue);
        }
        task
    }
}

impl Room {
    /// Checks whether the peer's participant may queue `count` more tasks. Both the participant's
    /// backlog and the total backlog are bounded by the size of the meeting.
    pub(crate) fn check_task_quota(&self, slot: Slot, count: usize) -> Result<(), Refusal> {
        let max = 5_000 + 4 * self.peers.len();
        let theirs = self.work.queued_for(self.peers[slot].participant_id());
        let all: usize = self.work.queues.iter().map(|it| it.tasks.len()).sum();
        if (theirs == 0 || theirs + count <= max) && all <= 4 * max {
            Ok(())
        } else {
            Err(Refusal::new(
                429,
                "too many requests are still in progress: slow down",
            ))
        }
    }

    /// Runs tasks in order: as many as fit into a slice now, the rest later. Earlier tasks of the
    /// same participant come first.
    pub(crate) fn run_tasks(
        &mut self,
        step: &mut Step<'_>,
        requester: Option<Slot>,
        tasks: impl IntoIterator<Item = Task>,
    ) {
        let busy = !self.work.is_empty() || self.work.running;
        let requester = requester.map(|slot| self.peers[slot].participant_id());
        self.work.add(requester, tasks);
        if !busy {
            self.run_task_slice(step);
        }
    }

    /// Runs removals, before all other tasks.
    pub(crate) fn run_removals(
        &mut self,
        step: &mut Step<'_>,
        tasks: impl IntoIterator<Item = Task>,
    ) {
        let busy = !self.work.removals.is_empty() || self.work.running;
        self.work.removals.extend(tasks);
        if !busy {
            self.run_task_slice(step);
        }
    }

    /// Completes all removals before the server stops.
    pub(super) fn finish_removals(&mut self, step: &mut Step<'_>) {
        while let Some(removal) = self.work.removals.pop_front() {
            self.run_task(step, removal);
        }
    }

    /// Schedules the next slice of work.
    pub(crate) fn schedule_work(&mut self, step: &Step<'_>) {
        if !self.work.due {
            self.work.due = true;
            self.schedule(step.monotonic.after(SLICE_MS), Deadline::Work);
        }
    }

    /// Runs one slice of the pending work.
    pub(super) fn continue_work(&mut self, step: &mut Step<'_>) {
        self.work.due = false;
        self.run_task_slice(step);
        if let Some(pending_read) = self.work.pending_reads.pop_front() {
            self.continue_read(step, pending_read);
        }
        if !self.work.pending_reads.is_empty() {
            self.schedule_work(step);
        }
    }

    fn run_task_slice(&mut self, step: &mut Step<'_>) {
        let mut slice = self.start_slice(step);
        self.work.running = true;
        while let Some(task) = self.work.next() {
            self.cost_units.add(TASK_COST);
            self.run_task(step, task);
            if self.slice_exhausted(step, &mut slice) {
                break;
            }
        }
        self.work.running = false;
        if !self.work.is_empty() {
            self.schedule_work(step);
        }
    }

    /// Starts a slice.
    pub(crate) fn start_slice(&self, step: &Step<'_>) -> Slice {
        Slice {
            start: self.cost_units.count() + self.peers.cost_units.count(),
            outputs: step.out.len(),
            output_cost: 0,
        }
    }

    /// Charges the work done since the last call to the slice. Returns whether the slice is
    /// exhausted.
    pub(crate) fn slice_exhausted(&self, step: &Step<'_>, slice: &mut Slice) -> bool {
        let new = step.out.get(slice.outputs..).unwrap_or_default();
        slice.output_cost += new.iter().map(Output::cost_units).sum::<usize>();
        slice.outputs = step.out.len();
        let now = self.cost_units.count() + self.peers.cost_units.count();
        now - slice.start + slice.output_cost >= self.limits.slice_cost
    }

    fn run_task(&mut self, step: &mut Step<'_>, task: Task) {
        match task {
            Task::Admit(slot) => self.admit_waiting_peer(step, slot),
            Task::Reject(slot) => self.reject_waiting_peer(step, slot),
            Task::GrantStage(slot) => self.grant_stage_to(step, slot),
            Task::DenyStage(slot) => self.deny_stage_to(step, slot),
            Task::RemoveFromStage(slot) => self.remove_from_stage(step, slot),
            Task::PatchPermissions {
                participant,
                patch,
                by,
            } => self.patch_participant(step, participant, &patch, by),
            Task::MuteTracks { slot, sources, by } => self.mute_tracks(step, slot, &sources, by),
            Task::AdmitWaiting => self.admit_waiting_peers(step),
            Task::FinishRemoval(slot) => self.finish_removal(step, slot),
            Task::EndSession(session) => self.end_once_empty(step, session),
            Task::PushWaitingList => self.waiting_list_changed(step),
            Task::PushStageRequests => self.push_stage_requests(step),
            Task::Reply {
                connection,
                event,
                id,
                response,
            } => {
                if self.peers.slot_by_connection(connection).is_some() {
                    let frame = frame::frame(event, id.as_deref(), &*response);
                    step.send(vec![connection], frame);
                }
            }
        }
    }
}
