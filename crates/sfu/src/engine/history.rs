//! The last packets of a stream, for retransmission.
//!
//! All subscribers of a layer share one history: the numbers that differ between them are rewritten
//! on each retransmission.

use std::time::{Duration, Instant};

/// How long a packet should be kept: two round trips of a slow network.
const RETENTION: Duration = Duration::from_millis(700);

/// A packet without its headers.
#[derive(Debug, Clone)]
pub(super) struct StoredPacket {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// The audio level or the video orientation, as received.
    pub(super) extension: Option<u8>,
    pub(super) payload: Vec<u8>,
    at: Instant,
}

/// A ring indexed by sequence number, whose slots and their buffers are reused.
#[derive(Debug)]
pub(super) struct History {
    ring: Vec<Option<StoredPacket>>,
    max_packets: usize,
}

impl History {
    /// Creates a history of at most `max_packets`, which must be a power of two.
    pub(super) fn new(max_packets: usize) -> Self {
        Self {
            ring: Vec::new(),
            max_packets,
        }
    }

    /// Stores a packet.
    pub(super) fn store(
        &mut self,
        now: Instant,
        (index, timestamp, marker, extension): (u64, u32, bool, Option<u8>),
        payload: &[u8],
    ) {
        if self.ring.is_empty() {
            self.ring.resize_with(16.min(self.max_packets), || None);
        }
        let is_recent = self.at(index).is_some_and(|held| {
            held.index < index && now.saturating_duration_since(held.at) < RETENTION
        });
        if is_recent && self.ring.len() < self.max_packets {
            self.grow();
        }
        let slot = self.slot_of(index);
        let entry = &mut self.ring[slot];
        match entry {
            // A late packet does not replace a newer one.
            Some(held) if held.index > index => {}
            Some(held) => {
                held.payload.clear();
                held.payload.extend_from_slice(payload);
                held.index = index;
                held.timestamp = timestamp;
                held.marker = marker;
                held.extension = extension;
                held.at = now;
            }
            None => {
                *entry = Some(StoredPacket {
                    index,
                    timestamp,
                    marker,
                    extension,
                    payload: payload.to_vec(),
                    at: now,
                });
            }
        }
    }

    /// Returns the packet with this number, if it is still stored.
    pub(super) fn get(&self, index: u64) -> Option<&StoredPacket> {
        self.at(index).filter(|held| held.index == index)
    }

    /// Whether the slot of this number has been taken by a newer packet.
    pub(super) fn is_evicted(&self, index: u64) -> bool {
        self.at(index).is_some_and(|held| held.index > index)
    }

    fn at(&self, index: u64) -> Option<&StoredPacket> {
        self.ring.get(self.slot_of(index))?.as_ref()
    }

    fn slot_of(&self, index: u64) -> usize {
        let mask = self.ring.len().saturating_sub(1) as u64;
        usize::try_from(index & mask).expect("less than the length of the ring")
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.ring);
        self.ring.resize_with(old.len() * 2, || None);
        for stored in old.into_iter().flatten() {
            let slot = self.slot_of(stored.index);
            self.ring[slot] = Some(stored);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_grows_only_until_it_covers_the_retention_time() {
        let now = Instant::now();
        let mut history = History::new(64);
        let store = |history: &mut History, index: u64, at: Instant| {
            history.store(at, (index, 0, false, None), &index.to_be_bytes());
        };
        for index in 0..40 {
            store(&mut history, index, now);
        }
        assert!((0..40).all(|index| history.get(index).is_some()));
        for index in 40..200 {
            store(&mut history, index, now);
        }
        assert_eq!(history.ring.len(), 64);
        assert!(history.get(135).is_none() && history.is_evicted(135));
        // Packets that have not arrived yet do not count as evicted.
        assert!(!history.is_evicted(136) && !history.is_evicted(200));
        assert_eq!(history.get(136).unwrap().payload, 136_u64.to_be_bytes());

        let mut slow = History::new(64);
        for index in 0..200_u32 {
            store(&mut slow, index.into(), now + RETENTION * index / 10);
        }
        assert_eq!(slow.ring.len(), 16);
        // A late packet does not replace a newer one.
        store(&mut slow, 200 - 32, now + RETENTION * 21);
        assert!(slow.get(200 - 16).is_some());
    }
}
