//! The servers under test and their command line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use futures_util::future::join_all;
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN, Builder};
use parlor_testkit::{Parlor, Postgres};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::http::place::{Place, basic};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_parlor");

/// A running server and where its records are.
pub(crate) struct Server {
    parlor: Parlor,
    folder: PathBuf,
    database: Option<String>,
    _sweeper: Option<Child>,
}

/// An API token made for a test.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
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

    /// A server of its own, on the same kind of database as `like`, that a test may stop.
    pub(crate) async fn beside(like: &Self, folder: &Path, arguments: &[&str]) -> Self {
        let database = fresh_database(like).await;
        Self::start(folder.to_owned(), database, arguments).await
    }

    /// Servers that share records which do not exist yet, started at the same moment.
    pub(crate) async fn together(like: &Self, folder: &Path, count: usize) -> Vec<Self> {
        let database = fresh_database(like).await;
        let start = |_| Self::start(folder.to_owned(), database.clone(), &[]);
        join_all((0..count).map(start)).await
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
        let parlor = builder.start().await.unwrap();
        Self {
            parlor,
            folder,
            database,
            _sweeper: None,
        }
    }

    /// Kills it and starts it again on the same records.
    pub(crate) async fn kill_and_start(mut self) -> Self {
        self.parlor.kill().unwrap();
        Self::start(self.folder.clone(), self.database.clone(), &[]).await
    }

    /// Asks it to stop, and waits until it did.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.parlor.terminate().await.unwrap()
    }

    /// Everything of this server, without credentials.
    pub(crate) fn public(&self) -> Place {
        Place::of(self.parlor.url())
    }

    /// The account of every test, as its administrator.
    pub(crate) fn account(&self) -> Place {
        self.account_of(ACCOUNT_ID, API_TOKEN)
    }

    /// Another account, or the same one with another token.
    pub(crate) fn account_of(&self, account: &str, secret: &str) -> Place {
        self.public()
            .bearing(secret)
            .at(&format!("/client/v4/accounts/{account}/realtime/kit"))
    }

    /// A new app on surface A.
    pub(crate) async fn app(&self) -> Place {
        self.account().app().await
    }

    /// An app on surface B.
    pub(crate) fn surface_b(&self, app_id: &str, secret: &str) -> Place {
        self.public()
            .with_header("authorization", &basic(app_id, secret))
            .at("/v2")
    }

    /// The same, once it does not change any more.
    pub(crate) async fn settled(&self) -> u64 {
        self.parlor.process().settled().await.unwrap()
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.parlor.metrics().await.unwrap()
    }

    /// What a metric counts, by its name and labels; 0 when it is not there yet.
    pub(crate) async fn counted(&self, metric: &str) -> u64 {
        let text = self.metrics().await;
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        values.next().map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a metric counts so many.
    pub(crate) async fn counts(&self, metric: &str, count: u64) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let counted = self.counted(metric).await;
            if counted == count {
                return;
            }
            let metrics = self.metrics().await;
            assert!(
                std::time::Instant::now() < deadline,
                "{metric} is {counted}: {metrics}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The memory that it holds resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.parlor.process().resident().unwrap()
    }

    /// Where the records are, to look at them behind the server's back.
    pub(crate) fn records(&self) -> parlor_store::Place {
        match &self.database {
            Some(url) => parlor_store::Place::Postgres(url.clone()),
            None => parlor_store::Place::Sqlite(self.folder.join("parlor.db")),
        }
    }

    /// Runs the command line on this server's database and reads the JSON it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .arg("--json")
            .env_clear()
            .env("PARLOR_DATA_DIR", &self.folder);
        if let Some(url) = &self.database {
            command.env("PARLOR_DATABASE", url);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        let printed = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{arguments:?} printed {printed:?}: {error}"))
    }

    /// Makes an API token of an account.
    pub(crate) fn token(&self, account: &str, options: &[&str]) -> Token {
        let made = self.run(&[&["token", "create", "--account", account], options].concat());
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Token {
            id: text("id"),
            secret: text("token"),
        }
    }
}

/// An empty database of the kind that a server has: a URL on PostgreSQL, nothing on SQLite.
async fn fresh_database(like: &Server) -> Option<String> {
    match like.database {
        Some(_) => Some(new_database().await),
        None => None,
    }
}

async fn new_database() -> String {
    Postgres::shared().await.unwrap().database().await.unwrap()
}
