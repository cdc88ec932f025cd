//! Detection of a standing queue. Sending slightly less than the network carries drains a long
//! queue only slowly, and in the meantime every packet is delayed.

/// Length of a window, in µs of arrival time. The minimum transit time is that of the current and
/// the previous window. Older packets do not count, since a new path may be permanently longer.
const WINDOW_US: i64 = 10_000_000;
/// Queuing delay above which the queue is long, in µs.
const LONG_US: i64 = 250_000;
/// Queuing delay below which a long queue counts as drained, in µs.
const SHORT_US: i64 = 80_000;

/// Change of the transit time, in µs, above which the clock must have been changed.
const CLOCK_CHANGE_US: i64 = 10_000_000;

/// Tracks the queuing delay of packets.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    window: Option<Window>,
    is_standing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    /// Arrival time at the start of the window, on the remote clock.
    started: i64,
    shortest: i64,
    /// Minimum transit time of the previous window.
    previous_shortest: i64,
}

impl Backlog {
    /// Records a packet's send and arrival time, in µs. The clocks need not agree.
    pub(super) fn packet(&mut self, sent: u64, arrival: i64) {
        let transit = arrival.saturating_sub(i64::try_from(sent).unwrap_or(i64::MAX));
        let fresh = Window {
            started: arrival,
            shortest: transit,
            previous_shortest: transit,
        };
        let window = self.window.get_or_insert(fresh);
        if transit
            .saturating_sub(window.shortest.min(window.previous_shortest))
            .saturating_abs()
            > CLOCK_CHANGE_US
        {
            *window = fresh;
        } else if arrival.saturating_sub(window.started) > WINDOW_US {
            window.previous_shortest = window.shortest;
            window.started = arrival;
            window.shortest = transit;
        }
        window.shortest = window.shortest.min(transit);
        let queued = transit.saturating_sub(window.shortest.min(window.previous_shortest));
        if queued > LONG_US {
            self.is_standing = true;
        } else if queued < SHORT_US {
            self.is_standing = false;
        }
    }

    /// Resets the state after nothing was sent for so long that the queue must have drained.
    pub(super) const fn reset(&mut self) {
        self.is_standing = false;
    }

    /// Whether there is a long queue that has not drained yet.
    pub(super) const fn is_long(&self) -> bool {
        self.is_standing
    }
}
