//! The packets that were sent recently.

/// Maximum number of packets remembered: one second of 39 Mbit/s in packets of 1200 bytes.
const MAX_PACKETS: usize = 4096;

/// Initial capacity, allocated with the first packet.
const INITIAL_CAPACITY: usize = 256;

/// A ring of sent packets, which grows while more packets are in flight than it holds.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Its length is a power of two, or zero before the first packet.
    ring: Vec<Record>,
    /// Number of packets sent. The low 16 bits are the next sequence number.
    next: u64,
    /// One more than the highest packet that feedback has covered.
    covered: u64,
}

/// A packet that feedback has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketFeedback {
    /// Number of the packet, without wrapping.
    pub(super) index: u64,
    /// Send time, in µs.
    pub(super) sent: u64,
    /// Size, in bytes.
    pub(super) bytes: u16,
    /// Whether no feedback covered the packet before it.
    pub(super) skipped: bool,
    /// Whether it has arrived after it was reported as lost.
    pub(super) was_lost: bool,
}

/// A packet in eight bytes: 46 bits of send time in µs, which is two years; 16 bits of size; 2 bits
/// of status.
#[derive(Debug, Clone, Copy, Default)]
struct Record(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    InFlight,
    Lost,
    Arrived,
}

impl Record {
    const fn new(sent: u64, bytes: u16) -> Self {
        Self(sent << 18 | (bytes as u64) << 2)
    }

    const fn sent(self) -> u64 {
        self.0 >> 18
    }

    const fn bytes(self) -> u16 {
        (self.0 >> 2 & 0xffff) as u16
    }

    const fn status(self) -> Status {
        match self.0 & 3 {
            0 => Status::InFlight,
            1 => Status::Lost,
            _ => Status::Arrived,
        }
    }

    const fn set_status(&mut self, status: Status) {
        let bits = match status {
            Status::InFlight => 0,
            Status::Lost => 1,
            Status::Arrived => 2,
        };
        self.0 = self.0 & !3 | bits;
    }
}

impl History {
    /// Records a packet and returns its index.
    pub(super) fn sent(&mut self, at: u64, bytes: u16) -> u64 {
        if self.unacknowledged() >= self.ring.len() as u64 && self.ring.len() < MAX_PACKETS {
            self.grow();
        }
        let index = self.next;
        let slot = slot(&self.ring, index);
        self.ring[slot] = Record::new(at, bytes);
        self.next += 1;
        index
    }

    /// Returns the sequence number on the wire.
    #[expect(clippy::cast_possible_truncation, reason = "numbers wrap")]
    pub(super) const fn number(index: u64) -> u16 {
        index as u16
    }

    /// Records the status of the packet with this number, and returns the packet, or `None` if the
    /// status is not new.
    pub(super) fn record_feedback(&mut self, number: u16, arrived: bool) -> Option<PacketFeedback> {
        let back = match Self::number(self.next).wrapping_sub(number) {
            0 => 1 << 16,
            back => u64::from(back),
        };
        if back > self.ring.len() as u64 {
            return None;
        }
        let index = self.next.checked_sub(back)?;
        let skipped = index > self.covered;
        self.covered = self.covered.max(index + 1);
        let slot = slot(&self.ring, index);
        let record = self.ring.get_mut(slot)?;
        let was_lost = match record.status() {
            Status::Arrived => return None,
            Status::Lost if !arrived => return None,
            Status::Lost => true,
            Status::InFlight => false,
        };
        record.set_status(if arrived {
            Status::Arrived
        } else {
            Status::Lost
        });
        Some(PacketFeedback {
            index,
            sent: record.sent(),
            bytes: record.bytes(),
            skipped,
            was_lost,
        })
    }

    /// Returns the number of packets sent after the last one that feedback has covered.
    pub(super) const fn unacknowledged(&self) -> u64 {
        self.next - self.covered
    }

    /// Returns the index after the last packet that feedback has covered.
    pub(super) const fn first_unacknowledged(&self) -> u64 {
        self.covered
    }

    /// Returns the allocated memory, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<Record>()
    }

    fn grow(&mut self) {
        let longer =
            vec![Record::default(); (self.ring.len() * 2).clamp(INITIAL_CAPACITY, MAX_PACKETS)];
        let old = std::mem::replace(&mut self.ring, longer);
        let kept = self.next.min(old.len() as u64);
        for index in self.next - kept..self.next {
            let slot_now = slot(&self.ring, index);
            self.ring[slot_now] = old[slot(&old, index)];
        }
    }
}

/// Returns the slot of an index in a ring that is not empty.
#[expect(clippy::cast_possible_truncation, reason = "masked by the length")]
const fn slot(ring: &[Record], index: u64) -> usize {
    index as usize & (ring.len() - 1)
}
