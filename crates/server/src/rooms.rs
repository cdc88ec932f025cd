//! The rooms that run in this process: one task per live meeting, and the registry of their
//! mailboxes.
//!
//! A room starts when the first socket of its meeting opens, or at server start if the database has
//! an open session for it. Its task ends when no peer is connected and no session is live. A room
//! that fails is reloaded from the database after a short delay, even if no client reconnects,
//! because its session must end eventually.

mod app_semaphore;
pub(crate) mod chat_quota;
mod delegation;
mod driver;
mod mailbox;
mod media;
pub(crate) mod notifier;
mod outbox;
pub mod records;
#[cfg(test)]
mod tests;
mod time_slice;
mod unsent;

pub(crate) use mailbox::{Mailbox, OpenError, SocketSender};
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
    Answer, Command, ConnectionId, DelegatedRequest, MediaAnswer, OrderId, PeerProfile, Refusal,
    error_frame,
};
use parlor_protocol::ids::{AppId, MeetingId, PeerId};
use parlor_sfu::Media;
use parlor_store::{Db, Error};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::app_semaphore::AppPermit;
use self::chat_quota::ChatStates;
use self::delegation::Delegation;
use self::mailbox::{Receiver, mailbox};
use self::notifier::RosterNotifier;
use self::unsent::Unsent;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::limits::Limits;
use crate::metrics::{ByteGauge, Metrics};

/// Interval between heartbeats written to the database.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long rooms may take to close their sockets when the server stops.
const SUSPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Delay before a failed room is reloaded.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How long a browser takes to detect that its media connections are gone. It checks them every 2.5
/// seconds and notifies the SDK, which waits another two seconds; the cleanup that follows must not
/// overlap with the new socket. If the socket reconnects earlier, the client still considers its
/// old transports valid, publishes on them, is rejected, and leaves camera and microphone off
/// (docs/spec/media.md 5.5).
pub(crate) const MEDIA_LOSS_DELAY: Duration = Duration::from_secs(5);
/// The same delay in Firefox, which checks every five seconds, plus or minus 20 %.
pub(crate) const FIREFOX_MEDIA_LOSS_DELAY: Duration = Duration::from_millis(8500);
/// How long a room may take to answer a command that blocks other work: as long as a commit may
/// take.
const COMMAND_TIMEOUT: Duration = driver::COMMIT_TIMEOUT;
/// Maximum number of rooms that are loaded from the database at the same time.
const CONCURRENT_LOADS: usize = 32;

/// A message in a room's mailbox.
#[derive(Debug)]
pub(crate) enum RoomMessage {
    Opened {
        connection: ConnectionId,
        profile: Box<PeerProfile>,
        socket: Outbox,
    },
    Frame {
        connection: ConnectionId,
        bytes: Bytes,
    },
    Closed {
        connection: ConnectionId,
        leaving: bool,
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

/// The running rooms.
pub struct LiveSessions {
    rooms: Mutex<HashMap<(AppId, MeetingId), Mailbox>>,
    connections: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
    loading: Semaphore,
    resumed: OnceLock<Resumed>,
    evicted: Mutex<HashMap<(MeetingId, PeerId), Instant>>,
    queued_bytes: ByteGauge,
    unsent: Arc<Unsent>,
    delegation: Delegation,
    pub(crate) db: Db,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// This process's time-ordered id in the `servers` table.
    pub(crate) process: Uuid,
    /// The disk of the database, if the database is local to this server.
    pub(crate) disk: Option<Disk>,
    pub(crate) media: OnceLock<Media>,
    /// The chat storage state that was last sent to the rooms.
    pub(crate) chat_states: ChatStates,
    pub(crate) notifier: RosterNotifier,
    delegation_handler: OnceLock<Box<dyn DelegationHandler>>,
}

/// Work that rooms delegate because it needs the database or other rooms.
pub(crate) trait DelegationHandler: Send + Sync {
    /// Performs a task that the room has already authorized.
    fn perform<'a>(
        &'a self,
        app: AppId,
        meeting: MeetingId,
        task: &'a DelegatedRequest,
    ) -> BoxFuture<'a, DelegationResult>;

    /// Sends the current roster to everyone in a meeting and its breakout rooms, in the background.
    fn notify_breakout_rooms(&self, app: AppId, parent: MeetingId);
}

/// The result of a delegated task.
#[derive(Default)]
pub(crate) struct DelegationResult {
    /// The reply frame for the requester.
    pub(crate) reply: Option<Bytes>,
    /// Commands to send to rooms after the reply.
    pub(crate) commands: Vec<(MeetingId, Command)>,
}

impl From<Bytes> for DelegationResult {
    fn from(reply: Bytes) -> Self {
        Self {
            reply: Some(reply),
            commands: Vec::new(),
        }
    }
}

/// The meetings with an open session at server start.
struct Resumed {
    meetings: HashSet<MeetingId>,
    since: Instant,
}

impl LiveSessions {
    /// Creates a registry without running rooms.
    pub(crate) fn new(
        (db, clock, metrics): (Db, Arc<Clock>, Arc<Metrics>),
        limits: Limits,
        process: Uuid,
        disk: Option<Disk>,
    ) -> Self {
        let (max, max_per_meeting) = (limits.socket_bytes, limits.socket_bytes_per_meeting);
        Self {
            rooms: Mutex::default(),
            connections: AtomicU64::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            loading: Semaphore::new(CONCURRENT_LOADS),
            resumed: OnceLock::new(),
            evicted: Mutex::default(),
            queued_bytes: metrics.mailbox_bytes(),
            unsent: Unsent::new(max, max_per_meeting, metrics.unsent_bytes()),
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
            delegation_handler: OnceLock::new(),
        }
    }

