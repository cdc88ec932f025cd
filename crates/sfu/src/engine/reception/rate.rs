//! The bit rate of a stream over the last second.

/// The length of a bin in µs. The result is as old as this at most.
const BIN: u64 = 100_000;

/// The current bin and a second of full ones before it.
const BINS: usize = 11;

/// How many bins are a second.
const SECOND: u64 = 10;

/// A stream that began less than this many µs ago is not extrapolated further: it begins with a
/// key frame.
const SHORTEST: u64 = 500_000;

/// Bytes in bins of 100 ms. Times are in µs since the first packet.
#[derive(Debug, Default)]
pub(super) struct Rate {
    bins: [u64; BINS],
    /// The number of the bin that was filled last.
    latest: u64,
    /// When it began, for the first time or after a silence longer than what is remembered.
    began: u64,
}

impl Rate {
    /// Bytes came.
    pub(super) fn add(&mut self, now: u64, bytes: u64) {
        let bin = now / BIN;
        if bin.saturating_sub(self.latest) > SECOND {
            self.bins = Default::default();
            self.began = now;
            self.latest = bin;
        }
        while self.latest < bin {
            self.latest += 1;
            *self.bin(self.latest) = 0;
        }
        let latest = self.bin(self.latest);
        *latest = latest.saturating_add(bytes);
    }

    /// How many bits per second it has been.
    pub(super) fn bits_per_second(&self, now: u64) -> u64 {
        let newest = self.latest.max(now / BIN);
        let oldest = newest.saturating_sub(SECOND);
        let bytes = (oldest..=self.latest)
            .map(|bin| self.bins[Self::place(bin)])
            .fold(0, u64::saturating_add);
        let since = (oldest * BIN).max(self.began);
        let span = now.saturating_sub(since).max(SHORTEST);
        let bits = u128::from(bytes) * 8 * 1_000_000 / u128::from(span);
        u64::try_from(bits).unwrap_or(u64::MAX)
    }

    fn bin(&mut self, bin: u64) -> &mut u64 {
        &mut self.bins[Self::place(bin)]
    }

    fn place(bin: u64) -> usize {
        usize::try_from(bin % (SECOND + 1)).expect("less than the number of bins")
    }
}
