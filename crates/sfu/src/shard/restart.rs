//! Panic recovery: a thread that panics continues with an empty engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tracing::error;

use super::Shard;

/// The pause after the first panic. It doubles with each further panic.
const BACKOFF: Duration = Duration::from_millis(10);

/// The longest pause. The backoff keeps a client that can trigger a panic repeatedly from using up
/// a processor.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The time without a panic after which the backoff is reset.
const RESET_AFTER: Duration = Duration::from_secs(60);

/// The panic history of a thread.
#[derive(Default)]
struct Panics {
    last: Option<Instant>,
    /// Panics since the last reset of the backoff.
    count: u32,
}

impl Panics {
    /// Records a panic. Returns how long to pause.
    fn record(&mut self, now: Instant) -> Duration {
        let last = self.last.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= RESET_AFTER) {
            self.count = 0;
        }
        let backoff = BACKOFF.saturating_mul(1 << self.count.min(16));
        self.count += 1;
        backoff.min(MAX_BACKOFF)
    }
}

/// Runs a shard until it stops. A panic frees the transports of all its meetings; then the shard
/// continues.
pub(super) fn run(mut shard: Shard, runtime: &Runtime) {
    let mut panics = Panics::default();
    while catch_unwind(AssertUnwindSafe(|| runtime.block_on(shard.run()))).is_err() {
        let backoff = panics.record(Instant::now());
        let rest_ms = backoff.as_millis();
        error!(
            thread = shard.index,
            rest_ms, "a media thread panicked: the clients of its meetings have to reconnect media"
        );
        shard.reset();
        // Meanwhile, datagrams and commands wait in the socket buffers and queues.
        thread::sleep(backoff);
    }
}

impl Shard {
    /// Resets the engine. The sockets, queues and links are kept, because a client on a link must
    /// still be notified that its transport no longer exists.
    fn reset(&mut self) {
        self.engine.reset();
        self.stats.panics += 1;
        self.publish_stats();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_maximum_and_is_reset() {
        let mut panics = Panics::default();
        let mut now = Instant::now();
        let backoffs: Vec<_> = (0..20)
            .map(|_| {
                now += Duration::from_secs(3);
                panics.record(now)
            })
            .collect();
        assert_eq!(backoffs[..3], [1, 2, 4].map(|times| BACKOFF * times));
        assert!(backoffs.is_sorted());
        assert_eq!(backoffs[19], MAX_BACKOFF);
        assert_eq!(panics.record(now + RESET_AFTER), BACKOFF);
    }
}
