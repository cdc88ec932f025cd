//! The queues of a mailbox: scheduling, and backpressure on sockets.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use parlor_live::ConnectionId;
use parlor_protocol::ids::ParticipantId;

use super::super::RoomMessage;
use crate::metrics::ByteGauge;

/// A socket is read while fewer bytes of it than this are queued.
pub(super) const SOCKET_BYTES: usize = 64 * 1024;
/// A socket is read while fewer messages of it than this are queued.
pub(super) const SOCKET_MESSAGES: usize = 64;
/// The sockets of a participant are read while fewer bytes of them together than this are queued.
pub(super) const PARTICIPANT_BYTES: usize = 256 * 1024;
/// Maximum number of a participant's sockets whose close the room has not processed. More are
/// rejected.
pub(super) const PARTICIPANT_SOCKETS: usize = 64;
/// Queued bytes of a room above which participants with anything queued are not read.
pub(super) const ROOM_BYTES: usize = 8 << 20;
/// Queued bytes of all rooms above which participants with anything queued are not read.
pub(super) const SERVER_BYTES: usize = 64 << 20;
/// Bytes that a participant may send per round without skipping the next one.
pub(super) const QUANTUM: usize = 64 * 1024;
/// Bytes that a frame counts in addition to its own: the space of its queue entry.
pub(super) const OVERHEAD: usize = 128;

/// The queued messages of a room.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) closed: bool,
    /// Messages from the server.
    pub(super) server_messages: VecDeque<RoomMessage>,
    /// Participants with queued messages, in round-robin order.
    pub(super) ready: VecDeque<ParticipantId>,
    pub(super) participants: HashMap<ParticipantId, Participant>,
    pub(super) sockets: HashMap<ConnectionId, Queue>,
    pub(super) bytes: usize,
    /// Wakes the room when it waits for a message.
    pub(super) room: Option<Waker>,
}

/// The sockets of one participant.
#[derive(Debug, Default)]
pub(super) struct Participant {
    /// Number of sockets, including closed ones whose close was not processed.
    pub(super) sockets: usize,
    /// Sockets with queued messages, in round-robin order.
    pub(super) ready: VecDeque<ConnectionId>,
    /// Sockets that wait to be read.
    pub(super) paused_sockets: Vec<ConnectionId>,
    pub(super) bytes: usize,
    /// Bytes sent beyond the quantum of each round that are still to be skipped.
    pub(super) deficit: usize,
}

/// The queue of one socket.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) participant: ParticipantId,
    pub(super) messages: VecDeque<RoomMessage>,
    pub(super) bytes: usize,
    /// Wakes the socket when it waits to be read.
    pub(super) socket: Option<Waker>,
}

impl State {
    pub(super) fn push(&mut self, connection: ConnectionId, message: RoomMessage) {
        let size = size_of(&message);
        let Some(queue) = self.sockets.get_mut(&connection) else {
            return;
        };
        let id = queue.participant;
        let participant = self.participants.entry(id).or_default();
        if queue.messages.is_empty() {
            if participant.ready.is_empty() {
                self.ready.push_back(id);
            }
            participant.ready.push_back(connection);
        }
        queue.messages.push_back(message);
        queue.bytes += size;
        participant.bytes += size;
        self.bytes += size;
        self.wake_room();
    }

    pub(super) fn pop(&mut self, queued_bytes: &ByteGauge) -> Option<RoomMessage> {
        if let Some(message) = self.server_messages.pop_front() {
            return Some(message);
        }
        loop {
            let id = self.ready.pop_front()?;
            let participant = self.participants.get_mut(&id)?;
            if participant.deficit < QUANTUM {
                return self.pop_of(id, queued_bytes);
            }
            participant.deficit -= QUANTUM;
            self.ready.push_back(id);
        }
    }

    /// Pops the next message of a participant.
    fn pop_of(&mut self, id: ParticipantId, queued_bytes: &ByteGauge) -> Option<RoomMessage> {
        let participant = self.participants.get_mut(&id)?;
        let connection = participant.ready.pop_front()?;
        let queue = self.sockets.get_mut(&connection)?;
        let message = queue.messages.pop_front()?;
        let size = size_of(&message);
        queue.bytes -= size;
        participant.bytes -= size;
        self.bytes -= size;
        queued_bytes.take(size);
        participant.deficit = (participant.deficit + size).saturating_sub(QUANTUM);
        if !queue.messages.is_empty() {
            participant.ready.push_back(connection);
        } else if queue.messages.capacity() > 2 * SOCKET_MESSAGES {
            queue.messages.shrink_to(SOCKET_MESSAGES);
        }
        if !participant.ready.is_empty() {
            self.ready.push_back(id);
        }
        if matches!(message, RoomMessage::Closed { .. }) {
            // It is the last message of its socket.
            self.sockets.remove(&connection);
            participant.sockets -= 1;
            if participant.sockets == 0 {
                self.participants.remove(&id);
            }
        }
        self.wake_readable(id, queued_bytes);
        Some(message)
    }

    pub(super) fn may_read(&self, connection: ConnectionId, queued_bytes: &ByteGauge) -> bool {
        let Some(queue) = self.sockets.get(&connection) else {
            return true;
        };
        if queue.bytes >= SOCKET_BYTES || queue.messages.len() >= SOCKET_MESSAGES {
            return false;
        }
        let queued = self
            .participants
            .get(&queue.participant)
            .map_or(0, |it| it.bytes);
        let overloaded = self.bytes >= ROOM_BYTES || queued_bytes.now() >= SERVER_BYTES;
        queued == 0 || (queued < PARTICIPANT_BYTES && !overloaded)
    }

    pub(super) fn pause_socket(&mut self, connection: ConnectionId, socket: Waker) {
        let Some(queue) = self.sockets.get_mut(&connection) else {
            return;
        };
        queue.socket = Some(socket);
        if let Some(participant) = self.participants.get_mut(&queue.participant)
            && !participant.paused_sockets.contains(&connection)
        {
            participant.paused_sockets.push(connection);
        }
    }

    /// Wakes the sockets of a participant that may be read again. Only messages of the same
    /// participant can block them: a participant with nothing queued is never paused.
    fn wake_readable(&mut self, id: ParticipantId, queued_bytes: &ByteGauge) {
        let Some(participant) = self.participants.get_mut(&id) else {
            return;
        };
        if participant.paused_sockets.is_empty() {
            return;
        }
        let paused_sockets = std::mem::take(&mut participant.paused_sockets);
        let (ready, blocked): (Vec<_>, Vec<_>) = paused_sockets
            .into_iter()
            .partition(|connection| self.may_read(*connection, queued_bytes));
        for connection in ready {
            let queue = self.sockets.get_mut(&connection);
            if let Some(socket) = queue.and_then(|queue| queue.socket.take()) {
                socket.wake();
            }
        }
        if let Some(participant) = self.participants.get_mut(&id) {
            participant.paused_sockets = blocked;
        }
    }

    pub(super) fn wake_room(&mut self) {
        if let Some(room) = self.room.take() {
            room.wake();
        }
    }
}

/// Size that a message counts, in bytes.
pub(super) fn size_of(message: &RoomMessage) -> usize {
    match message {
        RoomMessage::Frame { bytes, .. } => bytes.len() + OVERHEAD,
        _ => 0,
    }
}
