//! Settings: a flag wins over an environment variable, which wins over the TOML file, which wins
//! over the default.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use parlor_protocol::ids::AccountId;
use parlor_store::Place;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

mod database;
mod edge;
mod ice_server;
mod secret;
mod storage;

pub use self::ice_server::IceServer;
pub(crate) use self::ice_server::Urls;
pub use self::secret::SecretText;

use edge::MEDIA_TRANSPORTS;

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Every setting, each of them optional. The same names are flags, environment variables with
/// `PARLOR_` in front, and keys of the TOML file.
#[derive(Clone, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// TOML file with any of these settings
    #[arg(long, global = true, env = "PARLOR_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address to serve HTTP on [default: localhost:8787]
    #[arg(long, global = true, env = "PARLOR_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address to serve HTTPS on, or `off` [default: localhost:8443]
    #[arg(
        long,
        global = true,
        env = "PARLOR_TLS_LISTEN",
        value_name = "HOST:PORT"
    )]
    pub tls_listen: Option<String>,
    /// Address to serve /metrics on, or `off` [default: localhost:8788]
    #[arg(
        long,
        global = true,
        env = "PARLOR_METRICS_LISTEN",
        value_name = "HOST:PORT"
    )]
    pub metrics_listen: Option<String>,
    /// Certificate chain for HTTPS as PEM; needs --tls-key. Read again when it changes
    #[arg(long, global = true, env = "PARLOR_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key for --tls-cert as PEM
    #[arg(long, global = true, env = "PARLOR_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Further names in the certificate made for development, each with its prefixes
    #[arg(
        long,
        global = true,
        env = "PARLOR_TLS_NAME",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub tls_name: Option<Vec<String>>,
    /// Get certificates for these names and their prefixes from an ACME authority
    #[arg(
        long,
        global = true,
        env = "PARLOR_ACME_DOMAIN",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub acme_domain: Option<Vec<String>>,
    /// Where the ACME authority writes when a certificate is about to expire
    #[arg(long, global = true, env = "PARLOR_ACME_EMAIL", value_name = "EMAIL")]
    pub acme_email: Option<String>,
    /// The ACME authority [default: Let's Encrypt]
    #[arg(long, global = true, env = "PARLOR_ACME_DIRECTORY", value_name = "URL")]
    pub acme_directory: Option<String>,
    /// Certificate of the authority behind --acme-directory as PEM, when it is a private one
    #[arg(long, global = true, env = "PARLOR_ACME_ROOT", value_name = "FILE")]
    pub acme_root: Option<PathBuf>,
    /// UDP addresses of the media plane, separated by commas [default: 0.0.0.0:8789]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_LISTEN",
        value_name = "IP:PORT"
    )]
    pub media_listen: Option<String>,
    /// TCP addresses of the media plane, separated by commas, or `off` [default: those of --media-listen]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TCP_LISTEN",
        value_name = "IP:PORT"
    )]
    pub media_tcp_listen: Option<String>,
    /// Connections of media over TCP and TLS at most [default: 20000]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TCP_CONNECTIONS",
        value_name = "COUNT"
    )]
    pub media_tcp_connections: Option<usize>,
    /// Of these, from one address, 0 for no limit [default: 1000]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TCP_PER_ADDRESS",
        value_name = "COUNT"
    )]
    pub media_tcp_per_address: Option<usize>,
    /// Addresses at which browsers reach the media plane [default: this machine's]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_ADDRESS",
        value_name = "IP",
        value_delimiter = ','
    )]
    pub media_address: Option<Vec<IpAddr>>,
    /// Connections of media at most; every peer has two [default: 28000]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TRANSPORTS",
        value_name = "COUNT"
    )]
    pub media_transports: Option<usize>,
    /// Of these, of one person in a meeting, 0 for no limit [default: 60]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TRANSPORTS_PER_PERSON",
        value_name = "COUNT"
    )]
    pub media_transports_per_person: Option<usize>,
    /// Of these, of one meeting, 0 for no limit [default: 20000]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TRANSPORTS_PER_MEETING",
        value_name = "COUNT"
    )]
    pub media_transports_per_meeting: Option<usize>,
    /// Of these, of one app, 0 for no limit [default: 24000]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_TRANSPORTS_PER_APP",
        value_name = "COUNT"
    )]
    pub media_transports_per_app: Option<usize>,
    /// Tracks that one peer receives at most [default: 100]
    #[arg(long, global = true, env = "PARLOR_MEDIA_TRACKS", value_name = "COUNT")]
    pub media_tracks: Option<usize>,
    /// Threads that forward media; a meeting lives on one of them [default: one for each processor]
    #[arg(
        long,
        global = true,
        env = "PARLOR_MEDIA_THREADS",
        value_name = "COUNT"
    )]
    pub media_threads: Option<usize>,
    /// ICE server that browsers are told: a URL, or JSON with urls, username and credential
    #[arg(
        long,
        global = true,
        env = "PARLOR_ICE_SERVER",
        value_name = "URL|JSON",
        hide_env_values = true
    )]
    pub ice_server: Option<Vec<SecretText>>,
    /// Directory of the embedded database [default: data]
    #[arg(long, global = true, env = "PARLOR_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL to use instead of the embedded database, `postgres://user:password@host/name`
    #[arg(
        long,
        global = true,
        env = "PARLOR_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database: Option<SecretText>,
    /// Seconds that a commit or a read of the database may take [default: 5]
    #[arg(
        long,
        global = true,
        env = "PARLOR_DATABASE_TIMEOUT_SECS",
        value_name = "SECONDS"
    )]
    pub database_timeout_secs: Option<u64>,
    /// Seconds that a long read of the database may take, as for lists [default: 30]
    #[arg(
        long,
        global = true,
        env = "PARLOR_DATABASE_SCAN_SECS",
        value_name = "SECONDS"
    )]
    pub database_scan_secs: Option<u64>,
    /// Writes that wait for each writer of the database at most [default: 16384]
    #[arg(
        long,
        global = true,
        env = "PARLOR_DATABASE_QUEUE",
        value_name = "COUNT"
    )]
    pub database_queue: Option<usize>,
    /// Bytes of the writes that wait for each writer at most [default: 134217728]
    #[arg(
        long,
        global = true,
        env = "PARLOR_DATABASE_QUEUE_BYTES",
        value_name = "BYTES"
    )]
    pub database_queue_bytes: Option<usize>,
    /// First account of an unattended install: 32 hex digits; needs --api-token
    #[arg(long, global = true, env = "PARLOR_ACCOUNT_ID", value_name = "HEX")]
    pub account_id: Option<String>,
    /// First API token of an unattended install: any secret of at least 32 characters
    #[arg(
        long,
        global = true,
        env = "PARLOR_API_TOKEN",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub api_token: Option<SecretText>,
    /// How log lines are written: pretty on a terminal, JSON otherwise, unless set
    #[arg(long, global = true, env = "PARLOR_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged, in tracing's filter language [default: info]
    #[arg(long, global = true, env = "PARLOR_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Send traces to this OTLP/HTTP collector, e.g. `http://localhost:4318`
    #[arg(
        long,
        global = true,
        env = "PARLOR_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true
    )]
    pub otlp_endpoint: Option<SecretText>,
    /// Life of a join token in seconds when the caller does not say [default: 8640000, 100 days]
    #[arg(
        long,
        global = true,
        env = "PARLOR_TOKEN_LIFE_SECS",
        value_name = "SECONDS"
    )]
    pub token_life_secs: Option<u64>,
    /// Longest life of a join token that a caller may ask for [default: 31622400, 366 days]
    #[arg(
        long,
        global = true,
        env = "PARLOR_TOKEN_LIFE_MAX_SECS",
        value_name = "SECONDS"
    )]
    pub token_life_max_secs: Option<u64>,
    /// Answer 409 to adding somebody who is in the meeting already [default: false]
    #[arg(long, global = true, env = "PARLOR_REJECT_EXISTING", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub reject_existing: Option<bool>,
    /// Requests a minute for each API token, 0 for no limit [default: 0]
    #[arg(
        long,
        global = true,
        env = "PARLOR_REQUESTS_PER_MINUTE",
        value_name = "COUNT"
    )]
    pub requests_per_minute: Option<u32>,
    /// Largest request body in bytes [default: 4194304]
    #[arg(long, global = true, env = "PARLOR_BODY_BYTES", value_name = "BYTES")]
    pub body_bytes: Option<usize>,
    /// Seconds for a request body to arrive [default: 20]
    #[arg(long, global = true, env = "PARLOR_BODY_SECS", value_name = "SECONDS")]
    pub body_secs: Option<u64>,
    /// Seconds for a request's head to arrive, and for an idle connection to stay [default: 30]
    #[arg(
        long,
        global = true,
        env = "PARLOR_HEADER_SECS",
        value_name = "SECONDS"
    )]
    pub header_secs: Option<u64>,
    /// Where files of chats are: a directory or `s3://bucket/prefix` [default: uploads in the data directory]
    #[arg(long, global = true, env = "PARLOR_STORAGE", value_name = "DIR|URL")]
    pub storage: Option<String>,
    /// Endpoint of an S3-compatible storage that is not Amazon's
    #[arg(
        long,
        global = true,
        env = "PARLOR_STORAGE_ENDPOINT",
        value_name = "URL"
    )]
    pub storage_endpoint: Option<String>,
    /// Largest file of a chat in bytes [default: 104857600]
    #[arg(long, global = true, env = "PARLOR_UPLOAD_BYTES", value_name = "BYTES")]
    pub upload_bytes: Option<u64>,
    /// Files a minute that each participant may upload, 0 for no limit [default: 20]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UPLOADS_PER_MINUTE",
        value_name = "COUNT"
    )]
    pub uploads_per_minute: Option<u32>,
    /// Seconds that the link to a file lives when the client does not say [default: 604800, 7 days]
    #[arg(
        long,
        global = true,
        env = "PARLOR_FILE_LIFE_SECS",
        value_name = "SECONDS"
    )]
    pub file_life_secs: Option<u64>,
    /// Longest life of a link to a file that a client may ask for [default: 31622400, 366 days]
    #[arg(
        long,
        global = true,
        env = "PARLOR_FILE_LIFE_MAX_SECS",
        value_name = "SECONDS"
    )]
    pub file_life_max_secs: Option<u64>,
    /// Uploads of files at a time [default: 341 to a directory, 17 to S3]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UPLOADS_AT_ONCE",
        value_name = "COUNT"
    )]
    pub uploads_at_once: Option<usize>,
    /// Of these, for one app, 0 for no limit [default: three quarters]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UPLOADS_PER_APP",
        value_name = "COUNT"
    )]
    pub uploads_per_app: Option<usize>,
    /// Of these, for one meeting, 0 for no limit [default: half]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UPLOADS_PER_MEETING",
        value_name = "COUNT"
    )]
    pub uploads_per_meeting: Option<usize>,
    /// Of these, for one participant, 0 for no limit [default: 4]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UPLOADS_PER_PERSON",
        value_name = "COUNT"
    )]
    pub uploads_per_person: Option<usize>,
    /// Bytes of the files of a meeting, 0 for no limit [default: 10737418240, 10 GiB]
    #[arg(
        long,
        global = true,
        env = "PARLOR_FILES_PER_MEETING_BYTES",
        value_name = "BYTES"
    )]
    pub files_per_meeting_bytes: Option<u64>,
    /// Bytes of the files of an app, 0 for no limit [default: 107374182400, 100 GiB]
    #[arg(
        long,
        global = true,
        env = "PARLOR_FILES_PER_APP_BYTES",
        value_name = "BYTES"
    )]
    pub files_per_app_bytes: Option<u64>,
    /// Bytes of the files of all apps, 0 for no limit [default: 0]
    #[arg(
        long,
        global = true,
        env = "PARLOR_FILES_TOTAL_BYTES",
        value_name = "BYTES"
    )]
    pub files_total_bytes: Option<u64>,
    /// Days that files are kept, 0 for as long as their meeting [default: 0]
    #[arg(
        long,
        global = true,
        env = "PARLOR_FILE_RETENTION_DAYS",
        value_name = "DAYS"
    )]
    pub file_retention_days: Option<u32>,
    /// Bytes of the chat of a meeting, 0 for no limit [default: 268435456, 256 MiB]
    #[arg(
        long,
        global = true,
        env = "PARLOR_CHAT_PER_MEETING_BYTES",
        value_name = "BYTES"
    )]
    pub chat_per_meeting_bytes: Option<u64>,
    /// Of these, from one participant while the meeting runs, 0 for no limit [default: 67108864, 64 MiB]
    #[arg(
        long,
        global = true,
        env = "PARLOR_CHAT_PER_PERSON_BYTES",
        value_name = "BYTES"
    )]
    pub chat_per_person_bytes: Option<u64>,
    /// Bytes of the chats of an app, 0 for no limit [default: 10737418240, 10 GiB]
    #[arg(
        long,
        global = true,
        env = "PARLOR_CHAT_PER_APP_BYTES",
        value_name = "BYTES"
    )]
    pub chat_per_app_bytes: Option<u64>,
    /// Bytes of the chats of all apps, 0 for no limit [default: 0]
    #[arg(
        long,
        global = true,
        env = "PARLOR_CHAT_TOTAL_BYTES",
        value_name = "BYTES"
    )]
    pub chat_total_bytes: Option<u64>,
    /// Free space that files and chats leave on the disk, 0 for none [default: 536870912, 512 MiB]
    #[arg(
        long,
        global = true,
        env = "PARLOR_DISK_RESERVE_BYTES",
        value_name = "BYTES"
    )]
    pub disk_reserve_bytes: Option<u64>,
    /// Believe X-Forwarded-… of proxies on this machine, or of those in --trusted-proxies [default: false]
    #[arg(long, global = true, env = "PARLOR_TRUST_FORWARDED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub trust_forwarded: Option<bool>,
    /// Networks of proxies whose X-Forwarded-… is believed [default: loopback with --trust-forwarded]
    #[arg(
        long,
        global = true,
        env = "PARLOR_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    pub trusted_proxies: Option<Vec<String>>,
    /// Connections of trusted proxies begin with a header of the PROXY protocol [default: false]
    #[arg(long, global = true, env = "PARLOR_PROXY_PROTOCOL", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub proxy_protocol: Option<bool>,
    /// Seconds that a peer whose socket broke has to come back [default: 45]
    #[arg(
        long,
        global = true,
        env = "PARLOR_RECONNECT_GRACE_SECS",
        value_name = "SECONDS"
    )]
    pub reconnect_grace_secs: Option<u32>,
    /// Chat messages a minute from each person in a meeting, 0 for no limit [default: 180]
    #[arg(
        long,
        global = true,
        env = "PARLOR_CHAT_PER_MINUTE",
        value_name = "COUNT"
    )]
    pub chat_per_minute: Option<u32>,
    /// Peers in a meeting at most [default: 10000]
    #[arg(long, global = true, env = "PARLOR_ROOM_PEERS", value_name = "COUNT")]
    pub room_peers: Option<usize>,
    /// Bytes that may wait for clients to read them; then the slowest are closed. 0 for no limit [default: 536870912]
    #[arg(long, global = true, env = "PARLOR_SOCKET_BYTES", value_name = "BYTES")]
    pub socket_bytes: Option<usize>,
    /// The same for the clients of one meeting, 0 for no limit [default: 134217728]
    #[arg(
        long,
        global = true,
        env = "PARLOR_SOCKET_BYTES_PER_MEETING",
        value_name = "BYTES"
    )]
    pub socket_bytes_per_meeting: Option<usize>,
    /// Open connections at most; more are closed at once [default: 65536]
    #[arg(long, global = true, env = "PARLOR_CONNECTIONS", value_name = "COUNT")]
    pub connections: Option<usize>,
    /// Of these, from one address or one /64 of IPv6, 0 for no limit [default: 8192]
    #[arg(
        long,
        global = true,
        env = "PARLOR_CONNECTIONS_PER_ADDRESS",
        value_name = "COUNT"
    )]
    pub connections_per_address: Option<usize>,
    /// Bytes of responses that peers have not taken at most, 0 for no limit [default: 536870912]
    #[arg(long, global = true, env = "PARLOR_UNSENT_BYTES", value_name = "BYTES")]
    pub unsent_bytes: Option<usize>,
    /// Of these, for one address or one /64 of IPv6, 0 for no limit [default: 134217728]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UNSENT_BYTES_PER_ADDRESS",
        value_name = "BYTES"
    )]
    pub unsent_bytes_per_address: Option<usize>,
    /// Of these, for one connection, 0 for no limit [default: 67108864]
    #[arg(
        long,
        global = true,
        env = "PARLOR_UNSENT_BYTES_PER_CONNECTION",
        value_name = "BYTES"
    )]
    pub unsent_bytes_per_connection: Option<usize>,
    /// Seconds that requests get to finish when the server stops [default: 30]
    #[arg(
        long,
        global = true,
        env = "PARLOR_SHUTDOWN_SECS",
        value_name = "SECONDS"
    )]
    pub shutdown_secs: Option<u64>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Settings(..)")
    }
}

