//! Settings of the database: timeouts and queue limits.

use std::time::Duration;

use parlor_store::Options;

use super::Settings;

/// Maximum timeout, in seconds. Small enough to be added to any `Instant` without overflow.
const LONGEST_SECS: u64 = 24 * 60 * 60;

impl Settings {
    /// Timeouts and queue limits of the database.
    ///
    /// # Errors
    /// When a timeout is zero or exceeds a day, or the queue limit is zero.
    pub(super) fn database_options(&self) -> anyhow::Result<Options> {
        let default = Options::default();
        let timeout = seconds(self.database_timeout_secs, default.timeout);
        let scan_timeout = seconds(self.database_scan_secs, default.scan_timeout.max(timeout));
        anyhow::ensure!(
            (1..=LONGEST_SECS).contains(&timeout.as_secs())
                && (timeout.as_secs()..=LONGEST_SECS).contains(&scan_timeout.as_secs()),
            "database_timeout_secs must be between 1 and database_scan_secs, which must not exceed 86400"
        );
        let options = Options {
            timeout,
            scan_timeout,
            queue_units: self.database_queue.unwrap_or(default.queue_units),
            queue_bytes: self.database_queue_bytes.unwrap_or(default.queue_bytes),
            ..default
        };
        anyhow::ensure!(options.queue_units > 0, "database_queue must be at least 1");
        Ok(options)
    }
}

fn seconds(set: Option<u64>, default: Duration) -> Duration {
    set.map_or(default, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_timeout_is_at_least_the_timeout() {
        let settings = |timeout, scan| Settings {
            database_timeout_secs: timeout,
            database_scan_secs: scan,
            ..Settings::default()
        };
        for (timeout, scan, expected) in [
            (None, None, Some((5, 30))),
            (Some(2), None, Some((2, 30))),
            (Some(60), None, Some((60, 60))),
            (Some(2), Some(3), Some((2, 3))),
            (Some(3), Some(2), None),
            (Some(0), None, None),
        ] {
            let options = settings(timeout, scan).database_options().ok();
            let found = options.map(|it| (it.timeout.as_secs(), it.scan_timeout.as_secs()));
            assert_eq!(found, expected, "{timeout:?} {scan:?}");
        }
    }
}
