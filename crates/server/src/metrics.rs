//! What the server counts and times, in the Prometheus exposition of `OpenMetrics`.

use std::time::Duration;

use parlor_store::Observer;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    surface: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Query {
    statement: &'static str,
}

/// All metrics of a server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Histogram, fn() -> Histogram>,
    queries: Family<Query, Histogram, fn() -> Histogram>,
    commits: Histogram,
    batches: Histogram,
    connections: Gauge,
    refused_connections: Counter,
}

/// 0.1 ms to 26 s.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("parlor"),
            requests: Family::new_with_constructor(latencies),
            queries: Family::new_with_constructor(latencies),
            commits: latencies(),
            batches: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let seconds = || Unit::Seconds;
        registry.register_with_unit(
            "http_request",
            "Time to answer a request",
            seconds(),
            self.requests.clone(),
        );
        registry.register_with_unit(
            "store_query",
            "Time of a read, by statement",
            seconds(),
            self.queries.clone(),
        );
        registry.register_with_unit(
            "store_commit",
            "Time of a group commit",
            seconds(),
            self.commits.clone(),
        );
        registry.register(
            "store_commit_units",
            "Units in a group commit",
            self.batches.clone(),
        );
        registry.register(
            "http_connections",
            "Open connections",
            self.connections.clone(),
        );
        registry.register(
            "http_connections_refused",
            "Connections over the limit",
            self.refused_connections.clone(),
        );
        self
    }

    /// A request was answered.
    pub fn answered(
        &self,
        operation: &'static str,
        surface: &'static str,
        status: u16,
        took: Duration,
    ) {
        self.requests
            .get_or_create(&Request {
                operation,
                surface,
                status,
            })
            .observe(took.as_secs_f64());
    }

    /// A connection was opened; it is closed when the guard goes.
    pub fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// A connection was turned away.
    pub fn refused(&self) {
        self.refused_connections.inc();
    }

    /// Everything as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Observer for Metrics {
    fn committed(&self, units: usize, took: Duration) {
        self.commits.observe(took.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has a few hundred units"
        )]
        self.batches.observe(units as f64);
    }

    fn queried(&self, statement: &'static str, took: Duration) {
        self.queries
            .get_or_create(&Query { statement })
            .observe(took.as_secs_f64());
    }
}
