//! Meetings, which are reusable rooms. Operations 4–8 (docs/spec/rest.md 1.3), and DELETE, which
//! `RealtimeKit` does not have.

mod breakout;
mod create;
mod delete;
mod get;
mod list;
mod replace;
mod update;
mod words;

pub(crate) use breakout::{
    ROOMS_MAX, Room, RoomSelection, create_rooms, delete_rooms, family, lock, lock_rooms,
    remove_rooms, require_no_rooms, rooms,
};
pub(crate) use words::fold;

use garde::Validate;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_protocol::{MeetingSettings, MeetingStatus};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::rfc3339;
use crate::http::{ApiError, Endpoint, FromPath, PathParams, parse_value, retry_on_conflict};
use crate::state::ServerState;

/// The operations on meetings.
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

static GET: Statement = Statement::new(
    "meetings.get",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings WHERE app_id = $1 AND id = $2",
);
static WRITE: Statement = Statement::new(
    "meetings.write",
    "UPDATE meetings SET title = $4, status = $5, settings = $6, updated_at = $7, version = version + 1
     WHERE app_id = $1 AND id = $2 AND version = $3",
);

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = vec![&GET, &WRITE, &create::INSERT, &delete::DELETE];
    all.extend(breakout::STATEMENTS);
    all.extend(words::STATEMENTS);
    all.extend(list::STATEMENTS);
    all
}

/// Maximum length of a title, in characters.
pub const TITLE_MAX: usize = 1024;

/// A meeting: a virtual room that participants can join any number of times. Each period in which
/// participants are in it is a session.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Meeting")]
pub struct Meeting {
    /// Unique identifier of the meeting.
    pub id: MeetingId,
    // The official SDKs do not accept null here.
    /// Title of the meeting. Absent if the meeting has no title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether participants can join the meeting.
    pub status: MeetingStatus,
    /// When the meeting was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// When the meeting was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub updated_at: String,
    /// The meeting's settings, without the secrets of `storage_config`.
    #[serde(flatten)]
    pub settings: MeetingSettings,
}

/// A meeting as stored, with the secrets of its storage configuration.
#[derive(Debug, Clone)]
struct StoredMeeting {
    meeting: Meeting,
    version: i64,
}

impl StoredMeeting {
    fn public(mut self) -> Meeting {
        self.meeting.settings = self.meeting.settings.public();
        self.meeting
    }
}

impl FromRow for StoredMeeting {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let status: String = row.take(2)?;
        let (created_ms, updated_ms): (i64, i64) = (row.take(4)?, row.take(5)?);
        let settings: String = row.take(6)?;
        let settings = serde_json::from_str(&settings)
            .map_err(|error| Error::Broken(format!("meetings: {error}")))?;
        let meeting = Meeting {
            id: MeetingId::from_uuid(row.take(0)?),
            title: row.take(1)?,
            status: if status == "ACTIVE" {
                MeetingStatus::Active
            } else {
                MeetingStatus::Inactive
            },
            created_at: rfc3339(created_ms),
            updated_at: rfc3339(updated_ms),
            settings,
        };
        Ok(Self {
            meeting,
            version: row.take(3)?,
        })
    }
}

/// The fields of a meeting to create or to replace. All fields are optional.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "NewMeeting")]
struct NewMeeting {
    /// Title of the meeting.
    #[garde(length(chars, max = TITLE_MAX))]
    #[serde(default)]
    title: Option<String>,
    /// The meeting's settings. Absent settings get their defaults.
    #[garde(skip)]
    #[serde(flatten)]
    #[schemars(with = "MeetingSettings")]
    settings: Map<String, Value>,
}

impl NewMeeting {
    /// Parses the settings in a second step, because serde's `flatten` would lose the path of an
    /// error.
    fn settings(&self) -> Result<MeetingSettings, ApiError> {
        parse_value(Value::Object(self.settings.clone()))
    }
}

/// The path parameters of a meeting.
#[derive(Debug, JsonSchema)]
pub(crate) struct MeetingPath {
    /// The meeting id.
    pub(crate) meeting_id: MeetingId,
}

impl FromPath for MeetingPath {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            meeting_id: params.id("meeting_id")?,
        })
    }
}

async fn find(state: &ServerState, app: AppId, id: MeetingId) -> Result<StoredMeeting, ApiError> {
    let found = state
        .db
        .read::<StoredMeeting>(&GET, values![app.uuid(), id.uuid()])
        .await?
        .pop();
    found.ok_or_else(missing)
}

/// The 404 for a meeting.
pub(crate) fn missing() -> ApiError {
    ApiError::missing("meeting")
}

/// Checks that a meeting exists.
///
/// # Errors
/// 404 when it does not.
pub(crate) async fn must_exist(
    state: &ServerState,
    app: AppId,
    id: MeetingId,
) -> Result<(), ApiError> {
    find(state, app, id).await.map(drop)
}

fn settings_json(settings: &MeetingSettings) -> String {
    serde_json::to_string(settings).expect("settings are plain data with string keys")
}

/// Updates a meeting: reads it, applies `change`, and writes it back. Retries if another writer
/// changed the meeting in between.
async fn rewrite(
    state: &ServerState,
    app: AppId,
    id: MeetingId,
    now_ms: i64,
    change: impl Fn(&mut Meeting) -> Result<(), ApiError>,
) -> Result<Meeting, ApiError> {
    retry_on_conflict("a meeting", || async {
        let mut stored = find(state, app, id).await?;
        let (old_title, old_status) = (stored.meeting.title.clone(), stored.meeting.status);
        change(&mut stored.meeting)?;
        let Meeting {
            title,
            status,
            settings,
            ..
        } = &stored.meeting;
        let row = values![
            app.uuid(),
            id.uuid(),
            stored.version,
            title.as_deref(),
            status.as_str(),
            settings_json(settings),
            now_ms
        ];
        let mut unit = Unit::default()
            .keyed(id.uuid().as_u64_pair().1)
            .exactly_one(&WRITE, row);
        if *title != old_title {
            unit = words::replace(unit, app, id, title.as_deref());
        }
        if *status != old_status {
            unit = breakout::status_changed(unit, app, id, *status);
        }
        match state.db.commit(unit).await {
            Ok(_) => {
                stored.meeting.updated_at = rfc3339(now_ms);
                Ok(Some(stored.public()))
            }
            Err(Error::WrongCount { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
