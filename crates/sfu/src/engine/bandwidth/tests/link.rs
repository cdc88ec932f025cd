//! A subscriber behind a bottleneck, in virtual time: what is sent waits in a queue, takes its
//! time, arrives or not, and is fed back as a browser does it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::{Bandwidth, Cluster, Settings};

/// Virtual time advances by this, in µs.
const TICK: u64 = 1_000;
/// A browser feeds back this often, in µs.
const FEEDBACK: u64 = 100_000;
/// Media goes out this often, in µs.
const FRAME: u64 = 33_000;
const PACKET: u64 = 1_200;
/// Added to what the remote clock shows, in µs.
const OTHER_CLOCK: i64 = 7_777_000_000;

/// A network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    /// What it carries, in bits per second. None while it is cut.
    pub(super) bps: Option<u64>,
    /// What waits at most, in bytes.
    pub(super) queue: u64,
    /// Each way, in µs.
    pub(super) delay: u64,
    /// Up to so much more for each packet, in µs. Packets do not overtake each other.
    pub(super) jitter: u64,
    /// So many of a thousand packets are lost.
    pub(super) loss: u64,
}

impl Network {
    pub(super) fn of(bps: u64) -> Self {
        Self {
            bps: Some(bps),
            queue: (bps / 8 / 2).max(20_000),
            delay: 25_000,
            jitter: 1_000,
            loss: 0,
        }
    }
}

/// What is there to send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// As much as may be, up to so many bits per second.
    Elastic(u64),
    /// The best layer that fits, of so many bits per second each.
    Layers(&'static [u64]),
    /// So many bits per second, whatever may be.
    Fixed(u64),
    /// The same, and nothing is said of it.
    Unsaid(u64),
}

/// What one feedback says.
type Feedback = Vec<(u16, Option<i64>)>;

/// Everything together.
pub(super) struct World {
    pub(super) bandwidth: Bandwidth,
    pub(super) network: Network,
    pub(super) source: Source,
    /// Whether padding that is asked for is sent.
    pub(super) pads: bool,
    /// How often the estimate is polled, in µs.
    pub(super) poll: u64,
    /// How often the browser feeds back, in µs.
    pub(super) feedback: u64,
    /// So many of a thousand feedbacks are lost.
    pub(super) feedback_loss: u64,
    /// At most so many packets leave at once.
    pub(super) burst: u64,
    start: Instant,
    /// In µs.
    pub(super) time: u64,
    random: u64,
    /// Bytes that the source owes.
    owed: u64,
    next_frame: u64,
    next_feedback: u64,
    /// When the bottleneck is free, in µs.
    free: u64,
    /// Bytes in the queue, with when they leave it.
    queue: VecDeque<(u64, u64)>,
    queued: u64,
    /// (number, arrival in µs), in the order of arrival.
    under_way: VecDeque<(u16, u64)>,
    came: Vec<(u16, u64)>,
    /// The next number that feedback is about.
    expected: Option<u16>,
    /// Feedback on its way back, by when it comes.
    back: VecDeque<(u64, Feedback)>,
    /// The longest that a packet has waited since it was last asked, in µs.
    pub(super) longest_wait: u64,
    /// How often the estimate was asked to do something at its own time.
    pub(super) wakes: u64,
    /// Each padding packet: its cluster, when it left in µs, its bytes.
    pub(super) probes: Vec<(Cluster, u64, u64)>,
}

impl World {
    pub(super) fn new(seed: u64, network: Network, source: Source) -> Self {
        let start = Instant::now();
        Self {
            bandwidth: Bandwidth::new(start, Settings::default()),
            network,
            source,
            pads: true,
            poll: TICK,
            feedback: FEEDBACK,
            feedback_loss: 0,
            burst: 2,
            start,
            time: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            owed: 0,
            next_frame: 0,
            next_feedback: FEEDBACK,
            free: 0,
            queue: VecDeque::new(),
            queued: 0,
            under_way: VecDeque::new(),
            came: Vec::new(),
            expected: None,
            back: VecDeque::new(),
            longest_wait: 0,
            wakes: 0,
            probes: Vec::new(),
        }
    }

    /// Lets time pass. Returns (least, average, most) of the estimate over it, in bits per second.
    pub(super) fn run(&mut self, seconds: f64) -> (u64, u64, u64) {
        let until = self.time + micros(seconds);
        let (mut least, mut sum, mut most, mut ticks) = (u64::MAX, 0, 0, 0);
        while self.time < until {
            self.tick();
            let estimate = self.bandwidth.estimate();
            least = least.min(estimate);
            most = most.max(estimate);
            sum += estimate;
            ticks += 1;
        }
        (least, sum / ticks, most)
    }

