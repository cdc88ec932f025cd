//! `POST …/meetings`: creates a meeting.

use http::Method;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_protocol::{MeetingSettings, MeetingStatus};
use parlor_store::{Statement, Unit, values};

use super::{Meeting, NewMeeting, settings_json, words};
use crate::clock::rfc3339;
use crate::http::{ApiError, Call, CommitError, Data, Empty, Endpoint};
use crate::tallies::count_added;

pub(super) static INSERT: Statement = Statement::new(
    "meetings.insert",
    "INSERT INTO meetings (app_id, id, title, status, version, created_at, updated_at, settings)
     SELECT a.id, $2, $3, 'ACTIVE', 1, $4, $4, $5 FROM apps a WHERE a.id = $1",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/meetings", "createMeeting", handle).created().describe(
        "Create a meeting",
        "Creates a meeting. All fields are optional. The secrets in `storage_config` are stored but never returned.",
    )
}

/// Adds the steps that create a meeting to a unit.
pub(super) fn plan(
    unit: Unit,
    (app, id): (AppId, MeetingId),
    title: Option<&str>,
    settings: &MeetingSettings,
    now_ms: i64,
) -> Unit {
    let row = values![
        app.uuid(),
        id.uuid(),
        title,
        now_ms,
        settings_json(settings)
    ];
    let unit = unit.exactly_one(&INSERT, row);
    let unit = count_added(unit, app, app.uuid(), |_| 1);
    words::add(unit, app, id, title)
}

async fn handle(call: Call<Empty, Empty, NewMeeting>) -> Result<Data<Meeting>, ApiError> {
    let id = MeetingId::from_uuid(call.state.clock.new_id(call.now_ms));
    let (title, settings) = (&call.body.title, call.body.settings()?);
    let unit = plan(
        Unit::default(),
        (call.app, id),
        title.as_deref(),
        &settings,
        call.now_ms,
    );
    let meeting = Meeting {
        id,
        title: title.clone(),
        status: MeetingStatus::Active,
        created_at: rfc3339(call.now_ms),
        updated_at: rfc3339(call.now_ms),
        settings: settings.public(),
    };
    match call.commit(unit, move |_| Ok(Data(meeting.clone()))).await {
        Err(CommitError::WrongCount(0)) => Err(ApiError::missing("app")),
        other => Ok(other?),
    }
}
