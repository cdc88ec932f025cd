//! A queue that stays: sending a little less than the network carries empties a long one slowly,
//! and all the while everything comes late.

/// The shortest way is remembered for one to two times so long, in µs of arrival: another path may
/// be longer for good.
const MEMORY_US: i64 = 10_000_000;
/// What takes so much longer than the shortest has waited in a queue that must go, in µs.
const LONG_US: i64 = 250_000;
/// When it waits no longer than this, the queue is gone, in µs.
const SHORT_US: i64 = 80_000;

/// A wait that is longer, or shorter than none by this, is another clock, in µs.
const BREAK_US: i64 = 10_000_000;

/// How long packets wait on their way.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    window: Option<Window>,
    waits: bool,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    /// On the remote clock.
    began: i64,
    shortest: i64,
    /// Of the window before.
    before: i64,
}

impl Backlog {
    /// Takes in a packet: when it left and when it came, in µs. The clocks need not agree.
    pub(super) fn packet(&mut self, sent: u64, arrival: i64) {
        let way = arrival.saturating_sub(i64::try_from(sent).unwrap_or(i64::MAX));
        let fresh = Window {
            began: arrival,
            shortest: way,
            before: way,
        };
        let window = self.window.get_or_insert(fresh);
        if way
            .saturating_sub(window.shortest.min(window.before))
            .saturating_abs()
            > BREAK_US
        {
            *window = fresh;
        } else if arrival.saturating_sub(window.began) > MEMORY_US {
            window.before = window.shortest;
            window.began = arrival;
            window.shortest = way;
        }
        window.shortest = window.shortest.min(way);
        let waited = way.saturating_sub(window.shortest.min(window.before));
        if waited > LONG_US {
            self.waits = true;
        } else if waited < SHORT_US {
            self.waits = false;
        }
    }

    /// Nothing was sent for so long that the queue is gone.
    pub(super) const fn forget(&mut self) {
        self.waits = false;
    }

    /// Whether there is a long queue that is not yet gone.
    pub(super) const fn is_long(&self) -> bool {
        self.waits
    }
}