    /// The bottleneck carries nothing for so long and loses nothing either.
    pub(super) fn stall(&mut self, seconds: f64) {
        self.free = self.free.max(self.time) + micros(seconds);
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.time)
    }

    fn tick(&mut self) {
        self.time += TICK;
        self.arrive();
        self.feed_back();
        if self
            .bandwidth
            .next_timeout()
            .is_some_and(|due| due <= self.now())
        {
            self.wakes += 1;
            if let Some(probe) = self.bandwidth.poll_probe(self.now())
                && self.pads
            {
                let mut left = probe.bytes as u64;
                while left > 0 {
                    let bytes = left.min(PACKET);
                    self.send(bytes, Some(probe.cluster));
                    self.probes.push((probe.cluster, self.time, bytes));
                    left -= bytes;
                }
            }
        }
        if self.time >= self.next_frame {
            self.next_frame += FRAME;
            let bps = self.source_bps();
            self.owed += bps * FRAME / 8_000_000;
        }
        // The publisher has spread what belongs to one frame.
        for _ in 0..self.burst {
            if self.owed == 0 {
                break;
            }
            let bytes = self.owed.min(PACKET);
            self.owed -= bytes;
            self.send(bytes, None);
        }
    }

    fn source_bps(&mut self) -> u64 {
        let estimate = self.bandwidth.estimate();
        match self.source {
            Source::Elastic(most) => {
                self.bandwidth.wants(most);
                estimate.min(most)
            }
            Source::Layers(layers) => {
                self.bandwidth.wants(*layers.last().unwrap());
                let fits = layers.iter().rev().find(|layer| **layer <= estimate);
                fits.copied().unwrap_or(0)
            }
            Source::Unsaid(bps) => bps,
            Source::Fixed(bps) => {
                self.bandwidth.wants(bps);
                bps
            }
        }
    }

    pub(super) fn send(&mut self, bytes: u64, probe: Option<Cluster>) {
        let size = usize::try_from(bytes).unwrap();
        let number = self.bandwidth.sent(self.now(), size, probe);
        while let Some((leaves, bytes)) = self.queue.front().copied()
            && leaves <= self.time
        {
            self.queue.pop_front();
            self.queued -= bytes;
        }
        let Some(bps) = self.network.bps else { return };
        if self.queued + bytes > self.network.queue || self.chance(1_000) < self.network.loss {
            return;
        }
        self.free = self.free.max(self.time) + bytes * 8_000_000 / bps;
        self.queue.push_back((self.free, bytes));
        self.queued += bytes;
        self.longest_wait = self.longest_wait.max(self.free - self.time);
        let jitter = self.chance(self.network.jitter + 1);
        let arrival = self.free + self.network.delay + jitter;
        let after = self.under_way.back().map_or(0, |(_, arrival)| *arrival);
        self.under_way.push_back((number, arrival.max(after)));
    }

    fn arrive(&mut self) {
        while let Some((number, arrival)) = self.under_way.front().copied()
            && arrival <= self.time
        {
            self.under_way.pop_front();
            self.came.push((number, arrival));
        }
    }

    fn feed_back(&mut self) {
        if self.time >= self.next_feedback {
            self.next_feedback += self.feedback;
            if let (Some((first, _)), Some((last, _))) = (self.came.first(), self.came.last()) {
                let first = self.expected.unwrap_or(*first);
                let count = last.wrapping_sub(first).wrapping_add(1);
                let mut arrivals: Vec<_> =
                    (0..count).map(|n| (first.wrapping_add(n), None)).collect();
                for (number, arrival) in &self.came {
                    // The format counts in steps of 250 µs.
                    let arrival = (*arrival / 250 * 250).cast_signed() + OTHER_CLOCK;
                    arrivals[usize::from(number.wrapping_sub(first))].1 = Some(arrival);
                }
                self.expected = Some(last.wrapping_add(1));
                self.came.clear();
                if self.network.bps.is_some() && self.chance(1_000) >= self.feedback_loss {
                    let delay = self.network.delay;
                    self.back.push_back((self.time + delay, arrivals));
                }
            }
        }
        while self.back.front().is_some_and(|(at, _)| *at <= self.time) {
            let (_, arrivals) = self.back.pop_front().unwrap();
            self.bandwidth.feedback(self.now(), arrivals.into_iter());
        }
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn micros(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap()
}
