//! What must be true in the end.

use std::fmt::Write as _;
use std::time::Duration;

use super::Tally;
use super::watch::{GAUGES, Rest, Samples};

/// Memory may be so much more in the second half than in the first: what allocators and databases
/// keep for later comes to about a third of it.
const GROWTH: u64 = 8 << 20;

/// How many of a kind are told.
const TOLD: usize = 5;

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) time: Duration,
    /// The CPU time of the server, and of this.
    pub(super) busy: [Duration; 2],
    /// With nobody there, before and after.
    pub(super) before: Rest,
    pub(super) after: Rest,
    pub(super) samples: Samples,
    /// Of two transports that were asked for: while they were there, and afterwards.
    pub(super) answered: [usize; 2],
    /// Transports that there ever were, and those of them that the server has in the end.
    pub(super) transports: usize,
    pub(super) ghosts: usize,
    /// Sessions that have not ended.
    pub(super) live: usize,
    /// What the server logged of errors.
    pub(super) errors: Vec<String>,
    pub(super) tally: Tally,
}

/// The samples of the last quarter of a half: what is there once is there by then.
fn late(samples: &Samples, time: Duration, half: u32) -> Vec<&Rest> {
    let (from, to) = (time * (4 * half - 1) / 8, time * half / 2);
    let fitting = samples.iter().filter(|(at, _)| (from..=to).contains(at));
    fitting.map(|(_, rest)| rest).collect()
}

/// The one in the middle.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn resident(rests: &[&Rest]) -> Option<u64> {
    median(rests.iter().map(|rest| rest.resident))
}

