//! Drives one room: letters in, and what the room wants done, in order.
//!
//! What a room keeps is on the disk before the frames that follow it are sent. While a commit is
//! under way the room goes on; what it wants done meanwhile waits, and all of its records go into
//! the next commit together.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parlor_live::{
    Answer, At, Closing, ConnectionId, Delegated, Input, Monotonic, Output, Pace, Record, Refusal,
    Room, Ticket, error_frame,
};
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delegation::Job;
use super::mailbox::Receiver;
use super::media::MediaDesk;
use super::outbox::Put;
use super::slice::Slice;
use super::unsent::{Frame, MeetingUnsent};
use super::{Letter, Outbox, Outgoing};
use crate::rooms::LiveSessions;
use crate::rooms::records;

/// Letters that are handled before their records are committed together.
const BATCH: usize = 256;
/// Frames that are handed to sockets between two looks at the time.
const SENDS: usize = 256;
/// What the room may want done while a commit is under way: less than a socket's queue holds. With
/// more, letters wait, and sockets with them.
const BACKLOG: usize = 512;
/// The same in bytes of frames and of the lists of who they go to.
const BACKLOG_BYTES: usize = 16 << 20;
/// How long a commit is tried again before the room gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Records that are a slice of their own when they are put together for the database.
const MANY: usize = 256;
/// Between two looks whether a room that is over may go.
const LINGER: Duration = Duration::from_millis(50);

type Commit = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Runs the room of a meeting until it is over.
///
/// # Errors
/// When the meeting cannot be read, or what happened in it cannot be kept. Its sockets were closed,
/// so that clients come back.
pub(super) async fn run(
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    letters: Receiver,
) -> Result<(), Error> {
    let _open = live.metrics.room_opened();
    let (room, waiting) = match open(&live, app, meeting).await {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            turn_away(letters, Closing::Final("this meeting is gone"));
            return Ok(());
        }
        Err(error) => {
            turn_away(letters, Closing::Again("the meeting cannot be read now"));
            return Err(error);
        }
    };
    let driver = Driver::new(&live, (app, meeting), room, letters, waiting);
    driver.run().await
}

/// The room as the records left it, and what it wants done first.
pub(super) async fn open(
    live: &LiveSessions,
    app: AppId,
    meeting: MeetingId,
) -> Result<Option<(Room, Vec<Output>)>, Error> {
    let _turn = live.opening.acquire().await;
    let Some(meeting) = records::meeting(live, app, meeting).await? else {
        return Ok(None);
    };
    // A room that failed here before may have given up a commit that the database still carries out.
    records::settle(live, meeting.id).await?;
    let limits = live.limits.room.clone();
    let past = records::past(live, app, &meeting, limits.chat_held).await?;
    // Written again as it is, so that this process is the last one in which the session was live.
    let session = past.session.clone().map(Record::Session);
    let clock = &live.clock;
    let mut at = At {
        now_ms: clock.now_ms(),
        monotonic: Monotonic::from_ms(clock.monotonic_ms()),
        ids: &mut |ms| clock.new_id(ms),
    };
    let room = Room::open(meeting, limits, past, &mut at);
    Ok(Some((
        room,
        session.map(Output::Keep).into_iter().collect(),
    )))
}

/// Closes the sockets of those who came to a room that cannot go on.
fn turn_away(mut letters: Receiver, closing: Closing) {
    letters.close();
    while let Some(letter) = letters.try_recv() {
        if let Letter::Opened { socket, .. } = letter {
            // A socket whose sender is dropped is closed as well, and comes back.
            let _ = socket.put(Outgoing::Close(closing));
        }
    }
}

struct Driver {
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    room: Room,
    letters: Receiver,
    sockets: HashMap<ConnectionId, Outbox>,
    answers: HashMap<Ticket, oneshot::Sender<Answer>>,
    tickets: u64,
    /// What the room wants done, not begun.
    waiting: Vec<Output>,
    /// Bytes of the frames in it, and of the lists of who they go to.
    waiting_bytes: usize,
    /// What waits for the commit that is under way.
    held: Vec<Output>,
    commit: Option<Commit>,
    unsent: MeetingUnsent,
    media: MediaDesk,
}

impl Driver {
    fn new(
        live: &Arc<LiveSessions>,
        (app, meeting): (AppId, MeetingId),
        room: Room,
        letters: Receiver,
        waiting: Vec<Output>,
    ) -> Self {
        Self {
            live: Arc::clone(live),
            app,
            meeting,
            room,
            letters,
            sockets: HashMap::new(),
            answers: HashMap::new(),
            tickets: 0,
            waiting,
            waiting_bytes: 0,
            held: Vec::new(),
            commit: None,
            unsent: live.unsent.meeting(meeting),
            media: MediaDesk::new(live, app, meeting),
        }
    }

