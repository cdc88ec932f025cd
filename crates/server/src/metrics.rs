//! What the server counts and times, in the Prometheus exposition of `OpenMetrics`.

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

/// Why a transport of media was refused, in the order of [`parlor_sfu::Stats::refused`].
const REFUSED: [&str; 4] = ["person", "meeting", "app", "full"];

/// A request of a client in a meeting that came too often or was too much.
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

/// Why a connection or a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The server has as many connections as it may.
    Connections,
    /// The address has its share of connections.
    Address,
    /// A trusted proxy has not said whose the connection is.
    NoProxyHeader,
    /// The response is larger than what a connection may hold.
    UnsentByConnection,
    /// The address has its share of unsent bytes.
    UnsentByAddress,
    /// The server holds as many unsent bytes as it may.
    UnsentByServer,
}

/// Why a peer was disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnected {
    /// It waited for nothing but its next request, and made room for others.
    Idle,
    /// It took nothing of what it was sent, and made room for others.
    Slow,
    /// It took nothing of what it was sent for too long.
    TimedOut,
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        let reason = match refused {
            Refused::Connections => "connections",
            Refused::Address => "connections_per_address",
            Refused::NoProxyHeader => "proxy_protocol",
            Refused::UnsentByConnection => "unsent_bytes_per_connection",
            Refused::UnsentByAddress => "unsent_bytes_per_address",
            Refused::UnsentByServer => "unsent_bytes",
        };
        Self { reason }
    }
}

