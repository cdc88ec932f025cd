//! Attacks a real server as a malicious client could. Each check shows that one class of attack
//! does not harm other clients.
//!
//! | module | purpose |
//! |---|---|
//! | `checks` | The list of checks, and their reports. |
//! | `unread` | Clients that send requests and do not read the responses. |
//! | `frames` | Clients that flood the socket of a meeting. |
//! | `identity` | Clients that try to gain access or information that they must not have. |
//! | `pools` | Clients that try to exhaust a limited resource. |
//! | `bystander` | An honest client that uses the server during an attack. |
//!
//! A check fails only because of counts, such as bytes, statuses or elements. The latency of the
//! bystanders is printed as a ratio to that of the same server without the attack, but does not
//! fail a check, because machines are noisy.

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
use parlor_testkit::arguments::{Arguments, CommonOptions};

use crate::checks::{CHECKS, Check, Setup};

/// What `--help` prints.
const HELP: &str = "\
Attacks a real server, and fails when other clients are harmed.

  attack [NAME…] [OPTION…]   without names, runs all checks

  --server-binary PATH  server binary (parlor in the directory of this program)
  --server-argument ARG additional argument for the server; may be repeated
  --database NAME       only `sqlite` or only `postgres` (both, for checks that depend on it)
  --long                larger attacks, for minutes instead of seconds
  --list                print the names of all checks
";

/// Timeout of a check.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of a check with `--long`.
const LONG_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// Command line options.
#[derive(Debug, Default)]
struct Options {
    common: CommonOptions,
    database: Option<String>,
    is_long: bool,
    is_list: bool,
}

impl Options {
    /// Parses the arguments. Returns `None` to print the help text.
    fn read(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        let mut rest = Arguments::new(words);
        while let Some(word) = rest.word() {
            if options.common.parse_option(&word, &names, &mut rest)? {
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
                    other => bail!("unknown database {other}"),
                },
                other => bail!("unknown check or option {other}\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }

    fn wants(&self, check: &Check) -> bool {
        let modes = &self.common.modes;
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
    let limit = rlimit::Resource::NOFILE.get_hard()?.min(1 << 20);
    rlimit::increase_nofile_limit(limit)?;
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

/// Runs a check and prints the result. Returns whether it passed.
async fn run(check: &Check, database: &'static str, options: &Options) -> Result<bool> {
    let postgres = match database {
        "postgres" => Some(Postgres::shared().await?.database().await?),
        _ => None,
    };
    let setup = Setup {
        builder: options.common.server()?,
        postgres,
        is_long: options.is_long,
    };
    let timeout = if options.is_long {
        LONG_TIMEOUT
    } else {
        TIMEOUT
    };
    let began = Instant::now();
    let outcome = tokio::time::timeout(timeout, (check.run)(&setup))
        .await
        .context("the check timed out")
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
