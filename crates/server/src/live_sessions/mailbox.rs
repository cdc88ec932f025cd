//! The queue in front of a room: bounded in bytes, and fair to the people whose sockets fill it.
//!
//! Every socket has a queue of its own for what comes from it: that it was opened, its frames in order,
//! and that it was closed. The room takes one letter of each person in turn, and of a person's sockets
//! in turn, so that nobody gets more of the room by sending more or by opening more sockets. Whoever
//! has sent a large frame misses as many rounds as its size is worth. What the server itself has to
//! say (commands, answers of the media plane) goes first, in order.
//!
//! A socket whose queue is full is not read, which slows down its client and nobody else. The same
//! goes for all sockets of a person who has much waiting, and when much waits for the room or in the
//! whole server, for everybody of whom anything waits. Somebody of whom nothing waits can always send
//! one frame. So no socket ever waits for another person's to be read.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use parlor_live::ConnectionId;
use parlor_protocol::ids::ParticipantId;

use super::Letter;
use crate::metrics::Level;

/// A socket is read while less than this waits of it, in bytes.
const SOCKET_BYTES: usize = 64 * 1024;
/// A socket is read while fewer letters than this wait of it.
const SOCKET_LETTERS: usize = 64;
/// A person's sockets are read while less than this waits of them together, in bytes.
const PERSON_BYTES: usize = 256 * 1024;
/// Sockets of a person that the room has not heard the end of. More are turned away.
const PERSON_SOCKETS: usize = 64;
/// When so much waits for a room, those are not read of whom anything waits, in bytes.
const ROOM_BYTES: usize = 8 << 20;
/// The same for all rooms of the server.
pub(crate) const SERVER_BYTES: usize = 64 << 20;
/// What a person may send in a round without missing the next one.
const QUANTUM: usize = 64 * 1024;
/// Letters of the server that may wait before messages of other rooms are left out.
const OFFERED: usize = 1024;
/// What a frame counts beside its own bytes: the place it takes in a queue.
const OVERHEAD: usize = 128;

/// The room takes no letters any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Why a socket could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// The room takes no letters any more: another one may.
    Gone,
    /// This person opens sockets faster than the room can look at them.
    TooMany,
}

/// The server's end. Sockets have a [`Line`] each.
#[derive(Debug)]
pub(crate) struct Mailbox(Arc<Shared>);

/// The room's end.
#[derive(Debug)]
pub(crate) struct Letters(Arc<Shared>);

/// A socket's end: its own queue. When it is dropped, the room learns that the connection broke.
#[derive(Debug)]
pub(crate) struct Line {
    mailbox: Mailbox,
    connection: ConnectionId,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    senders: AtomicUsize,
    unheard: Level,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// What the server has to say.
    own: VecDeque<Letter>,
    /// People of whom something waits, in the order of their turns.
    turns: VecDeque<ParticipantId>,
    people: HashMap<ParticipantId, Person>,
    sockets: HashMap<ConnectionId, Queue>,
    bytes: usize,
    /// The room, when it waits for a letter.
    room: Option<Waker>,
}

#[derive(Debug, Default)]
struct Person {
    /// How many sockets there are, those included that are closed and not heard out.
    sockets: usize,
    /// Sockets of which something waits, in the order of their turns.
    turns: VecDeque<ConnectionId>,
    /// Sockets that wait to be read.
    held_up: Vec<ConnectionId>,
    bytes: usize,
    /// What was sent beyond the quantum of each round, in bytes, and is still to be waited for.
    owed: usize,
}

#[derive(Debug)]
struct Queue {
    person: ParticipantId,
    letters: VecDeque<Letter>,
    bytes: usize,
    /// The socket, when it waits to be read.
    socket: Option<Waker>,
}

/// A mailbox, both ends of it.
pub(crate) fn mailbox(unheard: &Level) -> (Mailbox, Letters) {
    let shared = Arc::new(Shared {
        senders: AtomicUsize::new(1),
        unheard: unheard.clone(),
        state: Mutex::default(),
    });
    (Mailbox(Arc::clone(&shared)), Letters(shared))
}

