//! `POST …/participants`: adds a participant to a meeting.
//!
//! Adding the same custom id again is an upsert, so a repeated or concurrent request returns the
//! same participant and never creates a second one.

use garde::Validate;
use http::{HeaderMap, Method};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use parlor_protocol::urls::{HTTP_URL, http_url};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    CUSTOM_ID_MAX, NAME_MAX, PICTURE_MAX, Participant, ParticipantKey, ParticipantWithToken,
    TokenIssuer, find, life_secs, search_name, writer_key,
};
use crate::clock::rfc3339;
use crate::http::{ApiError, Call, CommitError, Data, Empty, Endpoint, Patch, Problem};
use crate::rest::meetings::{self, MeetingPath};
use crate::state::ServerState;
use crate::tallies::count_added;

/// Checks that the meeting and the preset exist and inserts or updates the participant, in one
/// atomic statement. Returns no row when the meeting or the preset does not exist.
static UPSERT: Statement = Statement::new(
    "participants.upsert",
    "INSERT INTO participants
       (app_id, meeting_id, id, preset_id, created_at, updated_at, custom_participant_id, name, search_name, picture)
     SELECT m.app_id, m.id, $3, r.id, $5, $5, $6, $7, $8, $9
     FROM meetings m JOIN presets r ON r.app_id = m.app_id AND r.name = $4 AND r.retired_at IS NULL
     WHERE m.app_id = $1 AND m.id = $2
     ON CONFLICT (app_id, meeting_id, custom_participant_id) DO UPDATE SET
       preset_id = excluded.preset_id,
       updated_at = excluded.updated_at,
       name = CASE WHEN $10 THEN excluded.name ELSE participants.name END,
       search_name = CASE WHEN $10 THEN excluded.search_name ELSE participants.search_name END,
       picture = CASE WHEN $11 THEN excluded.picture ELSE participants.picture END
     RETURNING id, preset_id, created_at, updated_at, name, picture",
);

/// The same, but returns no row when the participant exists already.
static INSERT: Statement = Statement::new(
    "participants.insert",
    "INSERT INTO participants
       (app_id, meeting_id, id, preset_id, created_at, updated_at, custom_participant_id, name, search_name, picture)
     SELECT m.app_id, m.id, $3, r.id, $5, $5, $6, $7, $8, $9
     FROM meetings m JOIN presets r ON r.app_id = m.app_id AND r.name = $4 AND r.retired_at IS NULL
     WHERE m.app_id = $1 AND m.id = $2
     ON CONFLICT (app_id, meeting_id, custom_participant_id) DO NOTHING
     RETURNING id, preset_id, created_at, updated_at, name, picture",
);

pub(super) static STATEMENTS: [&Statement; 2] = [&UPSERT, &INSERT];

/// The request header that selects a 409 instead of an upsert.
pub(super) const IF_EXISTS: [(&str, &str); 1] = [(
    "Parlor-If-Exists",
    "How to handle a participant with the same custom id. `update`, the default, updates the existing participant; \
     `reject` returns 409.",
)];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/meetings/{meeting_id}/participants", "addParticipant", handle)
        .created()
        .may_conflict()
        .reads(&IF_EXISTS)
        .describe(
            "Add a participant",
            "Adds a participant to a meeting and returns it with a join token. If the meeting already has a participant \
             with the same `custom_participant_id`, that participant is updated and gets a new token: `preset_name` is \
             replaced, and so are `name` and `picture` if they are sent; `id` and `created_at` do not change.",
        )
}

/// A participant to add.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "NewParticipant")]
pub(super) struct NewParticipant {
    /// Your own identifier for the participant, unique in the meeting.
    #[garde(length(chars, min = 1, max = CUSTOM_ID_MAX))]
    #[serde(alias = "client_specific_id")]
    #[schemars(example = &"user-42")]
    pub(super) custom_participant_id: String,
    /// Name of the preset that determines the participant's permissions. Case-sensitive.
    #[garde(length(chars, min = 1, max = crate::rest::presets::NAME_MAX))]
    #[schemars(example = &"group_call_participant")]
    pub(super) preset_name: String,
    /// Display name, shown to other participants.
    #[garde(custom(Patch::at_most(NAME_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = NAME_MAX))]
    name: Patch<String>,
    /// URL of the participant's profile picture: an absolute http or https URL.
    #[garde(custom(Patch::at_most(PICTURE_MAX)), custom(picture_url))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = PICTURE_MAX), regex(pattern = HTTP_URL))]
    picture: Patch<String>,
    /// Lifetime of the token, in seconds. Defaults to the server's setting. Not available in
    /// RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) expires_in: Option<u64>,
}

/// A garde rule: an absolute http or https URL.
pub(super) fn picture_url<C>(picture: &Patch<String>, context: &C) -> garde::Result {
    http_url(&picture.value().cloned(), context)
}

/// The row that the database returns for an added participant.
struct AddedRow {
    id: ParticipantId,
    preset: PresetId,
    created_ms: i64,
    updated_ms: i64,
    name: Option<String>,
    picture: Option<String>,
}

impl FromRow for AddedRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: ParticipantId::from_uuid(row.take(0)?),
            preset: PresetId::from_uuid(row.take(1)?),
            created_ms: row.take(2)?,
            updated_ms: row.take(3)?,
            name: row.take(4)?,
            picture: row.take(5)?,
        })
    }
}

/// A planned step that adds one participant, which also builds the response from the step's row.
#[derive(Clone)]
pub(super) struct PlannedInsert {
    id: Uuid,
    custom_participant_id: String,
    preset_name: String,
    life_secs: u64,
}

