//! The last packets of a stream, for receivers that ask for them again.
//!
//! One history serves all receivers of a layer: what differs between them is made anew from it.

use std::time::{Duration, Instant};

/// How long a packet should be there: two round trips of a slow network.
const SPAN: Duration = Duration::from_millis(700);

/// A packet without its headers.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// The audio level or the orientation of the picture, as it came.
    pub(super) mark: Option<u8>,
    pub(super) payload: Vec<u8>,
    at: Instant,
}

/// A ring that is found in by number. Its places and their bytes are used again and again.
#[derive(Debug)]
pub(super) struct History {
    ring: Vec<Option<Stored>>,
    most: usize,
}

impl History {
    /// A history of at most so many packets, a power of two.
    pub(super) fn new(most: usize) -> Self {
        Self {
            ring: Vec::new(),
            most,
        }
    }

    /// Keeps a packet.
    pub(super) fn store(
        &mut self,
        now: Instant,
        (index, timestamp, marker, mark): (u64, u32, bool, Option<u8>),
        payload: &[u8],
    ) {
        if self.ring.is_empty() {
            self.ring.resize_with(16.min(self.most), || None);
        }
        let young = self.at(index).is_some_and(|held| {
            held.index < index && now.saturating_duration_since(held.at) < SPAN
        });
        if young && self.ring.len() < self.most {
            self.grow();
        }
        let place = self.place(index);
        let slot = &mut self.ring[place];
        match slot {
            // Late ones do not take the place of newer ones.
            Some(held) if held.index > index => {}
            Some(held) => {
                held.payload.clear();
                held.payload.extend_from_slice(payload);
                held.index = index;
                held.timestamp = timestamp;
                held.marker = marker;
                held.mark = mark;
                held.at = now;
            }
            None => {
                *slot = Some(Stored {
                    index,
                    timestamp,
                    marker,
                    mark,
                    payload: payload.to_vec(),
                    at: now,
                });
            }
        }
    }

    /// The packet of this number, if it is still there.
    pub(super) fn get(&self, index: u64) -> Option<&Stored> {
        self.at(index).filter(|held| held.index == index)
    }

    /// Whether the packet of this number was there, or should have been, and a newer one has taken
    /// its place.
    pub(super) fn is_gone(&self, index: u64) -> bool {
        self.at(index).is_some_and(|held| held.index > index)
    }

    fn at(&self, index: u64) -> Option<&Stored> {
        self.ring.get(self.place(index))?.as_ref()
    }

    fn place(&self, index: u64) -> usize {
        let mask = self.ring.len().saturating_sub(1) as u64;
        usize::try_from(index & mask).expect("it is less than the length of the ring")
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.ring);
        self.ring.resize_with(old.len() * 2, || None);
        for stored in old.into_iter().flatten() {
            let place = self.place(stored.index);
            self.ring[place] = Some(stored);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_grows_until_it_spans_long_enough_and_no_further() {
        let now = Instant::now();
        let mut history = History::new(64);
        let put = |history: &mut History, index: u64, at: Instant| {
            history.store(at, (index, 0, false, None), &index.to_be_bytes());
        };
        for index in 0..40 {
            put(&mut history, index, now);
        }
        assert!((0..40).all(|index| history.get(index).is_some()));
        for index in 40..200 {
            put(&mut history, index, now);
        }
        assert_eq!(history.ring.len(), 64);
        assert!(history.get(135).is_none() && history.is_gone(135));
        // What has not come yet is not gone.
        assert!(!history.is_gone(136) && !history.is_gone(200));
        assert_eq!(history.get(136).unwrap().payload, 136_u64.to_be_bytes());

        let mut slow = History::new(64);
        for index in 0..200_u32 {
            put(&mut slow, index.into(), now + SPAN * index / 10);
        }
        assert_eq!(slow.ring.len(), 16);
        // One that comes late does not push out a newer one.
        put(&mut slow, 200 - 32, now + SPAN * 21);
        assert!(slow.get(200 - 16).is_some());
    }
}
