//! The running server: everything that a request may need, made once.

use std::sync::Arc;
use std::time::Duration;

use parlor_protocol::ids::AccountId;
use parlor_protocol::ids::AppId;
use parlor_store::{Db, Error, Migration, Options, Place, Statement};

use crate::api::{self, Rates, paging::Ranks};
use crate::api_tokens::ApiToken;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::signing_keys::SigningKeys;

/// The schema, in order.
pub static MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_init",
    sql: include_str!("../../../migrations/0001_init.sql"),
}];

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
        }
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
    pub(crate) rates: Rates,
    pub(crate) ranks: Ranks,
    pub(crate) tokens: Cache<[u8; 32], Arc<ApiToken>>,
    pub(crate) owners: Cache<AppId, AccountId>,
}

impl Parlor {
    /// Opens the database, brings it up to date, and reads or makes the signing keys.
    ///
    /// # Errors
    /// When the database cannot be opened or is of a newer version.
    pub async fn open(place: &Place, limits: Limits) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let db = Db::open(place, Options::default(), Arc::<Metrics>::clone(&metrics)).await?;
        db.migrate(MIGRATIONS).await?;
        let clock = Clock::default();
        let keys = SigningKeys::load(&db, clock.now_ms()).await?;
        Ok(Self {
            db,
            clock,
            keys,
            rates: Rates::new(limits.requests_per_minute),
            limits,
            metrics,
            ranks: Ranks::default(),
            tokens: Cache::default(),
            owners: Cache::default(),
        })
    }
}

/// Every statement the server runs, for a test that prepares them on both engines.
pub fn statements() -> Vec<&'static Statement> {
    let mut all = api::paging::STATEMENTS.to_vec();
    all.extend(api::STATEMENTS);
    all.extend(crate::accounts::STATEMENTS);
    all.extend(crate::api_tokens::STATEMENTS);
    all.extend(crate::apps::statements());
    all.extend(crate::meetings::statements());
    all.extend(crate::participants::statements());
    all.extend(crate::presets::statements());
    all.extend(crate::signing_keys::STATEMENTS);
    all.extend(crate::sweeper::STATEMENTS);
    all
}
