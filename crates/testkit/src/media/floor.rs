//! The minimum cost of forwarding on this machine: unencrypted packets, one system call each.
//!
//! A server's cost above this minimum is its own overhead. A server that sends many packets with
//! one system call can stay below it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt};
use parlor_sfu::wire::rtp::Header;

use super::batch::{BATCH, Batch};
use super::stream::{Extensions, Source, Stream, stamp_of};

/// Size of each receive buffer, in bytes: several video frames.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Interval at which the receivers' sockets are read.
const READ_INTERVAL: Duration = Duration::from_millis(2);

/// How long the forwarder waits for a packet before it checks whether to stop.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// The measured minimum cost.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// Number of packets received by the forwarder.
    pub packets_in: u64,
    /// Number of packets received by the receivers.
    pub packets_out: u64,
    /// CPU time of the forwarding thread.
    pub cpu: Duration,
    /// Latencies of a sample of the packets, from sending to arrival at the receiver's socket, in
    /// nanoseconds.
    pub latencies_ns: Vec<u32>,
}

/// Forwards the packets of `sources` to each of `receivers` sockets for `time`, and measures the
/// cost and the latency of one in `sample` packets.
///
/// # Errors
/// When sockets or threads cannot be created.
pub fn measure(sources: &[Source], receivers: usize, time: Duration, sample: u64) -> Result<Floor> {
    let forwarding = socket()?;
    forwarding.set_read_timeout(Some(READ_TIMEOUT))?;
    let to = forwarding.local_addr()?;
    let sockets = (0..receivers)
        .map(|_| socket())
        .collect::<Result<Vec<_>>>()?;
    let addresses = sockets.iter().map(UdpSocket::local_addr);
    let addresses = addresses.collect::<std::io::Result<Vec<_>>>()?;
    let is_over = Arc::new(AtomicBool::new(false));

    let is_forwarded = Arc::new(AtomicBool::new(false));
    let (sent_all, forwarded_all) = (Arc::clone(&is_over), Arc::clone(&is_forwarded));
    let forwarder = thread::spawn(move || forward(&forwarding, &addresses, &sent_all));
    let reader = thread::spawn(move || receive(&sockets, &forwarded_all, sample.max(1)));
    let sent = send(sources, to, time);
    is_over.store(true, Ordering::Relaxed);
    let (packets_in, cpu) = forwarder
        .join()
        .map_err(|_| anyhow!("the forwarder panicked"))??;
    is_forwarded.store(true, Ordering::Relaxed);
    let (packets_out, latencies_ns) = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    sent?;
    Ok(Floor {
        packets_in,
        packets_out,
        cpu,
        latencies_ns,
    })
}

fn socket() -> Result<UdpSocket> {
    let socket =
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("the UDP socket could not be opened")?;
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

fn send(sources: &[Source], to: SocketAddr, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(to)?;
    let start = Instant::now();
    let mut streams = Vec::with_capacity(sources.len());
    for (number, source) in (0_u32..).zip(sources) {
        let mut stream = Stream::new(*source, 96, number, Extensions::default());
        stream.start(start + Duration::from_millis(u64::from(number) * 7 % 33));
        streams.push(stream);
    }
    let mut packet = Vec::with_capacity(2048);
    while start.elapsed() < time {
        let now = Instant::now();
        for stream in &mut streams {
            while stream.due().is_some_and(|due| due <= now) {
                stream.write(&mut packet, 0);
                socket.send(&packet)?;
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn forward(
    forwarding: &UdpSocket,
    addresses: &[SocketAddr],
    is_over: &AtomicBool,
) -> Result<(u64, Duration)> {
    let before = own_cpu()?;
    let (mut buffer, mut count) = ([0; 2048], 0);
    loop {
        // The read timed out, so no packets are left to forward.
        let Ok(length) = forwarding.recv(&mut buffer) else {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            continue;
        };
        count += 1;
        let packet = buffer.get(..length).unwrap_or_default();
        for address in addresses {
            forwarding.send_to(packet, address)?;
        }
    }
    Ok((count, own_cpu()?.saturating_sub(before)))
}

fn receive(sockets: &[UdpSocket], is_over: &AtomicBool, sample: u64) -> (u64, Vec<u32>) {
    let (mut batch, mut count, mut latencies) = (Batch::new(), 0_u64, Vec::new());
    loop {
        // Loaded before reading, so that the last packets are still read.
        let is_last = is_over.load(Ordering::Relaxed);
        for socket in sockets {
            loop {
                let found = batch.read(socket);
                for index in 0..found {
                    count += 1;
                    if count.is_multiple_of(sample)
                        && let Some(latency) = latency(&mut batch, index)
                    {
                        latencies.push(latency);
                    }
                }
                if found < BATCH {
                    break;
                }
            }
        }
        if is_last {
            return (count, latencies);
        }
        thread::sleep(READ_INTERVAL);
    }
}

fn latency(batch: &mut Batch, index: usize) -> Option<u32> {
    let (packet, at_ns) = batch.get(index)?;
    let header = Header::parse(packet)?;
    let sent_ns = stamp_of(packet.get(header.payload..)?)?;
    u32::try_from(at_ns.saturating_sub(sent_ns)).ok()
}

/// Returns the CPU time of the calling thread.
fn own_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split(' ').next().context("schedstat is empty")?;
    Ok(Duration::from_nanos(first.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_reaches_every_receiver() {
        let sources = [Source::video(500), Source::Voice { bytes: 90 }];
        let floor =
            measure(&sources, 3, Duration::from_millis(300), 1).expect("the measurement failed");
        assert!(floor.packets_in > 15, "{floor:?}");
        assert_eq!(floor.packets_out, floor.packets_in * 3);
        assert_eq!(floor.latencies_ns.len() as u64, floor.packets_out);
    }
}
