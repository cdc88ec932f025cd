//! Servers under test, and their command line.

use std::process::ExitStatus;

use futures_util::future::join_all;
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::Value;

use crate::http::resource::{Resource, basic_auth};
use crate::process::{Storage, TestServer, shared_servers};

/// A running server.
pub(crate) struct Server(TestServer);

/// An API token that was created for a test.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Server {
    shared_servers!();

    /// Starts a server for one test, on the same kind of database as `like`.
    pub(crate) async fn dedicated(like: &Self, arguments: &[&str]) -> Self {
        Self::start(Storage::same_kind_as(&like.0.storage).await, arguments).await
    }

    /// Starts several servers at the same time, on one empty database.
    pub(crate) async fn cluster(like: &Self, count: usize) -> Vec<Self> {
        let storage = Storage::same_kind_as(&like.0.storage).await;
        let start = |_| Self::start(storage.clone(), &[]);
        join_all((0..count).map(start)).await
    }

    async fn start(storage: Storage, arguments: &[&str]) -> Self {
        Self(TestServer::start(storage, arguments).await)
    }

    /// Kills the server and restarts it on the same database.
    pub(crate) async fn kill_and_restart(mut self) -> Self {
        self.0.process.kill().unwrap();
        self.0.restart().await;
        self
    }

    /// Terminates the server, and waits until it has exited.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.0.process.terminate().await.unwrap()
    }

    /// Returns the root of the server, without credentials.
    pub(crate) fn public(&self) -> Resource {
        Resource::new(self.0.process.url())
    }

    /// Returns the default account, with the default API token.
    pub(crate) fn account(&self) -> Resource {
        self.account_with(ACCOUNT_ID, API_TOKEN)
    }

    /// Returns an account, with the given token.
    pub(crate) fn account_with(&self, account: &str, secret: &str) -> Resource {
        self.public()
            .with_token(secret)
            .join(&format!("/client/v4/accounts/{account}/realtime/kit"))
    }

    /// Creates an app in the default account, and returns it on surface A.
    pub(crate) async fn app(&self) -> Resource {
        self.account().app().await
    }

    /// Returns an app on surface B.
    pub(crate) fn surface_b(&self, app_id: &str, secret: &str) -> Resource {
        self.public()
            .with_header("authorization", &basic_auth(app_id, secret))
            .join("/v2")
    }

    /// Waits until the resident memory is stable, and returns it in bytes.
    pub(crate) async fn settled_memory(&self) -> u64 {
        self.0.process.process().settled_memory().await.unwrap()
    }

    /// Returns the metrics page.
    pub(crate) async fn metrics(&self) -> String {
        self.0.process.metrics().await.unwrap()
    }

    /// Returns the value of a metric, by its name and labels, or 0 if it is absent.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_for_metric(&self, name: &str, expected: u64) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let value = self.metric(name).await;
            if value == expected {
                return;
            }
            let metrics = self.metrics().await;
            assert!(
                std::time::Instant::now() < deadline,
                "{name} is {value}: {metrics}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        self.0.process.process().resident().unwrap()
    }

    /// Returns the location of the database, for tests that access it directly.
    pub(crate) fn database(&self) -> parlor_store::DatabaseLocation {
        self.0.storage.location()
    }

    /// Runs a command of the server binary on this server's database, and parses the JSON it
    /// prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let output = self.0.run(&[arguments, &["--json"]].concat());
        let printed = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{arguments:?} printed {printed:?}: {error}"))
    }

    /// Creates an API token for an account.
    pub(crate) fn token(&self, account: &str, options: &[&str]) -> Token {
        let created = self.run(&[&["token", "create", "--account", account], options].concat());
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        Token {
            id: text("id"),
            secret: text("token"),
        }
    }
}
