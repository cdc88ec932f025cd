//! Whose turn it is in a mailbox, and who may be read.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use parlor_live::ConnectionId;
use parlor_protocol::ids::ParticipantId;

use super::super::Letter;
use crate::metrics::Level;

/// A socket is read while less than this waits of it, in bytes.
pub(super) const SOCKET_BYTES: usize = 64 * 1024;
/// A socket is read while fewer letters than this wait of it.
pub(super) const SOCKET_LETTERS: usize = 64;
/// A person's sockets are read while less than this waits of them together, in bytes.
pub(super) const PERSON_BYTES: usize = 256 * 1024;
/// Sockets of a person whose close the room has not processed. More are turned away.
pub(super) const PERSON_SOCKETS: usize = 64;
/// When so much waits for a room, those are not read of whom anything waits, in bytes.
pub(super) const ROOM_BYTES: usize = 8 << 20;
/// The same for all rooms of the server.
pub(super) const SERVER_BYTES: usize = 64 << 20;
/// What a person may send in a round without missing the next one.
pub(super) const QUANTUM: usize = 64 * 1024;
/// What a frame counts beside its own bytes: the place it takes in a queue.
pub(super) const OVERHEAD: usize = 128;

/// What waits for a room.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) closed: bool,
    /// What the server has to say.
    pub(super) own: VecDeque<Letter>,
    /// People of whom something waits, in the order of their turns.
    pub(super) turns: VecDeque<ParticipantId>,
    pub(super) people: HashMap<ParticipantId, Person>,
    pub(super) sockets: HashMap<ConnectionId, Queue>,
    pub(super) bytes: usize,
    /// The room, when it waits for a letter.
    pub(super) room: Option<Waker>,
}

/// Somebody who has sockets.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// How many sockets there are, those included that are closed and not heard out.
    pub(super) sockets: usize,
    /// Sockets of which something waits, in the order of their turns.
    pub(super) turns: VecDeque<ConnectionId>,
    /// Sockets that wait to be read.
    pub(super) paused_sockets: Vec<ConnectionId>,
    pub(super) bytes: usize,
    /// What was sent beyond the quantum of each round, in bytes, and is still to be waited for.
    pub(super) deficit: usize,
}

/// What waits of one socket.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) person: ParticipantId,
    pub(super) letters: VecDeque<Letter>,
    pub(super) bytes: usize,
    /// The socket, when it waits to be read.
    pub(super) socket: Option<Waker>,
}

impl State {
    pub(super) fn push(&mut self, connection: ConnectionId, letter: Letter) {
        let size = size_of(&letter);
        let Some(queue) = self.sockets.get_mut(&connection) else {
            return;
        };
        let id = queue.person;
        let person = self.people.entry(id).or_default();
        if queue.letters.is_empty() {
            if person.turns.is_empty() {
                self.turns.push_back(id);
            }
            person.turns.push_back(connection);
        }
        queue.letters.push_back(letter);
        queue.bytes += size;
        person.bytes += size;
        self.bytes += size;
        self.wake_room();
    }

    pub(super) fn pop(&mut self, queued_bytes: &Level) -> Option<Letter> {
        if let Some(letter) = self.own.pop_front() {
            return Some(letter);
        }
        loop {
            let id = self.turns.pop_front()?;
            let person = self.people.get_mut(&id)?;
            if person.deficit < QUANTUM {
                return self.pop_of(id, queued_bytes);
            }
            person.deficit -= QUANTUM;
            self.turns.push_back(id);
        }
    }

    /// The next letter of a person whose turn it is.
    fn pop_of(&mut self, id: ParticipantId, queued_bytes: &Level) -> Option<Letter> {
        let person = self.people.get_mut(&id)?;
        let connection = person.turns.pop_front()?;
        let queue = self.sockets.get_mut(&connection)?;
        let letter = queue.letters.pop_front()?;
        let size = size_of(&letter);
        queue.bytes -= size;
        person.bytes -= size;
        self.bytes -= size;
        queued_bytes.take(size);
        person.deficit = (person.deficit + size).saturating_sub(QUANTUM);
        if !queue.letters.is_empty() {
            person.turns.push_back(connection);
        } else if queue.letters.capacity() > 2 * SOCKET_LETTERS {
            queue.letters.shrink_to(SOCKET_LETTERS);
        }
        if !person.turns.is_empty() {
            self.turns.push_back(id);
        }
        if matches!(letter, Letter::Closed { .. }) {
            // It is the last letter of its socket.
            self.sockets.remove(&connection);
            person.sockets -= 1;
            if person.sockets == 0 {
                self.people.remove(&id);
            }
        }
        self.wake_readable(id, queued_bytes);
        Some(letter)
    }

    pub(super) fn may_read(&self, connection: ConnectionId, queued_bytes: &Level) -> bool {
        let Some(queue) = self.sockets.get(&connection) else {
            return true;
        };
        if queue.bytes >= SOCKET_BYTES || queue.letters.len() >= SOCKET_LETTERS {
            return false;
        }
        let waits = self.people.get(&queue.person).map_or(0, |it| it.bytes);
        let crowded = self.bytes >= ROOM_BYTES || queued_bytes.now() >= SERVER_BYTES;
        waits == 0 || (waits < PERSON_BYTES && !crowded)
    }

    pub(super) fn pause_socket(&mut self, connection: ConnectionId, socket: Waker) {
        let Some(queue) = self.sockets.get_mut(&connection) else {
            return;
        };
        queue.socket = Some(socket);
        if let Some(person) = self.people.get_mut(&queue.person)
            && !person.paused_sockets.contains(&connection)
        {
            person.paused_sockets.push(connection);
        }
    }

    /// Wakes the sockets of a person that may be read again. Each of them waits for something of this
    /// person to be taken: somebody of whom nothing waits is not held up.
    fn wake_readable(&mut self, id: ParticipantId, queued_bytes: &Level) {
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        if person.paused_sockets.is_empty() {
            return;
        }
        let paused_sockets = std::mem::take(&mut person.paused_sockets);
        let (ready, still): (Vec<_>, Vec<_>) = paused_sockets
            .into_iter()
            .partition(|connection| self.may_read(*connection, queued_bytes));
        for connection in ready {
            let queue = self.sockets.get_mut(&connection);
            if let Some(socket) = queue.and_then(|queue| queue.socket.take()) {
                socket.wake();
            }
        }
        if let Some(person) = self.people.get_mut(&id) {
            person.paused_sockets = still;
        }
    }

    pub(super) fn wake_room(&mut self) {
        if let Some(room) = self.room.take() {
            room.wake();
        }
    }
}

/// What a letter counts, in bytes.
pub(super) fn size_of(letter: &Letter) -> usize {
    match letter {
        Letter::Frame { bytes, .. } => bytes.len() + OVERHEAD,
        _ => 0,
    }
}
