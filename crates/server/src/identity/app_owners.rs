//! Maps apps to the accounts that own them.

use std::sync::Arc;

use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Db, Error, FromRow, Row, Statement, values};
use uuid::Uuid;

use crate::cache::Cache;
use crate::clock::Clock;

static OWNER: Statement = Statement::new("apps.owner", "SELECT account_id FROM apps WHERE id = $1");

pub(crate) static STATEMENTS: [&Statement; 1] = [&OWNER];

struct Owner(Uuid);

impl FromRow for Owner {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

/// Looks up the owners of apps, with a cache.
pub(crate) struct AppOwners {
    db: Db,
    clock: Arc<Clock>,
    cache: Cache<AppId, AccountId>,
}

impl AppOwners {
    /// Creates a lookup on a database.
    pub(crate) fn new(db: Db, clock: Arc<Clock>) -> Self {
        Self {
            db,
            clock,
            cache: Cache::default(),
        }
    }

    /// Returns the account that owns an app; `None` when there is no such app.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn owner_of(&self, app: AppId) -> Result<Option<AccountId>, Error> {
        let monotonic_ms = self.clock.monotonic_ms();
        if let Some(owner) = self.cache.get(&app, monotonic_ms) {
            return Ok(Some(owner));
        }
        let found = self
            .db
            .read::<Owner>(&OWNER, values![app.uuid()])
            .await?
            .pop();
        let owner = found.map(|owner| AccountId::from_uuid(owner.0));
        if let Some(owner) = owner {
            self.cache.put(app, owner, monotonic_ms);
        }
        Ok(owner)
    }

    /// Evicts a deleted app from the cache.
    pub(crate) fn forget(&self, app: AppId) {
        self.cache.invalidate(&app);
    }
}
