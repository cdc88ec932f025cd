//! Whose an app is.

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

/// The accounts that own apps.
pub(crate) struct AppOwners {
    db: Db,
    clock: Arc<Clock>,
    known: Cache<AppId, AccountId>,
}

impl AppOwners {
    /// Those in a database.
    pub(crate) fn new(db: Db, clock: Arc<Clock>) -> Self {
        Self {
            db,
            clock,
            known: Cache::default(),
        }
    }

    /// The account that owns an app; `None` when there is no such app.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn of(&self, app: AppId) -> Result<Option<AccountId>, Error> {
        let monotonic_ms = self.clock.monotonic_ms();
        if let Some(owner) = self.known.get(&app, monotonic_ms) {
            return Ok(Some(owner));
        }
        let found = self
            .db
            .read::<Owner>(&OWNER, values![app.uuid()])
            .await?
            .pop();
        let owner = found.map(|owner| AccountId::from_uuid(owner.0));
        if let Some(owner) = owner {
            self.known.put(app, owner, monotonic_ms);
        }
        Ok(owner)
    }

    /// An app is deleted.
    pub(crate) fn forget(&self, app: AppId) {
        self.known.forget(&app);
    }
}
