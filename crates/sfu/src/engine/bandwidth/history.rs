//! What was sent and not yet forgotten.

/// So many packets are remembered at most: a second of 39 Mbit/s in packets of 1200 bytes.
const MOST: usize = 4096;

/// And room for so many is made with the first.
const FIRST: usize = 256;

/// Memory of sent packets: a ring that grows while more is under way than it holds.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Its length is a power of two, or zero before the first packet.
    ring: Vec<Record>,
    /// How many were sent. The low 16 bits are the next number.
    next: u64,
    /// One after the highest that feedback has spoken of.
    answered: u64,
}

/// What feedback said about a packet that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its place among all that were sent.
    pub(super) index: u64,
    /// When it was, in µs.
    pub(super) sent: u64,
    /// Its size.
    pub(super) bytes: u16,
    /// Feedback has never spoken of the one before it.
    pub(super) skipped: bool,
    /// It has arrived, and had been reported as lost.
    pub(super) was_lost: bool,
}

/// A packet in eight bytes: 46 bits of µs, which is two years; 16 bits of size; 2 bits of fate.
#[derive(Debug, Clone, Copy, Default)]
struct Record(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    UnderWay,
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

    const fn fate(self) -> Fate {
        match self.0 & 3 {
            0 => Fate::UnderWay,
            1 => Fate::Lost,
            _ => Fate::Arrived,
        }
    }

    const fn meets(&mut self, fate: Fate) {
        let bits = match fate {
            Fate::UnderWay => 0,
            Fate::Lost => 1,
            Fate::Arrived => 2,
        };
        self.0 = self.0 & !3 | bits;
    }
}

impl History {
    /// Remembers a packet and says its place.
    pub(super) fn sent(&mut self, at: u64, bytes: u16) -> u64 {
        if self.unanswered() >= self.ring.len() as u64 && self.ring.len() < MOST {
            self.grow();
        }
        let index = self.next;
        let slot = slot(&self.ring, index);
        self.ring[slot] = Record::new(at, bytes);
        self.next += 1;
        index
    }

    /// The number on the wire for a place.
    #[expect(clippy::cast_possible_truncation, reason = "numbers wrap")]
    pub(super) const fn number(index: u64) -> u16 {
        index as u16
    }

    /// Which packet a number is about, and that its fate is known now. None if that is no news.
    pub(super) fn answered(&mut self, number: u16, arrived: bool) -> Option<Answer> {
        let back = match Self::number(self.next).wrapping_sub(number) {
            0 => 1 << 16,
            back => u64::from(back),
        };
        if back > self.ring.len() as u64 {
            return None;
        }
        let index = self.next.checked_sub(back)?;
        let skipped = index > self.answered;
        self.answered = self.answered.max(index + 1);
        let slot = slot(&self.ring, index);
        let record = self.ring.get_mut(slot)?;
        let was_lost = match record.fate() {
            Fate::Arrived => return None,
            Fate::Lost if !arrived => return None,
            Fate::Lost => true,
            Fate::UnderWay => false,
        };
        record.meets(if arrived { Fate::Arrived } else { Fate::Lost });
        Some(Answer {
            index,
            sent: record.sent(),
            bytes: record.bytes(),
            skipped,
            was_lost,
        })
    }

    /// How many have been sent since the last that feedback has spoken of.
    pub(super) const fn unanswered(&self) -> u64 {
        self.next - self.answered
    }

    /// The place after the last that feedback has spoken of.
    pub(super) const fn first_unanswered(&self) -> u64 {
        self.answered
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<Record>()
    }

    fn grow(&mut self) {
        let longer = vec![Record::default(); (self.ring.len() * 2).clamp(FIRST, MOST)];
        let old = std::mem::replace(&mut self.ring, longer);
        let kept = self.next.min(old.len() as u64);
        for index in self.next - kept..self.next {
            let slot_now = slot(&self.ring, index);
            self.ring[slot_now] = old[slot(&old, index)];
        }
    }
}

/// Where a place is in a ring that is not empty.
#[expect(clippy::cast_possible_truncation, reason = "masked by the length")]
const fn slot(ring: &[Record], index: u64) -> usize {
    index as usize & (ring.len() - 1)
}
