//! The Parlor binary as a child process.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cleanup_guard::CleanupGuard;
use crate::client::Client;
use crate::process::Process;

/// ID of the account that every server creates on its first start.
pub const ACCOUNT_ID: &str = "0123456789abcdef0123456789abcdef";

/// API token of that account, with the permission `Realtime Admin`.
pub const API_TOKEN: &str = "a-token-that-only-tests-ever-know";

/// Timeout of a start or a stop.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Number of output lines kept for error messages.
const LINES_KEPT: usize = 100;

/// Options with which to start a server. Created by [`ServerProcess::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    data_dir: Option<PathBuf>,
    database: Option<String>,
}

/// A running server process. It is killed on [`Drop`], and when this process dies.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    cleanup: CleanupGuard,
    url: String,
    metrics_url: Option<String>,
    output: Output,
    _own_data_dir: Option<tempfile::TempDir>,
}

impl Builder {
    /// Sets the data directory. By default each start gets a fresh one.
    #[must_use]
    pub fn data_dir(mut self, folder: &Path) -> Self {
        self.data_dir = Some(folder.to_owned());
        self
    }

    /// Sets the PostgreSQL database. By default the database is in the data directory.
    #[must_use]
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// Adds an argument after `parlor serve --listen … --data-dir …`.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets a variable in the server's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment.push((name.into(), value));
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// Dropping the future before that kills the server.
    ///
    /// # Errors
    /// When the server exits or is not ready within 30 seconds. The message includes its last
    /// output.
    pub async fn start(&self) -> Result<ServerProcess> {
        let own = match self.data_dir {
            Some(_) => None,
            None => Some(tempfile::tempdir()?),
        };
        let folder = own.as_ref().map(tempfile::TempDir::path);
        let folder = folder.or(self.data_dir.as_deref());
        let mut child = self
            .command(folder.context("no data directory")?)
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        let cleanup = CleanupGuard::arm(r#"kill -9 "$1""#, [child.id().to_string()])?;
        let output = Output::default();
        output.follow(child.stdout.take());
        output.follow(child.stderr.take());
        let mut parlor = ServerProcess {
            child,
            cleanup,
            url: String::new(),
            metrics_url: None,
            output,
            _own_data_dir: own,
        };
        parlor.wait_until_ready().await?;
        Ok(parlor)
    }

    fn command(&self, data_dir: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in env::vars_os() {
            // The settings of the user who runs the tests must not affect them.
            if name.as_encoded_bytes().starts_with(b"PARLOR_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(&self.arguments)
            .env("PARLOR_ACCOUNT_ID", ACCOUNT_ID)
            .env("PARLOR_API_TOKEN", API_TOKEN)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(url) = &self.database {
            command.args(["--database", url]);
        }
        command
    }
}

impl ServerProcess {
    /// Returns a builder for a server binary, in tests `env!("CARGO_BIN_EXE_parlor")`.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            data_dir: None,
            database: None,
        }
    }

    /// The URL of the server, for example `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Fetches the metrics, as text.
    ///
    /// # Errors
    /// When the server does not serve metrics.
    pub async fn metrics(&self) -> Result<String> {
        let url = self
            .metrics_url
            .as_deref()
            .context("the server does not serve metrics")?;
        let response = Client::new(url).get("/metrics").await?;
        ensure!(response.status == 200, "metrics: {}", response.status);
        let text = response.body.as_str().context("metrics are text")?;
        Ok(text.to_owned())
    }

    /// The URL of the metrics listener, if metrics are served.
    pub fn metrics_url(&self) -> Option<&str> {
        self.metrics_url.as_deref()
    }

    /// Returns a client with the API token of [`ACCOUNT_ID`].
    pub fn client(&self) -> Client {
        Client::new(&self.url).with_token(API_TOKEN)
    }

    /// Fetches the ID of the app that the first start created.
    pub async fn first_app(&self) -> Result<String> {
        let apps = format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/apps");
        let apps = self.client().get(&apps).await?.expect(200)?;
        let id = apps.pointer("/0/id").and_then(serde_json::Value::as_str);
        Ok(id.with_context(|| format!("no app in {apps}"))?.to_owned())
    }

    /// The process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process, for its resource usage.
    pub fn process(&self) -> Process {
        Process(self.pid())
    }

    /// The last lines of standard output and standard error, in the order of arrival.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// The first lines of the output that report errors or panics.
    pub fn errors(&self) -> Vec<String> {
        self.output.lock().errors.clone()
    }

    /// Kills the server with SIGKILL and waits until it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.cleanup.disarm();
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops the server with SIGTERM and waits until it has ended.
    ///
    /// # Errors
    /// When the server still runs after 30 seconds.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let sent = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()?;
        ensure!(sent.success(), "failed to send SIGTERM");
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                self.cleanup.disarm();
                return Ok(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("still running after SIGTERM:\n{}", self.output())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server exited with {status}:\n{}", self.output());
            }
            ensure!(
                Instant::now() < deadline,
                "not ready after {TIMEOUT:?}:\n{}",
                self.output()
            );
            if let Some(url) = self.output.address() {
                let ready = Client::new(&url).get("/readyz").await;
                self.url = url;
                self.metrics_url = self.output.metrics_address();
                if ready.is_ok_and(|response| response.status == 200) {
                    return Ok(());
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Disarmed first: once the child is reaped, its PID may be reused.
        self.cleanup.disarm();
        // Errors mean that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of the server. It must be read, or the server would block on a full pipe.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<OutputState>>);

#[derive(Debug, Default)]
struct OutputState {
    address: Option<String>,
    metrics_address: Option<String>,
    last_lines: VecDeque<String>,
    errors: Vec<String>,
}

impl Output {
    fn follow(&self, pipe: Option<impl Read + Send + 'static>) {
        let Some(pipe) = pipe else { return };
        let output = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                output.add(line);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: String) {
        let mut printed = self.lock();
        if printed.address.is_none() {
            printed.address = origin_after("listening on ", &line);
        }
        // This line comes before the other.
        if printed.metrics_address.is_none() {
            printed.metrics_address = origin_after("metrics on ", &line);
        }
        if is_error(&line) && printed.errors.len() < LINES_KEPT {
            printed.errors.push(line.clone());
        }
        if printed.last_lines.len() == LINES_KEPT {
            printed.last_lines.pop_front();
        }
        printed.last_lines.push_back(line);
    }

    fn address(&self) -> Option<String> {
        self.lock().address.clone()
    }

    fn metrics_address(&self) -> Option<String> {
        self.lock().metrics_address.clone()
    }

    fn text(&self) -> String {
        let printed = self.lock();
        let lines: Vec<&str> = printed.last_lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

/// Whether a log line reports a failure of the server.
fn is_error(line: &str) -> bool {
    if line.starts_with('{') {
        return line.contains(r#""level":"ERROR""#);
    }
    line.contains(" ERROR ") || line.contains(" panicked at ")
}

/// Extracts the origin that follows a marker in a log line.
fn origin_after(marker: &str, line: &str) -> Option<String> {
    let (_, after) = line.split_once(marker)?;
    let after = after.strip_prefix("http://")?;
    let is_address = |letter: char| letter.is_ascii_alphanumeric() || ".:[]".contains(letter);
    let end = after.find(|letter| !is_address(letter));
    Some(format!("http://{}", &after[..end.unwrap_or(after.len())]))
}

#[cfg(test)]
mod tests {
    use super::{is_error, origin_after};

    #[test]
    fn the_address_is_found_in_plain_and_in_json_logs() {
        for (line, origin) in [
            (
                "INFO listening on http://127.0.0.1:80",
                "http://127.0.0.1:80",
            ),
            (r#"{"m":"listening on http://[::1]:9"}"#, "http://[::1]:9"),
            ("listening on http://0.0.0.0:1 addr=x", "http://0.0.0.0:1"),
        ] {
            assert_eq!(origin_after("listening on ", line).as_deref(), Some(origin));
        }
        assert_eq!(
            origin_after("listening on ", "try http://127.0.0.1:80"),
            None
        );
        let line = "INFO metrics on http://127.0.0.1:81/metrics addr=x";
        let origin = origin_after("metrics on ", line);
        assert_eq!(origin.as_deref(), Some("http://127.0.0.1:81"));
    }

    #[test]
    fn errors_are_found_in_plain_and_in_json_logs() {
        for (line, expected) in [
            (r#"{"level":"ERROR","message":"a request failed"}"#, true),
            ("2026-01-01T00:00:00Z ERROR parlor_sfu: lost", true),
            ("thread 'media-0' (12) panicked at src/engine.rs:1:1:", true),
            (r#"{"level":"WARN","message":"an ERROR of others"}"#, false),
            ("INFO stopped", false),
        ] {
            assert_eq!(is_error(line), expected, "{line}");
        }
    }
}
