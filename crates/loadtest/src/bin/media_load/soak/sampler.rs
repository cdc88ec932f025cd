//! Samples the resource usage of the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_testkit::{Client, LoadTarget, Process};
use tokio::task::JoinHandle;

/// Interval between two samples.
const INTERVAL: Duration = Duration::from_secs(2);

/// Metrics of the server that must be 0 without clients.
pub(super) const GAUGES: [&str; 5] = [
    "parlor_rooms",
    "parlor_sockets",
    "parlor_media_transports",
    "parlor_media_producers",
    "parlor_media_consumers",
];

/// Resource usage of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Values of [`GAUGES`]; `None` for a metric that the server does not have.
    pub(super) gauges: [Option<u64>; GAUGES.len()],
    /// Kinds of the open descriptors.
    pub(super) descriptors: Vec<String>,
    /// Resident memory, in bytes.
    pub(super) resident: u64,
}

impl Usage {
    pub(super) async fn of(target: &LoadTarget) -> Result<Self> {
        let process = target.process.context("the process ID is unknown")?;
        Self::read(metrics(target)?, process).await
    }

    async fn read(client: &Client, process: Process) -> Result<Self> {
        let answer = client.get("/metrics").await?;
        let text = answer.body.as_str().context("no metrics")?;
        Ok(Self {
            gauges: GAUGES.map(|name| gauge(text, name)),
            descriptors: process.descriptors()?,
            resident: process.resident()?,
        })
    }

    /// Whether the server reports no peers and no media. Meetings may still be live.
    pub(super) fn has_no_peers(&self) -> bool {
        let [_, others @ ..] = self.gauges;
        others.iter().all(|count| count.unwrap_or(0) == 0)
    }

    /// Whether all meetings have ended.
    pub(super) fn has_no_meetings(&self) -> bool {
        self.gauges[0].unwrap_or(0) == 0
    }

    /// Updates the number of meetings and the descriptors from a later reading.
    pub(super) fn update_meetings(&mut self, later: Self) {
        self.gauges[0] = later.gauges[0];
        self.descriptors = later.descriptors;
    }
}

fn metrics(target: &LoadTarget) -> Result<&Client> {
    target
        .metrics
        .as_ref()
        .context("the server serves no metrics")
}

fn gauge(metrics: &str, name: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Resource usage over time.
pub(super) type Samples = Vec<(Duration, Usage)>;

/// Takes samples until it is stopped.
pub(super) struct Sampler {
    samples: Arc<Mutex<Samples>>,
    task: JoinHandle<()>,
}

impl Sampler {
    pub(super) fn start(target: &LoadTarget, process: Process) -> Result<Self> {
        let samples = Arc::<Mutex<Samples>>::default();
        let (kept, client, began) = (
            Arc::clone(&samples),
            metrics(target)?.clone(),
            Instant::now(),
        );
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                // If the server is gone, the clients report errors.
                if let Ok(usage) = Usage::read(&client, process).await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push((began.elapsed(), usage));
                }
            }
        });
        Ok(Self { samples, task })
    }

    pub(super) fn stop(self) -> Samples {
        self.task.abort();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_by_its_whole_name() {
        let text = "# TYPE parlor_rooms gauge\nparlor_rooms_ever 9\nparlor_rooms 3\n# EOF\n";
        assert_eq!(gauge(text, "parlor_rooms"), Some(3));
        assert_eq!(gauge(text, "parlor_room"), None);
    }
}
