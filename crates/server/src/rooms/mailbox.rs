//! A room's mailbox: bounded in bytes, and fair among the participants whose sockets fill it.
//!
//! Each socket has its own queue of messages: that it was opened, its frames in order, and that it
//! was closed. The room takes one message from each participant in turn, round-robin over that
//! participant's sockets, so that nobody gets a larger share by sending more or by opening more
//! sockets. A participant who sends a large frame skips a number of rounds in proportion to its
//! size (deficit round robin). Messages from the server itself (commands, results of the media
//! plane) come first, in order.
//!
//! A socket whose queue is full is not read, which slows down that client alone. The same applies
//! to all sockets of a participant with many queued bytes, and, when the room's or the server's
//! total is exceeded, to every participant with anything queued. A participant with nothing queued
//! can always send one frame, so no socket ever waits for another participant's messages to be
//! handled.

mod queues;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use parlor_live::ConnectionId;
use parlor_protocol::ids::ParticipantId;

use self::queues::{PARTICIPANT_SOCKETS, Queue, State, size_of};
use super::RoomMessage;
use crate::metrics::ByteGauge;

/// Queued server messages above which pushes from other rooms are dropped.
const MAX_SERVER_MESSAGES: usize = 1024;

/// The mailbox is closed: the room takes no more messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MailboxClosed;

/// The reason why a socket could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The mailbox is closed. The caller may retry with a new one.
    Closed,
    /// This participant opens sockets faster than the room can process them.
    TooMany,
}

/// The server's sending handle. Sockets use a [`SocketSender`] instead.
#[derive(Debug)]
pub(crate) struct Mailbox(Arc<Shared>);

/// The room's receiving end.
#[derive(Debug)]
pub(crate) struct Receiver(Arc<Shared>);

/// A socket's sending handle to its own queue. Dropping it notifies the room that the connection is
/// lost.
#[derive(Debug)]
pub(crate) struct SocketSender {
    mailbox: Mailbox,
    connection: ConnectionId,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    senders: AtomicUsize,
    queued_bytes: ByteGauge,
    state: Mutex<State>,
}

/// Creates a mailbox and returns its two ends.
pub(crate) fn mailbox(queued_bytes: &ByteGauge) -> (Mailbox, Receiver) {
    let shared = Arc::new(Shared {
        senders: AtomicUsize::new(1),
        queued_bytes: queued_bytes.clone(),
        state: Mutex::default(),
    });
    (Mailbox(Arc::clone(&shared)), Receiver(shared))
}

impl Mailbox {
    /// Queues a message from the server: a command, or a result of the media plane. These are not
    /// bounded here: each was requested by the room itself, by an API request that waits for it, or
    /// by a change in the database.
    pub(crate) fn send(&self, message: RoomMessage) -> Result<(), MailboxClosed> {
        let mut state = self.0.state();
        if state.closed {
            return Err(MailboxClosed);
        }
        state.server_messages.push_back(message);
        state.wake_room();
        Ok(())
    }

    /// Like [`Self::send`], for messages that may be dropped when the room is busy. Returns `false`
    /// if it was dropped.
    pub(crate) fn try_send(&self, message: RoomMessage) -> bool {
        let mut state = self.0.state();
        if !state.closed && state.server_messages.len() >= MAX_SERVER_MESSAGES {
            return false;
        }
        if !state.closed {
            state.server_messages.push_back(message);
            state.wake_room();
        }
        true
    }

    /// Opens the queue of a participant's socket, starting with the given message.
    pub(crate) fn open(
        &self,
        connection: ConnectionId,
        of: ParticipantId,
        opened: RoomMessage,
    ) -> Result<SocketSender, (OpenError, RoomMessage)> {
        let mut state = self.0.state();
        if state.closed {
            return Err((OpenError::Closed, opened));
        }
        let participant = state.participants.entry(of).or_default();
        if participant.sockets >= PARTICIPANT_SOCKETS {
            return Err((OpenError::TooMany, opened));
        }
        participant.sockets += 1;
        let queue = Queue {
            participant: of,
            messages: VecDeque::new(),
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

    /// Whether the mailbox is closed.
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
    pub(crate) async fn ready(&self) -> Result<(), MailboxClosed> {
        poll_fn(|context| {
            let mut state = self.mailbox.0.state();
            if state.closed {
                return Poll::Ready(Err(MailboxClosed));
            }
            if state.may_read(self.connection, &self.mailbox.0.queued_bytes) {
                return Poll::Ready(Ok(()));
            }
            state.pause_socket(self.connection, context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Queues a frame of the socket, however full the queue is. Returns `true` if the socket may be
    /// read further; otherwise [`SocketSender::ready`] must be awaited first.
    pub(crate) fn frame(&self, bytes: Bytes) -> Result<bool, MailboxClosed> {
        let shared = &self.mailbox.0;
        let mut state = shared.state();
        if state.closed {
            return Err(MailboxClosed);
        }
        let message = RoomMessage::Frame {
            connection: self.connection,
            bytes,
        };
        let size = size_of(&message);
        shared.queued_bytes.add(size);
        state.push(self.connection, message);
        Ok(state.may_read(self.connection, &shared.queued_bytes))
    }

    /// Closes the queue. The room handles the close after the last frame.
    pub(crate) fn close(mut self, leaving: bool) {
        self.end(leaving);
    }

    fn end(&mut self, leaving: bool) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut state = self.mailbox.0.state();
        if !state.closed {
            let message = RoomMessage::Closed {
                connection: self.connection,
                leaving,
            };
            state.push(self.connection, message);
        }
    }
}

impl Drop for SocketSender {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Receiver {
    /// Receives the next message. Returns `None` if the queue is empty and no sender is left.
    pub(crate) async fn recv(&mut self) -> Option<RoomMessage> {
        poll_fn(|context| {
            let mut state = self.0.state();
            if let Some(message) = state.pop(&self.0.queued_bytes) {
                return Poll::Ready(Some(message));
            }
            if state.closed || self.0.senders.load(Ordering::Acquire) == 0 {
                return Poll::Ready(None);
            }
            state.room = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Receives the next message, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<RoomMessage> {
        self.0.state().pop(&self.0.queued_bytes)
    }

    /// Closes the mailbox. Queued messages can still be received.
    pub(crate) fn close(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        for queue in state.sockets.values_mut() {
            if let Some(socket) = queue.socket.take() {
                socket.wake();
            }
        }
    }

    /// Whether the queue is empty and no sender but the registry's is left.
    pub(crate) fn is_alone(&self) -> bool {
        // In this order: messages of a sender that was dropped are seen below.
        let alone = self.0.senders.load(Ordering::Acquire) <= 1;
        let state = self.0.state();
        alone && state.server_messages.is_empty() && state.ready.is_empty()
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
        // Answer channels and sockets are dropped here, outside the lock.
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
