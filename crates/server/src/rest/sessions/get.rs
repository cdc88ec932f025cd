//! `GET …/sessions/{session_id}`: one session.

use garde::Validate;
use http::Method;
use parlor_protocol::MeetingSettings;
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneSession, Session, StoredSession, find, sessions_from};
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
        answer,
    )
    .describe(
        "Get a session",
        "One session, live or ended. Its fields stand in `data` and once more in `data.session`, where older clients \
         look for them.",
    )
}

/// What to add.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Wanted {
    /// List the sessions of the meeting's breakout rooms as well.
    #[garde(skip)]
    #[serde(default)]
    include_breakout_rooms: bool,
}

/// What the meeting is set to, as far as it is about sessions.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own on the wire"
)]
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Settings {
    /// Recording starts with the session.
    record_on_start: bool,
    /// A livestream starts with the session.
    live_stream_on_start: bool,
    /// The chat outlives the session.
    persist_chat: bool,
    /// A transcript is written when the session ends.
    transcribe_on_end: bool,
    /// A summary is written when the session ends.
    summarize_on_end: bool,
}

impl FromRow for Settings {
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

/// A session with what only its own page shows.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Detailed {
    #[serde(flatten)]
    session: Session,
    /// What the meeting is set to now.
    settings: Settings,
    /// The sessions of the meeting's breakout rooms, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    breakout_rooms: Option<Vec<Session>>,
}

/// The same twice.
#[derive(Debug, Serialize, JsonSchema)]
struct Twice {
    #[serde(flatten)]
    detailed: Detailed,
    /// The same fields once more.
    session: Detailed,
}

async fn answer(call: Call<OneSession, Wanted>) -> Result<Data<Twice>, ApiError> {
    let (parlor, app, now_ms) = (&call.parlor, call.app, call.now_ms);
    let stored = find(parlor, app, call.path.session_id, now_ms).await?;
    let settings = parlor
        .db
        .read::<Settings>(&SETTINGS, values![app.uuid(), stored.meeting.uuid()])
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
        let rooms = parlor
            .db
            .scan::<StoredSession>(&BREAKOUT_ROOMS, during)
            .await?;
        Some(rooms.into_iter().map(|room| room.public(app)).collect())
    } else {
        None
    };
    let detailed = Detailed {
        session: stored.public(app),
        settings,
        breakout_rooms,
    };
    Ok(Data(Twice {
        session: detailed.clone(),
        detailed,
    }))
}
