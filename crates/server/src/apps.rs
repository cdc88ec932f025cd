//! Apps: the owners of meetings, presets and everything below. Operations 1–3 of the contract, and
//! PATCH and DELETE, which `RealtimeKit` does not have.

mod create;
mod delete;
mod get;
mod list;
mod update;

pub use create::create;
pub(crate) use create::insert;
pub(crate) use delete::delete;
pub(crate) use list::all;

use garde::Validate;
use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Endpoint;
use crate::clock::rfc3339;
use crate::parlor::Parlor;

/// The operations on apps.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        list::endpoint(),
        create::endpoint(),
        get::endpoint(),
        update::endpoint(),
        delete::endpoint(),
    ]
}

static OWNER: Statement = Statement::new("apps.owner", "SELECT account_id FROM apps WHERE id = $1");

pub(crate) fn statements() -> Vec<&'static Statement> {
    vec![
        &OWNER,
        &create::INSERT,
        &get::GET,
        &list::LIST,
        &update::RENAME,
        &delete::DELETE,
    ]
}

/// An app.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct App {
    /// 32 lower-case hex digits.
    pub id: AppId,
    /// What people call it.
    pub name: String,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
}

impl FromRow for App {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let created_ms: i64 = row.take(2)?;
        Ok(Self {
            id: AppId::from_uuid(row.take(0)?),
            name: row.take(1)?,
            created_at: rfc3339(created_ms),
        })
    }
}

/// What can be set on an app.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
pub struct AppName {
    /// What people call the app.
    #[garde(length(chars, min = 1, max = 256))]
    name: String,
}

struct Owner(Uuid);

impl FromRow for Owner {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

/// The account that owns an app; `None` when there is no such app.
///
/// # Errors
/// When the database fails.
pub async fn owner(parlor: &Parlor, app: AppId) -> Result<Option<AccountId>, Error> {
    let monotonic_ms = parlor.clock.monotonic_ms();
    if let Some(owner) = parlor.owners.get(&app, monotonic_ms) {
        return Ok(Some(owner));
    }
    let found = parlor
        .db
        .read::<Owner>(&OWNER, values![app.uuid()])
        .await?
        .pop();
    let owner = found.map(|owner| AccountId::from_uuid(owner.0));
    if let Some(owner) = owner {
        parlor.owners.put(app, owner, monotonic_ms);
    }
    Ok(owner)
}
