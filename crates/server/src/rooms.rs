//! The rooms that run in this process: one task for each live meeting, and the way to it.
//!
//! A room starts with the first socket of its meeting, or when the server finds an open session in
//! the records at its start. Its task ends when nobody is connected and no session is live. A room
//! that fails is read anew from the records a little later, whether somebody comes back or not: its
//! session must end some day.

pub(crate) mod chat_quota;
mod delegation;
mod driver;
mod mailbox;
mod media;
pub(crate) mod notifier;
mod outbox;
pub mod records;
mod slice;
#[cfg(test)]
mod tests;
mod turns;
mod unsent;

pub(crate) use mailbox::{Mailbox, SocketSender, Unopened};
pub(crate) use outbox::{Inbox, Outbox, Outgoing};

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parlor_live::{
    Answer, Command, ConnectionId, Delegated, MediaAnswer, Newcomer, OrderId, Refusal, error_frame,
};
use parlor_protocol::ids::{AppId, MeetingId, PeerId};
use parlor_sfu::Media;
use parlor_store::{Db, Error};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::chat_quota::ChatStates;
use self::delegation::Delegation;
use self::mailbox::{Receiver, mailbox};
use self::notifier::RosterNotifier;
use self::turns::Turn;
use self::unsent::Unsent;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::limits::Limits;
use crate::metrics::{Level, Metrics};

/// Between two signs of life in the records.
const BEAT: Duration = Duration::from_secs(5);
/// How long rooms may take to let go of their sockets when the server stops.
const SUSPEND: Duration = Duration::from_secs(10);

/// After a room has failed, before it is read anew.
const RETRY: Duration = Duration::from_secs(5);
/// How long a browser takes to notice that its media connections are no more: it checks them every
/// 2.5 s, and is told; the SDK lets another two seconds pass, and what it does then must not meet
/// what it does on its new socket. If its socket comes back before, it believes in them, publishes
/// on them, is refused, and leaves camera and microphone off (docs/spec/media.md 5.5).
pub(crate) const NOTICE: Duration = Duration::from_secs(5);
/// Firefox checks every five seconds, give or take a fifth.
pub(crate) const LONGEST_NOTICE: Duration = Duration::from_millis(8500);
/// How long a room may take to answer when others wait for that: as long as a commit may take.
const ANSWER: Duration = driver::PATIENCE;
/// Rooms that are read from the records at once.
const OPENING: usize = 32;

/// What is sent to a room's task.
#[derive(Debug)]
pub(crate) enum Letter {
    Opened {
        connection: ConnectionId,
        who: Box<Newcomer>,
        socket: Outbox,
    },
    Frame {
        connection: ConnectionId,
        bytes: Bytes,
    },
    Closed {
        connection: ConnectionId,
        goodbye: bool,
    },
    Command {
        command: Command,
        answer: Option<oneshot::Sender<Answer>>,
    },
    Media {
        order: OrderId,
        outcome: Result<MediaAnswer, Refusal>,
    },
}

/// The rooms that run.
pub struct LiveSessions {
    rooms: Mutex<HashMap<(AppId, MeetingId), Mailbox>>,
    connections: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
    opening: Semaphore,
    resumed: OnceLock<Resumed>,
    given_up: Mutex<HashMap<(MeetingId, PeerId), Instant>>,
    queued_bytes: Level,
    unsent: Arc<Unsent>,
    delegation: Delegation,
    pub(crate) db: Db,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// This process among the records: a time-ordered id of its start.
    pub(crate) process: Uuid,
    /// The disk of the records, where they are this server's own.
    pub(crate) disk: Option<Disk>,
    pub(crate) media: OnceLock<Media>,
    /// What rooms were told of the room for messages.
    pub(crate) chat_states: ChatStates,
    pub(crate) notifier: RosterNotifier,
    breakout: OnceLock<Box<dyn Breakout>>,
}

/// What rooms leave to others: what needs the records of people and meetings, and other rooms.
pub(crate) trait Breakout: Send + Sync {
    /// Does what a room has found to be allowed.
    fn perform<'a>(
        &'a self,
        app: AppId,
        meeting: MeetingId,
        task: &'a Delegated,
    ) -> BoxFuture<'a, Done>;

    /// Tells everybody in a meeting and its breakout rooms who is where: soon, and as it is then.
    fn tell_family(&self, app: AppId, parent: MeetingId);
}

/// What came of something that a room has left to others.
#[derive(Default)]
pub(crate) struct Done {
    /// The frame for who asked.
    pub(crate) reply: Option<Bytes>,
    /// What to tell rooms after that.
    pub(crate) then: Vec<(MeetingId, Command)>,
}

impl From<Bytes> for Done {
    fn from(reply: Bytes) -> Self {
        Self {
            reply: Some(reply),
            then: Vec::new(),
        }
    }
}

/// The meetings that the server found open when it started.
struct Resumed {
    meetings: HashSet<MeetingId>,
    since: Instant,
}

