//! The list of all settings.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{LogFormat, SecretText};

/// Declares the settings, each once: the struct, and the merge of two sources of settings. A line
/// is the field's name and type, its environment variable, the name of its value in `--help`, and
/// further arguments of clap.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $type:ty = $env:literal, $value:literal $(, $key:ident $(= $argument:expr)?)*;
    )*) => {
        /// All settings, each of them optional. Each is a flag, an environment variable prefixed
        /// with `PARLOR_`, and a key of the TOML file.
        #[derive(Clone, Default, Args, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[command(next_help_heading = "Settings")]
        pub struct Settings {
            /// TOML file to read settings from
            #[arg(long, global = true, env = "PARLOR_CONFIG", value_name = "FILE")]
            #[serde(skip)]
            pub config: Option<PathBuf>,
            $(
                $(#[doc = $doc])+
                #[arg(long, global = true, env = $env, value_name = $value $(, $key $(= $argument)?)*)]
                pub $name: Option<$type>,
            )*
        }

        impl Settings {
            /// Takes each setting that is not set here from `other`.
            pub(super) fn or(self, other: Self) -> Self {
                Self { config: self.config, $($name: self.$name.or(other.$name)),* }
            }
        }
    };
}

settings! {
    /// Address to serve HTTP on [default: localhost:8787]
    listen: String = "PARLOR_LISTEN", "HOST:PORT";

    /// Address to serve HTTPS on, or `off` [default: localhost:8443]
    tls_listen: String = "PARLOR_TLS_LISTEN", "HOST:PORT";

    /// Address to serve /metrics on, or `off` [default: localhost:8788]
    metrics_listen: String = "PARLOR_METRICS_LISTEN", "HOST:PORT";

    /// PEM file with the certificate chain for HTTPS; requires --tls-key. Reloaded when it changes
    tls_cert: PathBuf = "PARLOR_TLS_CERT", "FILE";

    /// PEM file with the private key for --tls-cert. Reloaded when it changes
    tls_key: PathBuf = "PARLOR_TLS_KEY", "FILE";

    /// Additional names for the development certificate, each with the prefixed names that SDKs use
    tls_name: Vec<String> = "PARLOR_TLS_NAME", "NAME", value_delimiter = ',';

    /// Names to get certificates for from an ACME authority, each with the prefixed names that SDKs
    /// use
    acme_domain: Vec<String> = "PARLOR_ACME_DOMAIN", "NAME", value_delimiter = ',';

    /// Contact address to which the ACME authority sends expiry notices
    acme_email: String = "PARLOR_ACME_EMAIL", "EMAIL";

    /// Directory URL of the ACME authority [default: Let's Encrypt]
    acme_directory: String = "PARLOR_ACME_DIRECTORY", "URL";

    /// PEM file with the root certificate to trust for --acme-directory, for a private authority
    acme_root: PathBuf = "PARLOR_ACME_ROOT", "FILE";

    /// UDP addresses to receive media on, separated by commas [default: 0.0.0.0:8789]
    media_listen: String = "PARLOR_MEDIA_LISTEN", "IP:PORT";

    /// TCP addresses to receive media on, separated by commas, or `off` [default: those of
    /// --media-listen]
    media_tcp_listen: String = "PARLOR_MEDIA_TCP_LISTEN", "IP:PORT";

    /// Maximum number of media connections over TCP and TLS [default: 20000]
    media_tcp_connections: usize = "PARLOR_MEDIA_TCP_CONNECTIONS", "COUNT";

    /// Maximum number of media connections over TCP and TLS from one address; 0 for no limit
    /// [default: 1000]
    media_tcp_per_address: usize = "PARLOR_MEDIA_TCP_PER_ADDRESS", "COUNT";

    /// IP addresses at which browsers reach the media plane [default: this machine's]
    media_address: Vec<IpAddr> = "PARLOR_MEDIA_ADDRESS", "IP", value_delimiter = ',';

    /// Maximum number of media transports; every peer uses two [default: 28000]
    media_transports: usize = "PARLOR_MEDIA_TRANSPORTS", "COUNT";

    /// Maximum number of media transports of one participant; 0 for no limit [default: 60]
    media_transports_per_person: usize = "PARLOR_MEDIA_TRANSPORTS_PER_PERSON", "COUNT";

    /// Maximum number of media transports of one meeting; 0 for no limit [default: 20000]
    media_transports_per_meeting: usize = "PARLOR_MEDIA_TRANSPORTS_PER_MEETING", "COUNT";

    /// Maximum number of media transports of one app; 0 for no limit [default: 24000]
    media_transports_per_app: usize = "PARLOR_MEDIA_TRANSPORTS_PER_APP", "COUNT";

    /// Maximum number of tracks that one peer receives [default: 100]
    media_tracks: usize = "PARLOR_MEDIA_TRACKS", "COUNT";

    /// Number of threads that forward media; each meeting is assigned to one [default: one per CPU]
    media_threads: usize = "PARLOR_MEDIA_THREADS", "COUNT";

    /// ICE server to announce to browsers: a URL, or JSON with urls, username and credential
    ice_server: Vec<SecretText> = "PARLOR_ICE_SERVER", "URL|JSON", hide_env_values = true;

    /// Directory of the embedded database [default: data]
    data_dir: PathBuf = "PARLOR_DATA_DIR", "DIR";

    /// PostgreSQL database to use instead of the embedded one, `postgres://user:password@host/name`
    database: SecretText = "PARLOR_DATABASE", "URL", hide_env_values = true;

    /// Timeout of a database commit or read, in seconds [default: 5]
    database_timeout_secs: u64 = "PARLOR_DATABASE_TIMEOUT_SECS", "SECONDS";

    /// Timeout of a long database read, such as a list, in seconds [default: 30]
    database_scan_secs: u64 = "PARLOR_DATABASE_SCAN_SECS", "SECONDS";

    /// Maximum number of writes queued for each database writer [default: 16384]
    database_queue: usize = "PARLOR_DATABASE_QUEUE", "COUNT";

    /// Maximum size of the writes queued for each database writer, in bytes [default: 134217728]
    database_queue_bytes: usize = "PARLOR_DATABASE_QUEUE_BYTES", "BYTES";

    /// ID of the account to create in an unattended install, 32 hex digits; requires --api-token
    account_id: String = "PARLOR_ACCOUNT_ID", "HEX";

    /// API token to create in an unattended install, at least 32 characters; requires --account-id
    api_token: SecretText = "PARLOR_API_TOKEN", "SECRET", hide_env_values = true;

    /// Format of log lines [default: auto, which is pretty on a terminal and JSON otherwise]
    log_format: LogFormat = "PARLOR_LOG_FORMAT", "FORMAT";

    /// Log filter, in the syntax of tracing-subscriber's `EnvFilter` [default: info]
    log: String = "PARLOR_LOG", "FILTER";

    /// OTLP/HTTP collector to send traces to, such as `http://localhost:4318`
    otlp_endpoint: SecretText = "PARLOR_OTLP_ENDPOINT", "URL", hide_env_values = true;

    /// Default lifetime of a join token, in seconds [default: 8640000, 100 days]
    token_life_secs: u64 = "PARLOR_TOKEN_LIFE_SECS", "SECONDS";

    /// Maximum lifetime of a join token, in seconds [default: 31622400, 366 days]
    token_life_max_secs: u64 = "PARLOR_TOKEN_LIFE_MAX_SECS", "SECONDS";

    /// Reject adding a participant who already exists with 409 instead of updating them [default:
    /// false]
    reject_existing: bool = "PARLOR_REJECT_EXISTING", "BOOL", num_args = 0..=1, default_missing_value = "true";

    /// Maximum number of requests per minute for each API token; 0 for no limit [default: 0]
    requests_per_minute: u32 = "PARLOR_REQUESTS_PER_MINUTE", "COUNT";

    /// Maximum size of a request body, in bytes [default: 4194304]
    body_bytes: usize = "PARLOR_BODY_BYTES", "BYTES";

    /// Timeout for receiving a request body, in seconds [default: 20]
    body_secs: u64 = "PARLOR_BODY_SECS", "SECONDS";

    /// Timeout for receiving a request's headers, and for an idle connection, in seconds [default:
    /// 30]
    header_secs: u64 = "PARLOR_HEADER_SECS", "SECONDS";

    /// Storage for chat files: a directory or `s3://bucket/prefix` [default: uploads in --data-dir]
    storage: String = "PARLOR_STORAGE", "DIR|URL";

    /// Endpoint URL of S3-compatible storage other than Amazon's
    storage_endpoint: String = "PARLOR_STORAGE_ENDPOINT", "URL";

    /// Maximum size of a chat file, in bytes [default: 104857600]
    upload_bytes: u64 = "PARLOR_UPLOAD_BYTES", "BYTES";

    /// Maximum number of uploads per minute for each participant; 0 for no limit [default: 20]
    uploads_per_minute: u32 = "PARLOR_UPLOADS_PER_MINUTE", "COUNT";

    /// Default lifetime of a link to a file, in seconds [default: 604800, 7 days]
    file_life_secs: u64 = "PARLOR_FILE_LIFE_SECS", "SECONDS";

    /// Maximum lifetime of a link to a file, in seconds [default: 31622400, 366 days]
    file_life_max_secs: u64 = "PARLOR_FILE_LIFE_MAX_SECS", "SECONDS";

    /// Maximum number of concurrent uploads [default: 341 to a directory, 17 to S3]
    uploads_at_once: usize = "PARLOR_UPLOADS_AT_ONCE", "COUNT";

    /// Maximum number of concurrent uploads for one app; 0 for no limit [default: 3/4 of
    /// --uploads-at-once]
    uploads_per_app: usize = "PARLOR_UPLOADS_PER_APP", "COUNT";

    /// Maximum number of concurrent uploads for one meeting; 0 for no limit [default: 1/2 of
    /// --uploads-at-once]
    uploads_per_meeting: usize = "PARLOR_UPLOADS_PER_MEETING", "COUNT";

    /// Maximum number of concurrent uploads for one participant; 0 for no limit [default: 4]
    uploads_per_person: usize = "PARLOR_UPLOADS_PER_PERSON", "COUNT";

    /// Maximum total size of the files of one meeting, in bytes; 0 for no limit [default:
    /// 10737418240, 10 GiB]
    files_per_meeting_bytes: u64 = "PARLOR_FILES_PER_MEETING_BYTES", "BYTES";

    /// Maximum total size of the files of one app, in bytes; 0 for no limit [default: 107374182400,
    /// 100 GiB]
    files_per_app_bytes: u64 = "PARLOR_FILES_PER_APP_BYTES", "BYTES";

    /// Maximum total size of the files of all apps, in bytes; 0 for no limit [default: 0]
    files_total_bytes: u64 = "PARLOR_FILES_TOTAL_BYTES", "BYTES";

    /// Number of days to keep files; 0 to keep them as long as their meeting [default: 0]
    file_retention_days: u32 = "PARLOR_FILE_RETENTION_DAYS", "DAYS";

    /// Maximum size of the chat of one meeting, in bytes; 0 for no limit [default: 268435456, 256
    /// MiB]
    chat_per_meeting_bytes: u64 = "PARLOR_CHAT_PER_MEETING_BYTES", "BYTES";

    /// Maximum size of the chat messages of one participant in one session, in bytes; 0 for no
    /// limit [default: 67108864, 64 MiB]
    chat_per_person_bytes: u64 = "PARLOR_CHAT_PER_PERSON_BYTES", "BYTES";

    /// Maximum total size of the chats of one app, in bytes; 0 for no limit [default: 10737418240,
    /// 10 GiB]
    chat_per_app_bytes: u64 = "PARLOR_CHAT_PER_APP_BYTES", "BYTES";

    /// Maximum total size of the chats of all apps, in bytes; 0 for no limit [default: 0]
    chat_total_bytes: u64 = "PARLOR_CHAT_TOTAL_BYTES", "BYTES";

    /// Disk space that uploads and chats must leave free, in bytes; 0 for none [default: 536870912,
    /// 512 MiB]
    disk_reserve_bytes: u64 = "PARLOR_DISK_RESERVE_BYTES", "BYTES";

    /// Trust X-Forwarded-* headers from proxies on this machine, or from --trusted-proxies
    /// [default: false]
    trust_forwarded: bool = "PARLOR_TRUST_FORWARDED", "BOOL", num_args = 0..=1, default_missing_value = "true";

    /// Networks of proxies whose X-Forwarded-* headers are trusted [default: loopback with
    /// --trust-forwarded]
    trusted_proxies: Vec<String> = "PARLOR_TRUSTED_PROXIES", "NETWORK", value_delimiter = ',';

    /// Require a PROXY protocol header on connections from trusted proxies [default: false]
    proxy_protocol: bool = "PARLOR_PROXY_PROTOCOL", "BOOL", num_args = 0..=1, default_missing_value = "true";

    /// Seconds in which a disconnected peer may reconnect [default: 45]
    reconnect_grace_secs: u32 = "PARLOR_RECONNECT_GRACE_SECS", "SECONDS";

    /// Maximum number of chat messages per minute from each participant; 0 for no limit [default:
    /// 180]
    chat_per_minute: u32 = "PARLOR_CHAT_PER_MINUTE", "COUNT";

    /// Maximum number of peers in one meeting [default: 10000]
    room_peers: usize = "PARLOR_ROOM_PEERS", "COUNT";

    /// Maximum size of the frames queued for all sockets, in bytes; beyond it, the slowest sockets
    /// are closed. 0 for no limit [default: 536870912]
    socket_bytes: usize = "PARLOR_SOCKET_BYTES", "BYTES";

    /// Maximum size of the frames queued for the sockets of one meeting, in bytes; 0 for no limit
    /// [default: 134217728]
    socket_bytes_per_meeting: usize = "PARLOR_SOCKET_BYTES_PER_MEETING", "BYTES";

    /// Maximum number of open connections; at the limit, idle ones are closed to make room for new
    /// ones [default: 65536]
    connections: usize = "PARLOR_CONNECTIONS", "COUNT";

    /// Maximum number of open connections from one IPv4 address or IPv6 /64; 0 for no limit
    /// [default: 8192]
    connections_per_address: usize = "PARLOR_CONNECTIONS_PER_ADDRESS", "COUNT";

    /// Maximum size of the HTTP responses buffered for all clients, in bytes; 0 for no limit
    /// [default: 536870912]
    unsent_bytes: usize = "PARLOR_UNSENT_BYTES", "BYTES";

    /// Maximum size of the HTTP responses buffered for one IPv4 address or IPv6 /64, in bytes; 0
    /// for no limit [default: 134217728]
    unsent_bytes_per_address: usize = "PARLOR_UNSENT_BYTES_PER_ADDRESS", "BYTES";

    /// Maximum size of the HTTP responses buffered for one connection, in bytes; 0 for no limit
    /// [default: 67108864]
    unsent_bytes_per_connection: usize = "PARLOR_UNSENT_BYTES_PER_CONNECTION", "BYTES";

    /// Timeout for open requests to finish on shutdown, in seconds [default: 30]
    shutdown_secs: u64 = "PARLOR_SHUTDOWN_SECS", "SECONDS";
}
