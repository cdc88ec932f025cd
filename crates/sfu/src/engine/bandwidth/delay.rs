//! Whether a queue fills on the way: packets sent together take longer and longer.
//!
//! Packets that left within 5 ms are one group. From group to group, how much longer the way has
//! become is added up and smoothed, and a line is laid through the last twenty sums. Its slope is
//! compared with a threshold that follows the noise of the network (draft-ietf-rmcat-gcc-02 5).

use super::millis;

/// What leaves within this belongs together, in µs.
const GROUP_US: u64 = 5_000;
/// What arrives within this of what came before, faster than it left, was held up together, in µs.
const BURST_US: i64 = 5_000;
/// But no longer than this, in µs.
const LONGEST_BURST_US: i64 = 100_000;
/// A way that is longer or shorter by this at once is another way, or another clock, in µs.
const BREAK_US: i64 = 3_000_000;
/// So many groups in a row that arrive before their predecessors mean that the clock went back.
const BACKWARDS: u8 = 3;

/// How many sums the line goes through.
const WINDOW: usize = 20;
/// At first, so few are enough,
const FEW: usize = 8;
/// if they took so long, in ms: on a slow network twenty take seconds.
const LONG_MS: f64 = 250.0;
const SMOOTHING: f64 = 0.9;
/// From slope to what the threshold is compared with.
const GAIN: f64 = 4.0;
/// Early on there are few groups to trust, and their slope counts less.
const FULL_TRUST: u32 = 60;

const THRESHOLD: f64 = 12.5;
const THRESHOLDS: (f64, f64) = (6.0, 600.0);
/// The threshold goes up towards a louder slope this fast, and down towards a quieter one that
/// fast, per ms.
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// A slope this far above the threshold is no noise to get used to.
const SPIKE: f64 = 15.0;
/// Congestion is what lasts longer than this, in ms.
const LASTING_MS: f64 = 10.0;

/// How the queue on the way behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Usage {
    /// It stays as it is.
    #[default]
    Normal,
    /// It fills.
    Over,
    /// It empties.
    Under,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: u64,
    last_sent: u64,
    first_arrival: i64,
    last_arrival: i64,
}

/// Tells from arrivals whether the network is overused.
#[derive(Debug, Default)]
pub(super) struct Delay {
    previous: Option<Group>,
    current: Option<Group>,
    backwards: u8,
    line: Line,
    detector: Detector,
}

impl Delay {
    /// Takes in a packet, in the order of arrival: when it left and when it came, in µs.
    pub(super) fn packet(&mut self, sent: u64, arrival: i64) {
        let Some(current) = &mut self.current else {
            self.current = Some(Group::new(sent, arrival));
            return;
        };
        if sent < current.first_sent {
            // Overtaken by a group that left later.
            return;
        }
        if arrival
            .saturating_sub(current.last_arrival)
            .saturating_abs()
            > BREAK_US.saturating_add(signed(sent.saturating_sub(current.last_sent)))
        {
            *self = Self::default();
            self.current = Some(Group::new(sent, arrival));
            return;
        }
        if current.takes(sent, arrival) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrival = current.last_arrival.max(arrival);
            return;
        }
        let finished = *current;
        *current = Group::new(sent, arrival);
        if let Some(previous) = self.previous.replace(finished) {
            self.compare(previous, finished);
        }
    }

    /// What the last packets say.
    pub(super) const fn usage(&self) -> Usage {
        self.detector.usage
    }

    /// Whether a queue fills.
    pub(super) const fn is_congested(&self) -> bool {
        matches!(self.detector.usage, Usage::Over)
    }

    fn compare(&mut self, previous: Group, group: Group) {
        let came = group.last_arrival.saturating_sub(previous.last_arrival);
        let left = signed(group.last_sent.saturating_sub(previous.last_sent));
        if came < 0 {
            self.backwards += 1;
            if self.backwards >= BACKWARDS {
                *self = Self::default();
            }
            return;
        }
        self.backwards = 0;
        let longer = millis(came.saturating_sub(left));
        let trend = self.line.add(longer, millis(came));
        self.detector
            .judge(trend, self.line.groups, millis(left), millis(came));
    }
}

