//! Performs delegated requests: requests that a room has authorized, but that only the server can
//! perform, because they need the database or other rooms.
//!
//! One task per participant performs that participant's requests in order, from a bounded queue.
//! Only a few requests run concurrently across all participants, first come, first served, so that
//! a participant with many requests slows down neither the database nor other participants.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use parlor_live::{DelegatedRequest, Pace};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use parlor_protocol::signal::event;

use super::app_semaphore::{AppPermit, AppSemaphore};
use super::outbox::{Outgoing, ReplySender};
use super::unsent::MeetingUnsent;
use crate::metrics::GaugeGuard;
use crate::rooms::LiveSessions;

/// Maximum number of queued requests per participant. A host needs one request to create or close
/// any number of breakout rooms, but one per destination room to move participants.
const QUEUED: usize = 128;
/// Maximum total size of a participant's queued requests, in bytes. A larger request is queued only
/// if the queue is empty.
const QUEUED_BYTES: usize = 4 << 20;
/// Maximum number of concurrent requests that change the database.
const WRITES: usize = 4;
/// Maximum number of concurrent requests that only read and notify other rooms.
const READS: usize = 4;
/// Maximum number of concurrent writes, and of concurrent reads, per app. It is lower than
/// [`WRITES`] and [`READS`], so that one app cannot take all permits.
const MAX_PER_APP: usize = 2;

/// A request, and the destination of its reply.
pub(crate) struct Job {
    pub(crate) app: AppId,
    pub(crate) meeting: MeetingId,
    pub(crate) task: DelegatedRequest,
    pub(crate) reply: ReplySender,
    pub(crate) unsent: MeetingUnsent,
}

/// The queued requests, by requester.
pub(crate) struct Delegation {
    queues: Mutex<HashMap<(AppId, ParticipantId), Queue>>,
    writes: AppSemaphore,
    reads: AppSemaphore,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Box<Job>, GaugeGuard)>,
    bytes: usize,
}

impl Default for Delegation {
    fn default() -> Self {
        Self {
            queues: Mutex::default(),
            writes: AppSemaphore::new(WRITES, MAX_PER_APP),
            reads: AppSemaphore::new(READS, MAX_PER_APP),
        }
    }
}

impl Delegation {
    /// Waits for a permit to run a request that only reads.
    pub(crate) async fn read_permit(&self, app: AppId) -> AppPermit<'_> {
        self.reads.acquire(app).await
    }

    /// Queues a request. Returns it as the error if the participant has too many queued requests.
    pub(crate) fn enqueue(&self, live: &Arc<LiveSessions>, job: Box<Job>) -> Result<(), Box<Job>> {
        let requester = (job.app, job.task.participant);
        let size = size_of(&job);
        let mut queues = self.queues();
        let (queue, is_new) = match queues.entry(requester) {
            Entry::Occupied(queue) => (queue.into_mut(), false),
            Entry::Vacant(entry) => (entry.insert(Queue::default()), true),
        };
        let fits = queue.bytes == 0 || queue.bytes + size <= QUEUED_BYTES;
        if queue.jobs.len() >= QUEUED || !fits {
            return Err(job);
        }
        queue.bytes += size;
        queue.jobs.push_back((job, live.metrics.delegated()));
        drop(queues);
        if is_new {
            let task_live = Arc::clone(live);
            live.spawn(async move {
                task_live.delegation.run_queue(&task_live, requester).await;
            });
        }
        Ok(())
    }

    /// Performs the requests of a participant until its queue is empty or the server stops.
    async fn run_queue(&self, live: &Arc<LiveSessions>, requester: (AppId, ParticipantId)) {
        while let Some((job, _waiting)) = self.next(requester) {
            let pool = if is_read_only(&job) {
                &self.reads
            } else {
                &self.writes
            };
            let permit = pool.acquire(job.app);
            let permit = live.stop.run_until_cancelled(permit).await;
            let Some(_permit) = permit else {
                self.queues().remove(&requester);
                return;
            };
            let meeting = job.meeting;
            let done = AssertUnwindSafe(perform(live, job)).catch_unwind().await;
            if done.is_err() {
                tracing::error!(%meeting, "a delegated request panicked");
            }
        }
    }

    /// Takes the next request of a participant. Removes the participant's queue if there is none.
    fn next(&self, requester: (AppId, ParticipantId)) -> Option<(Box<Job>, GaugeGuard)> {
        let mut queues = self.queues();
        let queue = queues.get_mut(&requester)?;
        let Some(next) = queue.jobs.pop_front() else {
            queues.remove(&requester);
            return None;
        };
        queue.bytes -= size_of(&next.0);
        Some(next)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<(AppId, ParticipantId), Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(job: &Job) -> usize {
    job.task.request.payload.len()
}

fn is_read_only(job: &Job) -> bool {
    !matches!(
        job.task.request.event,
        event::CREATE_CONNECTED_ROOMS | event::DELETE_CONNECTED_ROOMS | event::MOVE_PEERS
    )
}

async fn perform(live: &Arc<LiveSessions>, job: Box<Job>) {
    let done = live.delegate(job.app, job.meeting, &job.task).await;
    if let Some(frame) = done.reply {
        let (frame, slow) = job.unsent.frame(frame);
        live.metrics.sockets_overflowed(slow);
        // The peer may have left in the meantime.
        let _ = job.reply.send(Outgoing::Frame(frame, Pace::Now));
    }
    // The reply is sent first: a host who moves themselves would not receive it afterwards.
    for (meeting, command) in done.commands {
        // If this times out, the room still executes the command later.
        let _ = live.command_with_timeout(job.app, meeting, command).await;
    }
}