    /// Sets the handler of delegated tasks. Later calls have no effect.
    pub(crate) fn set_delegation_handler(&self, handler: impl DelegationHandler + 'static) {
        let _ = self.delegation_handler.set(Box::new(handler));
    }

    async fn delegate(
        &self,
        app: AppId,
        meeting: MeetingId,
        task: &DelegatedRequest,
    ) -> DelegationResult {
        if let Some(handler) = self.delegation_handler.get() {
            handler.perform(app, meeting, task).await
        } else {
            let refusal = Refusal::new(501, "this server has no breakout rooms");
            error_frame(task.request.id.as_deref(), &refusal).into()
        }
    }

    fn notify_breakout_rooms(&self, app: AppId, parent: MeetingId) {
        if let Some(handler) = self.delegation_handler.get() {
            handler.notify_breakout_rooms(app, parent);
        }
    }

    /// Sends a command to the room of a meeting and waits for the answer. Returns
    /// [`Answer::NoSession`] if no room runs.
    pub async fn command(&self, app: AppId, meeting: MeetingId, command: Command) -> Answer {
        let Some(mailbox) = self.mailbox(app, meeting) else {
            return Answer::NoSession;
        };
        let (answer, answered) = oneshot::channel();
        let message = RoomMessage::Command {
            command,
            answer: Some(answer),
        };
        if mailbox.send(message).is_err() {
            return Answer::NoSession;
        }
        // A finished room must not be kept alive by this handle.
        drop(mailbox);
        answered.await.unwrap_or(Answer::NoSession)
    }

    /// Like [`Self::command`], with a timeout, for callers that block other work.
    ///
    /// # Errors
    /// When the room does not answer in time. It still executes the command later.
    pub(crate) async fn command_with_timeout(
        &self,
        app: AppId,
        meeting: MeetingId,
        command: Command,
    ) -> Result<Answer, Error> {
        let answer = timeout(COMMAND_TIMEOUT, self.command(app, meeting, command)).await;
        answer.map_err(|_| Error::Unavailable("the room did not answer in time".to_owned()))
    }

    /// Sends a command to the room of a meeting, if one runs, without waiting. A push to its peers
    /// is dropped if the room has fallen far behind.
    pub fn send(&self, app: AppId, meeting: MeetingId, command: Command) {
        let Some(mailbox) = self.mailbox(app, meeting) else {
            return;
        };
        let is_push = matches!(command, Command::Push { .. });
        let message = RoomMessage::Command {
            command,
            answer: None,
        };
        if !is_push {
            // If the room has ended, there is nothing to do.
            let _ = mailbox.send(message);
        } else if !mailbox.try_send(message) {
            self.metrics.push_dropped();
        }
    }

    /// Sends a command to every running room of an app, without waiting.
    pub fn send_to_app(&self, app: AppId, command: &Command) {
        let of_app = |(owner, meeting): &(AppId, MeetingId)| (*owner == app).then_some(*meeting);
        let meetings: Vec<MeetingId> = self.rooms().keys().filter_map(of_app).collect();
        for meeting in meetings {
            self.send(app, meeting, command.clone());
        }
    }

    /// Whether the room of a meeting runs or is being loaded from the database.
    pub(crate) fn is_running(&self, app: AppId, meeting: MeetingId) -> bool {
        self.rooms().contains_key(&(app, meeting))
    }

    /// The apps that have a running room.
    pub(crate) fn apps(&self) -> HashSet<AppId> {
        self.rooms().keys().map(|(app, _)| *app).collect()
    }

    /// Waits until a reconnecting client has detected that its transports are gone, after a server
    /// restart or after [`Self::set_evicted`]. `delay` is how long its browser needs for that.
    pub(crate) async fn wait_for_media_loss_detection(
        &self,
        meeting: MeetingId,
        peer: PeerId,
        delay: Duration,
    ) {
        let resumed = self.resumed.get();
        let resumed = resumed.filter(|resumed| resumed.meetings.contains(&meeting));
        let evicted = self.evicted().get(&(meeting, peer)).copied();
        let since = resumed.map(|resumed| resumed.since).max(evicted);
        if let Some(since) = since {
            sleep_until(since + delay).await;
        }
    }

