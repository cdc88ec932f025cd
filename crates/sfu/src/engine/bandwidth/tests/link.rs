//! A subscriber behind a bottleneck, in virtual time: packets are queued, delayed, delivered or
//! lost, and acknowledged as by a browser.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::{Bandwidth, ClusterId, Settings};

/// Step of the virtual time, in µs.
const TICK: u64 = 1_000;
/// Feedback interval of a browser, in µs.
const FEEDBACK: u64 = 100_000;
/// Interval between video frames, in µs.
const FRAME: u64 = 33_000;
const PACKET: u64 = 1_200;
/// Offset of the remote clock, in µs.
const REMOTE_CLOCK_OFFSET: i64 = 7_777_000_000;

/// The properties of a network path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    /// Capacity in bits per second, or `None` while the path is down.
    pub(super) bps: Option<u64>,
    /// Maximum queue length, in bytes.
    pub(super) queue: u64,
    /// One-way delay, in µs.
    pub(super) delay: u64,
    /// Maximum additional delay of each packet, in µs. Packets are not reordered.
    pub(super) jitter: u64,
    /// Lost packets per thousand.
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

/// The media to send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// As much as the estimate allows, up to a maximum in bits per second.
    Elastic(u64),
    /// The best layer that fits, of these bit rates.
    Layers(&'static [u64]),
    /// This many bits per second, whatever the estimate.
    Fixed(u64),
    /// Like `Fixed`, without announcing the wanted bit rate.
    Unannounced(u64),
}

/// The content of one feedback message.
type Feedback = Vec<(u16, Option<i64>)>;

/// The sender, the network and the receiver.
pub(super) struct Simulation {
    pub(super) bandwidth: Bandwidth,
    pub(super) network: Network,
    pub(super) source: Source,
    /// Whether requested padding is sent.
    pub(super) sends_padding: bool,
    /// Interval at which the estimate is polled, in µs.
    pub(super) poll: u64,
    /// Feedback interval of the browser, in µs.
    pub(super) feedback: u64,
    /// Lost feedback messages per thousand.
    pub(super) feedback_loss: u64,
    /// Maximum number of packets sent at once.
    pub(super) burst: u64,
    start: Instant,
    /// Virtual time, in µs.
    pub(super) time: u64,
    random: u64,
    /// Number of bytes that the source still has to send.
    pending_bytes: u64,
    next_frame: u64,
    next_feedback: u64,
    /// When the bottleneck is idle, in µs.
    idle_at: u64,
    /// Departure time and size of the packets in the queue.
    queue: VecDeque<(u64, u64)>,
    queued: u64,
    /// Number and arrival time in µs, in the order of arrival.
    in_flight: VecDeque<(u16, u64)>,
    received: Vec<(u16, u64)>,
    /// The next number that feedback covers.
    expected: Option<u16>,
    /// Feedback in flight, by arrival time.
    feedback_in_flight: VecDeque<(u64, Feedback)>,
    /// The longest queuing delay since it was last reset, in µs.
    pub(super) longest_wait: u64,
    /// Number of timeouts of the estimate.
    pub(super) wakes: u64,
    /// Each padding packet: its cluster, send time in µs, and size in bytes.
    pub(super) probes: Vec<(ClusterId, u64, u64)>,
}

impl Simulation {
    pub(super) fn new(seed: u64, network: Network, source: Source) -> Self {
        let start = Instant::now();
        Self {
            bandwidth: Bandwidth::new(start, Settings::default()),
            network,
            source,
            sends_padding: true,
            poll: TICK,
            feedback: FEEDBACK,
            feedback_loss: 0,
            burst: 2,
            start,
            time: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            pending_bytes: 0,
            next_frame: 0,
            next_feedback: FEEDBACK,
            idle_at: 0,
            queue: VecDeque::new(),
            queued: 0,
            in_flight: VecDeque::new(),
            received: Vec::new(),
            expected: None,
            feedback_in_flight: VecDeque::new(),
            longest_wait: 0,
            wakes: 0,
            probes: Vec::new(),
        }
    }