/// Takes each named field from the first that has it.
macro_rules! first_of {
    ($first:ident, $second:ident, $($field:ident),*) => {
        Settings { config: $first.config, $($field: $first.$field.or($second.$field)),* }
    };
}

impl Settings {
    /// Reads the TOML file, if one is named, under the flags and the environment.
    ///
    /// # Errors
    /// When the file cannot be read or has a key that is no setting.
    pub fn with_file(self) -> anyhow::Result<Self> {
        let Some(path) = &self.config else {
            return Ok(self);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("the settings file {}: {error}", path.display()))?;
        // The whole error would show the line, which may hold a secret.
        let file: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            let (path, message) = (path.display(), without_value(error.message()));
            anyhow::anyhow!("the settings file {path}, line {line}: {message}")
        })?;
        Ok(first_of!(
            self,
            file,
            listen,
            tls_listen,
            metrics_listen,
            tls_cert,
            tls_key,
            tls_name,
            acme_domain,
            acme_email,
            acme_directory,
            acme_root,
            media_listen,
            media_tcp_listen,
            media_tcp_connections,
            media_tcp_per_address,
            media_address,
            media_transports,
            media_transports_per_person,
            media_transports_per_meeting,
            media_transports_per_app,
            media_tracks,
            media_threads,
            ice_server,
            storage,
            storage_endpoint,
            upload_bytes,
            uploads_per_minute,
            file_life_secs,
            file_life_max_secs,
            uploads_at_once,
            uploads_per_app,
            uploads_per_meeting,
            uploads_per_person,
            files_per_meeting_bytes,
            files_per_app_bytes,
            files_total_bytes,
            file_retention_days,
            chat_per_meeting_bytes,
            chat_per_person_bytes,
            chat_per_app_bytes,
            chat_total_bytes,
            disk_reserve_bytes,
            trust_forwarded,
            trusted_proxies,
            proxy_protocol,
            reconnect_grace_secs,
            chat_per_minute,
            room_peers,
            socket_bytes,
            socket_bytes_per_meeting,
            data_dir,
            database,
            database_timeout_secs,
            database_scan_secs,
            database_queue,
            database_queue_bytes,
            account_id,
            api_token,
            log_format,
            log,
            otlp_endpoint,
            token_life_secs,
            token_life_max_secs,
            reject_existing,
            requests_per_minute,
            body_bytes,
            body_secs,
            header_secs,
            connections,
            connections_per_address,
            unsent_bytes,
            unsent_bytes_per_address,
            unsent_bytes_per_connection,
            shutdown_secs
        ))
    }

    /// The address to listen on.
    pub fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or("localhost:8787")
    }

    /// Where the records are.
    ///
    /// # Errors
    /// When the database is named but is not PostgreSQL, or the directory cannot be made.
    pub fn place(&self) -> anyhow::Result<Place> {
        let url = self.database.as_ref().map(SecretText::expose);
        if let Some(url) = url.filter(|url| !url.is_empty()) {
            let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
            anyhow::ensure!(known, "--database takes a URL that starts with postgres://");
            return Ok(Place::Postgres(url.to_owned()));
        }
        let dir = self.data_dir();
        // The records hold signing keys: nobody else on the machine is to read them.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| anyhow::anyhow!("the data directory {}: {error}", dir.display()))?;
        let file = dir.join("parlor.db");
        // SQLite gives its log the mode of the file.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| anyhow::anyhow!("the database {}: {error}", file.display()))?;
        Ok(Place::Sqlite(file))
    }

    /// The same, for commands that are about records which must be there already.
    ///
    /// # Errors
    /// Also when the embedded database does not exist.
    pub fn existing_place(&self) -> anyhow::Result<Place> {
        let file = self.data_dir().join("parlor.db");
        let url = self.database.as_ref().map(SecretText::expose);
        let embedded = url.is_none_or(str::is_empty);
        anyhow::ensure!(
            !embedded || file.exists(),
            "there is no database at {}: start the server first, or name its --data-dir",
            file.display()
        );
        self.place()
    }

    /// The bounds on requests and tokens.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let default = Limits::default();
        let limits = Limits {
            body_bytes: self.body_bytes.unwrap_or(default.body_bytes),
            body_secs: self.body_secs.unwrap_or(default.body_secs),
            token_life_secs: self.token_life_secs.unwrap_or(default.token_life_secs),
            token_life_max_secs: self
                .token_life_max_secs
                .unwrap_or(default.token_life_max_secs),
            requests_per_minute: self
                .requests_per_minute
                .unwrap_or(default.requests_per_minute),
            reject_existing: self.reject_existing.unwrap_or(default.reject_existing),
            upload_bytes: self.upload_bytes.unwrap_or(default.upload_bytes),
            uploads_per_minute: self
                .uploads_per_minute
                .unwrap_or(default.uploads_per_minute),
            file_life_secs: self.file_life_secs.unwrap_or(default.file_life_secs),
            file_life_max_secs: self
                .file_life_max_secs
                .unwrap_or(default.file_life_max_secs),
            socket_bytes: self.socket_bytes.unwrap_or(default.socket_bytes),
            socket_bytes_per_meeting: self
                .socket_bytes_per_meeting
                .unwrap_or(default.socket_bytes_per_meeting),
            quotas: self.quotas(),
            room: self.room_limits(),
            database: self.database_options()?,
        };
        let in_order = (1..=limits.token_life_max_secs).contains(&limits.token_life_secs);
        anyhow::ensure!(
            in_order,
            "token_life_secs must be at least 1 and at most token_life_max_secs"
        );
        anyhow::ensure!(
            limits.token_life_max_secs <= 1 << 33,
            "token_life_max_secs is too large"
        );
        let in_order = (1..=limits.file_life_max_secs).contains(&limits.file_life_secs);
        anyhow::ensure!(
            in_order && limits.file_life_max_secs <= 1 << 33,
            "file_life_secs must be at least 1 and at most file_life_max_secs"
        );
        Ok(limits)
    }

    /// The account and token of an unattended install.
    ///
    /// # Errors
    /// When only one of the two is set, or either has the wrong form.
    pub fn first_account(&self) -> anyhow::Result<Option<(AccountId, String)>> {
        let (account, token) = match (&self.account_id, &self.api_token) {
            (None, None) => return Ok(None),
            (Some(account), Some(token)) => (account, token.expose()),
            _ => anyhow::bail!("PARLOR_ACCOUNT_ID and PARLOR_API_TOKEN go together"),
        };
        let account = account
            .parse()
            .map_err(|_| anyhow::anyhow!("PARLOR_ACCOUNT_ID takes 32 hex digits"))?;
        let long = token.chars().count() >= 32
            && token.chars().all(|character| character.is_ascii_graphic());
        anyhow::ensure!(
            long,
            "PARLOR_API_TOKEN takes at least 32 visible ASCII characters"
        );
        Ok(Some((account, token.to_owned())))
    }

    /// The settings in force as TOML, defaults included, with secrets hidden.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn shown(&self) -> anyhow::Result<String> {
        let (limits, bounds) = (self.limits()?, self.connection_limits());
        let relay = self.relay()?;
        let shown = Self {
            listen: Some(self.listen().to_owned()),
            tls_listen: Some(self.tls_listen().unwrap_or_else(|| "off".to_owned())),
            metrics_listen: Some(self.metrics_listen().unwrap_or_else(|| "off".to_owned())),
            media_listen: Some(self.media_listen()),
            media_tcp_listen: Some(self.media_tcp_listen()),
            media_tcp_connections: Some(relay.streams),
            media_tcp_per_address: Some(relay.streams_per_ip),
            media_transports: Some(self.media_transports.unwrap_or(MEDIA_TRANSPORTS)),
            media_transports_per_person: Some(self.media_shares().person),
            media_transports_per_meeting: Some(self.media_shares().meeting),
            media_transports_per_app: Some(self.media_shares().app),
            media_tracks: Some(self.room_limits().consumers),
            media_threads: Some(self.media_threads()),
            upload_bytes: Some(limits.upload_bytes),
            uploads_per_minute: Some(limits.uploads_per_minute),
            file_life_secs: Some(limits.file_life_secs),
            file_life_max_secs: Some(limits.file_life_max_secs),
            files_per_meeting_bytes: Some(limits.quotas.files_per_meeting),
            files_per_app_bytes: Some(limits.quotas.files_per_app),
            files_total_bytes: Some(limits.quotas.files_total),
            file_retention_days: Some(self.file_retention_days.unwrap_or_default()),
            chat_per_meeting_bytes: Some(limits.room.chat_stored_bytes),
            chat_per_person_bytes: Some(limits.room.chat_person_bytes),
            chat_per_app_bytes: Some(limits.quotas.chat_per_app),
            chat_total_bytes: Some(limits.quotas.chat_total),
            disk_reserve_bytes: Some(limits.quotas.disk_reserve),
            trust_forwarded: Some(self.trust_forwarded.unwrap_or_default()),
            proxy_protocol: Some(self.proxy_protocol.unwrap_or_default()),
            reconnect_grace_secs: Some(self.reconnect_grace_secs()),
            chat_per_minute: Some(limits.room.chat.count),
            room_peers: Some(limits.room.peers),
            socket_bytes: Some(limits.socket_bytes),
            socket_bytes_per_meeting: Some(limits.socket_bytes_per_meeting),
            data_dir: Some(self.data_dir()),
            database_timeout_secs: Some(limits.database.timeout.as_secs()),
            database_scan_secs: Some(limits.database.scan_timeout.as_secs()),
            database_queue: Some(limits.database.queue_units),
            database_queue_bytes: Some(limits.database.queue_bytes),
            log_format: Some(self.log_format.unwrap_or_default()),
            log: Some(self.log.clone().unwrap_or_else(|| "info".to_owned())),
            token_life_secs: Some(limits.token_life_secs),
            token_life_max_secs: Some(limits.token_life_max_secs),
            reject_existing: Some(limits.reject_existing),
            requests_per_minute: Some(limits.requests_per_minute),
            body_bytes: Some(limits.body_bytes),
            body_secs: Some(limits.body_secs),
            header_secs: Some(bounds.header.as_secs()),
            connections: Some(bounds.connections),
            connections_per_address: Some(bounds.per_address),
            unsent_bytes: Some(bounds.unsent.server),
            unsent_bytes_per_address: Some(bounds.unsent.address),
            unsent_bytes_per_connection: Some(bounds.unsent.connection),
            shutdown_secs: Some(bounds.shutdown.as_secs()),
            ..self.clone()
        };
        let shown = serde_json::to_value(shown)?;
        let set = shown
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null());
        Ok(set
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect())
    }

    /// The directory of the embedded database and of what else the server keeps.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "data".into())
    }
}