impl LiveSessions {
    /// No room runs yet.
    pub(crate) fn new(
        (db, clock, metrics): (Db, Arc<Clock>, Arc<Metrics>),
        limits: Limits,
        process: Uuid,
        disk: Option<Disk>,
    ) -> Self {
        let (most, most_of_meeting) = (limits.socket_bytes, limits.socket_bytes_per_meeting);
        Self {
            rooms: Mutex::default(),
            connections: AtomicU64::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            opening: Semaphore::new(OPENING),
            resumed: OnceLock::new(),
            given_up: Mutex::default(),
            queued_bytes: metrics.unheard_bytes(),
            unsent: Unsent::new(most, most_of_meeting, metrics.unsent_bytes()),
            delegation: Delegation::default(),
            db,
            clock,
            metrics,
            limits,
            process,
            disk,
            media: OnceLock::new(),
            chat_states: ChatStates::default(),
            notifier: RosterNotifier::default(),
            breakout: OnceLock::new(),
        }
    }

    /// Who does what rooms leave to others. The first call counts.
    pub(crate) fn set_breakout(&self, breakout: impl Breakout + 'static) {
        let _ = self.breakout.set(Box::new(breakout));
    }

    async fn delegate(&self, app: AppId, meeting: MeetingId, task: &Delegated) -> Done {
        if let Some(breakout) = self.breakout.get() {
            breakout.perform(app, meeting, task).await
        } else {
            let refusal = Refusal::new(501, "this server has no breakout rooms");
            error_frame(task.request.id.as_deref(), &refusal).into()
        }
    }

    fn tell_family(&self, app: AppId, parent: MeetingId) {
        if let Some(breakout) = self.breakout.get() {
            breakout.tell_family(app, parent);
        }
    }

    /// Asks the room of a meeting; [`Answer::NoSession`] when none runs.
    pub async fn command(&self, app: AppId, meeting: MeetingId, command: Command) -> Answer {
        let Some(mailbox) = self.running(app, meeting) else {
            return Answer::NoSession;
        };
        let (answer, answered) = oneshot::channel();
        let letter = Letter::Command {
            command,
            answer: Some(answer),
        };
        if mailbox.send(letter).is_err() {
            return Answer::NoSession;
        }
        // A room that is over must not wait for this.
        drop(mailbox);
        answered.await.unwrap_or(Answer::NoSession)
    }

    /// The same, for whoever must not wait for long: others wait meanwhile.
    ///
    /// # Errors
    /// When the room has not answered in time. It does later what it was asked to do.
    pub(crate) async fn ask(
        &self,
        app: AppId,
        meeting: MeetingId,
        command: Command,
    ) -> Result<Answer, Error> {
        let answer = timeout(ANSWER, self.command(app, meeting, command)).await;
        answer.map_err(|_| Error::Unavailable("a room does not answer in time".to_owned()))
    }

    /// Tells the room of a meeting, if one runs, and does not wait. A message to those in it is left
    /// out when the room is far behind.
    pub fn tell(&self, app: AppId, meeting: MeetingId, command: Command) {
        let Some(mailbox) = self.running(app, meeting) else {
            return;
        };
        let is_push = matches!(command, Command::Push { .. });
        let letter = Letter::Command {
            command,
            answer: None,
        };
        if !is_push {
            // The room may be over by then, and then there is nobody to tell.
            let _ = mailbox.send(letter);
        } else if !mailbox.offer(letter) {
            self.metrics.push_dropped();
        }
    }

    /// Tells every room of an app that runs, and does not wait.
    pub fn tell_app(&self, app: AppId, command: &Command) {
        let of_app = |(owner, meeting): &(AppId, MeetingId)| (*owner == app).then_some(*meeting);
        let meetings: Vec<MeetingId> = self.rooms().keys().filter_map(of_app).collect();
        for meeting in meetings {
            self.tell(app, meeting, command.clone());
        }
    }

    /// Whether the room of a meeting runs, or is being read from the records.
    pub(crate) fn is_running(&self, app: AppId, meeting: MeetingId) -> bool {
        self.rooms().contains_key(&(app, meeting))
    }

    /// The apps that have a room that runs.
    pub(crate) fn apps(&self) -> HashSet<AppId> {
        self.rooms().keys().map(|(app, _)| *app).collect()
    }

    /// Waits until a client that was here before has noticed that what it had in the media plane is
    /// no more: after a start of the server, or after somebody was given up. `notice` is how long its
    /// browser takes.
    pub(crate) async fn noticed(&self, meeting: MeetingId, peer: PeerId, notice: Duration) {
        let resumed = self.resumed.get();
        let resumed = resumed.filter(|resumed| resumed.meetings.contains(&meeting));
        let given_up = self.given_up().get(&(meeting, peer)).copied();
        let since = resumed.map(|resumed| resumed.since).max(given_up);
        if let Some(since) = since {
            sleep_until(since + notice).await;
        }
    }

