//! The acknowledged bit rate, which the network is known to carry.

use super::Arrived;

/// Length of a slot, in µs of arrival time.
const SLOT_US: i64 = 50_000;
/// Number of slots in the window.
const SLOTS: usize = 12;
const WINDOW_SLOTS: i64 = 12;
/// Minimum number of packets for a measurement.
const MIN_PACKETS: u32 = 5;
/// Minimum time for a measurement, in µs.
const MIN_SPAN_US: u64 = 120_000;

/// Rates of the same packets at both ends, in bits per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// Send rate, including lost packets.
    pub(super) sent: f64,
    /// Arrival rate, at most the send rate.
    pub(super) received: f64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: i64,
    packets: u32,
    bytes: u64,
    /// Bytes of lost packets that would have arrived in about this slot.
    lost: u64,
    first_arrival: i64,
    last_arrival: i64,
    first_sent: u64,
    last_sent: u64,
    /// Size of the packet that arrived first.
    first_bytes: u32,
    /// Longest time without an arrival before a packet of this slot.
    gap: u64,
    /// Time not covered by feedback: of sending, and of arriving.
    unknown: (u64, u64),
}

/// The rate of arrivals over the last 0.6 s.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    /// Ring indexed by slot number; old slots are ignored.
    slots: [Option<Slot>; SLOTS],
    /// Time of the last arrival.
    newest: Option<i64>,
    last_sent: u64,
}

impl Throughput {
    /// Records an arrived packet.
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
        // Arrivals in between are unknown, so that time does not count.
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
            if behind >= WINDOW_SLOTS {
                // The clock was changed, or the packet is so late that resetting makes no
                // difference.
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

    /// Records a lost packet.
    pub(super) fn lost(&mut self, bytes: u16) {
        if let Some(newest) = self.newest
            && let Some(slot) = &mut self.slots[index(newest.div_euclid(SLOT_US))]
        {
            slot.lost = slot.lost.saturating_add(u64::from(bytes));
        }
    }

    /// Returns the current rates, or `None` if too few packets have arrived.
    pub(super) fn measure(&self) -> Option<Flow> {
        let newest = self.newest?;
        let oldest = newest.div_euclid(SLOT_US).saturating_sub(WINDOW_SLOTS - 1);
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
        // A single long gap is a pause of the sender, not of the network.
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
        let arrival_us = u64::try_from(newest.saturating_sub(first.first_arrival)).unwrap_or(0);
        let arrival_us = arrival_us
            .saturating_sub(longest - second)
            .saturating_sub(unknown.1);
        let send_us = last_sent
            .saturating_sub(first_sent)
            .saturating_sub(unknown.0);
        if packets < MIN_PACKETS || arrival_us.max(send_us) < MIN_SPAN_US {
            return None;
        }
        // The first packet only marks the beginning of the time span.
        let bytes = bytes.saturating_sub(u64::from(first.first_bytes));
        let sent = rate(bytes.saturating_add(lost), send_us.max(MIN_SPAN_US / 4));
        let received = rate(bytes, arrival_us.max(MIN_SPAN_US / 4));
        Some(Flow {
            sent,
            received: received.min(sent),
        })
    }
}

/// Converts to bits per second.
fn rate(bytes: u64, micros: u64) -> f64 {
    super::float(bytes.saturating_mul(8_000_000)) / super::float(micros.max(1))
}

fn index(number: i64) -> usize {
    usize::try_from(number.rem_euclid(WINDOW_SLOTS)).expect("less than the number of slots")
}
