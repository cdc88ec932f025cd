//! What arrives: the rate that the network carries for certain.

use super::Arrived;

/// A slot of time, in µs of arrival.
const SLOT_US: i64 = 50_000;
/// The window is so many slots.
const SLOTS: usize = 12;
const LENGTH: i64 = 12;
/// Fewer packets than this say nothing.
const LEAST_PACKETS: u32 = 5;
/// And so does less time than this, in µs.
const LEAST_SPAN_US: u64 = 120_000;

/// Rates of the same packets at both ends, in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// How fast they left, with those that were lost.
    pub(super) sent: f64,
    /// How fast they came, and not faster than they left.
    pub(super) received: f64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: i64,
    packets: u32,
    bytes: u64,
    /// Of packets that were to come about now.
    lost: u64,
    first_arrival: i64,
    last_arrival: i64,
    first_sent: u64,
    last_sent: u64,
    /// Size of the first to arrive.
    first_bytes: u32,
    /// The longest time without an arrival before one of these.
    gap: u64,
    /// Time that nothing is known of: of sending, and of arriving.
    unknown: (u64, u64),
}

/// The rate of arrivals over the last 0.6 s.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    /// A ring by slot number; what is too old is no longer counted.
    slots: [Option<Slot>; SLOTS],
    /// The last arrival.
    newest: Option<i64>,
    last_sent: u64,
}

impl Throughput {
    /// Takes in a packet.
    pub(super) fn packet(&mut self, packet: &Arrived) {
        let &Arrived {
            sent,
            arrival,
            bytes,
            ..
        } = packet;
        let gap = self.newest.map_or(0, |newest| {
            u64::try_from(arrival.saturating_sub(newest)).unwrap_or(0)
        });
        // What has come in between is not known, so the time in between does not count.
        let unknown = if packet.skipped {
            (sent.saturating_sub(self.last_sent), gap)
        } else {
            (0, 0)
        };
        let gap = gap - unknown.1;
        self.last_sent = self.last_sent.max(sent);
        let number = arrival.div_euclid(SLOT_US);
        if let Some(newest) = self.newest {
            let behind = newest.div_euclid(SLOT_US).saturating_sub(number);
            if behind >= LENGTH {
                // Another clock, or so late that it makes no difference: the clock decides.
                *self = Self::default();
            }
        }
        self.newest = Some(self.newest.map_or(arrival, |newest| newest.max(arrival)));
        let slot = &mut self.slots[index(number)];
        match slot {
            Some(slot) if slot.number == number => {
                slot.packets = slot.packets.saturating_add(1);
                slot.bytes = slot.bytes.saturating_add(u64::from(bytes));
                if arrival < slot.first_arrival {
                    slot.first_arrival = arrival;
                    slot.first_bytes = bytes;
                }
                slot.last_arrival = slot.last_arrival.max(arrival);
                slot.first_sent = slot.first_sent.min(sent);
                slot.last_sent = slot.last_sent.max(sent);
                slot.gap = slot.gap.max(gap);
                slot.unknown.0 = slot.unknown.0.saturating_add(unknown.0);
                slot.unknown.1 = slot.unknown.1.saturating_add(unknown.1);
            }
            _ => {
                *slot = Some(Slot {
                    number,
                    packets: 1,
                    bytes: u64::from(bytes),
                    lost: 0,
                    first_arrival: arrival,
                    last_arrival: arrival,
                    first_sent: sent,
                    last_sent: sent,
                    first_bytes: bytes,
                    gap,
                    unknown,
                });
            }
        }
    }

    /// Takes in a packet that is missing.
    pub(super) fn lost(&mut self, bytes: u16) {
        if let Some(newest) = self.newest
            && let Some(slot) = &mut self.slots[index(newest.div_euclid(SLOT_US))]
        {
            slot.lost = slot.lost.saturating_add(u64::from(bytes));
        }
    }

    /// The rates now. None if too little has arrived to tell.
    pub(super) fn measure(&self) -> Option<Flow> {
        let newest = self.newest?;
        let oldest = newest.div_euclid(SLOT_US).saturating_sub(LENGTH - 1);
        let mut first: Option<Slot> = None;
        let (mut packets, mut bytes, mut lost) = (0_u32, 0_u64, 0_u64);
        let (mut first_sent, mut last_sent) = (u64::MAX, 0);
        for slot in self.slots.iter().flatten() {
            if slot.number < oldest {
                continue;
            }
            if first.is_none_or(|first| slot.number < first.number) {
                first = Some(*slot);
            }
            packets = packets.saturating_add(slot.packets);
            bytes = bytes.saturating_add(slot.bytes);
            lost = lost.saturating_add(slot.lost);
            first_sent = first_sent.min(slot.first_sent);
            last_sent = last_sent.max(slot.last_sent);
        }
        let first = first?;
        // One long silence, and only one, is a pause of the sender rather than of the network.
        let (mut longest, mut second) = (0, 0);
        let mut unknown = (0_u64, 0_u64);
        for slot in self.slots.iter().flatten() {
            if slot.number <= first.number {
                continue;
            }
            unknown.0 = unknown.0.saturating_add(slot.unknown.0);
            unknown.1 = unknown.1.saturating_add(slot.unknown.1);
            if slot.gap > longest {
                (longest, second) = (slot.gap, longest);
            } else {
                second = second.max(slot.gap);
            }
        }
        let came = u64::try_from(newest.saturating_sub(first.first_arrival)).unwrap_or(0);
        let came = came
            .saturating_sub(longest - second)
            .saturating_sub(unknown.1);
        let left = last_sent
            .saturating_sub(first_sent)
            .saturating_sub(unknown.0);
        if packets < LEAST_PACKETS || came.max(left) < LEAST_SPAN_US {
            return None;
        }
        // The first marks where the time begins.
        let bytes = bytes.saturating_sub(u64::from(first.first_bytes));
        let sent = rate(bytes.saturating_add(lost), left.max(LEAST_SPAN_US / 4));
        let received = rate(bytes, came.max(LEAST_SPAN_US / 4));
        Some(Flow {
            sent,
            received: received.min(sent),
        })
    }
}

/// Bits per second.
fn rate(bytes: u64, micros: u64) -> f64 {
    super::float(bytes.saturating_mul(8_000_000)) / super::float(micros.max(1))
}

fn index(number: i64) -> usize {
    usize::try_from(number.rem_euclid(LENGTH)).expect("a remainder by twelve is from 0 to 11")
}
