//! The metrics of the server, in the `OpenMetrics` text format.

mod storage;

use std::sync::atomic::Ordering;
use std::time::Duration;

use parlor_store::{Observer, Refusal};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Reasons for rejecting a media transport, in the order of [`parlor_sfu::Stats::refused`].
const REFUSED: [&str; 4] = ["person", "meeting", "app", "full"];

/// Labels of the socket requests that were rejected because of a rate limit or a quota.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedRequest {
    event: &'static str,
    code: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

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

/// Reason for rejecting a connection or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The server has reached its connection limit.
    Connections,
    /// The address has reached its connection limit.
    Address,
    /// A trusted proxy did not send a PROXY protocol header.
    NoProxyHeader,
    /// The response exceeds the unsent bytes allowed for one connection.
    UnsentByConnection,
    /// The address has reached its limit of unsent bytes.
    UnsentByAddress,
    /// The server has reached its limit of unsent bytes.
    UnsentByServer,
}

/// Reason for closing a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The connection was idle, and was closed to make room for a new one.
    Idle,
    /// The client did not read its response, and was disconnected to free memory.
    Slow,
    /// The client did not read anything for too long.
    TimedOut,
}

impl From<RefusalReason> for Reason {
    fn from(refused: RefusalReason) -> Self {
        let reason = match refused {
            RefusalReason::Connections => "connections",
            RefusalReason::Address => "connections_per_address",
            RefusalReason::NoProxyHeader => "proxy_protocol",
            RefusalReason::UnsentByConnection => "unsent_bytes_per_connection",
            RefusalReason::UnsentByAddress => "unsent_bytes_per_address",
            RefusalReason::UnsentByServer => "unsent_bytes",
        };
        Self { reason }
    }
}

impl From<DisconnectReason> for Reason {
    fn from(disconnected: DisconnectReason) -> Self {
        let reason = match disconnected {
            DisconnectReason::Idle => "idle",
            DisconnectReason::Slow => "slow",
            DisconnectReason::TimedOut => "timed_out",
        };
        Self { reason }
    }
}

/// All metrics of a server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Histogram, fn() -> Histogram>,
    queries: Family<Query, Histogram, fn() -> Histogram>,
    commits: Histogram,
    batches: Histogram,
    store_refusals: Family<Reason, Counter>,
    connections: Gauge,
    refused_connections: Counter,
    refused: Family<Reason, Counter>,
    disconnected: Family<Reason, Counter>,
    unsent: Gauge,
    failed_handshakes: Counter,
    telemetry_bytes: Counter,
    rooms: Gauge,
    sockets: Gauge,
    overflowed_sockets: Counter,
    crowded_sockets: Counter,
    slowed_sockets: Counter,
    long_texts: Counter,
    dropped_pushes: Counter,
    waiting_delegated: Gauge,
    refused_delegated: Counter,
    refused_requests: Family<RefusedRequest, Counter>,
    mailbox_bytes: ByteGauge,
    unsent_bytes: ByteGauge,
    media: Media,
    pub(crate) storage: storage::Storage,
}

/// A gauge of bytes.
#[derive(Debug, Clone, Default)]
pub struct ByteGauge(Gauge);

impl ByteGauge {
    /// The current value.
    pub fn now(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or_default()
    }

    /// Adds to the gauge and returns the new value.
    pub fn add(&self, bytes: usize) -> usize {
        let before = self.0.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        usize::try_from(before).unwrap_or_default() + bytes
    }

    /// Subtracts from the gauge.
    pub fn take(&self, bytes: usize) {
        self.0.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// Metrics of the media plane. [`Metrics::encode`] copies them from [`parlor_sfu::Stats`].
#[derive(Default)]
struct Media {
    transports: Gauge,
    connected_transports: Gauge,
    producers: Gauge,
    consumers: Gauge,
    datagrams_in: Counter,
    datagrams_out: Counter,
    datagrams_dropped: Counter,
    panics: Counter,
    refused: Family<Reason, Counter>,
}

impl Media {
    fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "media_transports",
                "Media transports of clients",
                &self.transports,
            ),
            (
                "media_transports_connected",
                "Media transports that are connected",
                &self.connected_transports,
            ),
            ("media_producers", "Published tracks", &self.producers),
            (
                "media_consumers",
                "Received tracks, counted once per receiver",
                &self.consumers,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "media_datagrams_in",
                "Datagrams received",
                &self.datagrams_in,
            ),
            ("media_datagrams_out", "Datagrams sent", &self.datagrams_out),
            (
                "media_datagrams_dropped",
                "Datagrams dropped: without a known recipient, malformed, or not accepted by the system for sending",
                &self.datagrams_dropped,
            ),
            (
                "media_thread_panics",
                "Panics of media threads; each closed the transports of the meetings on its thread",
                &self.panics,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "media_transports_refused",
            "Media transports rejected, by reason",
            self.refused.clone(),
        );
    }
}