    /// What a client had that is away was freed.
    pub(crate) fn gave_up(&self, meeting: MeetingId, peer: PeerId) {
        let mut given_up = self.given_up();
        // Not each time: all of a room's peers may be given up at once.
        if given_up.len().is_power_of_two() {
            given_up.retain(|_, since| since.elapsed() < LONGEST_NOTICE);
        }
        given_up.insert((meeting, peer), Instant::now());
    }

    fn given_up(&self) -> MutexGuard<'_, HashMap<(MeetingId, PeerId), Instant>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rooms run.
    pub fn count(&self) -> usize {
        self.rooms().len()
    }

    /// Starts the rooms of sessions that were open when the server stopped, and gives signs of life
    /// from now on.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn resume(self: &Arc<Self>) -> Result<(), Error> {
        records::beat(self).await?;
        let sessions = records::open_sessions(self).await?;
        let _ = self.resumed.set(Resumed {
            meetings: sessions.iter().map(|(_, meeting)| *meeting).collect(),
            since: Instant::now(),
        });
        for (app, meeting) in sessions {
            // The room stays by itself, for as long as its session is live.
            drop(self.enter(app, meeting));
        }
        let (live, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            while stop.run_until_cancelled(beats.tick()).await.is_some() {
                if let Err(error) = records::beat(&live).await {
                    tracing::warn!(%error, "no sign of life could be written");
                }
            }
        });
        Ok(())
    }

    /// Closes every socket so that clients come back, and ends every task; nobody has left.
    pub async fn suspend(&self) {
        let mailboxes: Vec<Mailbox> = {
            let rooms = self.rooms();
            // Under the lock: no room starts from here on.
            self.stop.cancel();
            rooms.values().cloned().collect()
        };
        for mailbox in mailboxes {
            let letter = Letter::Command {
                command: Command::Suspend,
                answer: None,
            };
            let _ = mailbox.send(letter);
        }
        self.tasks.close();
        if timeout(SUSPEND, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "rooms took too long to stop");
        }
        // Those who do not come back were here until now.
        if let Err(error) = records::beat(self).await {
            tracing::warn!(%error, "no last sign of life could be written");
        }
    }

    /// The room of a meeting; it is started if it does not run. `None` when the server stops.
    pub(crate) fn enter(self: &Arc<Self>, app: AppId, meeting: MeetingId) -> Option<Mailbox> {
        let mut rooms = self.rooms();
        if self.stop.is_cancelled() {
            return None;
        }
        let running = rooms
            .get(&(app, meeting))
            .filter(|mailbox| !mailbox.is_closed());
        if let Some(mailbox) = running {
            return Some(mailbox.clone());
        }
        let (mailbox, letters) = mailbox(&self.queued_bytes);
        rooms.insert((app, meeting), mailbox.clone());
        self.tasks
            .spawn(run(Arc::clone(self), app, meeting, letters));
        Some(mailbox)
    }

    /// An id for a socket of a meeting, and the queue in front of it.
    pub(crate) fn connection(&self, meeting: MeetingId) -> (ConnectionId, Outbox, Inbox) {
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (outbox, inbox) = self.unsent.outbox(meeting, id);
        (id, outbox, inbox)
    }

    /// Waits for a turn to read who is in breakout rooms. Only a few do at once.
    pub(crate) async fn turn_to_read(&self, app: AppId) -> Turn<'_> {
        self.delegation.turn_to_read(app).await
    }

    /// Runs a piece of work that the server's stop waits for.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Removes a room that is over, unless somebody is on the way to it.
    fn retire(&self, app: AppId, meeting: MeetingId, letters: &Receiver) -> bool {
        let mut rooms = self.rooms();
        // One sender is the registry's own; others are only ever cloned under this lock, or from one
        // that is there.
        let alone = letters.is_alone();
        if alone {
            rooms.remove(&(app, meeting));
        }
        alone
    }

    /// Removes a room that takes no letters any more, unless another has taken its place.
    fn forget(&self, app: AppId, meeting: MeetingId) {
        let mut rooms = self.rooms();
        if rooms.get(&(app, meeting)).is_some_and(Mailbox::is_closed) {
            rooms.remove(&(app, meeting));
        }
    }

    fn running(&self, app: AppId, meeting: MeetingId) -> Option<Mailbox> {
        self.rooms().get(&(app, meeting)).cloned()
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, HashMap<(AppId, MeetingId), Mailbox>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the room of a meeting until it is over; when it fails, another takes its place.
async fn run(live: Arc<LiveSessions>, app: AppId, meeting: MeetingId, letters: Receiver) {
    let room = driver::run(Arc::clone(&live), app, meeting, letters);
    // Whatever a panic has left half done is dropped with the room.
    let ended = AssertUnwindSafe(room).catch_unwind().await;
    live.forget(app, meeting);
    match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!(%error, %meeting, "a room has failed"),
        Err(_) => tracing::error!(%meeting, "a room has panicked"),
    }
    let pause = tokio::time::sleep(RETRY);
    if live.stop.run_until_cancelled(pause).await.is_some() {
        // It ends by itself when there is no session.
        drop(live.enter(app, meeting));
    }
}
