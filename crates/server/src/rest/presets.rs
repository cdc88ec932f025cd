//! Presets: what a kind of participant may do, and how the call looks to them. Operations 16–21
//! (docs/spec/rest.md 1.4).
//!
//! Deleting a preset retires it: nobody can be added with it and its name is free, but those who
//! were added keep what it gave them.

mod create;
mod delete;
mod get;
mod list;
mod replace;
mod update;

use garde::Validate;
use parlor_protocol::ids::{AppId, PresetId};
use parlor_protocol::preset::{Permissions, PresetBody, PresetConfig, Ui, stock};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, rfc3339};
use crate::http::{ApiError, Endpoint, FromPath, PathParams, Problem};
use crate::state::Parlor;

/// The operations on presets.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        list::endpoint(),
        create::endpoint(),
        get::endpoint(),
        update::endpoint(),
        replace::endpoint(),
        delete::endpoint(),
    ]
}

static INSERT: Statement = Statement::new(
    "presets.insert",
    "INSERT INTO presets (app_id, id, name, version, created_at, updated_at, body)
     SELECT a.id, $2, $3, 1, $4, $4, $5 FROM apps a WHERE a.id = $1",
);
static GET: Statement = Statement::new(
    "presets.get",
    "SELECT id, name, created_at, updated_at, body, version FROM presets
     WHERE app_id = $1 AND id = $2 AND retired_at IS NULL",
);
static WRITE: Statement = Statement::new(
    "presets.write",
    "UPDATE presets SET name = $4, body = $5, updated_at = $6, version = version + 1
     WHERE app_id = $1 AND id = $2 AND version = $3 AND retired_at IS NULL",
);
static NAMES: Statement = Statement::new(
    "presets.names",
    "SELECT id, name, created_at, updated_at FROM presets
     WHERE app_id = $1 AND retired_at IS NULL ORDER BY id LIMIT 10000",
);

static BY_NAME: Statement = Statement::new(
    "presets.by_name",
    "SELECT id, name, created_at, updated_at FROM presets
     WHERE app_id = $1 AND name = $2 AND retired_at IS NULL",
);

pub(crate) fn statements() -> Vec<&'static Statement> {
    vec![&BY_NAME, &INSERT, &GET, &WRITE, &NAMES, &delete::RETIRE]
}

/// A preset in a list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PresetSummary {
    /// Its id.
    pub id: PresetId,
    /// Its name, unique in the app; participants are added by it.
    pub name: String,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub updated_at: String,
}

impl FromRow for PresetSummary {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let (created_ms, updated_ms): (i64, i64) = (row.take(2)?, row.take(3)?);
        Ok(Self {
            id: PresetId::from_uuid(row.take(0)?),
            name: row.take(1)?,
            created_at: rfc3339(created_ms),
            updated_at: rfc3339(updated_ms),
        })
    }
}

/// A whole preset.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Preset {
    #[serde(flatten)]
    summary: PresetSummary,
    #[serde(flatten)]
    body: PresetBody,
    #[serde(skip)]
    version: i64,
}

impl FromRow for Preset {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let body: String = row.take(4)?;
        let body = serde_json::from_str(&body)
            .map_err(|error| Error::Broken(format!("presets: {error}")))?;
        Ok(Self {
            body,
            version: row.take(5)?,
            summary: PresetSummary::from_row(row)?,
        })
    }
}

/// A preset to make or to put in another's place.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
struct NewPreset {
    /// Unique in the app. Participants are added by this name, in this case.
    #[garde(length(chars, min = 1, max = NAME_MAX))]
    name: String,
    /// What parts are absent get their defaults.
    #[garde(dive)]
    #[serde(default)]
    config: PresetConfig,
    /// What parts are absent get their defaults.
    #[garde(dive)]
    #[serde(default)]
    permissions: Permissions,
    /// What parts are absent get their defaults.
    #[garde(dive)]
    #[serde(default)]
    ui: Ui,
}

/// The largest preset, as JSON in bytes.
const BODY_MAX: usize = 65_536;
/// The longest name of a preset, in characters.
pub const NAME_MAX: usize = 256;

impl NewPreset {
    fn split(self) -> (String, PresetBody) {
        (
            self.name,
            PresetBody {
                config: self.config,
                permissions: self.permissions,
                ui: self.ui,
            },
        )
    }
}