/// A histogram of latencies from 0.1 ms to 26 s.
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
            store_refusals: Family::default(),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            refused: Family::default(),
            disconnected: Family::default(),
            unsent: Gauge::default(),
            failed_handshakes: Counter::default(),
            telemetry_bytes: Counter::default(),
            rooms: Gauge::default(),
            sockets: Gauge::default(),
            media: Media::default(),
            overflowed_sockets: Counter::default(),
            crowded_sockets: Counter::default(),
            slowed_sockets: Counter::default(),
            long_texts: Counter::default(),
            dropped_pushes: Counter::default(),
            waiting_delegated: Gauge::default(),
            refused_delegated: Counter::default(),
            refused_requests: Family::default(),
            mailbox_bytes: ByteGauge::default(),
            unsent_bytes: ByteGauge::default(),
            storage: storage::Storage::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    /// Registers the metrics of connection limits.
    fn register_limits(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_refused",
            "Connections and requests rejected, by reason",
            self.refused.clone(),
        );
        registry.register(
            "http_disconnected",
            "Connections closed by the server, by reason",
            self.disconnected.clone(),
        );
        registry.register_with_unit(
            "http_unsent",
            "Memory of responses that clients have not received yet",
            Unit::Bytes,
            self.unsent.clone(),
        );
    }

    fn registered(mut self) -> Self {
        self.register_limits();
        let registry = &mut self.registry;
        let seconds = || Unit::Seconds;
        registry.register_with_unit(
            "http_request",
            "Time to respond to a request",
            seconds(),
            self.requests.clone(),
        );
        registry.register_with_unit(
            "store_query",
            "Duration of a database read, by statement",
            seconds(),
            self.queries.clone(),
        );
        registry.register_with_unit(
            "store_commit",
            "Duration of a group commit",
            seconds(),
            self.commits.clone(),
        );
        registry.register(
            "store_commit_units",
            "Units in a group commit",
            self.batches.clone(),
        );
        registry.register(
            "store_refused",
            "Commits and reads that failed because the database was unavailable, by reason",
            self.store_refusals.clone(),
        );
        registry.register(
            "http_connections",
            "Open connections",
            self.connections.clone(),
        );
        registry.register(
            "http_connections_refused",
            "Connections rejected because of the connection limit",
            self.refused_connections.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed",
            self.failed_handshakes.clone(),
        );
        registry.register_with_unit(
            "client_telemetry",
            "Telemetry received from clients, which is discarded",
            Unit::Bytes,
            self.telemetry_bytes.clone(),
        );
        registry.register("rooms", "Live meetings", self.rooms.clone());
        registry.register(
            "sockets",
            "Open WebSockets of clients",
            self.sockets.clone(),
        );
        registry.register(
            "sockets_overflowed",
            "Sockets closed because the client did not read fast enough",
            self.overflowed_sockets.clone(),
        );
        self.media.register(registry);
        self.storage.register(registry);
        self.register_room_limits();
        self
    }

    /// Registers the metrics of the limits in meetings.
    fn register_room_limits(&mut self) {
        let registry = &mut self.registry;
        for (name, help, counter) in [
            (
                "sockets_crowded",
                "Sockets rejected because too many sockets of the participant had frames queued",
                &self.crowded_sockets,
            ),
            (
                "sockets_slowed",
                "Number of times that reading from a socket was paused because of its text frames and pings",
                &self.slowed_sockets,
            ),
            (
                "sockets_long_texts",
                "Sockets closed because of a text frame that was too long",
                &self.long_texts,
            ),
            (
                "room_pushes_dropped",
                "Messages from other rooms dropped because the room's queue was full",
                &self.dropped_pushes,
            ),
            (
                "delegated_refused",
                "Breakout room requests rejected because too many of the participant's requests were queued",
                &self.refused_delegated,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "requests_refused",
            "Socket requests rejected because of a rate limit (429) or a size limit (413)",
            self.refused_requests.clone(),
        );
        registry.register(
            "delegated_waiting",
            "Breakout room requests that are queued or in progress",
            self.waiting_delegated.clone(),
        );
        for (name, help, level) in [
            (
                "mailbox",
                "Frames from clients that their rooms have not processed yet",
                &self.mailbox_bytes,
            ),
            (
                "unsent",
                "Frames that are queued for clients",
                &self.unsent_bytes,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, level.0.clone());
        }
    }

    /// Records a completed HTTP request.
    pub fn record_request(
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

    /// Counts an open connection until the guard is dropped.
    pub fn connected(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }

    /// Counts a live meeting until the guard is dropped.
    pub fn room_opened(&self) -> GaugeGuard {
        GaugeGuard::new(&self.rooms)
    }

    /// Counts an open client socket until the guard is dropped.
    pub fn socket_opened(&self) -> GaugeGuard {
        GaugeGuard::new(&self.sockets)
    }

    /// Counts sockets closed because the client did not read fast enough.
    pub fn sockets_overflowed(&self, count: usize) {
        if count > 0 {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.overflowed_sockets.inc_by(count);
        }
    }

    /// Counts a socket rejected because too many sockets of the participant had frames queued.
    pub fn socket_crowded(&self) {
        self.crowded_sockets.inc();
    }

    /// Counts a pause in reading from a socket.
    pub fn socket_slowed(&self) {
        self.slowed_sockets.inc();
    }

    /// Counts a socket closed because of a text frame that was too long.
    pub fn long_text(&self) {
        self.long_texts.inc();
    }

    /// Counts a dropped message from another room.
    pub fn push_dropped(&self) {
        self.dropped_pushes.inc();
    }

    /// Counts a delegated request as queued or in progress until the guard is dropped.
    pub fn delegated(&self) -> GaugeGuard {
        GaugeGuard::new(&self.waiting_delegated)
    }

    /// Counts a rejected delegated request.
    pub fn delegated_refused(&self) {
        self.refused_delegated.inc();
    }

    /// Counts rejected socket requests with this event and error code.
    pub fn requests_refused(&self, event: &'static str, code: i32, count: u64) {
        let refused = RefusedRequest { event, code };
        self.refused_requests.get_or_create(&refused).inc_by(count);
    }

    /// The gauge of bytes queued for rooms.
    pub fn mailbox_bytes(&self) -> ByteGauge {
        self.mailbox_bytes.clone()
    }

    /// The gauge of bytes queued for clients.
    pub fn unsent_bytes(&self) -> ByteGauge {
        self.unsent_bytes.clone()
    }

    /// Counts a connection rejected because of the connection limit.
    pub fn connection_refused(&self) {
        self.refused_connections.inc();
    }

    /// Counts a rejected connection or request.
    pub fn record_refusal(&self, reason: RefusalReason) {
        self.refused.get_or_create(&reason.into()).inc();
    }

    /// Counts a connection closed by the server.
    pub fn record_disconnect(&self, reason: DisconnectReason) {
        self.disconnected.get_or_create(&reason.into()).inc();
    }

    /// Adds bytes to the unsent response bytes, or subtracts them.
    pub fn unsent(&self, is_added: bool, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if is_added {
            self.unsent.inc_by(bytes);
        } else {
            self.unsent.dec_by(bytes);
        }
    }

    /// Counts a failed TLS handshake.
    pub fn handshake_failed(&self) {
        self.failed_handshakes.inc();
    }

    /// Counts bytes of client telemetry.
    pub fn telemetry(&self, bytes: u64) {
        self.telemetry_bytes.inc_by(bytes);
    }

    /// Encodes all metrics, including the media plane's.
    pub fn encode(&self, stats: &parlor_sfu::Stats) -> String {
        let media = &self.media;
        for (gauge, now) in [
            (&media.transports, stats.open_transports),
            (&media.connected_transports, stats.connected_transports),
            (&media.producers, stats.producers),
            (&media.consumers, stats.consumers),
        ] {
            gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
        for (counter, now) in [
            (&media.datagrams_in, stats.datagrams_in),
            (&media.datagrams_out, stats.datagrams_out),
            (&media.datagrams_dropped, stats.datagrams_dropped),
            (&media.panics, stats.panics),
        ] {
            counter.inner().store(now, Ordering::Relaxed);
        }
        for (reason, now) in REFUSED.into_iter().zip(stats.refused) {
            let counter = media.refused.get_or_create(&Reason { reason });
            counter.inner().store(now, Ordering::Relaxed);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

/// Counts something in a gauge until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
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

    fn refused(&self, refusal: Refusal) {
        let reason = refusal.as_str();
        self.store_refusals.get_or_create(&Reason { reason }).inc();
    }

    fn queried(&self, statement: &'static str, took: Duration) {
        self.queries
            .get_or_create(&Query { statement })
            .observe(took.as_secs_f64());
    }
}
