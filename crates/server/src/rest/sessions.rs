//! Sessions of meetings and their participants. Operations 22–27 (docs/spec/rest.md 1.5).
//!
//! A session's minutes are the total connected time of its peers, up to now for the peers that are
//! still connected.

mod chat;
mod get;
mod list;
mod participant;
mod participants;
mod peer;
mod peer_report;

pub(crate) use chat::download_router;

use parlor_protocol::ids::{AppId, MeetingId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::clock::rfc3339;
use crate::http::{ApiError, ApiResponse, Endpoint, FromPath, PathParams};
use crate::paging::Paging;
use crate::state::ServerState;

/// The operations on sessions.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        list::endpoint(),
        get::endpoint(),
        participants::endpoint(),
        participant::endpoint(),
        peer_report::endpoint(),
        chat::endpoint(),
    ]
}

/// Builds a query for sessions, including the time consumed so far by connected peers, from a query
/// on `sessions` and an order. Parameter 2 must be the current time. If the clock was set back, a
/// peer may have joined in the future; it then counts as zero.
macro_rules! sessions_from {
    ($query:literal, $order:literal) => {
        concat!(
            "SELECT s.id, s.meeting_id, s.title, s.started_at, s.ended_at, s.live, s.peak, s.consumed_ms, s.updated_at,
               CASE WHEN s.ended_at IS NULL THEN
                 (SELECT CAST(COALESCE(SUM(CAST($2 AS BIGINT) - p.entered_at), 0) AS BIGINT) FROM session_peers p
                  WHERE p.app_id = s.app_id AND p.session_id = s.id AND p.left_at IS NULL AND p.entered_at < CAST($2 AS BIGINT))
               ELSE 0 END
             FROM (",
            $query,
            ") s ORDER BY ",
            $order
        )
    };
}
use sessions_from;

static BY_ID: Statement = Statement::new(
    "sessions.by_id",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id = $3
           AND EXISTS (SELECT 1 FROM meetings m WHERE m.app_id = $1 AND m.id = sessions.meeting_id)",
        "s.id"
    ),
);
static LIVE: Statement = Statement::new(
    "sessions.live",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND meeting_id = $3 AND ended_at IS NULL
           AND EXISTS (SELECT 1 FROM meetings m WHERE m.app_id = $1 AND m.id = $3)",
        "s.id"
    ),
);

pub(crate) fn statements() -> Vec<&'static Statement> {
    let mut all = vec![&BY_ID, &LIVE, &get::BREAKOUT_ROOMS, &get::SETTINGS];
    all.extend(list::STATEMENTS);
    all.extend(peer::STATEMENTS);
    all.extend(peer_report::STATEMENTS);
    all.extend(participants::STATEMENTS);
    all
}

/// Whether a session is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[schemars(rename = "SessionStatus")]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum SessionStatus {
    /// The session is in progress.
    Live,
    /// The session has ended.
    Ended,
}

/// A session: one period in which participants are in a meeting, from the first to join until the
/// last to leave.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub(crate) struct Session {
    /// Unique identifier of the session.
    pub(crate) id: SessionId,
    /// Id of the meeting.
    associated_id: MeetingId,
    /// Title of the meeting at the time of the session. Empty if the meeting had no title.
    meeting_display_name: String,
    /// Always `meeting`.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "meeting"))]
    kind: &'static str,
    /// Whether the session is in progress.
    pub(crate) status: SessionStatus,
    /// Number of peers that are connected now.
    #[schemars(range(min = 0))]
    live_participants: i64,
    /// Maximum number of peers that were connected at the same time.
    #[schemars(range(min = 0))]
    max_concurrent_participants: i64,
    /// Total connected time of all peers, in minutes, including fractions.
    #[schemars(range(min = 0))]
    minutes_consumed: f64,
    /// Id of the app.
    organization_id: AppId,
    /// When the first peer joined. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    started_at: String,
    /// When the session ended. Absent while it is in progress. RFC 3339 in UTC, with milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    ended_at: Option<String>,
    /// When the session was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the session was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

