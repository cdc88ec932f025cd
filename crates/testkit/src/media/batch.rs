//! Receives many datagrams from one socket with one system call, with their kernel timestamps.

use std::array;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use nix::sys::time::TimeSpec;

/// Maximum number of datagrams per call.
pub(super) const BATCH: usize = 32;

/// Buffer size per datagram, in bytes. Servers send none that are larger.
const DATAGRAM_BYTES: usize = 2048;

/// Reusable buffers for received datagrams.
pub(super) struct Batch {
    headers: MultiHeaders<SockaddrIn>,
    bytes: Vec<u8>,
    filled: [Filled; BATCH],
}

#[derive(Clone, Copy, Default)]
struct Filled {
    length: usize,
    at_ns: u64,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(TimeSpec))),
            bytes: vec![0; BATCH * DATAGRAM_BYTES],
            filled: [Filled::default(); BATCH],
        }
    }

    /// Receives the available datagrams and returns their number.
    pub(super) fn read(&mut self, socket: &UdpSocket) -> usize {
        let mut places = self.bytes.chunks_exact_mut(DATAGRAM_BYTES);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            flags,
            None,
        );
        let received = match received {
            Ok(received) => received,
            // `ECONNREFUSED` reports that the server's port is closed; there is nothing to read
            // then.
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => return 0,
            Err(error) => {
                debug_assert!(false, "recvmmsg: {error}");
                return 0;
            }
        };
        let mut count = 0;
        for (message, filled) in received.zip(&mut self.filled) {
            let mut parts = message.cmsgs().into_iter().flatten();
            filled.length = message.bytes;
            filled.at_ns = parts
                .find_map(|part| match part {
                    ControlMessageOwned::ScmTimestampns(time) => nanoseconds(time),
                    _ => None,
                })
                .unwrap_or_default();
            count += 1;
        }
        count
    }

    /// Returns a datagram of the last call and its kernel timestamp, in nanoseconds since 1970.
    pub(super) fn get(&mut self, index: usize) -> Option<(&mut [u8], u64)> {
        let filled = self.filled.get(index)?;
        let place = self.bytes.chunks_exact_mut(DATAGRAM_BYTES).nth(index)?;
        Some((place.get_mut(..filled.length)?, filled.at_ns))
    }
}

fn nanoseconds(time: TimeSpec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let rest = u64::try_from(time.tv_nsec()).ok()?;
    Some(seconds * 1_000_000_000 + rest)
}
