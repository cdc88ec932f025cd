//! The running server: everything that a request may need, made once.

use std::sync::Arc;
use std::time::Duration;

use parlor_protocol::ids::{AccountId, AppId, ParticipantId, TokenId};
use parlor_sfu::Media;
use parlor_store::{Db, Error, Migration, Options, Place, Statement};
use uuid::Uuid;

use crate::api::{self, Rates, paging::Ranks};
use crate::api_tokens::ApiToken;
use crate::breakout::Telling;
use crate::cache::Cache;
use crate::client_api::upkeep::Rounds;
use crate::client_api::{Files, IceServer, Underway};
use crate::clock::Clock;
use crate::config::Settings;
use crate::disk::Disk;
use crate::live_sessions::LiveSessions;
use crate::metrics::Metrics;
use crate::presets::Parsed;
use crate::quotas::{ChatStates, Quotas};
use crate::signing_keys::SigningKeys;

/// The schema, in order.
pub static MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_init",
        sql: include_str!("../../../migrations/0001_init.sql"),
    },
    Migration {
        name: "0002_live",
        sql: include_str!("../../../migrations/0002_live.sql"),
    },
    Migration {
        name: "0003_peer_reports",
        sql: include_str!("../../../migrations/0003_peer_reports.sql"),
    },
    Migration {
        name: "0004_usage",
        sql: include_str!("../../../migrations/0004_usage.sql"),
    },
    Migration {
        name: "0005_settled_time",
        sql: include_str!("../../../migrations/0005_settled_time.sql"),
    },
    Migration {
        name: "0006_removed_rooms",
        sql: include_str!("../../../migrations/0006_removed_rooms.sql"),
    },
];

/// How often a change that others keep overtaking is tried.
pub(crate) const WRITE_TRIES: usize = 32;

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

/// What only a server that clients join has.
#[derive(Default)]
pub struct Edge {
    /// ICE servers that browsers are told.
    pub ice_servers: Vec<IceServer>,
    /// The media plane.
    pub media: Option<Media>,
    /// The files of chats.
    pub files: Option<Files>,
}

impl Edge {
    /// From the settings.
    ///
    /// # Errors
    /// When a setting is malformed or names something that cannot be used.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            ice_servers: settings.ice_servers()?,
            media: None,
            files: Some(Files::open(settings)?),
        })
    }
}

/// The running server.
pub struct Parlor {
    /// The records.
    pub db: Db,
    /// Time and ids.
    pub clock: Clock,
    /// The keys of join tokens.
    pub keys: SigningKeys,
    /// The bounds in force.
    pub limits: Limits,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// The rooms that run.
    pub live: LiveSessions,
    /// This process among the records: a time-ordered id of its start.
    pub(crate) process: Uuid,
    /// What clients are told and believed. None of it is needed to serve the REST API.
    pub edge: Edge,
    /// The disk of the records, where they are this server's own.
    pub(crate) disk: Option<Disk>,
    /// The files that are being written.
    pub(crate) underway: Underway,
    /// What is remembered of the last round over the files.
    pub(crate) rounds: Rounds,
    /// What rooms were told of the room for messages.
    pub(crate) chat_states: ChatStates,
    pub(crate) telling: Telling,
    pub(crate) presets: Parsed,
    pub(crate) rates: Rates<TokenId>,
    pub(crate) uploads: Rates<ParticipantId>,
    pub(crate) ranks: Ranks,
    pub(crate) tokens: Cache<[u8; 32], Arc<ApiToken>>,
    pub(crate) owners: Cache<AppId, AccountId>,
}

impl Parlor {
    /// The same server with an edge.
    #[must_use]
    pub fn with_edge(self, edge: Edge) -> Self {
        Self { edge, ..self }
    }

    /// Opens the database, brings it up to date, and reads or makes the signing keys.
    ///
    /// # Errors
    /// When the database cannot be opened or is of a newer version.
    pub async fn open(place: &Place, limits: Limits) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let options = limits.database.clone();
        let db = Db::open(place, options, Arc::<Metrics>::clone(&metrics)).await?;
        db.migrate(MIGRATIONS).await?;
        let clock = Clock::default();
        let keys = SigningKeys::load(&db, clock.now_ms()).await?;
        let process = clock.new_id(clock.now_ms());
        Ok(Self {
            db,
            clock,
            keys,
            rates: Rates::new(limits.requests_per_minute),
            uploads: Rates::new(limits.uploads_per_minute),
            live: LiveSessions::new(&limits, &metrics),
            limits,
            metrics,
            process,
            edge: Edge::default(),
            disk: disk_of(place),
            underway: Underway::default(),
            rounds: Rounds::default(),
            chat_states: ChatStates::default(),
            telling: Telling::default(),
            presets: Parsed::default(),
            ranks: Ranks::default(),
            tokens: Cache::default(),
            owners: Cache::default(),
        })
    }
}

fn disk_of(place: &Place) -> Option<Disk> {
    match place {
        Place::Sqlite(file) => file.parent().map(|folder| {
            let here = folder.as_os_str().is_empty();
            Disk::of(if here {
                std::path::Path::new(".")
            } else {
                folder
            })
        }),
        Place::Postgres(_) => None,
    }
}

/// Every statement the server runs, for a test that prepares them on both engines.
pub fn statements() -> Vec<&'static Statement> {
    let mut all = api::paging::STATEMENTS.to_vec();
    all.extend(api::STATEMENTS);
    all.extend(crate::accounts::STATEMENTS);
    all.extend(crate::api_tokens::STATEMENTS);
    all.extend(crate::apps::statements());
    all.extend(crate::live_records::statements());
    all.extend(crate::meetings::statements());
    all.extend(crate::participants::statements());
    all.extend(crate::presets::statements());
    all.extend(crate::sessions::statements());
    all.extend(crate::analytics::STATEMENTS);
    all.extend(crate::signing_keys::STATEMENTS);
    all.extend(crate::sweeper::STATEMENTS);
    all.extend(crate::usage::STATEMENTS);
    all.extend(crate::client_api::statements());
    all
}
