//! The sockets of a thread.

use std::array;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::Poll;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;

use crate::engine::Outbox;

/// Room for what one read yields: several datagrams that the system has joined.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// A socket with what the system can do with it.
pub(super) struct Gate {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Gate {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, state })
    }

    pub(super) fn read(
        &self,
        buffer: &mut [u8],
        metas: &mut [RecvMeta; BATCH_SIZE],
    ) -> io::Result<usize> {
        let mut parts = buffer.chunks_mut(READ_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut slices, metas)
        })
    }

    /// Sends to one client; answers how many datagrams left, and how many did not.
    pub(super) fn send(&self, destination: SocketAddr, outbox: &Outbox) -> (u64, u64) {
        let (mut sent, mut dropped) = (0, 0);
        for (contents, size, count) in outbox.runs(self.state.max_gso_segments()) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents,
                segment_size: (count > 1).then_some(size),
                src_ip: None,
            };
            // A full buffer drops like any router on the way: whatever matters is sent again.
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => sent += count as u64,
                Err(error) => {
                    debug!(%error, "datagrams could not be sent");
                    dropped += count as u64;
                }
            }
        }
        (sent, dropped)
    }
}

/// Waits until a datagram is there on any of the sockets.
pub(super) async fn readable(sockets: &[Gate]) {
    poll_fn(|context| {
        // Each is asked, so that each wakes the thread.
        let ready = sockets
            .iter()
            .filter(|gate| gate.socket.poll_recv_ready(context).is_ready())
            .count();
        if ready > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
