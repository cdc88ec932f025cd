//! The bit rate of a stream over the last second.

/// Length of a bin in µs: the maximum age of the result.
const BIN_US: u64 = 100_000;

/// The current bin and one second of complete bins.
const BINS: usize = 11;

/// Number of bins in a second.
const BINS_PER_SECOND: u64 = 10;

/// Minimum span for the rate, in µs. A stream that started more recently is not extrapolated
/// further, since it starts with a key frame.
const MIN_SPAN: u64 = 500_000;

/// Bytes received, in bins of 100 ms. Times are in µs since the first packet.
#[derive(Debug, Default)]
pub(super) struct Rate {
    bins: [u64; BINS],
    /// Number of the bin that was filled last.
    latest: u64,
    /// When the stream started, or resumed after a silence longer than the remembered second.
    started: u64,
}

impl Rate {
    /// Records received bytes.
    pub(super) fn add(&mut self, now: u64, bytes: u64) {
        let bin = now / BIN_US;
        if bin.saturating_sub(self.latest) > BINS_PER_SECOND {
            self.bins = Default::default();
            self.started = now;
            self.latest = bin;
        }
        while self.latest < bin {
            self.latest += 1;
            *self.bin(self.latest) = 0;
        }
        let latest = self.bin(self.latest);
        *latest = latest.saturating_add(bytes);
    }

    /// Returns the bit rate, in bits per second.
    pub(super) fn bits_per_second(&self, now: u64) -> u64 {
        let newest = self.latest.max(now / BIN_US);
        let oldest = newest.saturating_sub(BINS_PER_SECOND);
        let bytes = (oldest..=self.latest)
            .map(|bin| self.bins[Self::slot_of(bin)])
            .fold(0, u64::saturating_add);
        let since = (oldest * BIN_US).max(self.started);
        let span = now.saturating_sub(since).max(MIN_SPAN);
        let bits = u128::from(bytes) * 8 * 1_000_000 / u128::from(span);
        u64::try_from(bits).unwrap_or(u64::MAX)
    }

    fn bin(&mut self, bin: u64) -> &mut u64 {
        &mut self.bins[Self::slot_of(bin)]
    }

    fn slot_of(bin: u64) -> usize {
        usize::try_from(bin % (BINS_PER_SECOND + 1)).expect("less than the number of bins")
    }
}
