//! Checks the result of a soak test.

use std::fmt::Write as _;
use std::time::Duration;

use super::Tally;
use super::sampler::{GAUGES, Samples, Usage};

/// Maximum growth of memory from the first to the second half, in bytes. Allocator and database
/// caches account for about a third of it.
const GROWTH: u64 = 8 << 20;

/// Maximum number of failures of each kind to print.
const MAX_PRINTED: usize = 5;

/// The result of a run.
#[derive(Debug, Default)]
pub(super) struct SoakReport {
    /// Duration of the run.
    pub(super) time: Duration,
    /// CPU time of the server and of this program.
    pub(super) busy: [Duration; 2],
    /// Usage of the idle server before the run.
    pub(super) before: Usage,
    /// Usage of the idle server after the run.
    pub(super) after: Usage,
    pub(super) samples: Samples,
    /// How many of two probed transports answered, while they existed and afterwards.
    pub(super) answered: [usize; 2],
    /// Number of transports ever created.
    pub(super) transports: usize,
    /// Number of these transports that the server still has.
    pub(super) ghosts: usize,
    /// Number of sessions that have not ended.
    pub(super) live: usize,
    /// Errors in the server's log.
    pub(super) errors: Vec<String>,
    pub(super) tally: Tally,
}

/// Returns the samples of the last quarter of a half, when one-time allocations have been made.
fn late(samples: &Samples, time: Duration, half: u32) -> Vec<&Usage> {
    let (from, to) = (time * (4 * half - 1) / 8, time * half / 2);
    let fitting = samples.iter().filter(|(at, _)| (from..=to).contains(at));
    fitting.map(|(_, usage)| usage).collect()
}

/// Returns the median.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn resident(usages: &[&Usage]) -> Option<u64> {
    median(usages.iter().map(|usage| usage.resident))
}

