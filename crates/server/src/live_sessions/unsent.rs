//! What waits for all sockets together to be sent: bounded for each meeting and for the server.
//!
//! A frame that goes to many counts once, for as long as the last of them has it. When three quarters
//! of a meeting's bound wait, its room takes no more requests, so that clients which come all at once
//! are answered one after the other. Sockets are closed then that do not take what waits for them, and
//! those of a person for whom much waits. When a bound is passed nevertheless, sockets are closed until
//! a quarter of it is free again: such ones first, and then those with the most unsent bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parlor_live::ConnectionId;
use parlor_protocol::ids::{MeetingId, ParticipantId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::outbox::{Inbox, Outbox, Queue, ends};
use crate::metrics::Level;

/// The part of a meeting's bound that may wait for one person while the meeting is crowded: an eighth.
const PERSONS: usize = 8;

/// A frame that counts among the unsent ones until it is dropped everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    #[expect(dead_code, reason = "it is held, and let go with the frame")]
    counted: Arc<Counted>,
}

impl Frame {
    /// What is sent.
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Unsent bytes of a frame.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    meeting: Arc<Account>,
    unsent: Arc<Unsent>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meeting.bytes.take(self.bytes);
        self.unsent.bytes.take(self.bytes);
        if !self.meeting.is_crowded() {
            self.meeting.relieved.notify_waiters();
        }
    }
}

/// Unsent bytes of a meeting.
#[derive(Debug)]
struct Account {
    bytes: Level,
    most: usize,
    /// Told when the meeting is not crowded any more.
    relieved: Notify,
}

impl Account {
    fn is_crowded(&self) -> bool {
        self.bytes.now() > three_quarters(self.most)
    }
}

fn three_quarters(most: usize) -> usize {
    most / 4 * 3
}

/// A socket's queue, and whose it is.
#[derive(Debug, Clone)]
struct Socket {
    meeting: MeetingId,
    person: ParticipantId,
    queue: Arc<Queue>,
}

/// Unsent bytes of a socket.
struct Waiting {
    bytes: usize,
    /// It does not take them, or its person has more than a share.
    is_to_blame: bool,
    queue: Arc<Queue>,
}

/// What waits for the sockets of the server, and how much it may be.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes: Level,
    most: usize,
    most_of_meeting: usize,
    sockets: Mutex<HashMap<ConnectionId, Socket>>,
}

/// What waits for the sockets of one meeting.
#[derive(Debug, Clone)]
pub(crate) struct MeetingUnsent {
    id: MeetingId,
    account: Arc<Account>,
    unsent: Arc<Unsent>,
}

impl Unsent {
    /// Bounds on the unsent bytes of the server and of each meeting; 0 is no bound.
    pub(crate) fn new(most: usize, most_of_meeting: usize, bytes: Level) -> Arc<Self> {
        let bound = |most: usize| if most == 0 { usize::MAX } else { most };
        Arc::new(Self {
            bytes,
            most: bound(most),
            most_of_meeting: bound(most_of_meeting),
            sockets: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn level(&self) -> &Level {
        &self.bytes
    }

    /// What waits in a meeting: nothing yet.
    pub(crate) fn meeting(self: &Arc<Self>, id: MeetingId) -> MeetingUnsent {
        MeetingUnsent {
            id,
            account: Arc::new(Account {
                bytes: Level::default(),
                most: self.most_of_meeting,
                relieved: Notify::new(),
            }),
            unsent: Arc::clone(self),
        }
    }

    /// The queue in front of a person's socket.
    pub(crate) fn outbox(
        self: &Arc<Self>,
        meeting: MeetingId,
        person: ParticipantId,
        connection: ConnectionId,
    ) -> (Outbox, Inbox) {
        let (queue, outbox, inbox) = ends(connection, self);
        let socket = Socket {
            meeting,
            person,
            queue,
        };
        self.sockets().insert(connection, socket);
        (outbox, inbox)
    }

    /// A socket is gone.
    pub(super) fn forget(&self, connection: ConnectionId) {
        self.sockets().remove(&connection);
    }

    /// Closes sockets until `bytes` is three quarters of `most`: those that are to blame for it, the
    /// ones with the most unsent bytes first, and then the others. How many there were.
    fn close_slowest(&self, bytes: &Level, most: usize, of: Option<MeetingId>) -> usize {
        close(bytes, most, self.waiting(most, of))
    }

    /// Sockets for which something waits, in the order in which they are closed.
    fn waiting(&self, most: usize, of: Option<MeetingId>) -> Vec<Waiting> {
        let now = Instant::now();
        let sockets: Vec<Socket> = self
            .sockets()
            .values()
            .filter(|socket| of.is_none_or(|of| of == socket.meeting))
            .cloned()
            .collect();
        let mut persons: HashMap<ParticipantId, usize> = HashMap::new();
        let mut waiting = Vec::new();
        for Socket { person, queue, .. } in sockets {
            let bytes = queue.bytes();
            if bytes > 0 {
                *persons.entry(person).or_default() += bytes;
                waiting.push((person, bytes, queue));
            }
        }
        let mut waiting: Vec<Waiting> = waiting
            .into_iter()
            .map(|(person, bytes, queue)| Waiting {
                bytes,
                is_to_blame: queue.is_stalled(now) || persons[&person] > most / PERSONS,
                queue,
            })
            .collect();
        waiting.sort_by_key(|one| std::cmp::Reverse((one.is_to_blame, one.bytes)));
        waiting
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<ConnectionId, Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes these sockets one after the other until `bytes` is three quarters of `most`.
fn close(bytes: &Level, most: usize, sockets: impl IntoIterator<Item = Waiting>) -> usize {
    let mut gone = 0;
    for socket in sockets {
        if bytes.now() <= three_quarters(most) {
            break;
        }
        gone += usize::from(socket.queue.abandon());
    }
    gone
}

impl MeetingUnsent {
    #[cfg(test)]
    pub(super) fn level(&self) -> &Level {
        &self.account.bytes
    }

    /// Whether so much waits that the room should take no more requests.
    pub(super) fn is_crowded(&self) -> bool {
        self.account.is_crowded()
    }

    /// Waits until the meeting is not crowded.
    pub(super) async fn relieved(&self) {
        loop {
            let relieved = self.account.relieved.notified();
            if !self.is_crowded() {
                return;
            }
            relieved.await;
        }
    }

    /// Closes sockets that are to blame for it, until the meeting is not crowded. How many there were.
    pub(super) fn close_those_to_blame(&self) -> usize {
        let most = self.account.most;
        let waiting = self.unsent.waiting(most, Some(self.id)).into_iter();
        close(
            &self.account.bytes,
            most,
            waiting.take_while(|one| one.is_to_blame),
        )
    }

    /// A frame of this meeting that is to be sent. When too much waits now, the slowest sockets are
    /// closed, and counted in the answer.
    pub(crate) fn frame(&self, bytes: Bytes) -> (Frame, usize) {
        let size = bytes.len();
        let all = self.unsent.bytes.add(size);
        let here = self.account.bytes.add(size);
        let counted = Arc::new(Counted {
            bytes: size,
            meeting: Arc::clone(&self.account),
            unsent: Arc::clone(&self.unsent),
        });
        let mut gone = 0;
        if here > self.account.most {
            let (bytes, most) = (&self.account.bytes, self.account.most);
            gone += self.unsent.close_slowest(bytes, most, Some(self.id));
        }
        if all > self.unsent.most {
            let most = self.unsent.most;
            gone += self.unsent.close_slowest(&self.unsent.bytes, most, None);
        }
        (Frame { bytes, counted }, gone)
    }
}