impl From<Disconnected> for Reason {
    fn from(disconnected: Disconnected) -> Self {
        let reason = match disconnected {
            Disconnected::Idle => "idle",
            Disconnected::Slow => "slow",
            Disconnected::TimedOut => "timed_out",
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
    unheard_bytes: Level,
    unsent_bytes: Level,
    media: Media,
    pub(crate) storage: storage::Storage,
}

/// How much there is of something, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Level(Gauge);

impl Level {
    /// How much there is now.
    pub fn now(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or_default()
    }

    /// There is more of it. How much now.
    pub fn add(&self, bytes: usize) -> usize {
        let before = self.0.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        usize::try_from(before).unwrap_or_default() + bytes
    }

    /// There is less of it.
    pub fn take(&self, bytes: usize) {
        self.0.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// What the media plane's threads have counted, as it was when it was last shown.
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
                "Transports of clients",
                &self.transports,
            ),
            (
                "media_transports_connected",
                "Transports that are connected",
                &self.connected_transports,
            ),
            ("media_producers", "Published tracks", &self.producers),
            (
                "media_consumers",
                "Received tracks, once for each receiver",
                &self.consumers,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "media_datagrams_in",
                "Datagrams that came",
                &self.datagrams_in,
            ),
            (
                "media_datagrams_out",
                "Datagrams that were sent",
                &self.datagrams_out,
            ),
            (
                "media_datagrams_dropped",
                "Datagrams for nobody, not understood, or that the system would not send",
                &self.datagrams_dropped,
            ),
            (
                "media_thread_panics",
                "Panics of media threads, each of which freed the transports of its meetings",
                &self.panics,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "media_transports_refused",
            "Transports that were refused, by reason",
            self.refused.clone(),
        );
    }
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
            unheard_bytes: Level::default(),
            unsent_bytes: Level::default(),
            storage: storage::Storage::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    /// What happens to connections at their limits.
    fn register_limits(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_refused",
            "Connections and requests that were refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "http_disconnected",
            "Peers that were disconnected, by reason",
            self.disconnected.clone(),
        );
        registry.register_with_unit(
            "http_unsent",
            "Memory of responses that peers have not taken yet",
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
            "store_refused",
            "Commits and reads that the database did not answer, by reason",
            self.store_refusals.clone(),
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
        registry.register(
            "tls_handshakes_failed",
            "Connections that did not get through TLS",
            self.failed_handshakes.clone(),
        );
        registry.register_with_unit(
            "client_telemetry",
            "What clients reported about themselves, which is dropped",
            Unit::Bytes,
            self.telemetry_bytes.clone(),
        );
        registry.register("rooms", "Live meetings", self.rooms.clone());
        registry.register("sockets", "Open sockets of clients", self.sockets.clone());
        registry.register(
            "sockets_overflowed",
            "Sockets that were closed because they did not read",
            self.overflowed_sockets.clone(),
        );
        self.media.register(registry);
        self.storage.register(registry);
        self.register_room_limits();
        self
    }

    /// What keeps one client from the place of others.
    fn register_room_limits(&mut self) {
        let registry = &mut self.registry;
        for (name, help, counter) in [
            (
                "sockets_crowded",
                "Sockets that were turned away because too many of one person's were not heard out",
                &self.crowded_sockets,
            ),
            (
                "sockets_slowed",
                "Times that a socket was not read for a while because of its texts and pings",
                &self.slowed_sockets,
            ),
            (
                "sockets_long_texts",
                "Sockets that were closed because of a long text frame",
                &self.long_texts,
            ),
            (
                "room_pushes_dropped",
                "Messages of other rooms that a room had no place for",
                &self.dropped_pushes,
            ),
            (
                "delegated_refused",
                "Requests about breakout rooms that were refused because too many of one person wait",
                &self.refused_delegated,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "requests_refused",
            "Requests of clients in meetings that came too often (429) or were too much (413)",
            self.refused_requests.clone(),
        );
        registry.register(
            "delegated_waiting",
            "Requests about breakout rooms that wait or are being done",
            self.waiting_delegated.clone(),
        );
        for (name, help, level) in [
            (
                "mailbox",
                "What clients have sent and their rooms have not looked at",
                &self.unheard_bytes,
            ),
            (
                "unsent",
                "What waits for clients to read it",
                &self.unsent_bytes,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, level.0.clone());
        }
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
    pub fn connected(&self) -> Open {
        Open::one_more(&self.connections)
    }

    /// A room was started; it is over when the guard goes.
    pub fn room_opened(&self) -> Open {
        Open::one_more(&self.rooms)
    }

    /// A client's socket was opened; it is closed when the guard goes.
    pub fn socket_opened(&self) -> Open {
        Open::one_more(&self.sockets)
    }

    /// So many clients did not read what they were sent.
    pub fn sockets_overflowed(&self, count: usize) {
        if count > 0 {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.overflowed_sockets.inc_by(count);
        }
    }

    /// A person has opened sockets faster than the room has looked at them.
    pub fn socket_crowded(&self) {
        self.crowded_sockets.inc();
    }

    /// A socket is not read for a while.
    pub fn socket_slowed(&self) {
        self.slowed_sockets.inc();
    }

    /// A client has sent a long text.
    pub fn long_text(&self) {
        self.long_texts.inc();
    }

    /// A message of another room was dropped.
    pub fn push_dropped(&self) {
        self.dropped_pushes.inc();
    }

    /// A request that needs the records waits for its turn; it is done when the guard goes.
    pub fn delegated(&self) -> Open {
        Open::one_more(&self.waiting_delegated)
    }

    /// A request that needs the records was refused.
    pub fn delegated_refused(&self) {
        self.refused_delegated.inc();
    }

    /// Requests of clients in meetings were refused: of this event, with this code, so many.
    pub fn requests_refused(&self, event: &'static str, code: i32, count: u64) {
        let refused = RefusedRequest { event, code };
        self.refused_requests.get_or_create(&refused).inc_by(count);
    }

    /// Bytes that wait for rooms.
    pub fn unheard_bytes(&self) -> Level {
        self.unheard_bytes.clone()
    }

    /// Bytes that wait for clients.
    pub fn unsent_bytes(&self) -> Level {
        self.unsent_bytes.clone()
    }

    /// A connection was turned away.
    pub fn refused(&self) {
        self.refused_connections.inc();
    }

    /// A connection or a request was refused.
    pub fn refused_for(&self, reason: Refused) {
        self.refused.get_or_create(&reason.into()).inc();
    }

    /// A peer was disconnected.
    pub fn disconnected(&self, reason: Disconnected) {
        self.disconnected.get_or_create(&reason.into()).inc();
    }

    /// So many bytes wait for peers, or wait no more.
    pub fn unsent(&self, waits: bool, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if waits {
            self.unsent.inc_by(bytes);
        } else {
            self.unsent.dec_by(bytes);
        }
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.failed_handshakes.inc();
    }

    /// A client reported about itself.
    pub fn telemetry(&self, bytes: u64) {
        self.telemetry_bytes.inc_by(bytes);
    }

    /// Everything as text, with what the media plane counts by itself.
    pub fn text(&self, stats: &parlor_sfu::Stats) -> String {
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

/// Something that is open for as long as this is held.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    fn one_more(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
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

    fn refused(&self, why: Refusal) {
        let reason = why.as_str();
        self.store_refusals.get_or_create(&Reason { reason }).inc();
    }

    fn queried(&self, statement: &'static str, took: Duration) {
        self.queries
            .get_or_create(&Query { statement })
            .observe(took.as_secs_f64());
    }
}
