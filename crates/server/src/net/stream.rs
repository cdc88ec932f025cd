//! The TCP stream of a connection, which detects peers that do not read.

use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connections::{Connection, Registration};
use crate::metrics::{DisconnectReason, GaugeGuard, Metrics};
use crate::shares::Share;

/// The resources of an open connection. They live as long as its stream: an upgraded connection
/// outlives the task that served its request.
#[expect(dead_code, reason = "held for its drop")]
pub(super) struct Held {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) connected: GaugeGuard,
    pub(super) open: TaskTrackerToken,
    /// Its slot in the share of its address.
    pub(super) share: Option<Share<IpAddr>>,
    pub(super) registration: Registration,
}

/// A TCP stream with two rules for a peer that does not read: it is disconnected after a timeout,
/// and until then nothing more is read from it. Otherwise it could make the server buffer any
/// number of responses.
pub(super) struct BackpressureStream {
    stream: TcpStream,
    metrics: Arc<Metrics>,
    write_timeout: Duration,
    /// The write timeout, while the socket is not writable.
    deadline: Option<Pin<Box<Sleep>>>,
    is_blocked: bool,
    reads_while_blocked: bool,
    reader: Option<Waker>,
    held: Held,
}

impl BackpressureStream {
    /// Wraps a stream whose peer may block writes for at most `write_timeout`.
    pub(super) fn new(
        stream: TcpStream,
        write_timeout: Duration,
        metrics: Arc<Metrics>,
        held: Held,
    ) -> Self {
        Self {
            stream,
            metrics,
            write_timeout,
            deadline: None,
            is_blocked: false,
            reads_while_blocked: false,
            reader: None,
            held,
        }
    }

    /// The registered connection of this stream.
    fn connection(&self) -> &Arc<Connection> {
        &self.held.registration.connection
    }

    /// Allows reading while writes are blocked, for protocols that drop data which the peer does
    /// not read.
    pub(super) fn read_while_blocked(&mut self) {
        self.reads_while_blocked = true;
    }

    fn after_write<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() {
            ready!(self.blocked(context))?;
            return Poll::Pending;
        }
        // The kernel's own timeout for unacknowledged data came first.
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == ErrorKind::TimedOut
        {
            self.metrics.record_disconnect(DisconnectReason::TimedOut);
        }
        if self.is_blocked {
            self.is_blocked = false;
            self.connection().set_unblocked();
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        written
    }

    /// Handles a write that would block. Returns an error when the timeout is over or the
    /// connection is to be closed.
    fn blocked(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let write_timeout = self.write_timeout;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        if !self.is_blocked {
            self.is_blocked = true;
            deadline.as_mut().reset(Instant::now() + write_timeout);
            self.held.registration.connection.set_blocked();
        }
        if deadline.as_mut().poll(context).is_ready() {
            self.metrics.record_disconnect(DisconnectReason::TimedOut);
            self.set_zero_linger();
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        if self.connection().is_closing(context.waker()) {
            self.set_zero_linger();
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Poll::Pending
    }

    /// Makes the kernel discard unsent data when the stream is closed.
    fn set_zero_linger(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for BackpressureStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for BackpressureStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_blocked && !self.reads_while_blocked {
            self.reader = Some(context.waker().clone());
            return self.blocked(context);
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() && self.connection().is_closing(context.waker()) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        read
    }
}

impl AsyncWrite for BackpressureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.after_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = &flushed {
            self.connection().set_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
