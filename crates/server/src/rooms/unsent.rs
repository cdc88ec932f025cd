//! What waits for all sockets together to be sent: bounded for each meeting and for the server.
//!
//! A frame that goes to many counts once, for as long as the last of them has it. When a bound is
//! passed, the sockets with the most unsent bytes are let go first, until a quarter of it is free again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parlor_live::ConnectionId;
use parlor_protocol::ids::MeetingId;

use super::outbox::{Inbox, Outbox, Queue, ends};
use crate::metrics::Level;

/// A frame that counts among the unsent ones until it is dropped everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// What is sent. It counts for as long as somebody has it.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Unsent bytes of a frame.
#[derive(Debug)]
struct Counted {
    bytes: Bytes,
    meeting: Level,
    unsent: Arc<Unsent>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meeting.take(self.bytes.len());
        self.unsent.bytes.take(self.bytes.len());
    }
}

/// What waits for the sockets of the server, and how much it may be.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes: Level,
    most: usize,
    most_of_meeting: usize,
    queues: Mutex<HashMap<ConnectionId, (MeetingId, Arc<Queue>)>>,
}

/// What waits for the sockets of one meeting.
#[derive(Debug, Clone)]
pub(crate) struct MeetingUnsent {
    id: MeetingId,
    bytes: Level,
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
            queues: Mutex::default(),
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
            bytes: Level::default(),
            unsent: Arc::clone(self),
        }
    }

    /// The queue in front of a socket.
    pub(crate) fn outbox(
        self: &Arc<Self>,
        meeting: MeetingId,
        connection: ConnectionId,
    ) -> (Outbox, Inbox) {
        let (queue, outbox, inbox) = ends(connection, self);
        self.queues().insert(connection, (meeting, queue));
        (outbox, inbox)
    }

    /// A socket is gone.
    pub(super) fn forget(&self, connection: ConnectionId) {
        self.queues().remove(&connection);
    }

    /// Lets sockets go, those with the most unsent bytes first, until `bytes` is three quarters of
    /// `most`. How many there were.
    fn relieve(&self, bytes: &Level, most: usize, of: Option<MeetingId>) -> usize {
        let mut queues: Vec<(usize, Arc<Queue>)> = self
            .queues()
            .values()
            .filter(|(meeting, _)| of.is_none_or(|of| of == *meeting))
            .map(|(_, queue)| (queue.bytes(), Arc::clone(queue)))
            .filter(|(waiting, _)| *waiting > 0)
            .collect();
        queues.sort_by_key(|(waiting, _)| std::cmp::Reverse(*waiting));
        let mut gone = 0;
        for (_, queue) in queues {
            if bytes.now() <= most / 4 * 3 {
                break;
            }
            gone += usize::from(queue.abandon());
        }
        gone
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<ConnectionId, (MeetingId, Arc<Queue>)>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MeetingUnsent {
    #[cfg(test)]
    pub(super) fn level(&self) -> &Level {
        &self.bytes
    }

    /// A frame of this meeting that is to be sent. When too much waits now, the slowest sockets are
    /// let go, and counted in the answer.
    pub(crate) fn frame(&self, bytes: Bytes) -> (Frame, usize) {
        let size = bytes.len();
        let all = self.unsent.bytes.add(size);
        let here = self.bytes.add(size);
        let counted = Counted {
            bytes,
            meeting: self.bytes.clone(),
            unsent: Arc::clone(&self.unsent),
        };
        let mut gone = 0;
        if here > self.unsent.most_of_meeting {
            let most = self.unsent.most_of_meeting;
            gone += self.unsent.relieve(&self.bytes, most, Some(self.id));
        }
        if all > self.unsent.most {
            let most = self.unsent.most;
            gone += self.unsent.relieve(&self.unsent.bytes, most, None);
        }
        (Frame(Bytes::from_owner(counted)), gone)
    }
}
