//! The server under test.

use std::time::Duration;

use parlor_testkit::Client;
use parlor_testkit::process::Process;
use parlor_testkit::server::ACCOUNT_ID;
use serde_json::json;

use crate::process::{Storage, TestServer, shared_servers};
use crate::signalling::meeting::Meeting;

/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Maximum time to wait for a condition.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A running server.
pub(crate) struct Server(TestServer);

impl Server {
    shared_servers!();

    /// Starts a dedicated server on the same kind of database as `like`, with additional arguments.
    pub(crate) async fn dedicated(like: &Self, arguments: &[&str]) -> Self {
        Self::start(Storage::same_kind_as(&like.0.storage).await, arguments).await
    }

    async fn start(storage: Storage, arguments: &[&str]) -> Self {
        Self(TestServer::start(storage, arguments).await)
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.process.kill().unwrap();
    }

    /// Stops the server gracefully and waits for its exit.
    pub(crate) async fn stop(&mut self) {
        let status = self.0.process.terminate().await.unwrap();
        assert!(status.success(), "{status}: {}", self.0.process.output());
    }

    /// Starts the server again, on the same records and another port.
    pub(crate) async fn start_again(&mut self) {
        self.0.restart().await;
    }

    /// Runs the command line on the records of the server.
    pub(crate) fn run(&self, arguments: &[&str]) {
        self.0.run(arguments);
    }

    /// Whether the records are in PostgreSQL.
    pub(crate) fn is_on_postgres(&self) -> bool {
        self.0.storage.is_on_postgres()
    }

    /// The origin of the server: scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        self.0.process.url()
    }

    /// Process information from the kernel.
    pub(crate) fn process(&self) -> Process {
        self.0.process.process()
    }

    /// Reads the metrics.
    pub(crate) async fn metrics(&self) -> String {
        self.0.process.metrics().await.unwrap()
    }

    /// Returns a REST client with the administrator's token.
    pub(crate) fn client(&self) -> Client {
        self.0.process.client()
    }

    /// Creates an app and returns the path of its resources.
    pub(crate) async fn create_app(&self) -> String {
        let kit = format!("/client/v4/accounts/{ACCOUNT_ID}/realtime/kit");
        let created = self
            .client()
            .post(&format!("{kit}/apps"), &json!({ "name": "Test" }))
            .await
            .unwrap()
            .expect(200)
            .unwrap();
        format!("{kit}/{}", created["app"]["id"].as_str().unwrap())
    }

    /// Creates a meeting in a new app.
    pub(crate) async fn meeting(&self) -> Meeting {
        Meeting::create(self, self.create_app().await, json!({ "title": "Weekly" })).await
    }

    /// Creates a meeting with these settings in a new app.
    pub(crate) async fn meeting_with(&self, settings: serde_json::Value) -> Meeting {
        Meeting::create(self, self.create_app().await, settings).await
    }
}

/// Waits until `check` returns a value, and panics with `what` after the timeout.
pub(crate) async fn wait_until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "did not happen within {TIMEOUT:?}: {what}"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
