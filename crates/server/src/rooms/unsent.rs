//! Bounds the unsent bytes of all sockets together, for each meeting and for the server.
//!
//! A frame with many recipients counts once, until it has been sent to the last of them. When a
//! bound is exceeded, sockets are abandoned, those with the most unsent bytes first, until a
//! quarter of the bound is free again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parlor_live::ConnectionId;
use parlor_protocol::ids::MeetingId;

use super::outbox::{Inbox, Outbox, Queue, new_queue};
use crate::metrics::ByteGauge;

/// A frame that counts as unsent until its last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// Returns the bytes of the frame, which count as unsent until they are dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Unsent bytes of a frame, subtracted on drop.
#[derive(Debug)]
struct Counted {
    bytes: Bytes,
    meeting: ByteGauge,
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

/// The unsent bytes of the server, with their bounds.
#[derive(Debug)]
pub(crate) struct Unsent {
    bytes: ByteGauge,
    max: usize,
    max_per_meeting: usize,
    queues: Mutex<HashMap<ConnectionId, (MeetingId, Arc<Queue>)>>,
}

/// The unsent bytes of one meeting.
#[derive(Debug, Clone)]
pub(crate) struct MeetingUnsent {
    id: MeetingId,
    bytes: ByteGauge,
    unsent: Arc<Unsent>,
}

impl Unsent {
    /// Creates bounds on the unsent bytes of the server and of each meeting. 0 means unbounded.
    pub(crate) fn new(max: usize, max_per_meeting: usize, bytes: ByteGauge) -> Arc<Self> {
        let bound = |max: usize| if max == 0 { usize::MAX } else { max };
        Arc::new(Self {
            bytes,
            max: bound(max),
            max_per_meeting: bound(max_per_meeting),
            queues: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn level(&self) -> &ByteGauge {
        &self.bytes
    }

    /// Creates the counter of a meeting, at zero.
    pub(crate) fn meeting(self: &Arc<Self>, id: MeetingId) -> MeetingUnsent {
        MeetingUnsent {
            id,
            bytes: ByteGauge::default(),
            unsent: Arc::clone(self),
        }
    }

    /// Creates the outgoing queue of a socket.
    pub(crate) fn outbox(
        self: &Arc<Self>,
        meeting: MeetingId,
        connection: ConnectionId,
    ) -> (Outbox, Inbox) {
        let (queue, outbox, inbox) = new_queue(connection, self);
        self.queues().insert(connection, (meeting, queue));
        (outbox, inbox)
    }

    /// Removes the queue of a closed socket.
    pub(super) fn remove(&self, connection: ConnectionId) {
        self.queues().remove(&connection);
    }

    /// Abandons sockets, those with the most unsent bytes first, until `bytes` is at most three
    /// quarters of `max`. Returns their number.
    fn abandon_slowest(&self, bytes: &ByteGauge, max: usize, of: Option<MeetingId>) -> usize {
        let mut queues: Vec<(usize, Arc<Queue>)> = self
            .queues()
            .values()
            .filter(|(meeting, _)| of.is_none_or(|of| of == *meeting))
            .map(|(_, queue)| (queue.bytes(), Arc::clone(queue)))
            .filter(|(waiting, _)| *waiting > 0)
            .collect();
        queues.sort_by_key(|(waiting, _)| std::cmp::Reverse(*waiting));
        let mut abandoned = 0;
        for (_, queue) in queues {
            if bytes.now() <= max / 4 * 3 {
                break;
            }
            abandoned += usize::from(queue.abandon());
        }
        abandoned
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<ConnectionId, (MeetingId, Arc<Queue>)>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MeetingUnsent {
    #[cfg(test)]
    pub(super) fn level(&self) -> &ByteGauge {
        &self.bytes
    }

    /// Counts a frame of this meeting as unsent. If a bound is exceeded, abandons the slowest
    /// sockets and returns their number.
    pub(crate) fn frame(&self, bytes: Bytes) -> (Frame, usize) {
        let size = bytes.len();
        let all = self.unsent.bytes.add(size);
        let here = self.bytes.add(size);
        let counted = Counted {
            bytes,
            meeting: self.bytes.clone(),
            unsent: Arc::clone(&self.unsent),
        };
        let mut abandoned = 0;
        if here > self.unsent.max_per_meeting {
            let max = self.unsent.max_per_meeting;
            abandoned += self.unsent.abandon_slowest(&self.bytes, max, Some(self.id));
        }
        if all > self.unsent.max {
            let max = self.unsent.max;
            abandoned += self.unsent.abandon_slowest(&self.unsent.bytes, max, None);
        }
        (Frame(Bytes::from_owner(counted)), abandoned)
    }
}
