//! Apps, which own meetings, presets and everything below. Operations 1–3 (docs/spec/rest.md 1.2),
//! and PATCH and DELETE, which `RealtimeKit` does not have.

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
use parlor_protocol::ids::AppId;
use parlor_store::{Error, FromRow, Row, Statement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;
use crate::http::Endpoint;

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

pub(crate) fn statements() -> Vec<&'static Statement> {
    vec![
        &create::INSERT,
        &get::GET,
        &list::LIST,
        &update::RENAME,
        &delete::DELETE,
    ]
}

/// An app: an isolated environment with its own meetings and presets.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "App")]
pub struct App {
    /// Unique identifier of the app: 32 lowercase hex digits.
    pub id: AppId,
    /// The app's display name.
    pub name: String,
    /// When the app was created. RFC 3339 in UTC, with milliseconds.
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

/// The writable fields of an app.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "AppParams")]
pub struct AppParams {
    /// The app's display name.
    #[garde(length(chars, min = 1, max = 256))]
    name: String,
}
