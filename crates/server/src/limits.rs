//! The limits that an operator can set, and their defaults.

use std::time::Duration;

use parlor_store::Options;

/// The limits that an operator can set, except those on connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum size of a request body, in bytes.
    pub body_bytes: usize,
    /// Timeout for receiving a request body, in seconds.
    pub body_secs: u64,
    /// Default lifetime of a join token, in seconds.
    pub token_life_secs: u64,
    /// Maximum lifetime of a join token, in seconds.
    pub token_life_max_secs: u64,
    /// Maximum number of requests per minute for each API token; 0 is no limit.
    pub requests_per_minute: u32,
    /// Whether adding a participant who already exists is rejected with 409, unless the request
    /// says otherwise.
    pub reject_existing: bool,
    /// Maximum size of a chat file, in bytes.
    pub upload_bytes: u64,
    /// Maximum number of uploads per minute for each participant; 0 is no limit.
    pub uploads_per_minute: u32,
    /// Default lifetime of a link to a file, in seconds.
    pub file_life_secs: u64,
    /// Maximum lifetime of a link to a file, in seconds.
    pub file_life_max_secs: u64,
    /// Maximum size of the frames queued for all sockets of the server, in bytes; 0 is no limit.
    pub socket_bytes: usize,
    /// Maximum size of the frames queued for the sockets of one meeting, in bytes; 0 is no limit.
    pub socket_bytes_per_meeting: usize,
    /// The storage quotas.
    pub quotas: Quotas,
    /// The limits of one live meeting.
    pub room: parlor_live::Limits,
    /// Timeouts and queue limits of the database.
    pub database: Options,
}

impl Limits {
    /// Timeout for receiving a request body.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_secs)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 * 1024 * 1024,
            body_secs: 20,
            token_life_secs: 100 * 24 * 60 * 60,
            token_life_max_secs: 366 * 24 * 60 * 60,
            requests_per_minute: 0,
            reject_existing: false,
            upload_bytes: 100 * 1024 * 1024,
            uploads_per_minute: 20,
            file_life_secs: 7 * 24 * 60 * 60,
            file_life_max_secs: 366 * 24 * 60 * 60,
            socket_bytes: 512 << 20,
            socket_bytes_per_meeting: 128 << 20,
            quotas: Quotas::default(),
            room: parlor_live::Limits::default(),
            database: Options::default(),
        }
    }
}

/// The storage quotas, in bytes; 0 is no limit. The quota of one meeting's chat is in
/// [`parlor_live::Limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Maximum total size of the files of one meeting.
    pub files_per_meeting: u64,
    /// Maximum total size of the files of one app.
    pub files_per_app: u64,
    /// Maximum total size of the files of all apps.
    pub files_total: u64,
    /// Maximum total size of the chat messages of one app.
    pub chat_per_app: u64,
    /// Maximum total size of the chat messages of all apps.
    pub chat_total: u64,
    /// Disk space that uploads and chats must leave free, so that other records can still be
    /// written.
    pub disk_reserve: u64,
    /// How long files are kept, in milliseconds; 0 keeps them as long as their meeting.
    pub file_retention_ms: i64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            files_per_meeting: 10 << 30,
            files_per_app: 100 << 30,
            files_total: 0,
            chat_per_app: 10 << 30,
            chat_total: 0,
            disk_reserve: 512 << 20,
            file_retention_ms: 0,
        }
    }
}

/// Limits on HTTP connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Timeout for receiving a request's headers, and for an idle connection.
    pub header: Duration,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum number of open connections from one IPv4 address or IPv6 /64; 0 is no limit.
    pub per_address: usize,
    /// Limits on buffered responses.
    pub unsent: UnsentLimits,
    /// Timeout for open requests to finish on shutdown.
    pub shutdown: Duration,
}

/// Limits on the responses that clients have not yet received, in bytes; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub struct UnsentLimits {
    /// Limit for one connection.
    pub connection: usize,
    /// Limit for one IPv4 address or IPv6 /64.
    pub address: usize,
    /// Limit for the whole server.
    pub server: usize,
}
