//! Transport-wide congestion control feedback, which contains the arrival times of the packets of a
//! transport (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
//!
//! Feedback covers a range of sequence numbers. Each packet has a status: lost, or received with a
//! small or large delta to the arrival time of the previous one. Statuses are packed into 16-bit
//! chunks; the deltas follow in the same order.

use super::write::packet;
use super::{be16, be32, format, packet_type};

/// The unit of deltas, in microseconds.
const TICK: i64 = 250;
/// The unit of the reference time, in ticks: 64 milliseconds.
const REFERENCE: i64 = 256;
/// The bits of a run length chunk that contain the length.
const RUN: u16 = 0x1FFF;
/// Maximum number of statuses in a packet of [`write_transport_cc`]. Even with only seven per
/// chunk, they take less than 600 bytes.
const MAX_STATUSES: usize = 2048;
/// Maximum size of the deltas in a packet, in bytes, so that the packet fits into a datagram.
const MAX_DELTA_BYTES: usize = 560;

/// The status of a lost packet.
const LOST: u8 = 0;
/// The status of a packet with a delta of one byte.
const SMALL: u8 = 1;
/// The status of a packet with a delta of two bytes.
const LARGE: u8 = 2;

/// Feedback about a range of packets.
#[derive(Debug, Clone)]
pub struct Feedback<'a> {
    /// The SSRC of the sender of the feedback.
    pub sender: u32,
    /// The SSRC of one of the media streams. It has no significance.
    pub media: u32,
    /// The transport-wide sequence number of the first packet.
    pub base: u16,
    /// The number of packets.
    pub count: u16,
    /// The base of the arrival times, in units of 64 milliseconds on the receiver's clock. It has
    /// 24 bits and wraps around.
    pub reference_time: u32,
    /// The running number of the feedback packet. Wraps around.
    pub feedback_count: u8,
    chunks: &'a [[u8; 2]],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Parses the body of a packet, which follows the first four bytes. Returns `None` if chunks or
    /// deltas are missing.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let count = be16(body, 10)?;
        let [high, middle, low, feedback_count] = be32(body, 12)?.to_be_bytes();
        let rest = body.get(16..)?;

        // The number of chunks is not signaled, so they have to be parsed to find their end.
        let mut statuses = usize::from(count);
        let mut deltas = 0;
        let mut chunks = 0;
        while statuses > 0 {
            let chunk = Chunk::parse(be16(rest, chunks * 2)?);
            chunks += 1;
            let used = chunk.left.min(statuses);
            statuses -= used;
            deltas += chunk.delta_bytes(used);
        }
        let (chunks, rest) = rest.split_at_checked(chunks * 2)?;
        Some(Self {
            sender: be32(body, 0)?,
            media: be32(body, 4)?,
            base: be16(body, 8)?,
            count,
            reference_time: u32::from_be_bytes([0, high, middle, low]),
            feedback_count,
            chunks: chunks.as_chunks().0,
            deltas: rest.get(..deltas)?,
        })
    }

    /// Returns all packets of the feedback, in order.
    pub fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            next: self.base,
            left: self.count,
            ticks: 0,
            chunk: Chunk::default(),
            chunks: self.chunks,
            deltas: self.deltas,
        }
    }
}

/// An iterator over the packets of a [`Feedback`]. Yields the sequence number and the arrival time,
/// in ticks of 250 microseconds since [`Feedback::reference_time`], or `None` if the packet was
/// lost. One unit of the reference time is 256 ticks. Times may decrease, since packets may be
/// reordered.
#[derive(Debug, Clone)]
pub struct Arrivals<'a> {
    next: u16,
    left: u16,
    ticks: i64,
    chunk: Chunk,
    chunks: &'a [[u8; 2]],
    deltas: &'a [u8],
}

