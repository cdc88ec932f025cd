//! `POST …/participants`: add a participant to a meeting.
//!
//! Adding the same person again is an upsert on the custom id, so a repeated or racing request
//! gives the same participant and never a second one.

use garde::Validate;
use http::{HeaderMap, Method};
use parlor_protocol::address::{HTTP_URL, http_url};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Added, Address, CUSTOM_ID_MAX, Minter, NAME_MAX, PICTURE_MAX, Participant, find, life_secs,
    search_name, writer_key,
};
use crate::clock::rfc3339;
use crate::http::{ApiError, Call, Data, Endpoint, Nothing, Patch, Problem, Uncommitted};
use crate::rest::meetings::{self, OneMeeting};
use crate::state::Parlor;
use crate::tallies::count_added;

/// One statement checks that the meeting and the preset exist and adds or changes the person, so
/// nothing can happen in between. No row means that one of the two is missing.
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

/// The same, but a person who is there already gives no row.
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

/// The request header that asks for 409 instead of an upsert.
pub(super) const IF_EXISTS: [(&str, &str); 1] = [(
    "Parlor-If-Exists",
    "`reject` answers 409 when somebody with this custom id is in the meeting already; `update`, the default, \
     changes that participant.",
)];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/meetings/{meeting_id}/participants", "addParticipant", answer)
        .created()
        .may_conflict()
        .reads(&IF_EXISTS)
        .describe(
            "Add a participant",
            "Adds a person to a meeting and answers with the token they join with. Somebody who is there already, by \
             `custom_participant_id`, keeps `id` and `created_at` and gets a fresh token; `preset_name` and what is \
             sent of `name` and `picture` take the place of the old.",
        )
}

/// A person to add.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
pub(super) struct NewParticipant {
    /// Your own id of this person, unique in the meeting.
    #[garde(length(chars, min = 1, max = CUSTOM_ID_MAX))]
    #[serde(alias = "client_specific_id")]
    #[schemars(example = &"user-42")]
    pub(super) custom_participant_id: String,
    /// The preset that says what this person may do. In its exact case.
    #[garde(length(chars, min = 1, max = crate::rest::presets::NAME_MAX))]
    #[schemars(example = &"group_call_participant")]
    pub(super) preset_name: String,
    /// Shown to the other participants.
    #[garde(custom(Patch::at_most(NAME_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = NAME_MAX))]
    name: Patch<String>,
    /// Absolute http or https URL of a picture.
    #[garde(custom(Patch::at_most(PICTURE_MAX)), custom(picture_url))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = PICTURE_MAX), regex(pattern = HTTP_URL))]
    picture: Patch<String>,
    /// Seconds until the token expires; the server's default when absent. Not in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) expires_in: Option<u64>,
}

/// A garde rule: an absolute http or https URL.
pub(super) fn picture_url<C>(picture: &Patch<String>, context: &C) -> garde::Result {
    http_url(&picture.value().cloned(), context)
}

/// What the database answers about a person who was added.
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

/// The step that adds one person, and what turns its row into the answer.
#[derive(Clone)]
pub(super) struct Addition {
    id: Uuid,
    custom_participant_id: String,
    preset_name: String,
    life_secs: u64,
}

impl Addition {
    /// Puts the step on a unit. With `must`, a unit without the meeting or the preset is undone.
    pub(super) fn plan(
        unit: Unit,
        parlor: &Parlor,
        (app, meeting): (AppId, MeetingId),
        new: &NewParticipant,
        now_ms: i64,
        (reject, must): (bool, bool),
    ) -> Result<(Unit, Self), ApiError> {
        let id = parlor.clock.new_id(now_ms);
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
        let addition = Self {
            id,
            custom_participant_id: new.custom_participant_id.clone(),
            preset_name: new.preset_name.clone(),
            life_secs: life_secs(parlor, new.expires_in)?,
        };
        Ok((unit, addition))
    }

    /// Whether the row is a new one: it then has the id that was made for it.
    pub(super) fn is_new(&self, rows: &[Row]) -> bool {
        rows.first().and_then(|row| row.get(0)) == Some(self.id)
    }

    /// The answer; `None` when the meeting or the preset does not exist, or the person does and
    /// that was to be refused.
    pub(super) fn answer(&self, minter: &Minter, rows: &[Row]) -> Result<Option<Added>, ApiError> {
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
        Ok(Some(minter.add(participant, self.life_secs)))
    }
}

/// Whether the request wants a person who is there already to be refused.
pub(super) fn rejects(parlor: &Parlor, headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers
        .get("parlor-if-exists")
        .map(http::HeaderValue::as_bytes)
    {
        None => Ok(parlor.limits.reject_existing),
        Some(b"reject") => Ok(true),
        Some(b"update") => Ok(false),
        Some(_) => Err(ApiError::bad_request(
            "\"Parlor-If-Exists\" must be one of [update, reject]",
        )),
    }
}

/// Why a person could not be added, in the order of the checks in docs/spec/rest.md 2.3.4.
pub(super) async fn why_not(
    parlor: &Parlor,
    app: AppId,
    meeting: MeetingId,
    new: &NewParticipant,
    reject: bool,
) -> ApiError {
    if let Err(error) = meetings::must_exist(parlor, app, meeting).await {
        return error;
    }
    match super::preset_named(parlor, app, &new.preset_name).await {
        Ok(_) if reject => {}
        Ok(_) => return ApiError::unavailable("the meeting or the preset appeared a moment ago"),
        Err(error) => return error,
    }
    let who = Address::CustomId(new.custom_participant_id.clone());
    match find(parlor, app, meeting, &who).await {
        Ok(Some(_)) => already_there(&new.custom_participant_id),
        Ok(None) => ApiError::unavailable("the participant was deleted a moment ago"),
        Err(error) => error.into(),
    }
}

fn already_there(custom_id: &str) -> ApiError {
    let message = format!(
        "a participant with custom_participant_id {custom_id} already exists in this meeting"
    );
    ApiError::conflict(Problem::at("/custom_participant_id", message))
}

async fn answer(call: Call<OneMeeting, Nothing, NewParticipant>) -> Result<Data<Added>, ApiError> {
    let place = (call.app, call.path.meeting_id);
    let reject = rejects(&call.parlor, &call.headers)?;
    let must = call.is_idempotent();
    let (unit, addition) = Addition::plan(
        Unit::default(),
        &call.parlor,
        place,
        &call.body,
        call.now_ms,
        (reject, must),
    )?;
    let counted = addition.clone();
    let unit = count_added(unit, place.0, place.1.uuid(), move |rows| {
        rows.first().is_some_and(|rows| counted.is_new(rows)).into()
    });
    let unit = unit.keyed(writer_key(place.1.uuid(), &call.body.custom_participant_id));
    let minter = Minter::new(&call.parlor, place.0, place.1, call.now_ms);
    let reply = move |rows: &[Vec<Row>]| {
        let added = addition.answer(&minter, &rows[0])?;
        added
            .map(Data)
            .ok_or_else(|| ApiError::missing("meeting or preset"))
    };
    match call.commit(unit, reply).await {
        Ok(reply) => Ok(reply),
        Err(Uncommitted::WrongCount(_)) => {
            Err(why_not(&call.parlor, place.0, place.1, &call.body, reject).await)
        }
        Err(Uncommitted::Failed(error)) if error.status() == http::StatusCode::NOT_FOUND => {
            Err(why_not(&call.parlor, place.0, place.1, &call.body, reject).await)
        }
        Err(other) => Err(other.into()),
    }
}