impl Group {
    const fn new(sent: u64, arrival: i64) -> Self {
        Self {
            first_sent: sent,
            last_sent: sent,
            first_arrival: arrival,
            last_arrival: arrival,
        }
    }

    fn takes(&self, sent: u64, arrival: i64) -> bool {
        if sent.saturating_sub(self.first_sent) <= GROUP_US {
            return true;
        }
        let came = arrival.saturating_sub(self.last_arrival);
        let left = signed(sent.saturating_sub(self.last_sent));
        came < left
            && came <= BURST_US
            && arrival.saturating_sub(self.first_arrival) < LONGEST_BURST_US
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// The line through the last sums.
#[derive(Debug, Default)]
struct Line {
    /// (when, smoothed sum), both in ms; a ring.
    points: [(f64, f64); WINDOW],
    groups: u32,
    /// When the last group came, in ms since the first.
    time: f64,
    sum: f64,
    smoothed: f64,
    slope: f64,
}

impl Line {
    /// Adds a group that took `longer` than the one before, which came `after` ms ago. Returns the
    /// slope: ms of delay per ms of time.
    fn add(&mut self, longer: f64, after: f64) -> f64 {
        self.time += after;
        self.sum += longer;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.sum;
        self.points[self.groups as usize % WINDOW] = (self.time, self.smoothed);
        // Past the end it goes on where the ring does, and is still old.
        self.groups = self.groups.checked_add(1).unwrap_or(u32::MAX / 20 * 20);
        let points = self.points.len().min(self.groups as usize);
        let points = &self.points[..points];
        if points.len() == WINDOW || points.len() >= FEW && self.time > LONG_MS {
            self.slope = fit(points).unwrap_or(self.slope);
        }
        self.slope
    }
}

/// Least squares. None if all came at once.
fn fit(points: &[(f64, f64)]) -> Option<f64> {
    let n: f64 = points.iter().map(|_| 1.0).sum();
    let (mut x, mut y) = (0.0, 0.0);
    for (time, delay) in points {
        x += time / n;
        y += delay / n;
    }
    let (mut over, mut under) = (0.0, 0.0);
    for (time, delay) in points {
        over += (time - x) * (delay - y);
        under += (time - x) * (time - x);
    }
    (under > 0.0).then(|| over / under)
}

/// The slope against a threshold that follows the noise.
#[derive(Debug)]
struct Detector {
    usage: Usage,
    threshold: f64,
    /// For how long the slope has been above it, in ms. None while it is not.
    over: Option<f64>,
    over_groups: u32,
    previous: f64,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            usage: Usage::Normal,
            threshold: THRESHOLD,
            over: None,
            over_groups: 0,
            previous: 0.0,
        }
    }
}

impl Detector {
    fn judge(&mut self, trend: f64, groups: u32, left: f64, came: f64) {
        if groups < 2 {
            return;
        }
        let slope = f64::from(groups.min(FULL_TRUST)) * trend * GAIN;
        if slope > self.threshold {
            // Somewhere in its first interval it has crossed the threshold.
            let over = self.over.map_or(left / 2.0, |over| over + left);
            self.over = Some(over);
            self.over_groups = self.over_groups.saturating_add(1);
            if over > LASTING_MS && self.over_groups > 1 && trend >= self.previous {
                self.over = Some(0.0);
                self.over_groups = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over = None;
            self.over_groups = 0;
            self.usage = if slope < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.previous = trend;
        self.follow(slope.abs(), came);
    }

    fn follow(&mut self, slope: f64, came: f64) {
        if slope > self.threshold + SPIKE {
            return;
        }
        let gain = if slope < self.threshold {
            THRESHOLD_DOWN
        } else {
            THRESHOLD_UP
        };
        let moved = self.threshold + gain * (slope - self.threshold) * came.min(100.0);
        self.threshold = moved.clamp(THRESHOLDS.0, THRESHOLDS.1);
    }
}
