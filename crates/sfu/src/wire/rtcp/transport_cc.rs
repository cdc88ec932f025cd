//! Transport-wide congestion control feedback: when each packet of a transport arrived
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
//!
//! Every packet of a run of sequence numbers has a status: lost, or arrived with a small or a large
//! difference in time to the one before. Statuses are packed into chunks of 16 bits; differences
//! follow in the same order.

use super::write::packet;
use super::{be16, be32, format, packet_type};

/// Microseconds in a tick, the unit of differences.
const TICK: i64 = 250;
/// Ticks in a unit of the reference time, which is 64 milliseconds.
const REFERENCE: i64 = 256;
/// The bits of a chunk of one run that say how long it is.
const RUN: u16 = 0x1FFF;
/// How many statuses [`write_transport_cc`] puts into one packet. With seven to a chunk at worst,
/// they take less than 600 bytes.
const STATUSES: usize = 2048;
/// How many bytes of differences it puts into one packet, so that all of it fits a datagram.
const DELTAS: usize = 560;

/// The status of a packet that did not arrive.
const LOST: u8 = 0;
/// The status of one whose difference has one byte.
const SMALL: u8 = 1;
/// The status of one whose difference has two bytes.
const LARGE: u8 = 2;

/// Feedback about a run of packets.
#[derive(Debug, Clone)]
pub struct Feedback<'a> {
    /// Who received.
    pub sender: u32,
    /// One of the streams; which says nothing.
    pub media: u32,
    /// The transport-wide sequence number of the first packet.
    pub base: u16,
    /// How many packets it is about.
    pub count: u16,
    /// The time that arrivals count from, in units of 64 milliseconds on the receiver's clock. It
    /// has 24 bits and wraps.
    pub reference_time: u32,
    /// A running number of the feedback, which wraps.
    pub feedback_count: u8,
    chunks: &'a [[u8; 2]],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Reads a packet without its first four bytes. `None` when chunks or differences are missing.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let count = be16(body, 10)?;
        let [high, middle, low, feedback_count] = be32(body, 12)?.to_be_bytes();
        let rest = body.get(16..)?;

        // Where the chunks end is known only by reading them.
        let mut statuses = usize::from(count);
        let mut deltas = 0;
        let mut chunks = 0;
        while statuses > 0 {
            let chunk = Chunk::read(be16(rest, chunks * 2)?);
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

    /// Every packet that the feedback is about, in order.
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

/// The packets of a [`Feedback`]: the sequence number of each, and when it arrived in ticks of 250
/// microseconds since [`Feedback::reference_time`], or nothing when it did not. A reference is 256
/// ticks. Times may go backwards, since packets may be reordered.
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
        // A run may be of no packets.
        while self.chunk.left == 0 {
            let (chunk, rest) = self.chunks.split_first()?;
            self.chunk = Chunk::read(u16::from_be_bytes(*chunk));
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

/// The statuses of a chunk that were not taken yet.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    /// The next status is in the top bits.
    bits: u16,
    /// How many bits a status has; 0 when all are the same, which is then in the top two.
    width: u8,
    left: usize,
}

impl Chunk {
    fn read(word: u16) -> Self {
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

    /// How many bytes the differences of the first `statuses` take.
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

/// Appends feedback about the packets from `base` on, one for each of `arrivals`: when it arrived,
/// in microseconds on any clock that only goes forward, or nothing when it did not. `count` is the
/// running number of the feedback.
///
/// Tells how many of `arrivals` it is about. The rest needs a packet of its own: there is only so
/// much room in a datagram, and a difference of more than eight seconds cannot be written. When
/// nothing has arrived, nothing is appended and all of `arrivals` is done with.
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
    // Every time is rounded by itself and not every difference, so that errors do not add up.
    let ticks = |arrival: i64| arrival.saturating_add(TICK / 2).div_euclid(TICK);
    let reference = ticks(first).div_euclid(REFERENCE);

    let mut statuses = [LOST; STATUSES];
    let mut deltas = [0; DELTAS];
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

/// The chunk that stands for the most of the statuses, and for how many.
fn next_chunk(statuses: &[u8]) -> (u16, usize) {
    let same = statuses.first().copied().unwrap_or(LOST);
    let run = statuses
        .iter()
        .take_while(|status| **status == same)
        .count();
    // A vector that is not the last has to be full.
    let next = statuses.get(..14).unwrap_or(statuses);
    let narrow = if next.contains(&LARGE) { 0 } else { next.len() };
    let wide = statuses.len().min(7);
    // Statuses that are missing at the end are zeros, which nobody reads.
    let vector = |kind: u16, slots: usize, width: u16| {
        let statuses = statuses.iter().copied().chain(std::iter::repeat(LOST));
        statuses
            .take(slots)
            .fold(kind, |bits, status| bits << width | u16::from(status))
    };
    if run >= narrow.max(wide) {
        let length = u16::try_from(run).expect("a run has 13 bits, and there are fewer statuses");
        (u16::from(same) << 13 | length, run)
    } else if narrow >= wide {
        (vector(0b10, 14, 1), narrow)
    } else {
        (vector(0b11, 7, 2), wide)
    }
}
