//! The datagrams to one client that are sent together.
//!
//! They are stored contiguously, so that datagrams of one size can be passed to the kernel in one
//! call (UDP segmentation offload).

/// Datagrams in sending order.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// Begins a datagram, which the caller appends to the returned buffer from the returned offset;
    /// [`Outbox::end`] completes it.
    pub(super) fn begin(&mut self) -> (&mut Vec<u8>, usize) {
        let start = self.bytes.len();
        (&mut self.bytes, start)
    }

    /// Completes the datagram that was begun last. Nothing is queued if it could not be sealed and
    /// is empty.
    pub(super) fn end(&mut self) {
        if self.ends.last().copied().unwrap_or_default() < self.bytes.len() {
            self.ends.push(self.bytes.len());
        }
    }

    /// Queues a complete datagram.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.end();
    }

    /// Returns the number of queued bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the capacity of the buffer, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Returns the datagrams one by one.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let datagram = &self.bytes[start..end];
            start = end;
            datagram
        })
    }

    /// Returns runs of at most `most` datagrams of the same size, of which the last may be shorter:
    /// the bytes of the run, the size of a datagram, and their number.
    pub(crate) fn runs(&self, most: usize) -> Runs<'_> {
        Runs {
            outbox: self,
            next: 0,
            start: 0,
            most: most.max(1),
        }
    }
}

/// The iterator of [`Outbox::runs`].
pub(crate) struct Runs<'a> {
    outbox: &'a Outbox,
    next: usize,
    start: usize,
    most: usize,
}

/// Maximum size of a run, in bytes: what fits into the IP packet that the kernel segments.
const RUN_BYTES: usize = 60_000;

impl<'a> Iterator for Runs<'a> {
    type Item = (&'a [u8], usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let ends = &self.outbox.ends;
        let begin = self.start;
        let mut end = *ends.get(self.next)?;
        let size = end - begin;
        let mut count = 1;
        while let Some(&after) = ends.get(self.next + count) {
            let fits = count < self.most && after - begin <= RUN_BYTES;
            // A shorter datagram ends the run.
            let whole = end - begin == size * count;
            if !fits || !whole || after - end > size {
                break;
            }
            end = after;
            count += 1;
        }
        self.next += count;
        self.start = end;
        Some((&self.outbox.bytes[begin..end], size, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_with_a_shorter_datagram_and_contain_no_longer_one() {
        let mut outbox = Outbox::default();
        for size in [3, 3, 3, 2, 3, 5, 5, 1] {
            outbox.push(&vec![7; size]);
        }
        let runs: Vec<_> = outbox
            .runs(64)
            .map(|(bytes, size, count)| (bytes.len(), size, count))
            .collect();
        assert_eq!(runs, [(11, 3, 4), (3, 3, 1), (11, 5, 3)]);
        assert_eq!(outbox.runs(2).count(), 5);
        assert_eq!(outbox.datagrams().map(<[u8]>::len).sum::<usize>(), 25);
    }
}
