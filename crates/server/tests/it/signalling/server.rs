//! The servers under test.

use std::time::Duration;

use parlor_testkit::Client;
use parlor_testkit::process::Process;
use parlor_testkit::server::ACCOUNT_ID;
use serde_json::json;

use crate::process::{Records, ServerProcess, shared_servers};
use crate::signalling::meeting::Meeting;

/// How often a condition is looked at that nothing announces.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running server.
pub(crate) struct Server(ServerProcess);

impl Server {
    shared_servers!();

    /// A server of its own, on the same kind of database as `like`, with more arguments.
    pub(crate) async fn beside(like: &Self, arguments: &[&str]) -> Self {
        Self::start(Records::like(&like.0.records).await, arguments).await
    }

    async fn start(records: Records, arguments: &[&str]) -> Self {
        Self(ServerProcess::start(records, arguments).await)
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.parlor.kill().unwrap();
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let status = self.0.parlor.terminate().await.unwrap();
        assert!(status.success(), "{status}: {}", self.0.parlor.output());
    }

    /// Starts it again, on the same records and another port.
    pub(crate) async fn start_again(&mut self) {
        self.0.start_again().await;
    }

    /// Runs the command line on its records.
    pub(crate) fn run(&self, arguments: &[&str]) {
        self.0.run(arguments);
    }

    /// Whether its records are in PostgreSQL.
    pub(crate) fn is_on_postgres(&self) -> bool {
        self.0.records.are_on_postgres()
    }

    /// Where it listens.
    pub(crate) fn origin(&self) -> &str {
        self.0.parlor.url()
    }

    /// What the kernel knows of it.
    pub(crate) fn process(&self) -> Process {
        self.0.parlor.process()
    }

    /// Its metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.0.parlor.metrics().await.unwrap()
    }

    /// The administrator's client.
    pub(crate) fn client(&self) -> Client {
        self.0.parlor.client()
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