    /// Records that the transports of a disconnected peer were freed.
    pub(crate) fn set_evicted(&self, meeting: MeetingId, peer: PeerId) {
        let mut evicted = self.evicted();
        // Cleaning up on every call would be slow when all peers of a room are evicted at once.
        if evicted.len().is_power_of_two() {
            evicted.retain(|_, since| since.elapsed() < FIREFOX_MEDIA_LOSS_DELAY);
        }
        evicted.insert((meeting, peer), Instant::now());
    }

    fn evicted(&self) -> MutexGuard<'_, HashMap<(MeetingId, PeerId), Instant>> {
        self.evicted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of running rooms.
    pub fn count(&self) -> usize {
        self.rooms().len()
    }

    /// Starts the rooms of the sessions that were open when the server stopped, and starts the
    /// heartbeat.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resume(self: &Arc<Self>) -> Result<(), Error> {
        records::heartbeat(self).await?;
        let sessions = records::open_sessions(self).await?;
        let _ = self.resumed.set(Resumed {
            meetings: sessions.iter().map(|(_, meeting)| *meeting).collect(),
            since: Instant::now(),
        });
        for (app, meeting) in sessions {
            // The room keeps running by itself for as long as its session is live.
            drop(self.enter(app, meeting));
        }
        let (live, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                if let Err(error) = records::heartbeat(&live).await {
                    tracing::warn!(%error, "the heartbeat could not be written");
                }
            }
        });
        Ok(())
    }

    /// Closes every socket so that clients reconnect, and ends every task. Peers do not count as
    /// having left.
    pub async fn suspend(&self) {
        let mailboxes: Vec<Mailbox> = {
            let rooms = self.rooms();
            // Under the lock, so that no room starts after this.
            self.stop.cancel();
            rooms.values().cloned().collect()
        };
        for mailbox in mailboxes {
            let message = RoomMessage::Command {
                command: Command::Suspend,
                answer: None,
            };
            let _ = mailbox.send(message);
        }
        self.tasks.close();
        if timeout(SUSPEND_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "rooms took too long to stop");
        }
        // Peers that do not reconnect count as present until now.
        if let Err(error) = records::heartbeat(self).await {
            tracing::warn!(%error, "the last heartbeat could not be written");
        }
    }

    /// Returns the mailbox of a meeting's room, starting the room if needed. Returns `None` if the
    /// server is stopping.
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
        let (mailbox, receiver) = mailbox(&self.queued_bytes);
        rooms.insert((app, meeting), mailbox.clone());
        self.tasks
            .spawn(run(Arc::clone(self), app, meeting, receiver));
        Some(mailbox)
    }

    /// Allocates a connection id for a socket of a meeting, with its outgoing queue.
    pub(crate) fn connection(&self, meeting: MeetingId) -> (ConnectionId, Outbox, Inbox) {
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (outbox, inbox) = self.unsent.outbox(meeting, id);
        (id, outbox, inbox)
    }

    /// Waits for a permit to read the roster of breakout rooms. Only a few run concurrently.
    pub(crate) async fn read_permit(&self, app: AppId) -> AppPermit<'_> {
        self.delegation.read_permit(app).await
    }

    /// Spawns a task that server shutdown waits for.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Removes a finished room, unless another handle to its mailbox exists.
    fn retire(&self, app: AppId, meeting: MeetingId, receiver: &Receiver) -> bool {
        let mut rooms = self.rooms();
        // The registry itself holds one sender; others are cloned only under this lock, or from an
        // existing clone.
        let alone = receiver.is_alone();
        if alone {
            rooms.remove(&(app, meeting));
        }
        alone
    }

    /// Removes a room whose mailbox is closed, unless a new one has replaced it.
    fn forget(&self, app: AppId, meeting: MeetingId) {
        let mut rooms = self.rooms();
        if rooms.get(&(app, meeting)).is_some_and(Mailbox::is_closed) {
            rooms.remove(&(app, meeting));
        }
    }

    fn mailbox(&self, app: AppId, meeting: MeetingId) -> Option<Mailbox> {
        self.rooms().get(&(app, meeting)).cloned()
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, HashMap<(AppId, MeetingId), Mailbox>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the room of a meeting until it ends. Restarts it after a failure.
async fn run(live: Arc<LiveSessions>, app: AppId, meeting: MeetingId, receiver: Receiver) {
    let room = driver::run(Arc::clone(&live), app, meeting, receiver);
    // State left inconsistent by a panic is dropped with the room.
    let ended = AssertUnwindSafe(room).catch_unwind().await;
    live.forget(app, meeting);
    match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!(%error, %meeting, "a room failed"),
        Err(_) => tracing::error!(%meeting, "a room panicked"),
    }
    let pause = tokio::time::sleep(RETRY_DELAY);
    if live.stop.run_until_cancelled(pause).await.is_some() {
        // Ends by itself if there is no session.
        drop(live.enter(app, meeting));
    }
}
