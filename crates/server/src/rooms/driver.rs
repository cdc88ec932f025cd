//! Drives one room: feeds it the messages of its mailbox and performs its outputs in order.
//!
//! Records are committed before the frames that follow them are sent. The room keeps running during
//! a commit. Its outputs are held back until then, and all of their records go into the next
//! commit.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parlor_live::{
    Answer, CloseReason, ConnectionId, DelegatedRequest, Input, InputContext, Monotonic, Output,
    Pace, Record, Refusal, Room, Ticket, error_frame,
};
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delegation::Job;
use super::mailbox::Receiver;
use super::media::MediaClient;
use super::outbox::SendStatus;
use super::time_slice::TimeSlice;
use super::unsent::{Frame, MeetingUnsent};
use super::{Outbox, Outgoing, RoomMessage};
use crate::rooms::LiveSessions;
use crate::rooms::records;

/// Maximum number of messages that are handled before their records are committed together.
const MESSAGES_PER_BATCH: usize = 256;
/// Number of frames that are handed to sockets between two checks of the time slice.
const SENDS_PER_CHECK: usize = 256;
/// Maximum number of outputs that may be pending during a commit: less than a socket's queue holds.
/// Beyond it, the mailbox is not read, which applies backpressure to sockets.
const BACKLOG: usize = 512;
/// Maximum bytes of pending frames and their recipient lists.
const BACKLOG_BYTES: usize = 16 << 20;
/// How long a commit is retried before the room gives up.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of records from which building the database unit counts as a separate time slice.
const LARGE_COMMIT: usize = 256;
/// Interval between checks whether a finished room may be removed.
const RETIRE_INTERVAL: Duration = Duration::from_millis(50);

type Commit = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Runs the room of a meeting until it ends.
///
/// # Errors
/// When the meeting cannot be loaded, or a commit fails. Its sockets were closed, so that clients
/// reconnect.
pub(super) async fn run(
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    receiver: Receiver,
) -> Result<(), Error> {
    let _open = live.metrics.room_opened();
    let (room, pending) = match open(&live, app, meeting).await {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            close_sockets(receiver, CloseReason::Final("this meeting was deleted"));
            return Ok(());
        }
        Err(error) => {
            close_sockets(
                receiver,
                CloseReason::Reconnect("the meeting cannot be loaded"),
            );
            return Err(error);
        }
    };
    let driver = Driver::new(&live, (app, meeting), room, receiver, pending);
    driver.run().await
}

/// Loads a room from the database, with its first outputs.
pub(super) async fn open(
    live: &LiveSessions,
    app: AppId,
    meeting: MeetingId,
) -> Result<Option<(Room, Vec<Output>)>, Error> {
    let _permit = live.loading.acquire().await;
    let Some(meeting) = records::meeting(live, app, meeting).await? else {
        return Ok(None);
    };
    // A room that failed here earlier may have abandoned a commit that the database still executes.
    records::settle(live, meeting.id).await?;
    let limits = live.limits.room.clone();
    let persisted = records::load_state(live, app, &meeting, limits.chat_held).await?;
    // Rewritten unchanged, to record this process as the last one in which the session was live.
    let session = persisted.session.clone().map(Record::Session);
    let clock = &live.clock;
    let mut at = InputContext {
        now_ms: clock.now_ms(),
        monotonic: Monotonic::from_ms(clock.monotonic_ms()),
        ids: &mut |ms| clock.new_id(ms),
    };
    let room = Room::open(meeting, limits, persisted, &mut at);
    Ok(Some((
        room,
        session.map(Output::Persist).into_iter().collect(),
    )))
}

/// Closes the sockets that were opened to a room that cannot continue.
fn close_sockets(mut receiver: Receiver, closing: CloseReason) {
    receiver.close();
    while let Some(message) = receiver.try_recv() {
        if let RoomMessage::Opened { socket, .. } = message {
            // A socket whose sender is dropped is closed as well, and its client reconnects.
            let _ = socket.send(Outgoing::Close(closing));
        }
    }
}

struct Driver {
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    room: Room,
    receiver: Receiver,
    sockets: HashMap<ConnectionId, Outbox>,
    answers: HashMap<Ticket, oneshot::Sender<Answer>>,
    tickets: u64,
    /// Outputs that were not performed yet.
    pending: Vec<Output>,
    /// Bytes of the frames in `pending`, and of their recipient lists.
    pending_bytes: usize,
    /// Outputs that wait for the commit in progress.
    held: Vec<Output>,
    commit: Option<Commit>,
    unsent: MeetingUnsent,
    media: MediaClient,
}

impl Driver {
    fn new(
        live: &Arc<LiveSessions>,
        (app, meeting): (AppId, MeetingId),
        room: Room,
        receiver: Receiver,
        pending: Vec<Output>,
    ) -> Self {
        Self {
            live: Arc::clone(live),
            app,
            meeting,
            room,
            receiver,
            sockets: HashMap::new(),
            answers: HashMap::new(),
            tickets: 0,
            pending,
            pending_bytes: 0,
            held: Vec::new(),
            commit: None,
            unsent: live.unsent.meeting(meeting),
            media: MediaClient::new(live, app, meeting),
        }
    }

