//! What rooms have allowed and only the server can do: it needs the records and other rooms.
//!
//! There is one task for each person who has asked for something, which does it in the order in which
//! they asked. What waits for it is bounded. Of all people together only a few are served at once, in
//! the order in which they came, so that whoever asks for much slows down neither the records nor
//! anybody else.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use parlor_live::{Delegated, Pace};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use parlor_protocol::signal::event;

use super::outbox::{Outgoing, ReplySender};
use super::turns::{Turn, Turns};
use super::unsent::MeetingUnsent;
use crate::metrics::Open;
use crate::rooms::LiveSessions;

/// Requests of a person that may wait. Breakout rooms are opened and closed in one request, however many
/// they are; a host who moves people sends one for each room that they go to.
const QUEUED: usize = 128;
/// Bytes of these requests, beside one that may be longer.
const QUEUED_BYTES: usize = 4 << 20;
/// Requests that change the records and are done at once.
const WRITES: usize = 4;
/// Requests that only read, and tell other rooms something.
const READS: usize = 4;
/// How many of these may be of one app, so that there is always a turn for others.
const OF_APP: usize = 2;

/// A request, and where its answer goes.
pub(crate) struct Job {
    pub(crate) app: AppId,
    pub(crate) meeting: MeetingId,
    pub(crate) task: Delegated,
    pub(crate) reply: ReplySender,
    pub(crate) unsent: MeetingUnsent,
}

/// The requests that wait, by who asked.
pub(crate) struct Delegation {
    people: Mutex<HashMap<(AppId, ParticipantId), Queue>>,
    writes: Turns,
    reads: Turns,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Box<Job>, Open)>,
    bytes: usize,
}

impl Default for Delegation {
    fn default() -> Self {
        Self {
            people: Mutex::default(),
            writes: Turns::new(WRITES, OF_APP),
            reads: Turns::new(READS, OF_APP),
        }
    }
}

impl Delegation {
    /// Waits for its turn among all that only read.
    pub(crate) async fn turn_to_read(&self, app: AppId) -> Turn<'_> {
        self.reads.take(app).await
    }

    /// Takes a request, unless too many of this person wait; then it comes back.
    pub(crate) fn take(&self, live: &Arc<LiveSessions>, job: Box<Job>) -> Result<(), Box<Job>> {
        let person = (job.app, job.task.participant);
        let size = size_of(&job);
        let mut people = self.people();
        let (queue, is_new) = match people.entry(person) {
            Entry::Occupied(queue) => (queue.into_mut(), false),
            Entry::Vacant(place) => (place.insert(Queue::default()), true),
        };
        let fits = queue.bytes == 0 || queue.bytes + size <= QUEUED_BYTES;
        if queue.jobs.len() >= QUEUED || !fits {
            return Err(job);
        }
        queue.bytes += size;
        queue.jobs.push_back((job, live.metrics.delegated()));
        drop(people);
        if is_new {
            let working = Arc::clone(live);
            live.spawn(async move {
                working.delegation.work(&working, person).await;
            });
        }
        Ok(())
    }

    /// Does what a person has asked for, until nothing is left of it or the server stops.
    async fn work(&self, live: &Arc<LiveSessions>, person: (AppId, ParticipantId)) {
        while let Some((job, _waiting)) = self.next(person) {
            let pool = if only_reads(&job) {
                &self.reads
            } else {
                &self.writes
            };
            let turn = pool.take(job.app);
            let turn = live.stop.run_until_cancelled(turn).await;
            let Some(_turn) = turn else {
                self.people().remove(&person);
                return;
            };
            let meeting = job.meeting;
            let done = AssertUnwindSafe(perform(live, job)).catch_unwind().await;
            if done.is_err() {
                tracing::error!(%meeting, "a request about breakout rooms has panicked");
            }
        }
    }

    /// The next request of a person; when there is none, the person is forgotten.
    fn next(&self, person: (AppId, ParticipantId)) -> Option<(Box<Job>, Open)> {
        let mut people = self.people();
        let queue = people.get_mut(&person)?;
        let Some(next) = queue.jobs.pop_front() else {
            people.remove(&person);
            return None;
        };
        queue.bytes -= size_of(&next.0);
        Some(next)
    }

    fn people(&self) -> MutexGuard<'_, HashMap<(AppId, ParticipantId), Queue>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(job: &Job) -> usize {
    job.task.request.payload.len()
}

fn only_reads(job: &Job) -> bool {
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
        // The peer may have gone meanwhile.
        let _ = job.reply.put(Outgoing::Frame(frame, Pace::Now));
    }
    // After the reply: who moves themselves away would not hear it any more.
    for (meeting, command) in done.then {
        // A room that is late does it when it can.
        let _ = live.ask(job.app, meeting, command).await;
    }
}