impl Mailbox {
    /// Puts what the server has to say into the box: a command, or an answer of the media plane.
    /// They are not bounded here: each is asked for by the room itself, by
    /// a request of the API that waits for it, or by a change of the records.
    pub(crate) fn send(&self, letter: Letter) -> Result<(), Gone> {
        let mut state = self.0.state();
        if state.closed {
            return Err(Gone);
        }
        state.own.push_back(letter);
        state.wake_room();
        Ok(())
    }

    /// The same for what may be left out when the room has much to do. `false` when it was.
    pub(crate) fn offer(&self, letter: Letter) -> bool {
        let mut state = self.0.state();
        if !state.closed && state.own.len() >= OFFERED {
            return false;
        }
        if !state.closed {
            state.own.push_back(letter);
            state.wake_room();
        }
        true
    }

    /// Opens the queue of a person's socket, with the letter that says so.
    pub(crate) fn open(
        &self,
        connection: ConnectionId,
        of: ParticipantId,
        opened: Letter,
    ) -> Result<Line, (Unopened, Letter)> {
        let mut state = self.0.state();
        if state.closed {
            return Err((Unopened::Gone, opened));
        }
        let person = state.people.entry(of).or_default();
        if person.sockets >= PERSON_SOCKETS {
            return Err((Unopened::TooMany, opened));
        }
        person.sockets += 1;
        let queue = Queue {
            person: of,
            letters: VecDeque::new(),
            bytes: 0,
            socket: None,
        };
        state.sockets.insert(connection, queue);
        state.push(connection, opened);
        drop(state);
        Ok(Line {
            mailbox: self.clone(),
            connection,
            closed: false,
        })
    }

    /// Whether the room takes no letters any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.state().closed
    }
}

impl Clone for Mailbox {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.state().wake_room();
        }
    }
}

