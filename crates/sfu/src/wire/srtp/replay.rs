//! Replay protection by stream (RFC 3711 section 3.3.2).

use crate::wire::rtp::unwrap_sequence;

/// Maximum number of streams.
pub(super) const MAX_STREAMS: usize = 64;
/// Number of packets of other streams after which a stream is idle, so that a new one may evict it.
pub(super) const IDLE: u64 = 4096;
/// Size of the replay window, in packets. RFC 3711 requires 64, but retransmissions that keep their
/// sequence number arrive up to a second late, which is several hundred packets of video.
pub(super) const WINDOW: u64 = 1024;

/// The streams that are received on a transport.
#[derive(Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// The number of packets received, which serves as the clock.
    received: u64,
}

/// The slot of a packet's stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum StreamSlot {
    /// The index of a known stream.
    Known(usize),
    /// The index for a new stream. It may be that of a stream to evict.
    New(usize),
}

impl Streams {
    /// Returns the number of streams.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns the slot and the index of an RTP packet. The index is the one nearest to the highest
    /// index of the stream; the rollover counter of a new stream is 0. Returns `None` if the packet
    /// must be rejected.
    pub(super) fn locate_rtp(&self, ssrc: u32, sequence: u16) -> Option<(StreamSlot, u64)> {
        let Some(at) = self.find(ssrc) else {
            return Some((self.new_slot()?, u64::from(sequence)));
        };
        let stream = self.streams.get(at)?;
        let index = unwrap_sequence(stream.highest, sequence);
        let slot = StreamSlot::Known(at);
        stream.accepts(index).then_some((slot, index))
    }

    /// Returns the slot of a packet with this index. Returns `None` if the packet must be rejected.
    pub(super) fn locate(&self, ssrc: u32, index: u64) -> Option<StreamSlot> {
        let Some(at) = self.find(ssrc) else {
            return self.new_slot();
        };
        self.streams
            .get(at)?
            .accepts(index)
            .then_some(StreamSlot::Known(at))
    }

    /// Records an authenticated packet.
    pub(super) fn record(&mut self, slot: StreamSlot, ssrc: u32, index: u64) {
        self.received += 1;
        match slot {
            StreamSlot::Known(at) => {
                if let Some(stream) = self.streams.get_mut(at) {
                    stream.record(index);
                    stream.last = self.received;
                }
            }
            StreamSlot::New(at) => {
                let stream = Stream::new(ssrc, index, self.received);
                match self.streams.get_mut(at) {
                    Some(old) => *old = stream,
                    None => self.streams.push(stream),
                }
            }
        }
    }

    fn find(&self, ssrc: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.ssrc == ssrc)
    }

    fn new_slot(&self) -> Option<StreamSlot> {
        if self.streams.len() < MAX_STREAMS {
            return Some(StreamSlot::New(self.streams.len()));
        }
        let (at, oldest) = self
            .streams
            .iter()
            .enumerate()
            .min_by_key(|(_, stream)| stream.last)?;
        (self.received - oldest.last >= IDLE).then_some(StreamSlot::New(at))
    }
}

/// The replay window of one stream.
struct Stream {
    ssrc: u32,
    /// The highest index received.
    highest: u64,
    /// The value of [`Streams::received`] at the last packet.
    last: u64,
    /// A ring of bits, one for each of the last [`WINDOW`] indices.
    window: [u64; (WINDOW / 64) as usize],
}

impl Stream {
    fn new(ssrc: u32, index: u64, last: u64) -> Self {
        let mut stream = Self {
            ssrc,
            highest: index,
            last,
            window: [0; _],
        };
        stream.mark(index);
        stream
    }

    /// Returns whether a packet is neither a replay nor older than the window.
    fn accepts(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let (word, bit) = position(index);
        self.highest - index < WINDOW && self.window.get(word).is_some_and(|word| word & bit == 0)
    }

    /// Marks a packet as received and advances the window.
    fn record(&mut self, index: u64) {
        if index.saturating_sub(self.highest) >= WINDOW {
            self.window.fill(0);
        } else {
            for skipped in self.highest + 1..index {
                self.clear(skipped);
            }
        }
        self.highest = self.highest.max(index);
        self.mark(index);
    }

    fn mark(&mut self, index: u64) {
        let (word, bit) = position(index);
        if let Some(word) = self.window.get_mut(word) {
            *word |= bit;
        }
    }

    fn clear(&mut self, index: u64) {
        let (word, bit) = position(index);
        if let Some(word) = self.window.get_mut(word) {
            *word &= !bit;
        }
    }
}

/// Returns the word of an index in the window, and its bit.
fn position(index: u64) -> (usize, u64) {
    (((index % WINDOW) / 64) as usize, 1 << (index % 64))
}
