//! The servers under test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parlor_testkit::process::Process;
use parlor_testkit::server::{ACCOUNT_ID, Builder};
use parlor_testkit::{Client, Parlor, Postgres};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::signalling::meeting::Meeting;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_parlor");

/// How often a condition is looked at that nothing announces.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running server.
pub(crate) struct Server {
    parlor: Parlor,
    builder: Builder,
    database: Option<String>,
    folder: PathBuf,
    _own_folder: Option<tempfile::TempDir>,
    _sweeper: Option<Child>,
}

impl Server {
    /// The server of this process that keeps its records in SQLite.
    pub(crate) async fn sqlite() -> &'static Self {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::shared(None)).await
    }

    /// The server of this process that keeps its records in PostgreSQL.
    pub(crate) async fn postgres() -> &'static Self {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        SHARED
            .get_or_init(async || Self::shared(Some(new_database().await)).await)
            .await
    }

    /// A server of its own, on the same kind of database as `like`, with more arguments.
    pub(crate) async fn beside(like: &Self, arguments: &[&str]) -> Self {
        let database = match like.database {
            Some(_) => Some(new_database().await),
            None => None,
        };
        let folder = tempfile::tempdir().unwrap();
        let started = Self::start(folder.path().to_owned(), database, arguments).await;
        Self {
            _own_folder: Some(folder),
            ..started
        }
    }

    async fn shared(database: Option<String>) -> Self {
        // A `static` is never dropped, so its folder outlives the process unless somebody waits.
        let folder = tempfile::tempdir().unwrap().keep();
        let mut sweeper = Command::new("sh");
        sweeper
            .args(["-c", r#"read -r _; sleep 1; rm -rf "$0""#])
            .arg(&folder);
        let sweeper = sweeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let sweeper = sweeper.spawn().unwrap();
        Self {
            _sweeper: Some(sweeper),
            ..Self::start(folder, database, &[]).await
        }
    }

    async fn start(folder: PathBuf, database: Option<String>, arguments: &[&str]) -> Self {
        let mut builder = Parlor::builder(BINARY).data_dir(&folder);
        if let Some(url) = &database {
            builder = builder.database(url);
        }
        let builder = arguments.iter().fold(builder, Builder::argument);
        Self {
            parlor: builder.start().await.unwrap(),
            builder,
            database,
            folder,
            _own_folder: None,
            _sweeper: None,
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.parlor.kill().unwrap();
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let status = self.parlor.terminate().await.unwrap();
        assert!(status.success(), "{status}: {}", self.parlor.output());
    }

    /// Starts it again, on the same records and another port.
    pub(crate) async fn start_again(&mut self) {
        self.parlor = self.builder.start().await.unwrap();
    }

    /// Runs the command line on its records.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear();
        command.env("PARLOR_DATA_DIR", &self.folder);
        if let Some(url) = &self.database {
            command.env("PARLOR_DATABASE", url);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Whether its records are in PostgreSQL.
    pub(crate) fn is_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// Where it listens.
    pub(crate) fn origin(&self) -> &str {
        self.parlor.url()
    }

    /// What the kernel knows of it.
    pub(crate) fn process(&self) -> Process {
        self.parlor.process()
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.parlor.metrics().await.unwrap()
    }

    /// The administrator's client.
    pub(crate) fn client(&self) -> Client {
        self.parlor.client()
    }

    /// A new app: the path of everything in it.
    pub(crate) async fn app(&self) -> String {
        let kit = format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit");
        let made = self
            .client()
            .post(&format!("{kit}/apps"), &json!({ "name": "Test" }))
            .await
            .unwrap()
            .expect(200)
            .unwrap();
        format!("{kit}/{}", made["app"]["id"].as_str().unwrap())
    }

    /// A new meeting in a new app.
    pub(crate) async fn meeting(&self) -> Meeting {
        Meeting::make(self, self.app().await, json!({ "title": "Weekly" })).await
    }

    /// A new meeting with these settings in a new app.
    pub(crate) async fn meeting_with(&self, settings: serde_json::Value) -> Meeting {
        Meeting::make(self, self.app().await, settings).await
    }
}

async fn new_database() -> String {
    Postgres::shared().await.unwrap().database().await.unwrap()
}

/// Waits until `look` finds something, and says what was awaited when it does not.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}
