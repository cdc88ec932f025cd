//! Attacks on a real server, as a client of it could make them. Each check shows that one class of
//! attack does not harm anybody else.
//!
//! | where | what |
//! |---|---|
//! | `checks` | The list of checks, and what each of them reports. |
//! | `unread` | Clients that ask and do not read the answers. |
//! | `frames` | Clients that flood the socket of a meeting. |
//! | `identity` | Clients that try to become, or to learn, what they may not. |
//! | `pools` | Clients that take everything there is of something. |
//! | `bystander` | Somebody who uses the server meanwhile. |
//!
//! A check fails on counts: bytes, statuses, elements. The latency of bystanders is printed as a
//! ratio to the same server without the attack, and fails nothing: machines are noisy.

mod bystander;
mod checks;
mod frames;
mod identity;
mod pools;
mod unread;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parlor_testkit::Postgres;
use parlor_testkit::arguments::{Arguments, Task};

use crate::checks::{CHECKS, Check, Ground};

/// What `--help` prints.
const HELP: &str = "\
Attacks a real server, and fails when anybody else is harmed.

  attack [NAME…] [OPTION…]   all checks when none is named

  --server-binary PATH  a built server (the one beside this program)
  --server-argument ARG one more argument of the server; may be repeated
  --database NAME       `sqlite` or `postgres` alone (both, where a check depends on it)
  --long                more of everything: minutes instead of seconds
  --list                print the names of all checks
";

/// No check may take longer than this.
const LONGEST: Duration = Duration::from_secs(60);
/// As [`LONGEST`], with `--long`.
const LONGEST_LONG: Duration = Duration::from_secs(20 * 60);

/// What is asked for.
#[derive(Debug, Default)]
struct Options {
    task: Task,
    database: Option<String>,
    is_long: bool,
    is_list: bool,
}

impl Options {
    /// Reads the arguments; `None` asks for the help text.
    fn read(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        let mut rest = Arguments::new(words);
        while let Some(word) = rest.word() {
            if options.task.takes(&word, &names, &mut rest)? {
                continue;
            }
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--long" => options.is_long = true,
                "--list" => options.is_list = true,
                "--database" => match rest.value::<String>()? {
                    known if ["sqlite", "postgres"].contains(&known.as_str()) => {
                        options.database = Some(known);
                    }
                    other => bail!("no database {other}"),
                },
                other => bail!("no check or option {other}\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }

    fn wants(&self, check: &Check) -> bool {
        let modes = &self.task.modes;
        modes.is_empty() || modes.iter().any(|mode| mode == check.name)
    }

    fn databases<'a>(&'a self, check: &'a Check) -> impl Iterator<Item = &'static str> + 'a {
        let only = self.database.as_deref();
        let wanted = check.databases.iter().copied();
        wanted.filter(move |name| only.is_none_or(|one| one == *name))
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    let Some(options) = Options::read(env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(ExitCode::from(2));
    };
    if options.is_list {
        for check in CHECKS {
            println!("{:<24}{}", check.name, check.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let most = rlimit::Resource::NOFILE.get_hard()?.min(1 << 20);
    rlimit::increase_nofile_limit(most)?;
    let (mut passed, mut failed) = (0, 0);
    for check in CHECKS.iter().filter(|check| options.wants(check)) {
        for database in options.databases(check) {
            if run(check, database, &options).await? {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(ExitCode::from(u8::from(failed > 0 || passed == 0)))
}

/// Runs a check and prints what came of it. Whether nobody was harmed.
async fn run(check: &Check, database: &'static str, options: &Options) -> Result<bool> {
    let postgres = match database {
        "postgres" => Some(Postgres::shared().await?.database().await?),
        _ => None,
    };
    let ground = Ground {
        builder: options.task.server()?,
        postgres,
        is_long: options.is_long,
    };
    let longest = if options.is_long {
        LONGEST_LONG
    } else {
        LONGEST
    };
    let began = Instant::now();
    let outcome = tokio::time::timeout(longest, (check.run)(&ground))
        .await
        .context("it took too long")
        .flatten();
    let (faults, figures) = match outcome {
        Ok(report) => (report.faults, report.figures),
        Err(error) => (vec![format!("{error:#}")], Vec::new()),
    };
    let verdict = if faults.is_empty() { "ok" } else { "FAILED" };
    println!(
        "{verdict:<7}{:<24}{database:<9}{:>5.1} s  {}",
        check.name,
        began.elapsed().as_secs_f64(),
        figures.join("; "),
    );
    for fault in &faults {
        println!("       {fault}");
    }
    Ok(faults.is_empty())
}