impl Line {
    /// Waits until the socket may be read.
    pub(crate) async fn ready(&self) -> Result<(), Gone> {
        poll_fn(|context| {
            let mut state = self.mailbox.0.state();
            if state.closed {
                return Poll::Ready(Err(Gone));
            }
            if state.may_read(self.connection, &self.mailbox.0.unheard) {
                return Poll::Ready(Ok(()));
            }
            state.hold_up(self.connection, context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Puts a frame into the socket's queue, which takes it however full it is. `true` when the socket
    /// may be read on, otherwise after [`Line::ready`].
    pub(crate) fn frame(&self, bytes: Bytes) -> Result<bool, Gone> {
        let shared = &self.mailbox.0;
        let mut state = shared.state();
        if state.closed {
            return Err(Gone);
        }
        let letter = Letter::Frame {
            connection: self.connection,
            bytes,
        };
        let size = size_of(&letter);
        shared.unheard.add(size);
        state.push(self.connection, letter);
        Ok(state.may_read(self.connection, &shared.unheard))
    }

    /// The socket is closed; the room learns of it after its last frame.
    pub(crate) fn close(mut self, goodbye: bool) {
        self.end(goodbye);
    }

    fn end(&mut self, goodbye: bool) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut state = self.mailbox.0.state();
        if !state.closed {
            let letter = Letter::Closed {
                connection: self.connection,
                goodbye,
            };
            state.push(self.connection, letter);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Letters {
    /// The next letter; `None` when there is none and nobody is left to send one.
    pub(crate) async fn recv(&mut self) -> Option<Letter> {
        poll_fn(|context| {
            let mut state = self.0.state();
            if let Some(letter) = state.pop(&self.0.unheard) {
                return Poll::Ready(Some(letter));
            }
            if state.closed || self.0.senders.load(Ordering::Acquire) == 0 {
                return Poll::Ready(None);
            }
            state.room = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next letter, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<Letter> {
        self.0.state().pop(&self.0.unheard)
    }

    /// Takes nothing more. What is there can still be received.
    pub(crate) fn close(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        for queue in state.sockets.values_mut() {
            if let Some(socket) = queue.socket.take() {
                socket.wake();
            }
        }
    }

    /// Whether nothing waits, and no end but the one of the registry is left to send anything.
    pub(crate) fn is_alone(&self) -> bool {
        // In this order: whatever was sent by an end that is gone is seen below.
        let alone = self.0.senders.load(Ordering::Acquire) <= 1;
        let state = self.0.state();
        alone && state.own.is_empty() && state.turns.is_empty()
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        self.close();
        let mut state = self.0.state();
        let left = std::mem::take(&mut *state);
        state.closed = true;
        self.0.unheard.take(left.bytes);
        drop(state);
        // Answers that somebody waits for, and sockets, end here: not under the lock.
        drop(left);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, connection: ConnectionId, letter: Letter) {
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

    fn pop(&mut self, unheard: &Level) -> Option<Letter> {
        if let Some(letter) = self.own.pop_front() {
            return Some(letter);
        }
        loop {
            let id = self.turns.pop_front()?;
            let person = self.people.get_mut(&id)?;
            if person.owed < QUANTUM {
                return self.pop_of(id, unheard);
            }
            person.owed -= QUANTUM;
            self.turns.push_back(id);
        }
    }

    /// The next letter of a person whose turn it is.
    fn pop_of(&mut self, id: ParticipantId, unheard: &Level) -> Option<Letter> {
        let person = self.people.get_mut(&id)?;
        let connection = person.turns.pop_front()?;
        let queue = self.sockets.get_mut(&connection)?;
        let letter = queue.letters.pop_front()?;
        let size = size_of(&letter);
        queue.bytes -= size;
        person.bytes -= size;
        self.bytes -= size;
        unheard.take(size);
        person.owed = (person.owed + size).saturating_sub(QUANTUM);
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
        self.let_read(id, unheard);
        Some(letter)
    }

    fn may_read(&self, connection: ConnectionId, unheard: &Level) -> bool {
        let Some(queue) = self.sockets.get(&connection) else {
            return true;
        };
        if queue.bytes >= SOCKET_BYTES || queue.letters.len() >= SOCKET_LETTERS {
            return false;
        }
        let waits = self.people.get(&queue.person).map_or(0, |it| it.bytes);
        let crowded = self.bytes >= ROOM_BYTES || unheard.now() >= SERVER_BYTES;
        waits == 0 || (waits < PERSON_BYTES && !crowded)
    }

    fn hold_up(&mut self, connection: ConnectionId, socket: Waker) {
        let Some(queue) = self.sockets.get_mut(&connection) else {
            return;
        };
        queue.socket = Some(socket);
        if let Some(person) = self.people.get_mut(&queue.person)
            && !person.held_up.contains(&connection)
        {
            person.held_up.push(connection);
        }
    }

    /// Wakes the sockets of a person that may be read again. Each of them waits for something of this
    /// person to be taken: somebody of whom nothing waits is not held up.
    fn let_read(&mut self, id: ParticipantId, unheard: &Level) {
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        if person.held_up.is_empty() {
            return;
        }
        let held_up = std::mem::take(&mut person.held_up);
        let (ready, still): (Vec<_>, Vec<_>) = held_up
            .into_iter()
            .partition(|connection| self.may_read(*connection, unheard));
        for connection in ready {
            let queue = self.sockets.get_mut(&connection);
            if let Some(socket) = queue.and_then(|queue| queue.socket.take()) {
                socket.wake();
            }
        }
        if let Some(person) = self.people.get_mut(&id) {
            person.held_up = still;
        }
    }

    fn wake_room(&mut self) {
        if let Some(room) = self.room.take() {
            room.wake();
        }
    }
}

fn size_of(letter: &Letter) -> usize {
    match letter {
        Letter::Frame { bytes, .. } => bytes.len() + OVERHEAD,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
