//! What is looked at while people come and go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_testkit::{Client, Process, Stage};
use tokio::task::JoinHandle;

/// How often.
const EVERY: Duration = Duration::from_secs(2);

/// What the server counts that comes and goes with people: metrics, each of which is 0 when nobody
/// is there.
pub(super) const GAUGES: [&str; 5] = [
    "parlor_rooms",
    "parlor_sockets",
    "parlor_media_transports",
    "parlor_media_producers",
    "parlor_media_consumers",
];

/// What a server holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    /// Of [`GAUGES`]; nothing for one that the server does not have.
    pub(super) gauges: [Option<u64>; GAUGES.len()],
    pub(super) descriptors: Vec<String>,
    pub(super) resident: u64,
}

impl Rest {
    pub(super) async fn of(stage: &Stage) -> Result<Self> {
        let process = stage.process.context("it was started here")?;
        Self::look(metrics(stage)?, process).await
    }

    async fn look(client: &Client, process: Process) -> Result<Self> {
        let answer = client.get("/metrics").await?;
        let text = answer.body.as_str().context("no metrics")?;
        Ok(Self {
            gauges: GAUGES.map(|name| gauge(text, name)),
            descriptors: process.descriptors()?,
            resident: process.resident()?,
        })
    }

    /// Nothing of anybody is left, as far as the server says; but for their meetings.
    pub(super) fn is_nobody(&self) -> bool {
        let [_, rest @ ..] = self.gauges;
        rest.iter().all(|count| count.unwrap_or(0) == 0)
    }

    /// Meetings have ended too.
    pub(super) fn has_no_meetings(&self) -> bool {
        self.gauges[0].unwrap_or(0) == 0
    }

    /// Takes what has become of the meetings from a later look.
    pub(super) fn end(&mut self, later: Self) {
        self.gauges[0] = later.gauges[0];
        self.descriptors = later.descriptors;
    }
}

fn metrics(stage: &Stage) -> Result<&Client> {
    stage.metrics.as_ref().context("it was started here")
}

fn gauge(metrics: &str, name: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// What the server held, and when.
pub(super) type Samples = Vec<(Duration, Rest)>;

/// Looks again and again until it is stopped.
pub(super) struct Watch {
    samples: Arc<Mutex<Samples>>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(stage: &Stage, process: Process) -> Result<Self> {
        let samples = Arc::<Mutex<Samples>>::default();
        let (kept, client, began) = (
            Arc::clone(&samples),
            metrics(stage)?.clone(),
            Instant::now(),
        );
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                // Of a server that is gone, everybody tells who is in it.
                if let Ok(rest) = Rest::look(&client, process).await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push((began.elapsed(), rest));
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
