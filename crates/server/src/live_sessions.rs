//! The rooms that run in this process: one task for each live meeting, and the way to it.
//!
//! A room starts with the first socket of its meeting, or when the server finds an open session in
//! the records at its start. Its task ends when nobody is connected and no session is live.

mod driver;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use parlor_live::{Answer, Closing, Command, ConnectionId, Newcomer, Request};
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::live_records;
use crate::parlor::Parlor;

/// Letters that may wait for a room. A full box slows its sockets down.
const LETTERS: usize = 1024;
/// Between two signs of life in the records.
const BEAT: Duration = Duration::from_secs(5);
/// How long rooms may take to let go of their sockets when the server stops.
const SUSPEND: Duration = Duration::from_secs(10);

/// What is sent to a socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A binary frame.
    Frame(Bytes),
    /// Close, after what was sent before.
    Close(Closing),
}

/// What is sent to a room's task.
pub(crate) enum Letter {
    Opened {
        connection: ConnectionId,
        who: Box<Newcomer>,
        socket: mpsc::Sender<Outgoing>,
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
    Transport {
        connection: ConnectionId,
        request: Box<Request>,
        outcome: Result<(String, String), String>,
    },
}

/// The way to a room.
pub(crate) type Mailbox = mpsc::Sender<Letter>;

/// The rooms that run.
#[derive(Default)]
pub struct LiveSessions {
    rooms: Mutex<HashMap<(AppId, MeetingId), Mailbox>>,
    connections: AtomicU64,
    tasks: TaskTracker,
    stopping: AtomicBool,
    stop: CancellationToken,
}

impl LiveSessions {
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
        if mailbox.send(letter).await.is_err() {
            return Answer::NoSession;
        }
        answered.await.unwrap_or(Answer::NoSession)
    }

    /// Tells the room of a meeting, if one runs, and does not wait.
    pub fn tell(&self, app: AppId, meeting: MeetingId, command: Command) {
        let Some(mailbox) = self.running(app, meeting) else {
            return;
        };
        let letter = Letter::Command {
            command,
            answer: None,
        };
        if let Err(mpsc::error::TrySendError::Full(letter)) = mailbox.try_send(letter) {
            self.tasks.spawn(async move {
                // The room may be over by then, and then there is nobody to tell.
                let _ = mailbox.send(letter).await;
            });
        }
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
    pub async fn resume(&self, parlor: &Arc<Parlor>) -> Result<(), Error> {
        live_records::beat(parlor).await?;
        for (app, meeting) in live_records::open_sessions(parlor).await? {
            // The room stays by itself, for as long as its session is live.
            drop(self.enter(parlor, app, meeting));
        }
        let (parlor, stop) = (Arc::clone(parlor), self.stop.clone());
        self.tasks.spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            while stop.run_until_cancelled(beats.tick()).await.is_some() {
                if let Err(error) = live_records::beat(&parlor).await {
                    tracing::warn!(%error, "no sign of life could be written");
                }
            }
        });
        Ok(())
    }

    /// Closes every socket so that clients come back, and ends every task; nobody has left.
    pub async fn suspend(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.cancel();
        let mailboxes: Vec<Mailbox> = self.rooms().values().cloned().collect();
        for mailbox in mailboxes {
            let letter = Letter::Command {
                command: Command::Suspend,
                answer: None,
            };
            let _ = mailbox.send(letter).await;
        }
        self.tasks.close();
        if tokio::time::timeout(SUSPEND, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(open = self.tasks.len(), "rooms took too long to stop");
        }
    }

    /// The room of a meeting; it is started if it does not run. `None` when the server stops.
    pub(crate) fn enter(
        &self,
        parlor: &Arc<Parlor>,
        app: AppId,
        meeting: MeetingId,
    ) -> Option<Mailbox> {
        if self.stopping.load(Ordering::SeqCst) {
            return None;
        }
        let mut rooms = self.rooms();
        let mailbox = rooms.entry((app, meeting)).or_insert_with(|| {
            let (mailbox, letters) = mpsc::channel(LETTERS);
            let driver = driver::run(Arc::clone(parlor), app, meeting, letters);
            self.tasks.spawn(driver);
            mailbox
        });
        Some(mailbox.clone())
    }

    /// An id for a socket.
    pub(crate) fn connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a piece of work that the server's stop waits for.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Removes a room that is over, unless somebody is on the way to it.
    fn retire(&self, app: AppId, meeting: MeetingId, letters: &mpsc::Receiver<Letter>) -> bool {
        let mut rooms = self.rooms();
        // One sender is the registry's own; others are only ever cloned under this lock.
        let alone = letters.sender_strong_count() <= 1 && letters.is_empty();
        if alone {
            rooms.remove(&(app, meeting));
        }
        alone
    }

    /// Removes a room that has failed. Whoever is on the way to it finds its box closed.
    fn drop_room(&self, app: AppId, meeting: MeetingId) {
        self.rooms().remove(&(app, meeting));
    }

    fn running(&self, app: AppId, meeting: MeetingId) -> Option<Mailbox> {
        self.rooms().get(&(app, meeting)).cloned()
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, HashMap<(AppId, MeetingId), Mailbox>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