    async fn run(mut self) -> Result<(), Error> {
        let mut slice = Slice::begin();
        self.begin(&mut slice).await;
        loop {
            match self.turn(&mut slice).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
            }
            self.begin(&mut slice).await;
            slice.pause().await;
        }
    }

    /// Waits for the next thing that happens, and handles it. `false` when the room is over.
    ///
    /// # Errors
    /// When what happened in the room cannot be kept.
    async fn turn(&mut self, slice: &mut Slice) -> Result<bool, Error> {
        let over = self.room.is_over() && self.commit.is_none() && self.waiting.is_empty();
        if over && self.may_go() {
            return Ok(false);
        }
        let wake = self.sleep(over);
        let has_place = self.has_place();
        tokio::select! {
            committed = async { self.commit.as_mut().expect("it is there").await }, if self.commit.is_some() => {
                self.commit = None;
                committed?;
                let held = std::mem::take(&mut self.held);
                *slice = Slice::begin();
                self.perform(held, slice).await;
            }
            letter = self.letters.recv(), if has_place => {
                let Some(letter) = letter else { return Ok(false) };
                *slice = Slice::begin();
                self.take(letter);
                for _ in 0..BATCH {
                    if !self.has_place() || slice.is_over() {
                        break;
                    }
                    let Some(letter) = self.letters.try_recv() else { break };
                    self.take(letter);
                }
            }
            input = self.media.next(), if has_place => self.handle(input),
            // What is due is done when the commit has ended: without place there is one.
            () = tokio::time::sleep_until(wake), if has_place => self.handle(Input::Tick),
        }
        Ok(true)
    }

    /// Whether the room may take in more, before what it wants done is.
    fn has_place(&self) -> bool {
        self.waiting.len() < BACKLOG && self.waiting_bytes < BACKLOG_BYTES
    }

    /// The room is over: whether nobody is on the way to it.
    fn may_go(&mut self) -> bool {
        self.live.retire(self.app, self.meeting, &self.letters)
    }

    fn sleep(&self, over: bool) -> Instant {
        let now = Instant::now();
        if over {
            return now + LINGER;
        }
        let passed = Monotonic::from_ms(self.live.clock.monotonic_ms());
        let in_ms = self.room.wake_at().map(|wake| wake.since(passed).max(0));
        let in_ms = in_ms.and_then(|ms| u64::try_from(ms).ok());
        now + Duration::from_millis(in_ms.unwrap_or(60 * 60 * 1000))
    }

    fn take(&mut self, letter: Letter) {
        let input = match letter {
            Letter::Opened {
                connection,
                who,
                socket,
            } => {
                self.sockets.insert(connection, socket);
                Input::Opened { connection, who }
            }
            Letter::Frame { connection, bytes } => Input::Frame { connection, bytes },
            Letter::Closed {
                connection,
                goodbye,
            } => {
                self.sockets.remove(&connection);
                Input::Closed {
                    connection,
                    goodbye,
                }
            }
            Letter::Command { command, answer } => {
                let ticket = Ticket(self.tickets);
                self.tickets += 1;
                if let Some(answer) = answer {
                    self.answers.insert(ticket, answer);
                }
                Input::Command { ticket, command }
            }
            Letter::Media { order, outcome } => Input::Media { order, outcome },
        };
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let clock = &self.live.clock;
        let mut at = At {
            now_ms: clock.now_ms(),
            monotonic: Monotonic::from_ms(clock.monotonic_ms()),
            ids: &mut |ms| clock.new_id(ms),
        };
        let begun = self.waiting.len();
        self.room.handle(&mut at, input, &mut self.waiting);
        for full in self.room.take_refused_messages() {
            self.live.metrics.storage.message_refused(full.as_str());
        }
        for (event, code, count) in self.room.take_refused() {
            self.live.metrics.requests_refused(event, code, count);
        }
        // What the media plane does is no news to anybody until its answer is: it need not wait for
        // the records, and somebody who was put out must not.
        let is_media = |output: &mut Output| matches!(output, Output::Media(_));
        for output in self.waiting.extract_if(begun.., is_media) {
            if let Output::Media(order) = output {
                self.media.carry_out(order);
            }
        }
        self.waiting_bytes += self.waiting[begun..].iter().map(bytes_of).sum::<usize>();
    }

    /// Does what waits, or begins the commit that must come first.
    async fn begin(&mut self, slice: &mut Slice) {
        if self.commit.is_some() || self.waiting.is_empty() {
            return;
        }
        let mut rest = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let first = rest
            .iter()
            .position(|output| matches!(output, Output::Keep(_)));
        let Some(first) = first else {
            return self.perform(rest, slice).await;
        };
        // What comes before the first record need not wait for it.
        let kept = rest.split_off(first);
        self.perform(rest, slice).await;
        let mut records = Vec::new();
        for output in kept {
            match output {
                Output::Keep(record) => records.push(record),
                other => self.held.push(other),
            }
        }
        let (live, app, meeting) = (Arc::clone(&self.live), self.app, self.meeting);
        let latest_ms = self.room.latest_ms();
        self.commit = Some(Box::pin(keep(live, app, meeting, latest_ms, records)));
    }

    async fn perform(&mut self, outputs: Vec<Output>, slice: &mut Slice) {
        for output in outputs {
            slice.pause().await;
            match output {
                Output::Send { to, frame, pace } => {
                    let (frame, slow) = self.unsent.frame(frame);
                    self.live.metrics.sockets_overflowed(slow);
                    for some in to.chunks(SENDS) {
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
                    // A socket that takes no more is closed by the loss of its sender.
                    if let Some(socket) = self.sockets.remove(&connection) {
                        let _ = socket.put(Outgoing::Close(closing));
                    }
                }
                Output::Keep(_) => {}
                Output::Media(order) => self.media.carry_out(order),
                Output::Answer(ticket, answer) => {
                    if let Some(asking) = self.answers.remove(&ticket) {
                        // Who asked may have gone.
                        let _ = asking.send(answer);
                    }
                }
                Output::Delegate(task) => self.delegate(*task),
                Output::TellConnected { parent } => {
                    self.live.tell_family(self.app, parent);
                }
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, frame: &Frame, pace: Pace) {
        let Some(socket) = self.sockets.get(&connection) else {
            return;
        };
        // A socket that does not read is closed without a goodbye, so its client comes back and asks
        // for everything anew.
        match socket.put(Outgoing::Frame(frame.clone(), pace)) {
            Put::Taken => return,
            Put::Overflowed => self.live.metrics.sockets_overflowed(1),
            Put::Gone => {}
        }
        self.sockets.remove(&connection);
    }

    /// Hands on what only the server can do.
    fn delegate(&mut self, task: Delegated) {
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
        let Err(job) = self.live.delegation.take(&self.live, job) else {
            return;
        };
        self.live.metrics.delegated_refused();
        let refusal = Refusal::new(429, "too many requests of yours wait: slow down");
        let frame = error_frame(job.task.request.id.as_deref(), &refusal);
        let (frame, slow) = self.unsent.frame(frame);
        self.live.metrics.sockets_overflowed(slow);
        self.send(connection, &frame, Pace::Now);
    }

    /// Nothing that was not kept has been told to anybody: clients come back to a room that is read
    /// from the records.
    fn give_up(mut self) {
        let closing = Closing::Again("the meeting is read anew");
        for (_, socket) in self.sockets.drain() {
            let _ = socket.put(Outgoing::Close(closing));
        }
        turn_away(self.letters, closing);
    }
}

/// What an output takes while it waits, in bytes.
fn bytes_of(output: &Output) -> usize {
    match output {
        Output::Send { to, frame, .. } => frame.len() + size_of_val(to.as_slice()),
        _ => 0,
    }
}

/// Commits, and goes on trying while the database is away.
pub(super) async fn keep(
    live: Arc<LiveSessions>,
    app: AppId,
    meeting: MeetingId,
    latest_ms: i64,
    records: Vec<Record>,
) -> Result<(), Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    if records.len() > MANY {
        tokio::task::yield_now().await;
    }
    loop {
        // A row was not written before what it tells of, though the clock was set back.
        let now_ms = live.clock.now_ms().max(latest_ms);
        let unit = records::unit(app, meeting, now_ms, &records);
        // A database that hangs is given up at the same time as one that refuses.
        let kept = tokio::time::timeout_at(started + PATIENCE, live.db.commit(unit)).await;
        let late = |_| Err(Error::Unavailable("no answer in time".to_owned()));
        match kept.unwrap_or_else(late) {
            Ok(_) => return Ok(()),
            // Records are whole, so that keeping them twice is keeping them once.
            Err(Error::Unavailable(_)) if started.elapsed() < PATIENCE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