impl PlannedInsert {
    /// Adds the step to a unit. With `must`, the unit is rolled back if the meeting or the preset
    /// does not exist.
    pub(super) fn plan(
        unit: Unit,
        state: &ServerState,
        (app, meeting): (AppId, MeetingId),
        new: &NewParticipant,
        now_ms: i64,
        (reject, must): (bool, bool),
    ) -> Result<(Unit, Self), ApiError> {
        let id = state.clock.new_id(now_ms);
        let name = new.name.value();
        let (app, meeting) = (app.uuid(), meeting.uuid());
        let mut row = values![
            app,
            meeting,
            id,
            new.preset_name.as_str(),
            now_ms,
            new.custom_participant_id.as_str(),
            name.cloned(),
            name.and_then(|name| search_name(name)),
            new.picture.value().cloned()
        ];
        if !reject {
            row.extend(values![
                new.name.change().is_some(),
                new.picture.change().is_some()
            ]);
        }
        let statement = if reject { &INSERT } else { &UPSERT };
        let unit = if must {
            unit.exactly_one(statement, row)
        } else {
            unit.then(statement, row)
        };
        let insert = Self {
            id,
            custom_participant_id: new.custom_participant_id.clone(),
            preset_name: new.preset_name.clone(),
            life_secs: life_secs(state, new.expires_in)?,
        };
        Ok((unit, insert))
    }

    /// Whether the participant was inserted: its row then has the id generated for it.
    pub(super) fn is_new(&self, rows: &[Row]) -> bool {
        rows.first().and_then(|row| row.get(0)) == Some(self.id)
    }

    /// Builds the participant with a token from the step's rows. Returns `None` when the meeting or
    /// the preset does not exist, or when an existing participant was rejected.
    pub(super) fn to_participant(
        &self,
        issuer: &TokenIssuer,
        rows: &[Row],
    ) -> Result<Option<ParticipantWithToken>, ApiError> {
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let row = AddedRow::from_row(row.clone())?;
        let participant = Participant {
            id: row.id,
            custom_participant_id: self.custom_participant_id.clone(),
            preset_name: self.preset_name.clone(),
            preset_id: row.preset,
            name: row.name,
            picture: row.picture,
            created_at: rfc3339(row.created_ms),
            updated_at: rfc3339(row.updated_ms),
        };
        Ok(Some(issuer.with_token(participant, self.life_secs)))
    }
}

/// Whether the request rejects an existing participant.
pub(super) fn rejects_existing(state: &ServerState, headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers
        .get("parlor-if-exists")
        .map(http::HeaderValue::as_bytes)
    {
        None => Ok(state.limits.reject_existing),
        Some(b"reject") => Ok(true),
        Some(b"update") => Ok(false),
        Some(_) => Err(ApiError::bad_request(
            "\"Parlor-If-Exists\" must be one of [update, reject]",
        )),
    }
}

/// The error for a participant that could not be added, in the order of the checks in
/// docs/spec/rest.md 2.3.4.
pub(super) async fn add_error(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
    new: &NewParticipant,
    reject: bool,
) -> ApiError {
    if let Err(error) = meetings::must_exist(state, app, meeting).await {
        return error;
    }
    match super::preset_by_name(state, app, &new.preset_name).await {
        Ok(_) if reject => {}
        Ok(_) => return ApiError::unavailable("the meeting or the preset appeared a moment ago"),
        Err(error) => return error,
    }
    let key = ParticipantKey::CustomId(new.custom_participant_id.clone());
    match find(state, app, meeting, &key).await {
        Ok(Some(_)) => already_exists(&new.custom_participant_id),
        Ok(None) => ApiError::unavailable("the participant was deleted a moment ago"),
        Err(error) => error.into(),
    }
}

fn already_exists(custom_id: &str) -> ApiError {
    let message = format!(
        "a participant with custom_participant_id {custom_id} already exists in this meeting"
    );
    ApiError::conflict(Problem::at("/custom_participant_id", message))
}

async fn handle(
    call: Call<MeetingPath, Empty, NewParticipant>,
) -> Result<Data<ParticipantWithToken>, ApiError> {
    let scope = (call.app, call.path.meeting_id);
    let reject = rejects_existing(&call.state, &call.headers)?;
    let must = call.is_idempotent();
    let (unit, insert) = PlannedInsert::plan(
        Unit::default(),
        &call.state,
        scope,
        &call.body,
        call.now_ms,
        (reject, must),
    )?;
    let counted = insert.clone();
    let unit = count_added(unit, scope.0, scope.1.uuid(), move |rows| {
        rows.first().is_some_and(|rows| counted.is_new(rows)).into()
    });
    let unit = unit.keyed(writer_key(scope.1.uuid(), &call.body.custom_participant_id));
    let issuer = TokenIssuer::new(&call.state, scope.0, scope.1, call.now_ms);
    let respond = move |rows: &[Vec<Row>]| {
        let added = insert.to_participant(&issuer, &rows[0])?;
        added
            .map(Data)
            .ok_or_else(|| ApiError::missing("meeting or preset"))
    };
    match call.commit(unit, respond).await {
        Ok(response) => Ok(response),
        Err(CommitError::WrongCount(_)) => {
            Err(add_error(&call.state, scope.0, scope.1, &call.body, reject).await)
        }
        Err(CommitError::Failed(error)) if error.status() == http::StatusCode::NOT_FOUND => {
            Err(add_error(&call.state, scope.0, scope.1, &call.body, reject).await)
        }
        Err(other) => Err(other.into()),
    }
}
