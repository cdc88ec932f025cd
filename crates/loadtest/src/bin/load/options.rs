//! The command line of the load generator.

use anyhow::{Result, bail, ensure};
use parlor_testkit::arguments::{Arguments, Task};
use parlor_testkit::{Process, Stage};

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

/// What everybody joins with.
pub(crate) const PRESET: &str = "group_call_participant";

/// Every mode, in the order of `all`.
pub(crate) const MODES: [&str; 5] = ["join", "chat", "idle", "sessions", "reconnect"];

/// What to load, and how much of it.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) task: Task,
    on_postgres: bool,
    running: Option<Running>,
    peers: Option<usize>,
    rate: Option<f64>,
    messages: Option<usize>,
    meetings: Option<usize>,
    rounds: Option<usize>,
}

/// A server that somebody else started.
#[derive(Clone, Debug, Default)]
struct Running {
    url: String,
    token: String,
    app: String,
    pid: Option<u32>,
}

impl Options {
    /// Reads the arguments; `None` asks for the help text.
    pub(crate) fn from_arguments(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut running = Running::default();
        let mut rest = Arguments::new(words);
        while let Some(word) = rest.word() {
            if options.task.takes(&word, &MODES, &mut rest)? {
                continue;
            }
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--database" => {
                    options.on_postgres = match rest.value::<String>()?.as_str() {
                        "sqlite" => false,
                        "postgres" => true,
                        other => bail!("no database {other}"),
                    }
                }
                "--url" => running.url = rest.value()?,
                "--token" => running.token = rest.value()?,
                "--app" => running.app = rest.value()?,
                "--pid" => running.pid = Some(rest.value()?),
                "--peers" => options.peers = Some(rest.value()?),
                "--rate" => options.rate = Some(rest.value()?),
                "--messages" => options.messages = Some(rest.value()?),
                "--meetings" => options.meetings = Some(rest.value()?),
                "--rounds" => options.rounds = Some(rest.value()?),
                "all" => options.task.modes.extend(MODES.map(str::to_owned)),
                other => bail!("no mode or option {other}\n\n{HELP}"),
            }
        }
        if options.task.modes.is_empty() {
            return Ok(None);
        }
        if !running.url.is_empty() {
            let is_whole = !running.token.is_empty() && !running.app.is_empty();
            ensure!(is_whole, "--url needs --token and --app");
            options.running = Some(running);
        }
        Ok(Some(options))
    }

    /// Starts a server, or takes the one that runs.
    pub(crate) async fn stage(&self) -> Result<Stage> {
        if let Some(running) = &self.running {
            let process = running.pid.map(Process);
            return Stage::running(&running.url, &running.token, running.app.clone(), process);
        }
        // What is measured is the server, not its patience with one peer.
        let patient = self
            .task
            .server()?
            .argument("--chat-per-minute")
            .argument("1000000");
        Stage::start(patient, self.on_postgres).await
    }

    pub(crate) fn join_peers(&self) -> usize {
        self.task.number(self.peers, 1000, 50)
    }

    pub(crate) fn join_rate(&self) -> f64 {
        self.rate.unwrap_or(500.0).max(1.0)
    }

    pub(crate) fn chat_peers(&self) -> usize {
        self.task.number(self.peers, 500, 20)
    }

    pub(crate) fn messages(&self) -> usize {
        self.task.number(self.messages, 200, 20)
    }

    pub(crate) fn idle_peers(&self) -> usize {
        self.task.number(self.peers, 10_000, 200)
    }

    pub(crate) fn idle_meetings(&self) -> usize {
        self.task.number(self.meetings, 1000, 20)
    }

    pub(crate) fn session_meetings(&self) -> usize {
        self.task.number(self.meetings, 10_000, 100)
    }

    pub(crate) fn reconnect_peers(&self) -> usize {
        self.task.number(self.peers, 60, 20)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.task.number(self.rounds, 20, 3)
    }
}