/// What is wrong with a setting, without what it was set to: `invalid type: string "…", expected usize`.
fn without_value(message: &str) -> String {
    match (message.split_once(": "), message.rfind(", expected")) {
        (Some((kind, _)), Some(expected)) if kind.starts_with("invalid") => {
            format!("{kind}{}", &message[expected..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "listen = \"0.0.0.0:1\"\nbody_bytes = 5").unwrap();
        let flags = Settings {
            config: Some(file.path().into()),
            listen: Some("[::1]:2".into()),
            ..Settings::default()
        };
        let settings = flags.with_file().unwrap();
        assert_eq!(settings.listen(), "[::1]:2");
        assert_eq!(settings.limits().unwrap().body_bytes, 5);
        assert_eq!(
            settings.limits().unwrap().body_secs,
            Limits::default().body_secs
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "listne = \"x\"").unwrap();
        let flags = Settings {
            config: Some(file.path().into()),
            ..Settings::default()
        };
        assert!(
            flags
                .with_file()
                .unwrap_err()
                .to_string()
                .contains("listne")
        );
    }

    #[test]
    fn an_error_in_the_file_shows_no_value() {
        for line in [
            "databse = \"postgres://u:hunter2@h/d\"",
            "api_token = \"hunter2",
            "body_bytes = \"hunter2\"",
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writeln!(file, "listen = \"0.0.0.0:1\"\n{line}").unwrap();
            let flags = Settings {
                config: Some(file.path().into()),
                ..Settings::default()
            };
            let error = flags.with_file().unwrap_err().to_string();
            assert!(
                error.contains("line 2") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings {
            database: Some("postgres://u:hunter2@h/d".into()),
            api_token: Some("hunter2hunter2".into()),
            ..Settings::default()
        };
        assert!(!settings.shown().unwrap().contains("hunter2"));
    }

    #[test]
    fn the_first_account_needs_both_halves() {
        let half = Settings {
            account_id: Some("0".repeat(32)),
            ..Settings::default()
        };
        assert!(half.first_account().is_err());
        let short = Settings {
            api_token: Some("short".into()),
            ..half.clone()
        };
        assert!(short.first_account().is_err());
        let good = Settings {
            api_token: Some("x".repeat(32).into()),
            ..half
        };
        assert!(good.first_account().unwrap().is_some());
    }
}
