//! The command line of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use parlor_testkit::arguments::Arguments;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures Parlor's control plane and prints one Markdown table.

  --seconds N      measured seconds of each cell (5)
  --meetings N     meetings that the participants are spread over (100)
  --rows N         participants of the large meeting that is listed (1000000); 0 lists nothing
  --database NAME  `sqlite` or `postgres` alone (both)
  --server PATH    a built server, instead of building this one
  --quick          a smoke run of a few seconds: its figures say nothing
";

/// What to measure, and for how long.
#[derive(Debug)]
pub(crate) struct Options {
    /// Runs before the measured time of each cell, unmeasured.
    pub(crate) warm_up: Duration,
    /// The measured time of each cell.
    pub(crate) measured: Duration,
    /// How many meetings share the participants.
    pub(crate) meetings: usize,
    /// Participants of the large meeting.
    pub(crate) rows: usize,
    /// How old they are made before they are listed: the ranks of rows younger than a minute are
    /// not remembered.
    pub(crate) settle: Duration,
    /// Which databases.
    pub(crate) database: Databases,
    /// A server binary to use as it is.
    pub(crate) server: Option<PathBuf>,
}

/// One database, or both.
#[derive(Debug)]
pub(crate) struct Databases(Option<String>);

impl Databases {
    /// Whether this database is to be measured.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|only| only == name)
    }
}

impl Options {
    /// Reads the arguments; `None` asks for the help text.
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
                    other => bail!("no database {other}"),
                },
                other => bail!("no option {other}\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}
