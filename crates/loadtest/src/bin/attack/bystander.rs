//! An honest client that uses the server while it is attacked.

use std::time::{Duration, Instant};

use anyhow::Result;
use parlor_testkit::LoadTarget;
use parlor_testkit::signal::Peer;
use tokio::sync::watch;

use crate::checks::Report;

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(5);
/// Number of requests before the attack, for comparison.
const BEFORE: usize = 100;

/// A kind of request that the bystander repeats.
pub(crate) enum Use<'a> {
    /// Reads a meeting over REST.
    Rest(&'a LoadTarget, String),
    /// Sends a small request to the room of a meeting.
    Socket(&'a Peer),
}

impl Use<'_> {
    /// Reads this meeting over REST.
    pub(crate) fn rest<'a>(target: &'a LoadTarget, meeting: &str) -> Use<'a> {
        Use::Rest(target, format!("{}/meetings/{meeting}", target.app))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Rest(..) => "REST",
            Self::Socket(_) => "socket",
        }
    }

    async fn once(&self) -> Result<Duration> {
        let began = Instant::now();
        match self {
            Self::Rest(target, path) => {
                target.client.get(path).await?.expect(200)?;
            }
            Self::Socket(peer) => {
                peer.settle().await?;
                peer.forget();
            }
        }
        Ok(began.elapsed())
    }

    async fn until(&self, mut end: watch::Receiver<bool>) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        while !*end.borrow() {
            times.push(self.once().await?);
            let _ = tokio::time::timeout(PAUSE, end.changed()).await;
        }
        Ok(times)
    }
}

/// Runs the bystander's requests during an attack, and reports their latency relative to the time
/// before it. Every request must succeed.
pub(crate) async fn run_alongside<T>(
    report: &mut Report,
    uses: &[Use<'_>],
    attack: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut before = Vec::new();
    for one in uses {
        let mut times = Vec::new();
        for _ in 0..BEFORE {
            times.push(one.once().await?);
            tokio::time::sleep(PAUSE).await;
        }
        before.push(times);
    }
    let (over, end) = watch::channel(false);
    let watching = uses.iter().map(|one| one.until(end.clone()));
    let watching = futures_util::future::join_all(watching);
    let attacking = async {
        let done = attack.await;
        let _ = over.send(true);
        done
    };
    let (done, during) = tokio::join!(attacking, watching);
    for ((one, before), during) in uses.iter().zip(before).zip(during) {
        match during {
            Ok(during) if !during.is_empty() => report.figure(compared(one.name(), before, during)),
            Ok(_) => report
                .faults
                .push(format!("a bystander got no response: {}", one.name())),
            Err(error) => report.faults.push(format!("a bystander: {error:#}")),
        }
    }
    done
}

fn compared(name: &str, mut before: Vec<Duration>, mut during: Vec<Duration>) -> String {
    before.sort_unstable();
    during.sort_unstable();
    let at = |times: &[Duration], percent: usize| times[(times.len() - 1) * percent / 100];
    let ratio = |percent| {
        let before = at(&before, percent).as_secs_f64();
        at(&during, percent).as_secs_f64() / before.max(1e-9)
    };
    format!(
        "{name} p50 x{:.1}, p99 x{:.1} ({:.1} ms)",
        ratio(50),
        ratio(99),
        at(&during, 99).as_secs_f64() * 1e3
    )
}
