//! The limits of a server: every bound that an operator can set, and its default.

use std::time::Duration;

use parlor_store::Options;

/// Every bound that an operator can set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Seconds for a request body to arrive.
    pub body_secs: u64,
    /// Life of a join token when the caller does not say, in seconds.
    pub token_life_secs: u64,
    /// Longest life of a join token, in seconds.
    pub token_life_max_secs: u64,
    /// Requests a minute for each API token; 0 is no limit.
    pub requests_per_minute: u32,
    /// Answer 409 to adding somebody who is there already, unless the request says otherwise.
    pub reject_existing: bool,
    /// Largest file of a chat, in bytes.
    pub upload_bytes: u64,
    /// Files a minute that each participant may upload; 0 is no limit.
    pub uploads_per_minute: u32,
    /// Life of a link to a file when the client does not say, in seconds.
    pub file_life_secs: u64,
    /// Longest life of a link to a file, in seconds.
    pub file_life_max_secs: u64,
    /// Bytes that may wait for clients to read them, on the whole server; 0 is no limit.
    pub socket_bytes: usize,
    /// Of these, for the clients of one meeting; 0 is no limit.
    pub socket_bytes_per_meeting: usize,
    /// How much may be stored.
    pub quotas: Quotas,
    /// The bounds of each live meeting.
    pub room: parlor_live::Limits,
    /// How long the database may take, and how much may wait for it.
    pub database: Options,
}

impl Limits {
    /// How long a request body may take to arrive.
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

/// The bounds on what is stored, in bytes; 0 is no limit. That of a meeting's chat is the room's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Files of a meeting.
    pub files_per_meeting: u64,
    /// Files of an app.
    pub files_per_app: u64,
    /// Files of all apps.
    pub files_total: u64,
    /// Chat messages of an app.
    pub chat_per_app: u64,
    /// Chat messages of all apps.
    pub chat_total: u64,
    /// Free space that uploads and chats leave on the disk, so that records can still be written.
    pub disk_reserve: u64,
    /// How long files are kept, in milliseconds; 0 is as long as their meeting.
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

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// For a request's head to arrive, and for an idle connection to stay.
    pub header: Duration,
    /// Open connections.
    pub connections: usize,
    /// Of these, of one IPv4 address or one /64 of IPv6; 0 is no limit.
    pub per_address: usize,
    /// Bytes of responses that peers have not taken.
    pub unsent: UnsentLimits,
    /// For requests to finish when the server stops.
    pub shutdown: Duration,
}

/// How many bytes may be unsent; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub struct UnsentLimits {
    /// For one connection.
    pub connection: usize,
    /// For one IPv4 address or one /64 of IPv6.
    pub address: usize,
    /// For all of them.
    pub server: usize,
}