    async fn run(mut self) -> Result<(), Error> {
        let mut slice = TimeSlice::begin();
        self.begin(&mut slice).await;
        loop {
            match self.step(&mut slice).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.fail();
                    return Err(error);
                }
            }
            self.begin(&mut slice).await;
            slice.pause().await;
        }
    }

    /// Waits for the next event and handles it. Returns `false` if the room has ended.
    ///
    /// # Errors
    /// When a commit fails.
    async fn step(&mut self, slice: &mut TimeSlice) -> Result<bool, Error> {
        let over = self.room.is_finished() && self.commit.is_none() && self.pending.is_empty();
        if over && self.try_retire() {
            return Ok(false);
        }
        let wake = self.wake_deadline(over);
        let has_capacity = self.has_capacity();
        tokio::select! {
            committed = async { self.commit.as_mut().expect("checked by the guard").await }, if self.commit.is_some() => {
                self.commit = None;
                committed?;
                let held = std::mem::take(&mut self.held);
                *slice = TimeSlice::begin();
                self.perform(held, slice).await;
            }
            message = self.receiver.recv(), if has_capacity => {
                let Some(message) = message else { return Ok(false) };
                *slice = TimeSlice::begin();
                self.receive(message);
                for _ in 0..MESSAGES_PER_BATCH {
                    if !self.has_capacity() || slice.is_over() {
                        break;
                    }
                    let Some(message) = self.receiver.try_recv() else { break };
                    self.receive(message);
                }
            }
            input = self.media.next(), if has_capacity => self.handle(input),
            // Timers run after the commit has ended: without capacity there is one in progress.
            () = tokio::time::sleep_until(wake), if has_capacity => self.handle(Input::Tick),
        }
        Ok(true)
    }

    /// Whether the room may accept more input before its pending outputs are performed.
    fn has_capacity(&self) -> bool {
        self.pending.len() < BACKLOG && self.pending_bytes < BACKLOG_BYTES
    }

    /// Removes the finished room, unless a message may still reach it.
    fn try_retire(&mut self) -> bool {
        self.live.retire(self.app, self.meeting, &self.receiver)
    }

    fn wake_deadline(&self, over: bool) -> Instant {
        let now = Instant::now();
        if over {
            return now + RETIRE_INTERVAL;
        }
        let passed = Monotonic::from_ms(self.live.clock.monotonic_ms());
        let in_ms = self
            .room
            .next_deadline()
            .map(|wake| wake.since(passed).max(0));
        let in_ms = in_ms.and_then(|ms| u64::try_from(ms).ok());
        now + Duration::from_millis(in_ms.unwrap_or(60 * 60 * 1000))
    }

    fn receive(&mut self, message: RoomMessage) {
        let input = match message {
            RoomMessage::Opened {
                connection,
                profile,
                socket,
            } => {
                self.sockets.insert(connection, socket);
                Input::Opened {
                    connection,
                    profile,
                }
            }
            RoomMessage::Frame { connection, bytes } => Input::Frame { connection, bytes },
            RoomMessage::Closed {
                connection,
                leaving,
            } => {
                self.sockets.remove(&connection);
                Input::Closed {
                    connection,
                    leaving,
                }
            }
            RoomMessage::Command { command, answer } => {
                let ticket = Ticket(self.tickets);
                self.tickets += 1;
                if let Some(answer) = answer {
                    self.answers.insert(ticket, answer);
                }
                Input::Command { ticket, command }
            }
            RoomMessage::Media { order, outcome } => Input::Media { order, outcome },
        };
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let clock = &self.live.clock;
        let mut at = InputContext {
            now_ms: clock.now_ms(),
            monotonic: Monotonic::from_ms(clock.monotonic_ms()),
            ids: &mut |ms| clock.new_id(ms),
        };
        let begun = self.pending.len();
        self.room.handle(&mut at, input, &mut self.pending);
        for full in self.room.take_refused_messages() {
            self.live.metrics.storage.message_refused(full.as_str());
        }
        for (event, code, count) in self.room.take_refused() {
            self.live.metrics.requests_refused(event, code, count);
        }
        // Orders to the media plane are not visible to clients until they are answered: they need
        // not wait for the commit, and evicting a peer must not.
        let is_media = |output: &mut Output| matches!(output, Output::Media(_));
        for output in self.pending.extract_if(begun.., is_media) {
            if let Output::Media(order) = output {
                self.media.start(order);
            }
        }
        self.pending_bytes += self.pending[begun..].iter().map(bytes_of).sum::<usize>();
    }

    /// Performs the pending outputs, or begins the commit that must come first.
    async fn begin(&mut self, slice: &mut TimeSlice) {
        if self.commit.is_some() || self.pending.is_empty() {
            return;
        }
        let mut rest = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let first = rest
            .iter()
            .position(|output| matches!(output, Output::Persist(_)));
        let Some(first) = first else {
            return self.perform(rest, slice).await;
        };
        // Outputs before the first record need not wait for it.
        let kept = rest.split_off(first);
        self.perform(rest, slice).await;
        let mut records = Vec::new();
        for output in kept {
            match output {
                Output::Persist(record) => records.push(record),
                other => self.held.push(other),
            }
        }
        let (live, app, meeting) = (Arc::clone(&self.live), self.app, self.meeting);
        let latest_ms = self.room.latest_ms();
        self.commit = Some(Box::pin(commit(live, app, meeting, latest_ms, records)));
    }

    async fn perform(&mut self, outputs: Vec<Output>, slice: &mut TimeSlice) {
        for output in outputs {
            slice.pause().await;
            match output {
                Output::Send { to, frame, pace } => {
                    let (frame, slow) = self.unsent.frame(frame);
                    self.live.metrics.sockets_overflowed(slow);
                    for some in to.chunks(SENDS_PER_CHECK) {
                        for connection in some {
                            self.send(*connection, &frame, pace);
                        }
                        slice.pause().await;
                    }
                }
                Output::Close {
                    connection,
                    closing,
                } => {
                    // If the queue does not accept it, dropping the sender closes the socket.
                    if let Some(socket) = self.sockets.remove(&connection) {
                        let _ = socket.send(Outgoing::Close(closing));
                    }
                }
                Output::Persist(_) => {}
                Output::Media(order) => self.media.start(order),
                Output::Answer(ticket, answer) => {
                    if let Some(asking) = self.answers.remove(&ticket) {
                        // The caller may have gone.
                        let _ = asking.send(answer);
                    }
                }
                Output::Delegate(task) => self.delegate(*task),
                Output::NotifyBreakoutRooms { parent } => {
                    self.live.notify_breakout_rooms(self.app, parent);
                }
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, frame: &Frame, pace: Pace) {
        let Some(socket) = self.sockets.get(&connection) else {
            return;
        };
        // A slow socket is closed without a close frame, so its client reconnects and requests the
        // whole state again.
        match socket.send(Outgoing::Frame(frame.clone(), pace)) {
            SendStatus::Queued => return,
            SendStatus::Overflowed => self.live.metrics.sockets_overflowed(1),
            SendStatus::Closed => {}
        }
        self.sockets.remove(&connection);
    }

    /// Queues a request that only the server can perform.
    fn delegate(&mut self, task: DelegatedRequest) {
        let connection = task.connection;
        let Some(socket) = self.sockets.get(&connection) else {
            return;
        };
        let job = Box::new(Job {
            app: self.app,
            meeting: self.meeting,
            task,
            reply: socket.reply_sender(),
            unsent: self.unsent.clone(),
        });
        let Err(job) = self.live.delegation.enqueue(&self.live, job) else {
            return;
        };
        self.live.metrics.delegated_refused();
        let refusal = Refusal::new(429, "too many of your requests are queued: slow down");
        let frame = error_frame(job.task.request.id.as_deref(), &refusal);
        let (frame, slow) = self.unsent.frame(frame);
        self.live.metrics.sockets_overflowed(slow);
        self.send(connection, &frame, Pace::Now);
    }

    /// Closes every socket. Clients have received nothing that was not committed, and reconnect to
    /// a room that is loaded from the database.
    fn fail(mut self) {
        let closing = CloseReason::Reconnect("the meeting is being reloaded");
        for (_, socket) in self.sockets.drain() {
            let _ = socket.send(Outgoing::Close(closing));
        }
        close_sockets(self.receiver, closing);
    }
}

/// Size of an output while it is pending, in bytes.
fn bytes_of(output: &Output) -> usize {
    match output {
        Output::Send { to, frame, .. } => frame.len() + size_of_val(to.as_slice()),
        _ => 0,
    }
}

/// Commits records, retrying while the database is unavailable.
pub(super) async fn commit(
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    latest_ms: i64,
    records: Vec<Record>,
) -> Result<(), Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    if records.len() > LARGE_COMMIT {
        tokio::task::yield_now().await;
    }
    loop {
        // A row's timestamp must not precede the event that it describes, even if the clock was set
        // back.
        let now_ms = live.clock.now_ms().max(latest_ms);
        let unit = records::unit(app, meeting, now_ms, &records);
        // The deadline is the same for a database that hangs and one that rejects the commit.
        let kept = tokio::time::timeout_at(started + COMMIT_TIMEOUT, live.db.commit(unit)).await;
        let late = |_| {
            Err(Error::Unavailable(
                "the database did not answer in time".to_owned(),
            ))
        };
        match kept.unwrap_or_else(late) {
            Ok(_) => return Ok(()),
            // Records are whole, so committing them twice is idempotent.
            Err(Error::Unavailable(_)) if started.elapsed() < COMMIT_TIMEOUT => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
