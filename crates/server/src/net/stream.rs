//! The stream of a connection: it watches whether the peer takes what it is sent.

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

use super::connections::{Connection, Registered};
use crate::metrics::{Disconnected, Metrics, Open};
use crate::shares::Share;

/// What an open connection holds on to. It is a connection for as long as anybody has its stream: an
/// upgraded one outlives the task that served its request.
#[expect(dead_code, reason = "it is held, and let go with the stream")]
pub(super) struct Held {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) connected: Open,
    pub(super) open: TaskTrackerToken,
    /// Its place in the share of its address.
    pub(super) share: Option<Share<IpAddr>>,
    pub(super) registered: Registered,
}

/// A TCP stream with two rules for a peer that does not take what it is sent: after a while it is
/// disconnected, and until then nothing more is read from it. Whatever serves the stream may answer
/// what it reads, and could otherwise be made to hold any number of answers.
pub(super) struct Watched {
    stream: TcpStream,
    metrics: Arc<Metrics>,
    patience: Duration,
    /// Runs while the system takes no more bytes.
    deadline: Option<Pin<Box<Sleep>>>,
    is_blocked: bool,
    reads_while_blocked: bool,
    reader: Option<Waker>,
    held: Held,
}

impl Watched {
    /// Watches a stream whose peer may take nothing for so long.
    pub(super) fn new(
        stream: TcpStream,
        patience: Duration,
        metrics: Arc<Metrics>,
        held: Held,
    ) -> Self {
        Self {
            stream,
            metrics,
            patience,
            deadline: None,
            is_blocked: false,
            reads_while_blocked: false,
            reader: None,
            held,
        }
    }

    /// What is known of this connection.
    fn connection(&self) -> &Arc<Connection> {
        &self.held.registered.connection
    }

    /// From here on both directions are independent of each other: what is spoken drops what the
    /// peer does not take.
    pub(super) fn read_while_blocked(&mut self) {
        self.reads_while_blocked = true;
    }

    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() {
            ready!(self.blocked(context))?;
            return Poll::Pending;
        }
        // The peer has not acknowledged anything for so long that the system has given up first.
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == ErrorKind::TimedOut
        {
            self.metrics.disconnected(Disconnected::TimedOut);
        }
        if self.is_blocked {
            self.is_blocked = false;
            self.connection().unblocked();
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        written
    }

    /// The peer takes nothing; an error when its time is over or the connection is to be closed.
    fn blocked(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        if !self.is_blocked {
            self.is_blocked = true;
            deadline.as_mut().reset(Instant::now() + patience);
            self.held.registered.connection.blocked();
        }
        if deadline.as_mut().poll(context).is_ready() {
            self.metrics.disconnected(Disconnected::TimedOut);
            self.reset();
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        if self.connection().closes(context.waker()) {
            self.reset();
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Poll::Pending
    }

    /// Has the system forget what it holds for the peer when the stream is closed.
    fn reset(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for Watched {
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
        if read.is_pending() && self.connection().closes(context.waker()) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = &flushed {
            self.connection().flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
