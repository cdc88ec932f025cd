//! Statistics of a thread.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Stats;

/// The fields of [`Stats`]. Written by the thread; can be read from any thread.
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; 12]);

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        let numbers: [u64; 12] = array::from_fn(|index| self.0[index].load(Ordering::Relaxed));
        let [
            open,
            connected,
            producers,
            consumers,
            datagrams_in,
            datagrams_out,
            dropped,
            panics,
            refused @ ..,
        ] = numbers;
        Stats {
            open_transports: open,
            connected_transports: connected,
            producers,
            consumers,
            datagrams_in,
            datagrams_out,
            datagrams_dropped: dropped,
            panics,
            refused,
        }
    }

    pub(super) fn write(&self, stats: &Stats) {
        let numbers = [
            stats.open_transports,
            stats.connected_transports,
            stats.producers,
            stats.consumers,
            stats.datagrams_in,
            stats.datagrams_out,
            stats.datagrams_dropped,
            stats.panics,
        ];
        let numbers = numbers.into_iter().chain(stats.refused);
        for (counter, number) in self.0.iter().zip(numbers) {
            counter.store(number, Ordering::Relaxed);
        }
    }
}
