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

mod queues;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use parlor_live::ConnectionId;
use parlor_protocol::ids::ParticipantId;

use self::queues::{PERSON_SOCKETS, Queue, State, size_of};
use super::Letter;
use crate::metrics::Level;

/// Letters of the server that may wait before messages of other rooms are left out.
const OFFERED: usize = 1024;

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

/// The server's end. Sockets have a [`SocketSender`] each.
#[derive(Debug)]
pub(crate) struct Mailbox(Arc<Shared>);

/// The room's end.
#[derive(Debug)]
pub(crate) struct Receiver(Arc<Shared>);

/// A socket's end: its own queue. When it is dropped, the room learns that the connection broke.
#[derive(Debug)]
pub(crate) struct SocketSender {
    mailbox: Mailbox,
    connection: ConnectionId,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    senders: AtomicUsize,
    queued_bytes: Level,
    state: Mutex<State>,
}

/// A mailbox, both ends of it.
pub(crate) fn mailbox(queued_bytes: &Level) -> (Mailbox, Receiver) {
    let shared = Arc::new(Shared {
        senders: AtomicUsize::new(1),
        queued_bytes: queued_bytes.clone(),
        state: Mutex::default(),
    });
    (Mailbox(Arc::clone(&shared)), Receiver(shared))
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
    ) -> Result<SocketSender, (Unopened, Letter)> {
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
        Ok(SocketSender {
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

impl SocketSender {
    /// Waits until the socket may be read.
    pub(crate) async fn ready(&self) -> Result<(), Gone> {
        poll_fn(|context| {
            let mut state = self.mailbox.0.state();
            if state.closed {
                return Poll::Ready(Err(Gone));
            }
            if state.may_read(self.connection, &self.mailbox.0.queued_bytes) {
                return Poll::Ready(Ok(()));
            }
            state.pause_socket(self.connection, context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Puts a frame into the socket's queue, which takes it however full it is. `true` when the socket
    /// may be read on, otherwise after [`SocketSender::ready`].
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
        shared.queued_bytes.add(size);
        state.push(self.connection, letter);
        Ok(state.may_read(self.connection, &shared.queued_bytes))
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

impl Drop for SocketSender {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Receiver {
    /// The next letter; `None` when there is none and nobody is left to send one.
    pub(crate) async fn recv(&mut self) -> Option<Letter> {
        poll_fn(|context| {
            let mut state = self.0.state();
            if let Some(letter) = state.pop(&self.0.queued_bytes) {
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
        self.0.state().pop(&self.0.queued_bytes)
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

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
        let mut state = self.0.state();
        let left = std::mem::take(&mut *state);
        state.closed = true;
        self.0.queued_bytes.take(left.bytes);
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

#[cfg(test)]
mod tests;
