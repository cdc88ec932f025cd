//! The command line of the load generator.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Loads the signalling of a real server and prints one Markdown table.

  load [MODE…] [OPTION…]     modes: join chat idle sessions reconnect, or all

  --server-binary PATH  a built server (target/release/parlor beside this program)
  --server-argument ARG one more argument of the server; may be repeated
  --database NAME       `sqlite` (default) or `postgres`
  --url URL             a server that runs, instead of starting one; needs --token and --app
  --token TOKEN         its API token
  --app PATH            the path of the app, /client/v4/accounts/…/realtime/kit/…
  --pid PID             its process, for CPU and memory
  --peers N             join: peers of the meeting (1000); chat: 500; idle: 10000; reconnect: 60
  --rate N              join: joins a second, whether the server keeps up or not (500)
  --messages N          chat: measured messages (200), after as many sent at once as there are peers
  --meetings N          idle: meetings (1000); sessions: meetings with one peer each (10000)
  --rounds N            reconnect: how often sockets are pulled (20)
  --quick               a smoke run of a few seconds: its figures say nothing
";

/// Every mode, in the order of `all`.
pub(crate) const MODES: [&str; 5] = ["join", "chat", "idle", "sessions", "reconnect"];

/// What to load, and how much of it.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) modes: Vec<String>,
    pub(crate) binary: Option<PathBuf>,
    pub(crate) arguments: Vec<String>,
    pub(crate) on_postgres: bool,
    pub(crate) running: Option<Running>,
    peers: Option<usize>,
    rate: Option<f64>,
    messages: Option<usize>,
    meetings: Option<usize>,
    rounds: Option<usize>,
    is_quick: bool,
}

/// A server that somebody else started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) app: String,
    pub(crate) pid: Option<u32>,
}

impl Options {
    /// Reads the arguments; `None` asks for the help text.
    pub(crate) fn from_arguments(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut running = Running::default();
        while let Some(name) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--server-binary" => options.binary = Some(value()?.into()),
                "--server-argument" => options.arguments.push(value()?),
                "--database" => {
                    options.on_postgres = match value()?.as_str() {
                        "sqlite" => false,
                        "postgres" => true,
                        other => bail!("no database {other}"),
                    }
                }
                "--url" => running.url = value()?,
                "--token" => running.token = value()?,
                "--app" => running.app = value()?,
                "--pid" => running.pid = Some(value()?.parse()?),
                "--peers" => options.peers = Some(value()?.parse()?),
                "--rate" => options.rate = Some(value()?.parse()?),
                "--messages" => options.messages = Some(value()?.parse()?),
                "--meetings" => options.meetings = Some(value()?.parse()?),
                "--rounds" => options.rounds = Some(value()?.parse()?),
                "--quick" => options.is_quick = true,
                "all" => options.modes.extend(MODES.map(str::to_owned)),
                mode if MODES.contains(&mode) => options.modes.push(mode.to_owned()),
                other => bail!("no mode or option {other}\n\n{HELP}"),
            }
        }
        if options.modes.is_empty() {
            return Ok(None);
        }
        if !running.url.is_empty() {
            let is_whole = !running.token.is_empty() && !running.app.is_empty();
            ensure!(is_whole, "--url needs --token and --app");
            options.running = Some(running);
        }
        Ok(Some(options))
    }

    fn number(&self, asked: Option<usize>, usual: usize, quick: usize) -> usize {
        let usual = if self.is_quick { quick } else { usual };
        asked.unwrap_or(usual).max(1)
    }

    pub(crate) fn join_peers(&self) -> usize {
        self.number(self.peers, 1000, 50)
    }

    pub(crate) fn join_rate(&self) -> f64 {
        self.rate.unwrap_or(500.0).max(1.0)
    }

    pub(crate) fn chat_peers(&self) -> usize {
        self.number(self.peers, 500, 20)
    }

    pub(crate) fn messages(&self) -> usize {
        self.number(self.messages, 200, 20)
    }

    pub(crate) fn idle_peers(&self) -> usize {
        self.number(self.peers, 10_000, 200)
    }

    pub(crate) fn idle_meetings(&self) -> usize {
        self.number(self.meetings, 1000, 20)
    }

    pub(crate) fn session_meetings(&self) -> usize {
        self.number(self.meetings, 10_000, 100)
    }

    pub(crate) fn reconnect_peers(&self) -> usize {
        self.number(self.peers, 60, 20)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.number(self.rounds, 20, 3)
    }
}
