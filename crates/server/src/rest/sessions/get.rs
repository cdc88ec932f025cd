//! `GET …/sessions/{session_id}`: returns one session.

use garde::Validate;
use http::Method;
use parlor_protocol::MeetingSettings;
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Session, SessionPath, StoredSession, find, sessions_from};
use crate::http::{ApiError, Call, Data, Endpoint};

/// The sessions of a meeting's breakout rooms that started during a session of the meeting.
pub(super) static BREAKOUT_ROOMS: Statement = Statement::new(
    "sessions.breakout_rooms",
    sessions_from!(
        "SELECT s.* FROM connected_meetings c JOIN sessions s ON s.app_id = c.app_id AND s.meeting_id = c.meeting_id
         WHERE c.app_id = $1 AND c.parent_id = $3 AND s.started_at >= $4 AND s.started_at <= $5
         ORDER BY s.started_at, s.id LIMIT 1000",
        "s.started_at, s.id"
    ),
);
pub(super) static SETTINGS: Statement = Statement::new(
    "sessions.settings",
    "SELECT settings FROM meetings WHERE app_id = $1 AND id = $2",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/{session_id}",
        "getSession",
        handle,
    )
    .describe(
        "Get a session",
        "Retrieves a session, live or ended. `data.session` repeats the fields of `data` for older clients.",
    )
}

/// Options of the request.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Options {
    /// Also returns the sessions of the meeting's breakout rooms. Defaults to `false`.
    #[garde(skip)]
    #[serde(default)]
    include_breakout_rooms: bool,
}

/// The meeting's settings that concern sessions.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own on the wire"
)]
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "SessionSettings")]
struct SessionSettings {
    /// Whether a recording starts automatically with the session.
    record_on_start: bool,
    /// Whether a livestream starts automatically with the session.
    live_stream_on_start: bool,
    /// Whether chat messages are kept for later sessions of the meeting.
    persist_chat: bool,
    /// Whether a transcript is generated when the session ends.
    transcribe_on_end: bool,
    /// Whether a summary is generated when the session ends.
    summarize_on_end: bool,
}

impl FromRow for SessionSettings {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        let settings: String = row.take(0)?;
        let settings: MeetingSettings = serde_json::from_str(&settings)
            .map_err(|error| Error::Broken(format!("meetings: {error}")))?;
        Ok(Self {
            record_on_start: settings.record_on_start,
            live_stream_on_start: settings.live_stream_on_start,
            persist_chat: settings.persist_chat,
            transcribe_on_end: settings.transcribe_on_end,
            summarize_on_end: settings.summarize_on_end,
        })
    }
}

/// A session with the settings of its meeting and, if requested, the sessions of its breakout
/// rooms.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "SessionDetails")]
struct SessionDetails {
    #[serde(flatten)]
    session: Session,
    /// The current settings of the meeting.
    settings: SessionSettings,
    /// The sessions of the meeting's breakout rooms that started during this session. Present if
    /// `include_breakout_rooms` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    breakout_rooms: Option<Vec<Session>>,
}

/// A session, with its fields repeated in `session` for older clients.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionResult")]
struct SessionResult {
    #[serde(flatten)]
    detailed: SessionDetails,
    /// The same session again.
    session: SessionDetails,
}

async fn handle(call: Call<SessionPath, Options>) -> Result<Data<SessionResult>, ApiError> {
    let (state, app, now_ms) = (&call.state, call.app, call.now_ms);
    let stored = find(state, app, call.path.session_id, now_ms).await?;
    let settings = state
        .db
        .read::<SessionSettings>(&SETTINGS, values![app.uuid(), stored.meeting.uuid()])
        .await?
        .pop()
        .ok_or_else(|| ApiError::missing("session"))?;
    let breakout_rooms = if call.query.include_breakout_rooms {
        let during = values![
            app.uuid(),
            now_ms,
            stored.meeting.uuid(),
            stored.started_ms,
            stored.ended_ms.unwrap_or(i64::MAX)
        ];
        let rooms = state
            .db
            .scan::<StoredSession>(&BREAKOUT_ROOMS, during)
            .await?;
        Some(rooms.into_iter().map(|room| room.public(app)).collect())
    } else {
        None
    };
    let detailed = SessionDetails {
        session: stored.public(app),
        settings,
        breakout_rooms,
    };
    Ok(Data(SessionResult {
        session: detailed.clone(),
        detailed,
    }))
}
