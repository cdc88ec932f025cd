//! Command line of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use parlor_testkit::arguments::Arguments;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures Parlor's control plane and prints a Markdown table.

  --seconds N      measured seconds of each cell (5)
  --meetings N     number of meetings to which participants are added (100)
  --rows N         participants of the large meeting that is listed (1000000); 0 skips lists
  --database NAME  only `sqlite` or only `postgres` (both)
  --server PATH    server binary to use instead of building one
  --quick          smoke run of a few seconds; its figures are meaningless
";

/// What to measure, and for how long.
#[derive(Debug)]
pub(crate) struct Options {
    /// Warm-up before the measured time of each cell.
    pub(crate) warm_up: Duration,
    /// Measured time of each cell.
    pub(crate) measured: Duration,
    /// Number of meetings to which participants are added.
    pub(crate) meetings: usize,
    /// Number of participants of the large meeting.
    pub(crate) rows: usize,
    /// How long to wait before listing them: ranks of rows younger than a minute are not cached.
    pub(crate) settle: Duration,
    /// Databases to measure.
    pub(crate) database: Databases,
    /// Server binary to use instead of building one.
    pub(crate) server: Option<PathBuf>,
}

/// One database, or both.
#[derive(Debug)]
pub(crate) struct Databases(Option<String>);

impl Databases {
    /// Whether to measure this database.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|only| only == name)
    }
}

impl Options {
    /// Parses the arguments. Returns `None` to print the help text.
    pub(crate) fn from_arguments(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(5),
            meetings: 100,
            rows: 1_000_000,
            settle: Duration::from_secs(61),
            database: Databases(None),
            server: None,
        };
        let mut rest = Arguments::new(words);
        while let Some(word) = rest.word() {
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => {
                    options.warm_up = Duration::from_millis(50);
                    options.measured = Duration::from_millis(200);
                    options.rows = 10_000;
                    options.settle = Duration::ZERO;
                }
                "--seconds" => options.measured = Duration::from_secs(rest.value()?),
                "--meetings" => options.meetings = rest.value::<usize>()?.max(1),
                "--rows" => {
                    let rows: usize = rest.value()?;
                    options.rows = if rows == 0 { 0 } else { rows.max(1_000) };
                }
                "--server" => options.server = Some(rest.value()?),
                "--database" => match rest.value::<String>()? {
                    known if ["sqlite", "postgres"].contains(&known.as_str()) => {
                        options.database = Databases(Some(known));
                    }
                    other => bail!("unknown database {other}"),
                },
                other => bail!("unknown option {other}\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}