impl Found {
    /// Everything that is wrong.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.answered != [2, 0] {
            let [there, gone] = self.answered;
            faults.push(format!(
                "of two transports {there} answered while they were there, and {gone} afterwards: \
                 nothing is known of ghosts"
            ));
        }
        for (name, count) in GAUGES.iter().zip(self.after.gauges) {
            match count {
                Some(0) => {}
                Some(count) => faults.push(format!("{name} is {count} with nobody there")),
                None => faults.push(format!("{name} is no metric of this server")),
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
            _ => faults.push("too short a time to compare memory".to_owned()),
        }
        for (count, what) in [
            (self.ghosts, "transports still answer with nobody there"),
            (self.live, "sessions have not ended with nobody there"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        if self.tally.joins.is_empty() || self.tally.heard == 0 {
            faults.push("nobody came, or nobody heard anything".to_owned());
        }
        for (what, list) in [
            ("failed", &self.tally.failures),
            ("errors in the server's log", &self.errors),
        ] {
            if !list.is_empty() {
                let some = list.iter().take(TOLD).cloned().collect::<Vec<_>>();
                faults.push(format!("{} {what}:\n  {}", list.len(), some.join("\n  ")));
            }
        }
        faults
    }

    /// Which descriptors are open that were not.
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

    /// What there was, and what was left.
    pub(super) fn table(&self) -> String {
        let names = GAUGES.map(|name| {
            let name = name.trim_start_matches("parlor_");
            name.trim_start_matches("media_")
        });
        let mut text = format!("| | MB | descriptors | {} |\n", names.join(" | "));
        text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|\n");
        let halves = [1, 2].map(|half| late(&self.samples, self.time, half));
        for (title, rests) in [
            ("nobody, after the warm-up", &vec![&self.before]),
            ("late in the first half", &halves[0]),
            ("late in the second half", &halves[1]),
            ("nobody, in the end", &vec![&self.after]),
        ] {
            let figures = figures(rests)
                .map(|figure| figure.map_or("?".to_owned(), |figure| figure.to_string()));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {title} | {} |", figures.join(" | "));
        }
        let _ = writeln!(text, "\n{}", self.told());
        text
    }

    fn told(&self) -> String {
        let tally = &self.tally;
        let [server, own] = self
            .busy
            .map(|busy| busy.as_secs_f64() / self.time.as_secs_f64() * 100.0);
        format!(
            "{} joined, in {}; {} gave up, {} came back on another socket, {} vanished, {} lost their \
             media.\n{} tracks were heard by newcomers, the last of each after {}.\n{} transports, {} \
             of them left. CPU {server:.0} % of a core, {own:.0} % here. Memory may grow by {}.",
            tally.joins.len(),
            times(&tally.joins),
            tally.given_up,
            tally.came_back,
            tally.vanished,
            tally.dead_lines,
            tally.heard,
            times(&tally.waits),
            self.transports,
            self.ghosts,
            megabytes(GROWTH),
        )
    }
}

/// What half of them did not exceed, and 99 of 100.
fn times(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| {
        let time = times.get(times.len() * percent / 100).copied();
        time.unwrap_or_default().as_secs_f64() * 1e3
    };
    format!("{:.0} ms (99 %: {:.0} ms)", at(50), at(99))
}

/// The median of each figure: memory, descriptors, and what the server counts.
fn figures(rests: &[&Rest]) -> [Option<u64>; 2 + GAUGES.len()] {
    std::array::from_fn(|place| {
        median(rests.iter().filter_map(|rest| match place {
            0 => Some(rest.resident / 1_000_000),
            1 => u64::try_from(rest.descriptors.len()).ok(),
            _ => rest.gauges.get(place - 2).copied().flatten(),
        }))
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut Found);

    /// A run in which nothing is wrong.
    fn sound() -> Found {
        let nobody = Rest {
            gauges: [Some(0); GAUGES.len()],
            descriptors: ["socket", "socket", "parlor.db"].map(str::to_owned).into(),
            resident: 80 << 20,
        };
        let somebody = |second: u64| {
            let rest = Rest {
                gauges: [Some(7); GAUGES.len()],
                descriptors: vec!["socket".to_owned(); 50],
                resident: (90 << 20) + second * 1000,
            };
            (Duration::from_secs(second), rest)
        };
        Found {
            time: Duration::from_secs(120),
            before: nobody.clone(),
            after: nobody,
            samples: (0..60).map(|number| somebody(number * 2)).collect(),
            answered: [2, 0],
            transports: 10,
            tally: Tally {
                joins: vec![Duration::ZERO],
                heard: 8,
                ..Tally::default()
            },
            ..Found::default()
        }
    }

    #[test]
    fn nothing_is_wrong_when_nothing_is_left() {
        assert_eq!(sound().faults(), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_left_is_a_fault_of_its_own() {
        let spoilt: [(&str, Spoil); 12] = [
            ("parlor_rooms is 1", |found| found.after.gauges[0] = Some(1)),
            ("parlor_sockets is 2", |found| {
                found.after.gauges[1] = Some(2);
            }),
            ("parlor_media_transports is 3", |found| {
                found.after.gauges[2] = Some(3);
            }),
            ("parlor_rooms is no metric", |found| {
                found.after.gauges[0] = None;
            }),
            ("warm-up: socket", |found| {
                found.after.descriptors.push("socket".to_owned());
            }),
            ("4 transports still answer", |found| found.ghosts = 4),
            ("5 sessions have not ended", |found| found.live = 5),
            ("1 failed:\n  joining", |found| {
                found.tally.failures.push("joining".to_owned());
            }),
            ("1 errors in the server's log", |found| {
                found.errors.push("panicked at".to_owned());
            }),
            ("nobody heard", |found| found.tally.heard = 0),
            ("nothing is known of ghosts", |found| {
                found.answered = [0, 0];
            }),
            ("too short a time", |found| found.samples.truncate(10)),
        ];
        for (told, spoil) in spoilt {
            let mut found = sound();
            spoil(&mut found);
            let faults = found.faults();
            assert!(
                faults.len() == 1 && faults[0].contains(told),
                "{told}: {faults:?}"
            );
        }
    }

    #[test]
    fn memory_that_grows_all_the_time_is_a_fault() {
        let mut found = sound();
        for (at, rest) in &mut found.samples {
            rest.resident += at.as_secs() * (GROWTH / 50);
        }
        assert!(
            found.faults()[0].starts_with("memory grew from "),
            "{:?}",
            found.faults()
        );
        let mut found = sound();
        for (at, rest) in &mut found.samples {
            // At first only: caches that fill.
            rest.resident += at.as_secs().min(40) * (GROWTH / 10);
        }
        assert_eq!(found.faults(), Vec::<String>::new());
    }
}
