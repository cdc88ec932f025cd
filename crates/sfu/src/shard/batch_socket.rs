//! UDP sockets with batched I/O.

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

/// Buffer size for one received message, in bytes: with GRO, the system coalesces several
/// datagrams.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// A UDP socket that uses GSO, GRO and `recvmmsg` where available.
pub(super) struct BatchSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl BatchSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, state })
    }

    pub(super) fn recv(
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

    /// Sends the datagrams of one client. Returns how many were sent and how many were dropped.
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
            // A full socket buffer drops datagrams as any router may: what matters is
            // retransmitted.
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => sent += count as u64,
                Err(error) => {
                    debug!(%error, "failed to send datagrams");
                    dropped += count as u64;
                }
            }
        }
        (sent, dropped)
    }
}

/// Waits until any of the sockets is readable.
pub(super) async fn readable(sockets: &[BatchSocket]) {
    poll_fn(|context| {
        // Poll all of them, so that each registers the waker.
        let ready = sockets
            .iter()
            .filter(|socket| socket.socket.poll_recv_ready(context).is_ready())
            .count();
        if ready > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
