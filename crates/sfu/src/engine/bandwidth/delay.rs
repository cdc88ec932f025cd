//! Detection of a filling queue from growing packet delay.
//!
//! Packets sent within 5 ms form a group. The delay variation from group to group is accumulated
//! and smoothed, and a line is fitted through the last twenty sums. Its slope is compared with a
//! threshold that adapts to the jitter of the network (draft-ietf-rmcat-gcc-02 5).

use super::millis;

/// Packets sent within this time form a group, in µs.
const GROUP_US: u64 = 5_000;
/// Maximum interval between the arrivals of a burst, in µs. The packets of a burst arrive faster
/// than they were sent, because they were queued together.
const BURST_US: i64 = 5_000;
/// Maximum length of a burst, in µs.
const LONGEST_BURST_US: i64 = 100_000;
/// Sudden change of the transit time, in µs, that indicates another path or another clock.
const PATH_CHANGE_US: i64 = 3_000_000;
/// Number of consecutive groups that must arrive before their predecessors to show that the clock
/// was set back.
const BACKWARDS: u8 = 3;

/// Number of sums that the line is fitted through.
const WINDOW: usize = 20;
/// Minimum number of sums for a fit before the window is full. They must also span [`MIN_SPAN_MS`].
const MIN_POINTS: usize = 8;
/// Minimum span of these sums, in ms. On a slow network, filling the window takes seconds.
const MIN_SPAN_MS: f64 = 250.0;
const SMOOTHING: f64 = 0.9;
/// Factor from the slope to the value that is compared with the threshold.
const GAIN: f64 = 4.0;
/// Number of groups for full confidence. With fewer groups, the slope counts less.
const FULL_CONFIDENCE_GROUPS: u32 = 60;

const THRESHOLD: f64 = 12.5;
const THRESHOLD_RANGE: (f64, f64) = (6.0, 600.0);
/// How fast the threshold adapts upwards and downwards, per ms.
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// Distance above the threshold beyond which the threshold does not adapt to a slope.
const SPIKE: f64 = 15.0;
/// How long overuse must last to count as congestion, in ms.
const OVERUSE_MS: f64 = 10.0;

/// The state of the network's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Usage {
    /// It is stable.
    #[default]
    Normal,
    /// It is filling.
    Over,
    /// It is draining.
    Under,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: u64,
    last_sent: u64,
    first_arrival: i64,
    last_arrival: i64,
}

/// Detects overuse of the network from packet arrivals.
#[derive(Debug, Default)]
pub(super) struct DelayDetector {
    previous: Option<Group>,
    current: Option<Group>,
    backwards: u8,
    trendline: Trendline,
    detector: OveruseDetector,
}

impl DelayDetector {
    /// Records a packet's send and arrival time, in µs, in the order of arrival.
    pub(super) fn packet(&mut self, sent: u64, arrival: i64) {
        let Some(current) = &mut self.current else {
            self.current = Some(Group::new(sent, arrival));
            return;
        };
        if sent < current.first_sent {
            // Reordered: it belongs to an earlier group.
            return;
        }
        if arrival
            .saturating_sub(current.last_arrival)
            .saturating_abs()
            > PATH_CHANGE_US.saturating_add(signed(sent.saturating_sub(current.last_sent)))
        {
            *self = Self::default();
            self.current = Some(Group::new(sent, arrival));
            return;
        }
        if current.accepts(sent, arrival) {
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

    /// Returns the current state of the queue.
    pub(super) const fn usage(&self) -> Usage {
        self.detector.usage
    }

    /// Whether the queue is filling.
    pub(super) const fn is_congested(&self) -> bool {
        matches!(self.detector.usage, Usage::Over)
    }

    fn compare(&mut self, previous: Group, group: Group) {
        let arrival_delta = group.last_arrival.saturating_sub(previous.last_arrival);
        let send_delta = signed(group.last_sent.saturating_sub(previous.last_sent));
        if arrival_delta < 0 {
            self.backwards += 1;
            if self.backwards >= BACKWARDS {
                *self = Self::default();
            }
            return;
        }
        self.backwards = 0;
        let delay_change = millis(arrival_delta.saturating_sub(send_delta));
        let trend = self.trendline.add(delay_change, millis(arrival_delta));
        self.detector.detect(
            trend,
            self.trendline.groups,
            millis(send_delta),
            millis(arrival_delta),
        );
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

    fn accepts(&self, sent: u64, arrival: i64) -> bool {
        if sent.saturating_sub(self.first_sent) <= GROUP_US {
            return true;
        }
        let arrival_delta = arrival.saturating_sub(self.last_arrival);
        let send_delta = signed(sent.saturating_sub(self.last_sent));
        arrival_delta < send_delta
            && arrival_delta <= BURST_US
            && arrival.saturating_sub(self.first_arrival) < LONGEST_BURST_US
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// The line through the last sums.
#[derive(Debug, Default)]
struct Trendline {
    /// Ring of (time, smoothed sum), both in ms.
    points: [(f64, f64); WINDOW],
    groups: u32,
    /// Arrival time of the last group, in ms since the first.
    time: f64,
    sum: f64,
    smoothed: f64,
    slope: f64,
}

impl Trendline {
    /// Adds a group whose delay grew by `longer` ms since the previous group, which arrived `after`
    /// ms earlier. Returns the slope: ms of delay per ms of time.
    fn add(&mut self, delay_change: f64, arrival_delta: f64) -> f64 {
        self.time += arrival_delta;
        self.sum += delay_change;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.sum;
        self.points[self.groups as usize % WINDOW] = (self.time, self.smoothed);
        // On overflow, the count continues at the same ring position, and stays high.
        self.groups = self.groups.checked_add(1).unwrap_or(u32::MAX / 20 * 20);
        let points = self.points.len().min(self.groups as usize);
        let points = &self.points[..points];
        if points.len() == WINDOW || points.len() >= MIN_POINTS && self.time > MIN_SPAN_MS {
            self.slope = fit(points).unwrap_or(self.slope);
        }
        self.slope
    }
}

/// Fits a line by least squares and returns its slope, or `None` if all points have the same time.
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

/// Compares the slope with an adaptive threshold.
#[derive(Debug)]
struct OveruseDetector {
    usage: Usage,
    threshold: f64,
    /// How long the slope has been above the threshold, in ms, or `None` if it is not.
    over: Option<f64>,
    over_groups: u32,
    previous: f64,
}

impl Default for OveruseDetector {
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

impl OveruseDetector {
    fn detect(&mut self, trend: f64, groups: u32, send_delta: f64, arrival_delta: f64) {
        if groups < 2 {
            return;
        }
        let slope = f64::from(groups.min(FULL_CONFIDENCE_GROUPS)) * trend * GAIN;
        if slope > self.threshold {
            // It crossed the threshold somewhere in its first interval.
            let over = self.over.map_or(send_delta / 2.0, |over| over + send_delta);
            self.over = Some(over);
            self.over_groups = self.over_groups.saturating_add(1);
            if over > OVERUSE_MS && self.over_groups > 1 && trend >= self.previous {
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
        self.adapt_threshold(slope.abs(), arrival_delta);
    }

    fn adapt_threshold(&mut self, slope: f64, arrival_delta: f64) {
        if slope > self.threshold + SPIKE {
            return;
        }
        let gain = if slope < self.threshold {
            THRESHOLD_DOWN
        } else {
            THRESHOLD_UP
        };
        let adapted = self.threshold + gain * (slope - self.threshold) * arrival_delta.min(100.0);
        self.threshold = adapted.clamp(THRESHOLD_RANGE.0, THRESHOLD_RANGE.1);
    }
}