impl Iterator for Arrivals<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // A run may be empty.
        while self.chunk.left == 0 {
            let (chunk, rest) = self.chunks.split_first()?;
            self.chunk = Chunk::parse(u16::from_be_bytes(*chunk));
            self.chunks = rest;
        }
        let status = self.chunk.take();
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        let delta = match status {
            SMALL => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i64::from(*delta)
            }
            LARGE => {
                let (delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                i64::from(i16::from_be_bytes(*delta))
            }
            _ => return Some((sequence, None)),
        };
        self.ticks += delta;
        Some((sequence, Some(self.ticks)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

/// The remaining statuses of a chunk.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    /// The statuses. The next one is in the highest bits.
    bits: u16,
    /// The number of bits of a status; 0 for a run, whose status is in the highest two bits.
    width: u8,
    left: usize,
}

impl Chunk {
    fn parse(word: u16) -> Self {
        let (bits, width, left) = match word >> 14 {
            0 | 1 => (word << 1, 0, usize::from(word & RUN)),
            2 => (word << 2, 1, 14),
            _ => (word << 2, 2, 7),
        };
        Self { bits, width, left }
    }

    fn take(&mut self) -> u8 {
        self.left = self.left.saturating_sub(1);
        let status = match self.width {
            1 => self.bits >> 15,
            _ => self.bits >> 14,
        };
        self.bits <<= self.width;
        let [_, status] = status.to_be_bytes();
        status
    }

    /// Returns the size of the deltas of the first `statuses` statuses, in bytes.
    fn delta_bytes(mut self, statuses: usize) -> usize {
        let bytes = |status| match status {
            SMALL => 1,
            LARGE => 2,
            _ => 0,
        };
        if self.width == 0 {
            return statuses * bytes(self.take());
        }
        (0..statuses).map(|_| bytes(self.take())).sum()
    }
}

/// Appends feedback about consecutive packets, starting with sequence number `base`. `arrivals`
/// contains the arrival time of each packet, in microseconds on any monotonic clock, or `None` if
/// it was lost. `count` is the running number of the feedback packet.
///
/// Returns how many of `arrivals` the packet covers. The rest needs another packet: the size of a
/// datagram is limited, and deltas of more than eight seconds cannot be represented. If no packet
/// arrived, nothing is appended and all of `arrivals` count as covered.
pub fn write_transport_cc(
    out: &mut Vec<u8>,
    sender: u32,
    media: u32,
    count: u8,
    base: u16,
    arrivals: &[Option<i64>],
) -> usize {
    let Some(first) = arrivals.iter().find_map(|arrival| *arrival) else {
        return arrivals.len();
    };
    // Round the times and not the deltas, so that rounding errors do not accumulate.
    let ticks = |arrival: i64| arrival.saturating_add(TICK / 2).div_euclid(TICK);
    let reference = ticks(first).div_euclid(REFERENCE);

    let mut statuses = [LOST; MAX_STATUSES];
    let mut deltas = [0; MAX_DELTA_BYTES];
    let (mut packets, mut bytes) = (0, 0);
    let mut before = reference * REFERENCE;
    for (status, arrival) in statuses.iter_mut().zip(arrivals) {
        if let Some(now) = arrival.map(ticks) {
            let Ok(delta) = i16::try_from(now - before) else {
                break;
            };
            let large = delta.to_be_bytes();
            let (kind, delta) = match &large {
                [0, small] => (SMALL, std::slice::from_ref(small)),
                large => (LARGE, large.as_slice()),
            };
            let Some(room) = deltas.get_mut(bytes..bytes + delta.len()) else {
                break;
            };
            room.copy_from_slice(delta);
            *status = kind;
            bytes += delta.len();
            before = now;
        }
        packets += 1;
    }
    let statuses = statuses.get(..packets).unwrap_or_default();
    let deltas = deltas.get(..bytes).unwrap_or_default();

    packet(
        out,
        packet_type::TRANSPORT_FEEDBACK,
        format::TRANSPORT_CC,
        |out| {
            let [.., high, middle, low] = reference.to_be_bytes();
            out.extend_from_slice(&sender.to_be_bytes());
            out.extend_from_slice(&media.to_be_bytes());
            out.extend_from_slice(&base.to_be_bytes());
            out.extend_from_slice(&u16::try_from(packets).unwrap_or_default().to_be_bytes());
            out.extend_from_slice(&[high, middle, low, count]);
            let mut rest = statuses;
            while !rest.is_empty() {
                let (chunk, used) = next_chunk(rest);
                out.extend_from_slice(&chunk.to_be_bytes());
                rest = rest.get(used..).unwrap_or_default();
            }
            out.extend_from_slice(deltas);
        },
    );
    packets
}

/// Returns the chunk that encodes the most statuses from the start of the slice, and their number.
fn next_chunk(statuses: &[u8]) -> (u16, usize) {
    let same = statuses.first().copied().unwrap_or(LOST);
    let run = statuses
        .iter()
        .take_while(|status| **status == same)
        .count();
    // A status vector chunk must be full unless it is the last chunk.
    let next = statuses.get(..14).unwrap_or(statuses);
    let narrow = if next.contains(&LARGE) { 0 } else { next.len() };
    let wide = statuses.len().min(7);
    // The last chunk is padded with zeros, which are ignored.
    let vector = |kind: u16, slots: usize, width: u16| {
        let statuses = statuses.iter().copied().chain(std::iter::repeat(LOST));
        statuses
            .take(slots)
            .fold(kind, |bits, status| bits << width | u16::from(status))
    };
    if run >= narrow.max(wide) {
        let length = u16::try_from(run).expect("the number of statuses fits into 13 bits");
        (u16::from(same) << 13 | length, run)
    } else if narrow >= wide {
        (vector(0b10, 14, 1), narrow)
    } else {
        (vector(0b11, 7, 2), wide)
    }
}
