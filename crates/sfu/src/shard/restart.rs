//! What happens when a thread panics: it goes on with an empty engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tracing::error;

use super::Shard;

/// How long a thread rests after its first panic. Twice as long after each further one.
const REST: Duration = Duration::from_millis(10);

/// The longest rest: whoever can make a thread panic again and again does not keep a processor busy
/// with that.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// After so long without a panic the next is a first one again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The panics of a thread so far.
#[derive(Default)]
struct Panics {
    last: Option<Instant>,
    /// In a row.
    count: u32,
}

impl Panics {
    /// One more; how long to rest.
    fn one_more(&mut self, now: Instant) -> Duration {
        let last = self.last.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= FORGOTTEN) {
            self.count = 0;
        }
        let rest = REST.saturating_mul(1 << self.count.min(16));
        self.count += 1;
        rest.min(LONGEST_REST)
    }
}

/// Runs a shard until it is told to stop. When it panics, its meetings lose their transports, and it
/// goes on without them.
pub(super) fn run(mut shard: Shard, runtime: &Runtime) {
    let mut panics = Panics::default();
    while catch_unwind(AssertUnwindSafe(|| runtime.block_on(shard.run()))).is_err() {
        let rest = panics.one_more(Instant::now());
        let rest_ms = rest.as_millis();
        error!(
            thread = shard.index,
            rest_ms, "a media thread has panicked: its meetings make their media anew"
        );
        shard.start_over();
        // What comes meanwhile waits in the sockets and queues, as far as they have room.
        thread::sleep(rest);
    }
}

impl Shard {
    /// Makes the engine anew. The sockets and queues are as they were; a link that led to a transport
    /// is still good for telling its client that it is gone.
    fn start_over(&mut self) {
        self.engine.start_over();
        self.stats.panics += 1;
        self.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_again_and_again_rests_longer_and_longer_but_never_for_long() {
        let mut panics = Panics::default();
        let mut now = Instant::now();
        let rests: Vec<_> = (0..20)
            .map(|_| {
                now += Duration::from_secs(3);
                panics.one_more(now)
            })
            .collect();
        assert_eq!(rests[..3], [1, 2, 4].map(|times| REST * times));
        assert!(rests.is_sorted());
        assert_eq!(rests[19], LONGEST_REST);
        assert_eq!(panics.one_more(now + FORGOTTEN), REST);
    }
}