    /// Runs the simulation for `seconds`. Returns the minimum, average and maximum of the estimate,
    /// in bits per second.
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

    /// Stalls the bottleneck for `seconds` without losing packets.
    pub(super) fn stall(&mut self, seconds: f64) {
        self.idle_at = self.idle_at.max(self.time) + micros(seconds);
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
                && self.sends_padding
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
            self.pending_bytes += bps * FRAME / 8_000_000;
        }
        // The publisher paces the packets of a frame.
        for _ in 0..self.burst {
            if self.pending_bytes == 0 {
                break;
            }
            let bytes = self.pending_bytes.min(PACKET);
            self.pending_bytes -= bytes;
            self.send(bytes, None);
        }
    }

    fn source_bps(&mut self) -> u64 {
        let estimate = self.bandwidth.estimate();
        match self.source {
            Source::Elastic(most) => {
                self.bandwidth.set_wanted_bps(most);
                estimate.min(most)
            }
            Source::Layers(layers) => {
                self.bandwidth.set_wanted_bps(*layers.last().unwrap());
                let fits = layers.iter().rev().find(|layer| **layer <= estimate);
                fits.copied().unwrap_or(0)
            }
            Source::Unannounced(bps) => bps,
            Source::Fixed(bps) => {
                self.bandwidth.set_wanted_bps(bps);
                bps
            }
        }
    }

    pub(super) fn send(&mut self, bytes: u64, probe: Option<ClusterId>) {
        let size = usize::try_from(bytes).unwrap();
        let number = self.bandwidth.sent(self.now(), size, probe);
        while let Some((leaves, bytes)) = self.queue.front().copied()
            && leaves <= self.time
        {
            self.queue.pop_front();
            self.queued -= bytes;
        }
        let Some(bps) = self.network.bps else { return };
        if self.queued + bytes > self.network.queue || self.random_below(1_000) < self.network.loss
        {
            return;
        }
        self.idle_at = self.idle_at.max(self.time) + bytes * 8_000_000 / bps;
        self.queue.push_back((self.idle_at, bytes));
        self.queued += bytes;
        self.longest_wait = self.longest_wait.max(self.idle_at - self.time);
        let jitter = self.random_below(self.network.jitter + 1);
        let arrival = self.idle_at + self.network.delay + jitter;
        let after = self.in_flight.back().map_or(0, |(_, arrival)| *arrival);
        self.in_flight.push_back((number, arrival.max(after)));
    }

    fn arrive(&mut self) {
        while let Some((number, arrival)) = self.in_flight.front().copied()
            && arrival <= self.time
        {
            self.in_flight.pop_front();
            self.received.push((number, arrival));
        }
    }

    fn feed_back(&mut self) {
        if self.time >= self.next_feedback {
            self.next_feedback += self.feedback;
            if let (Some((first, _)), Some((last, _))) =
                (self.received.first(), self.received.last())
            {
                let first = self.expected.unwrap_or(*first);
                let count = last.wrapping_sub(first).wrapping_add(1);
                let mut arrivals: Vec<_> =
                    (0..count).map(|n| (first.wrapping_add(n), None)).collect();
                for (number, arrival) in &self.received {
                    // The format has a resolution of 250 µs.
                    let arrival = (*arrival / 250 * 250).cast_signed() + REMOTE_CLOCK_OFFSET;
                    arrivals[usize::from(number.wrapping_sub(first))].1 = Some(arrival);
                }
                self.expected = Some(last.wrapping_add(1));
                self.received.clear();
                if self.network.bps.is_some() && self.random_below(1_000) >= self.feedback_loss {
                    let delay = self.network.delay;
                    self.feedback_in_flight
                        .push_back((self.time + delay, arrivals));
                }
            }
        }
        while self
            .feedback_in_flight
            .front()
            .is_some_and(|(at, _)| *at <= self.time)
        {
            let (_, arrivals) = self.feedback_in_flight.pop_front().unwrap();
            self.bandwidth.feedback(self.now(), arrivals.into_iter());
        }
    }

    fn random_below(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn micros(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap()
}
