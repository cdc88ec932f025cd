//! The servers under test and their command line.

use std::process::ExitStatus;

use futures_util::future::join_all;
use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use serde_json::Value;

use crate::http::place::{Place, basic};
use crate::process::{Records, ServerProcess, shared_servers};

/// A running server.
pub(crate) struct Server(ServerProcess);

/// An API token made for a test.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Server {
    shared_servers!();

    /// A server of its own, on the same kind of database as `like`, that a test may stop.
    pub(crate) async fn beside(like: &Self, arguments: &[&str]) -> Self {
        Self::start(Records::like(&like.0.records).await, arguments).await
    }

    /// Servers that share records which do not exist yet, started at the same moment.
    pub(crate) async fn together(like: &Self, count: usize) -> Vec<Self> {
        let records = Records::like(&like.0.records).await;
        let start = |_| Self::start(records.clone(), &[]);
        join_all((0..count).map(start)).await
    }

    async fn start(records: Records, arguments: &[&str]) -> Self {
        Self(ServerProcess::start(records, arguments).await)
    }

    /// Kills it and starts it again on the same records.
    pub(crate) async fn kill_and_start(mut self) -> Self {
        self.0.parlor.kill().unwrap();
        self.0.start_again().await;
        self
    }

    /// Asks it to stop, and waits until it did.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.0.parlor.terminate().await.unwrap()
    }

    /// Everything of this server, without credentials.
    pub(crate) fn public(&self) -> Place {
        Place::of(self.0.parlor.url())
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
        self.0.parlor.process().settled().await.unwrap()
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.0.parlor.metrics().await.unwrap()
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
        self.0.parlor.process().resident().unwrap()
    }

    /// Where the records are, to look at them behind the server's back.
    pub(crate) fn records(&self) -> parlor_store::Place {
        self.0.records.place()
    }

    /// Runs the command line on this server's database and reads the JSON it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let output = self.0.run(&[arguments, &["--json"]].concat());
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
