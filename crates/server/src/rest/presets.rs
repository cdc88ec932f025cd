//! Presets: the permissions of a kind of participant, and the appearance of the call. Operations
//! 16–21 (docs/spec/rest.md 1.4).
//!
//! Deleting a preset retires it: no participant can be added with it and its name can be reused,
//! but existing participants keep its permissions.

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
use crate::http::{ApiError, Endpoint, FromPath, PathParams, Problem, retry_on_conflict};
use crate::state::ServerState;

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

/// A preset without its contents, as returned in lists.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "PresetSummary")]
pub struct PresetSummary {
    /// Unique identifier of the preset.
    pub id: PresetId,
    /// Name of the preset, unique in the app. Participants are added by this name.
    pub name: String,
    /// When the preset was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// When the preset was last updated. RFC 3339 in UTC, with milliseconds.
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

/// A preset: the permissions of a kind of participant, and the appearance of the call.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Preset")]
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

/// The fields of a preset to create or to replace.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "NewPreset")]
struct NewPreset {
    /// Name of the preset, unique in the app and case-sensitive. Participants are added by this
    /// name.
    #[garde(length(chars, min = 1, max = NAME_MAX))]
    name: String,
    /// Configuration of the call. Absent fields get their defaults.
    #[garde(dive)]
    #[serde(default)]
    config: PresetConfig,
    /// Permissions of the participants. Absent fields get their defaults.
    #[garde(dive)]
    #[serde(default)]
    permissions: Permissions,
    /// Appearance of the call. Absent fields get their defaults.
    #[garde(dive)]
    #[serde(default)]
    ui: Ui,
}

/// Maximum size of a preset as JSON, in bytes.
const BODY_MAX: usize = 65_536;
/// Maximum length of a preset name, in characters.
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

/// The path parameters of a preset.
#[derive(Debug, JsonSchema)]
struct PresetPath {
    /// The preset id.
    preset_id: PresetId,
}

impl FromPath for PresetPath {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            preset_id: params.id("preset_id")?,
        })
    }
}

async fn find(state: &ServerState, app: AppId, id: PresetId) -> Result<Preset, ApiError> {
    let found = state
        .db
        .read::<Preset>(&GET, values![app.uuid(), id.uuid()])
        .await?
        .pop();
    found.ok_or_else(|| ApiError::missing("preset"))
}

/// Looks up the preset with this name that is not retired.
///
/// # Errors
/// When the database fails.
pub(crate) async fn by_name(
    state: &ServerState,
    app: AppId,
    name: &str,
) -> Result<Option<PresetSummary>, Error> {
    Ok(state
        .db
        .read(&BY_NAME, values![app.uuid(), name])
        .await?
        .pop())
}

/// Lists the presets of an app that are not retired, oldest first.
///
/// # Errors
/// When the database fails.
pub(crate) async fn names(state: &ServerState, app: AppId) -> Result<Vec<PresetSummary>, Error> {
    state.db.scan(&NAMES, values![app.uuid()]).await
}

fn name_taken(name: &str) -> ApiError {
    ApiError::conflict(Problem::at(
        "/name",
        format!("a preset with the name {name} exists already"),
    ))
}

/// Serializes a preset for storage. Fails when it is too large, which the free-form configuration
/// of plugins can cause.
fn to_stored_json(body: &PresetBody) -> Result<String, ApiError> {
    let json = serde_json::to_string(body).expect("a preset is plain data with string keys");
    if json.len() <= BODY_MAX {
        return Ok(json);
    }
    let message = format!("BAD_REQUEST: the preset is larger than {BODY_MAX} bytes");
    let pointer = "/permissions/plugins/config";
    Err(ApiError::invalid(vec![Problem::at(pointer, message)]))
}

/// Adds a new preset to a unit, which is rolled back if the app does not exist.
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

/// Adds the seven default presets to the unit that creates an app.
pub(crate) fn add_stock(unit: Unit, clock: &Clock, app: AppId, now_ms: i64) -> Unit {
    stock::presets()
        .into_iter()
        .fold(unit, |unit, (name, body)| {
            let json = to_stored_json(&body).expect("the stock presets are small");
            insert(
                unit,
                app,
                &summary(clock, name.to_owned(), now_ms),
                json,
                now_ms,
            )
        })
}

/// Updates a preset: reads it, computes the new name and body with `change`, and writes them back.
/// Retries if another writer changed the preset in between.
async fn rewrite(
    state: &ServerState,
    app: AppId,
    id: PresetId,
    now_ms: i64,
    change: impl Fn(&Preset) -> Result<(String, PresetBody), ApiError>,
) -> Result<Preset, ApiError> {
    retry_on_conflict("a preset", || async {
        let mut preset = find(state, app, id).await?;
        let (name, body) = change(&preset)?;
        let json = to_stored_json(&body)?;
        let row = values![
            app.uuid(),
            id.uuid(),
            preset.version,
            name.as_str(),
            json,
            now_ms
        ];
        match state
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
                Ok(Some(preset))
            }
            Err(Error::WrongCount { .. }) => Ok(None),
            Err(Error::Conflict { .. }) => Err(name_taken(&name)),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