/// The path of one preset.
#[derive(Debug, JsonSchema)]
struct OnePreset {
    /// The preset's id.
    preset_id: PresetId,
}

impl FromPath for OnePreset {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            preset_id: params.id("preset_id")?,
        })
    }
}

async fn find(parlor: &Parlor, app: AppId, id: PresetId) -> Result<Preset, ApiError> {
    let found = parlor
        .db
        .read::<Preset>(&GET, values![app.uuid(), id.uuid()])
        .await?
        .pop();
    found.ok_or_else(|| ApiError::missing("preset"))
}

/// The preset that has a name, if participants can be added with it.
///
/// # Errors
/// When the database fails.
pub(crate) async fn named(
    parlor: &Parlor,
    app: AppId,
    name: &str,
) -> Result<Option<PresetSummary>, Error> {
    Ok(parlor
        .db
        .read(&BY_NAME, values![app.uuid(), name])
        .await?
        .pop())
}

/// Every preset of an app that participants can be added with, oldest first.
///
/// # Errors
/// When the database fails.
pub(crate) async fn names(parlor: &Parlor, app: AppId) -> Result<Vec<PresetSummary>, Error> {
    parlor.db.scan(&NAMES, values![app.uuid()]).await
}

fn name_taken(name: &str) -> ApiError {
    ApiError::conflict(Problem::at(
        "/name",
        format!("a preset with the name {name} exists already"),
    ))
}

/// A preset's JSON as it is stored, if it is not too large: what callers keep in the plugins'
/// configuration has no shape of its own.
fn stored(body: &PresetBody) -> Result<String, ApiError> {
    let json = serde_json::to_string(body).expect("a preset is plain data with string keys");
    if json.len() <= BODY_MAX {
        return Ok(json);
    }
    let message = format!("BAD_REQUEST: the preset is larger than {BODY_MAX} bytes");
    let pointer = "/permissions/plugins/config";
    Err(ApiError::invalid(vec![Problem::at(pointer, message)]))
}

/// Puts a new preset on a unit, which is undone if the app does not exist.
fn insert(unit: Unit, app: AppId, summary: &PresetSummary, json: String, now_ms: i64) -> Unit {
    let row = values![
        app.uuid(),
        summary.id.uuid(),
        summary.name.as_str(),
        now_ms,
        json
    ];
    unit.exactly_one(&INSERT, row)
}

fn summary(clock: &Clock, name: String, now_ms: i64) -> PresetSummary {
    let id = PresetId::from_uuid(clock.new_id(now_ms));
    PresetSummary {
        id,
        name,
        created_at: rfc3339(now_ms),
        updated_at: rfc3339(now_ms),
    }
}

/// Adds the seven presets of a new app to the unit that makes the app.
pub(crate) fn add_stock(unit: Unit, clock: &Clock, app: AppId, now_ms: i64) -> Unit {
    stock::presets()
        .into_iter()
        .fold(unit, |unit, (name, body)| {
            let json = stored(&body).expect("the stock presets are small");
            insert(
                unit,
                app,
                &summary(clock, name.to_owned(), now_ms),
                json,
                now_ms,
            )
        })
}

/// Changes a preset: reads it, lets `change` make the new name and body, and writes them if nobody
/// else wrote in between; otherwise starts over.
async fn rewrite(
    parlor: &Parlor,
    app: AppId,
    id: PresetId,
    now_ms: i64,
    change: impl Fn(&Preset) -> Result<(String, PresetBody), ApiError>,
) -> Result<Preset, ApiError> {
    for _ in 0..crate::state::WRITE_TRIES {
        let mut preset = find(parlor, app, id).await?;
        let (name, body) = change(&preset)?;
        let json = stored(&body)?;
        let row = values![
            app.uuid(),
            id.uuid(),
            preset.version,
            name.as_str(),
            json,
            now_ms
        ];
        match parlor
            .db
            .commit(
                Unit::default()
                    .keyed(id.uuid().as_u64_pair().1)
                    .exactly_one(&WRITE, row),
            )
            .await
        {
            Ok(_) => {
                preset.summary.updated_at = rfc3339(now_ms);
                preset.summary.name = name;
                preset.body = body;
                return Ok(preset);
            }
            Err(Error::WrongCount { .. }) => {}
            Err(Error::Conflict { .. }) => return Err(name_taken(&name)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable(
        "a preset is being changed by too many at once",
    ))
}
