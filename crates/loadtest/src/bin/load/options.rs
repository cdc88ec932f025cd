//! Command line of the load generator.

use anyhow::{Result, bail, ensure};
use parlor_testkit::arguments::{Arguments, CommonOptions};
use parlor_testkit::{LoadTarget, Process};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Puts load on the signalling of a real server and prints a Markdown table.

  load [MODE…] [OPTION…]     modes: join chat idle sessions reconnect, or all

  --server-binary PATH  server binary (parlor in the directory of this program)
  --server-argument ARG additional argument for the server; may be repeated
  --database NAME       `sqlite` (default) or `postgres`
  --url URL             running server to use instead of starting one; requires --token and --app
  --token TOKEN         API token for the running server
  --app PATH            path of the app, /client/v4/accounts/…/realtime/kit/…
  --pid PID             process ID of the running server, to measure CPU and memory
  --peers N             join: peers in the meeting (1000); chat: 500; idle: 10000; reconnect: 60
  --rate N              join: joins per second, whether or not the server keeps up (500)
  --messages N          chat: measured messages (200), followed by one message from every peer at once
  --meetings N          idle: meetings (1000); sessions: meetings with one peer each (10000)
  --rounds N            reconnect: how often every socket is disconnected (20)
  --quick               smoke run of a few seconds; its figures are meaningless
";

/// The preset of all participants.
pub(crate) const PRESET: &str = "group_call_participant";

/// All modes, in the order of `all`.
pub(crate) const MODES: [&str; 5] = ["join", "chat", "idle", "sessions", "reconnect"];

/// What to run, and how much load to generate.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) common: CommonOptions,
    on_postgres: bool,
    running: Option<Running>,
    peers: Option<usize>,
    rate: Option<f64>,
    messages: Option<usize>,
    meetings: Option<usize>,
    rounds: Option<usize>,
}

/// A server that was started elsewhere.
#[derive(Clone, Debug, Default)]
struct Running {
    url: String,
    token: String,
    app: String,
    pid: Option<u32>,
}

impl Options {
    /// Parses the arguments. Returns `None` to print the help text.
    pub(crate) fn from_arguments(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut running = Running::default();
        let mut rest = Arguments::new(words);
        while let Some(word) = rest.word() {
            if options.common.parse_option(&word, &MODES, &mut rest)? {
                continue;
            }
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--database" => {
                    options.on_postgres = match rest.value::<String>()?.as_str() {
                        "sqlite" => false,
                        "postgres" => true,
                        other => bail!("unknown database {other}"),
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
                "all" => options.common.modes.extend(MODES.map(str::to_owned)),
                other => bail!("unknown mode or option {other}\n\n{HELP}"),
            }
        }
        if options.common.modes.is_empty() {
            return Ok(None);
        }
        if !running.url.is_empty() {
            let is_complete = !running.token.is_empty() && !running.app.is_empty();
            ensure!(is_complete, "--url requires --token and --app");
            options.running = Some(running);
        }
        Ok(Some(options))
    }

    /// Starts a server, or uses the running one.
    pub(crate) async fn target(&self) -> Result<LoadTarget> {
        if let Some(running) = &self.running {
            let process = running.pid.map(Process);
            return LoadTarget::running(&running.url, &running.token, running.app.clone(), process);
        }
        // The rate limit would otherwise reject the measured messages.
        let builder = self
            .common
            .server()?
            .argument("--chat-per-minute")
            .argument("1000000");
        LoadTarget::start(builder, self.on_postgres).await
    }

    pub(crate) fn join_peers(&self) -> usize {
        self.common.count(self.peers, 1000, 50)
    }

    pub(crate) fn join_rate(&self) -> f64 {
        self.rate.unwrap_or(500.0).max(1.0)
    }

    pub(crate) fn chat_peers(&self) -> usize {
        self.common.count(self.peers, 500, 20)
    }

    pub(crate) fn messages(&self) -> usize {
        self.common.count(self.messages, 200, 20)
    }

    pub(crate) fn idle_peers(&self) -> usize {
        self.common.count(self.peers, 10_000, 200)
    }

    pub(crate) fn idle_meetings(&self) -> usize {
        self.common.count(self.meetings, 1000, 20)
    }

    pub(crate) fn session_meetings(&self) -> usize {
        self.common.count(self.meetings, 10_000, 100)
    }

    pub(crate) fn reconnect_peers(&self) -> usize {
        self.common.count(self.peers, 60, 20)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.common.count(self.rounds, 20, 3)
    }
}
