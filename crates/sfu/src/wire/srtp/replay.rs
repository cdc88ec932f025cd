//! Which packets came, by stream (RFC 3711 section 3.3.2).

use crate::wire::rtp::unwrap_sequence;

/// How many streams there may be.
pub(super) const STREAMS: usize = 64;
/// How many packets of others make a stream idle, so that a new one may take its place.
pub(super) const IDLE: u64 = 4096;
/// How many packets back one may come. RFC 3711 asks for 64, but where retransmissions keep their
/// sequence number they come a second late, and that is some hundred packets of video.
pub(super) const WINDOW: u64 = 1024;

/// The streams of one direction of one transport.
#[derive(Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// How many packets came. It is the only clock there is.
    came: u64,
}

/// Where a packet goes once it is authenticated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Into the stream that stands there.
    Known(usize),
    /// Into a new stream, in place of the one that stands there, if one does.
    New(usize),
}

impl Streams {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Where a packet with that sequence number goes, and its index: the nearest to the highest so
    /// far. A stream begins before its first wrap. `None` when it may not be taken.
    pub(super) fn place_rtp(&self, ssrc: u32, sequence: u16) -> Option<(Place, u64)> {
        let Some(at) = self.find(ssrc) else {
            return Some((self.new_place()?, u64::from(sequence)));
        };
        let stream = self.streams.get(at)?;
        let index = unwrap_sequence(stream.highest, sequence);
        stream.may_take(index).then_some((Place::Known(at), index))
    }

    /// Where a packet with that index goes. `None` when it may not be taken.
    pub(super) fn place(&self, ssrc: u32, index: u64) -> Option<Place> {
        let Some(at) = self.find(ssrc) else {
            return self.new_place();
        };
        self.streams
            .get(at)?
            .may_take(index)
            .then_some(Place::Known(at))
    }

    /// Notes a packet that was authenticated, in the place that it was given.
    pub(super) fn came(&mut self, place: Place, ssrc: u32, index: u64) {
        self.came += 1;
        match place {
            Place::Known(at) => {
                if let Some(stream) = self.streams.get_mut(at) {
                    stream.take(index);
                    stream.last = self.came;
                }
            }
            Place::New(at) => {
                let stream = Stream::new(ssrc, index, self.came);
                match self.streams.get_mut(at) {
                    Some(old) => *old = stream,
                    None => self.streams.push(stream),
                }
            }
        }
    }

    fn find(&self, ssrc: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.ssrc == ssrc)
    }

    fn new_place(&self) -> Option<Place> {
        if self.streams.len() < STREAMS {
            return Some(Place::New(self.streams.len()));
        }
        let (at, oldest) = self
            .streams
            .iter()
            .enumerate()
            .min_by_key(|(_, stream)| stream.last)?;
        (self.came - oldest.last >= IDLE).then_some(Place::New(at))
    }
}

/// Which of the last packets of one stream came.
struct Stream {
    ssrc: u32,
    /// The highest index that came.
    highest: u64,
    /// What [`Streams::came`] was when the last packet came.
    last: u64,
    /// A bit for each of the last indices, at its remainder.
    window: [u64; (WINDOW / 64) as usize],
}

impl Stream {
    fn new(ssrc: u32, index: u64, last: u64) -> Self {
        let mut stream = Self {
            ssrc,
            highest: index,
            last,
            window: [0; _],
        };
        stream.mark(index);
        stream
    }

    /// Whether a packet did not come yet and is not too old to know.
    fn may_take(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let (word, bit) = slot(index);
        self.highest - index < WINDOW && self.window.get(word).is_some_and(|word| word & bit == 0)
    }

    fn take(&mut self, index: u64) {
        if index.saturating_sub(self.highest) >= WINDOW {
            self.window.fill(0);
        } else {
            for skipped in self.highest + 1..index {
                self.clear(skipped);
            }
        }
        self.highest = self.highest.max(index);
        self.mark(index);
    }

    fn mark(&mut self, index: u64) {
        let (word, bit) = slot(index);
        if let Some(word) = self.window.get_mut(word) {
            *word |= bit;
        }
    }

    fn clear(&mut self, index: u64) {
        let (word, bit) = slot(index);
        if let Some(word) = self.window.get_mut(word) {
            *word &= !bit;
        }
    }
}

/// The word of an index, and its bit in it.
fn slot(index: u64) -> (usize, u64) {
    (((index % WINDOW) / 64) as usize, 1 << (index % 64))
}