impl SoakReport {
    /// Returns all failures.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.answered != [2, 0] {
            let [existing, removed] = self.answered;
            faults.push(format!(
                "of two transports, {existing} answered while they existed and {removed} afterwards: \
                 leaked transports cannot be detected"
            ));
        }
        for (name, count) in GAUGES.iter().zip(self.after.gauges) {
            match count {
                Some(0) => {}
                Some(count) => faults.push(format!("{name} is {count} without clients")),
                None => faults.push(format!("the server has no metric {name}")),
            }
        }
        faults.extend(self.more_descriptors());
        let halves = [1, 2].map(|half| resident(&late(&self.samples, self.time, half)));
        match halves {
            [Some(first), Some(second)] if second <= first + GROWTH => {}
            [Some(first), Some(second)] => faults.push(format!(
                "memory grew from {} to {}, by more than {}",
                megabytes(first),
                megabytes(second),
                megabytes(GROWTH)
            )),
            _ => faults.push("the run is too short to compare memory".to_owned()),
        }
        for (count, what) in [
            (self.ghosts, "transports still answer without clients"),
            (self.live, "sessions have not ended without clients"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        if self.tally.joins.is_empty() || self.tally.received == 0 {
            faults.push("no client joined, or none received media".to_owned());
        }
        for (what, list) in [
            ("failures", &self.tally.failures),
            ("errors in the server's log", &self.errors),
        ] {
            if !list.is_empty() {
                let some = list.iter().take(MAX_PRINTED).cloned().collect::<Vec<_>>();
                faults.push(format!("{} {what}:\n  {}", list.len(), some.join("\n  ")));
            }
        }
        faults
    }

    /// Returns the failure if descriptors were leaked.
    fn more_descriptors(&self) -> Option<String> {
        let mut more = self.after.descriptors.clone();
        for open in &self.before.descriptors {
            if let Some(place) = more.iter().position(|found| found == open) {
                more.swap_remove(place);
            }
        }
        (!more.is_empty()).then(|| {
            format!(
                "descriptors that were not open after the warm-up: {}",
                more.join(", ")
            )
        })
    }

    /// Formats the resource usage as Markdown, and a summary.
    pub(super) fn table(&self) -> String {
        let names = GAUGES.map(|name| {
            let name = name.trim_start_matches("parlor_");
            name.trim_start_matches("media_")
        });
        let mut text = format!("| | MB | descriptors | {} |\n", names.join(" | "));
        text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|\n");
        let halves = [1, 2].map(|half| late(&self.samples, self.time, half));
        for (title, usages) in [
            ("idle, after the warm-up", &vec![&self.before]),
            ("late in the first half", &halves[0]),
            ("late in the second half", &halves[1]),
            ("idle, in the end", &vec![&self.after]),
        ] {
            let figures = figures(usages)
                .map(|figure| figure.map_or("?".to_owned(), |figure| figure.to_string()));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {title} | {} |", figures.join(" | "));
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    fn summary(&self) -> String {
        let tally = &self.tally;
        let [server, own] = self
            .busy
            .map(|busy| busy.as_secs_f64() / self.time.as_secs_f64() * 100.0);
        format!(
            "{} clients joined, in {}; {} gave up, {} reconnected, {} vanished, {} lost their media.\n\
             New clients received {} tracks, the last one of each after {}.\n\
             {} transports, {} of them leaked. CPU: server {server:.0} % of a core, load generator \
             {own:.0} %. Memory may grow by {}.",
            tally.joins.len(),
            times(&tally.joins),
            tally.given_up,
            tally.reconnected,
            tally.vanished,
            tally.lost_media,
            tally.received,
            times(&tally.waits),
            self.transports,
            self.ghosts,
            megabytes(GROWTH),
        )
    }
}

/// Formats the median and the 99th percentile.
fn times(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| {
        let time = times.get(times.len() * percent / 100).copied();
        time.unwrap_or_default().as_secs_f64() * 1e3
    };
    format!("{:.0} ms (99 %: {:.0} ms)", at(50), at(99))
}

/// Returns the median of each figure: memory in MB, descriptors, and the gauges.
fn figures(usages: &[&Usage]) -> [Option<u64>; 2 + GAUGES.len()] {
    std::array::from_fn(|index| {
        median(usages.iter().filter_map(|usage| match index {
            0 => Some(usage.resident / 1_000_000),
            1 => u64::try_from(usage.descriptors.len()).ok(),
            _ => usage.gauges.get(index - 2).copied().flatten(),
        }))
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut SoakReport);

    /// Returns the result of a run without failures.
    fn clean() -> SoakReport {
        let idle = Usage {
            gauges: [Some(0); GAUGES.len()],
            descriptors: ["socket", "socket", "parlor.db"].map(str::to_owned).into(),
            resident: 80 << 20,
        };
        let busy = |second: u64| {
            let usage = Usage {
                gauges: [Some(7); GAUGES.len()],
                descriptors: vec!["socket".to_owned(); 50],
                resident: (90 << 20) + second * 1000,
            };
            (Duration::from_secs(second), usage)
        };
        SoakReport {
            time: Duration::from_secs(120),
            before: idle.clone(),
            after: idle,
            samples: (0..60).map(|number| busy(number * 2)).collect(),
            answered: [2, 0],
            transports: 10,
            tally: Tally {
                joins: vec![Duration::ZERO],
                received: 8,
                ..Tally::default()
            },
            ..SoakReport::default()
        }
    }

    #[test]
    fn a_clean_run_has_no_faults() {
        assert_eq!(clean().faults(), Vec::<String>::new());
    }

    #[test]
    fn each_leak_is_a_separate_fault() {
        let spoilt: [(&str, Spoil); 12] = [
            ("parlor_rooms is 1", |report| {
                report.after.gauges[0] = Some(1);
            }),
            ("parlor_sockets is 2", |report| {
                report.after.gauges[1] = Some(2);
            }),
            ("parlor_media_transports is 3", |report| {
                report.after.gauges[2] = Some(3);
            }),
            ("no metric parlor_rooms", |report| {
                report.after.gauges[0] = None;
            }),
            ("warm-up: socket", |report| {
                report.after.descriptors.push("socket".to_owned());
            }),
            ("4 transports still answer", |report| report.ghosts = 4),
            ("5 sessions have not ended", |report| report.live = 5),
            ("1 failures:\n  joining", |report| {
                report.tally.failures.push("joining".to_owned());
            }),
            ("1 errors in the server's log", |report| {
                report.errors.push("panicked at".to_owned());
            }),
            ("none received media", |report| report.tally.received = 0),
            ("leaked transports cannot be detected", |report| {
                report.answered = [0, 0];
            }),
            ("too short to compare", |report| report.samples.truncate(10)),
        ];
        for (expected, spoil) in spoilt {
            let mut report = clean();
            spoil(&mut report);
            let faults = report.faults();
            assert!(
                faults.len() == 1 && faults[0].contains(expected),
                "{expected}: {faults:?}"
            );
        }
    }

    #[test]
    fn steadily_growing_memory_is_a_fault() {
        let mut report = clean();
        for (at, usage) in &mut report.samples {
            usage.resident += at.as_secs() * (GROWTH / 50);
        }
        assert!(
            report.faults()[0].starts_with("memory grew from "),
            "{:?}",
            report.faults()
        );
        let mut report = clean();
        for (at, usage) in &mut report.samples {
            // Growth at first only, as of caches.
            usage.resident += at.as_secs().min(40) * (GROWTH / 10);
        }
        assert_eq!(report.faults(), Vec::<String>::new());
    }
}