/// A session as stored.
#[derive(Debug, Clone)]
struct StoredSession {
    id: SessionId,
    meeting: MeetingId,
    title: String,
    started_ms: i64,
    ended_ms: Option<i64>,
    live: i64,
    peak: i64,
    /// Time consumed by peers that have left, in milliseconds.
    consumed_ms: i64,
    updated_ms: i64,
    /// Time consumed so far by peers that are connected, in milliseconds.
    running_ms: i64,
}

impl StoredSession {
    /// The sort key of lists.
    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn public(self, app: AppId) -> Session {
        Session {
            id: self.id,
            associated_id: self.meeting,
            meeting_display_name: self.title,
            kind: "meeting",
            status: if self.ended_ms.is_some() {
                SessionStatus::Ended
            } else {
                SessionStatus::Live
            },
            live_participants: self.live,
            max_concurrent_participants: self.peak,
            minutes_consumed: minutes(self.consumed_ms + self.running_ms),
            organization_id: app,
            started_at: rfc3339(self.started_ms),
            ended_at: self.ended_ms.map(rfc3339),
            created_at: rfc3339(self.started_ms),
            updated_at: rfc3339(self.updated_ms),
        }
    }
}

impl FromRow for StoredSession {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: SessionId::from_uuid(row.take(0)?),
            meeting: MeetingId::from_uuid(row.take(1)?),
            title: row.take(2)?,
            started_ms: row.take(3)?,
            ended_ms: row.take(4)?,
            live: row.take(5)?,
            peak: row.take(6)?,
            consumed_ms: row.take(7)?,
            updated_ms: row.take(8)?,
            running_ms: row.take::<i64>(9)?.max(0),
        })
    }
}

/// Converts milliseconds to minutes, with fractions.
pub(crate) fn minutes(ms: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact below 285,000 years of milliseconds"
    )]
    let ms = ms.max(0) as f64;
    ms / 60_000.0
}

/// The path parameters of a session.
#[derive(Debug, JsonSchema)]
struct SessionPath {
    /// The session id.
    session_id: SessionId,
}

impl FromPath for SessionPath {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            session_id: params.id("session_id")?,
        })
    }
}

/// Reads a session.
///
/// # Errors
/// 404 when there is none.
async fn find(
    state: &ServerState,
    app: AppId,
    id: SessionId,
    now_ms: i64,
) -> Result<StoredSession, ApiError> {
    let key = values![app.uuid(), now_ms, id.uuid()];
    let found = state.db.scan::<StoredSession>(&BY_ID, key).await?.pop();
    found.ok_or_else(|| ApiError::missing("session"))
}

/// Reads the live session of a meeting from the database, where it exists even before its room is
/// reopened after a restart.
///
/// # Errors
/// When the database fails.
pub(crate) async fn live(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
    now_ms: i64,
) -> Result<Option<Session>, ApiError> {
    let key = values![app.uuid(), now_ms, meeting.uuid()];
    let found = state.db.scan::<StoredSession>(&LIVE, key).await?.pop();
    Ok(found.map(|session| session.public(app)))
}

/// A page with paging information both beside and inside `data`, because clients read either.
#[derive(Serialize)]
struct PagedEnvelope<T> {
    success: bool,
    data: T,
    paging: Paging,
}

impl<T> PagedEnvelope<T> {
    fn new(data: T, paging: Paging) -> Self {
        Self {
            success: true,
            data,
            paging,
        }
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> ApiResponse for PagedEnvelope<T> {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("responses are plain data with string keys")
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let data = generator.subschema_for::<T>();
        let paging = generator.subschema_for::<Paging>();
        let success = json!({"type": "boolean", "const": true});
        json_schema!({
            "type": "object",
            "required": ["success", "data", "paging"],
            "properties": {"success": success, "data": data, "paging": paging},
        })
    }
}
