//! `GET …/sessions`: lists the app's sessions.

use garde::Validate;
use http::Method;
use jiff::Timestamp;
use parlor_protocol::ids::{AppId, MeetingId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, Value, values};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use super::{BY_ID, PagedEnvelope, Session, SessionStatus, StoredSession, sessions_from};
use crate::clock::first_id_at;
use crate::http::{ApiError, Call, Empty, Endpoint, Page, SEARCH_MAX, prefix_end};
use crate::paging::{Listing, PageNo, Paging, PerPage, SortOrder, Window};
use crate::rest::meetings;
use crate::rooms::records::sessions_scope;
use crate::state::ServerState;

static WHOLE_DESCENDING: Statement = Statement::new(
    "sessions.list_whole_descending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id <= $3 ORDER BY id DESC LIMIT $4 OFFSET $5",
        "s.id DESC"
    ),
);
static WHOLE_ASCENDING: Statement = Statement::new(
    "sessions.list_whole_ascending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id >= $3 ORDER BY id LIMIT $4 OFFSET $5",
        "s.id"
    ),
);
static MEETING_DESCENDING: Statement = Statement::new(
    "sessions.list_meeting_descending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND meeting_id = $3 AND id <= $4 ORDER BY id DESC LIMIT $5 OFFSET $6",
        "s.id DESC"
    ),
);
static MEETING_ASCENDING: Statement = Statement::new(
    "sessions.list_meeting_ascending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND meeting_id = $3 AND id >= $4 ORDER BY id LIMIT $5 OFFSET $6",
        "s.id"
    ),
);
static FILTERED_DESCENDING: Statement = Statement::new(
    "sessions.list_filtered_descending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id >= $3 AND id <= $4 AND peak >= $5 AND peak <= $6
           AND CASE WHEN ended_at IS NULL THEN CAST($7 AS BOOLEAN) ELSE CAST($8 AS BOOLEAN) END
         ORDER BY id DESC LIMIT $9 OFFSET $10",
        "s.id DESC"
    ),
);
static FILTERED_ASCENDING: Statement = Statement::new(
    "sessions.list_filtered_ascending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id >= $3 AND id <= $4 AND peak >= $5 AND peak <= $6
           AND CASE WHEN ended_at IS NULL THEN CAST($7 AS BOOLEAN) ELSE CAST($8 AS BOOLEAN) END
         ORDER BY id LIMIT $9 OFFSET $10",
        "s.id"
    ),
);
// In the statements below, `+ 0` prevents the query planners from scanning the app's sessions by
// start time where another index fits better.
static CONSUMED_DESCENDING: Statement = Statement::new(
    "sessions.list_consumed_descending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND started_at + 0 >= $3 AND started_at + 0 <= $4 AND peak >= $5 AND peak <= $6
           AND CASE WHEN ended_at IS NULL THEN CAST($7 AS BOOLEAN) ELSE CAST($8 AS BOOLEAN) END
         ORDER BY consumed_ms DESC, id DESC LIMIT $9 OFFSET $10",
        "s.consumed_ms DESC, s.id DESC"
    ),
);
static CONSUMED_ASCENDING: Statement = Statement::new(
    "sessions.list_consumed_ascending",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND started_at + 0 >= $3 AND started_at + 0 <= $4 AND peak >= $5 AND peak <= $6
           AND CASE WHEN ended_at IS NULL THEN CAST($7 AS BOOLEAN) ELSE CAST($8 AS BOOLEAN) END
         ORDER BY consumed_ms, id LIMIT $9 OFFSET $10",
        "s.consumed_ms, s.id"
    ),
);
static COUNT: Statement = Statement::new(
    "sessions.list_count",
    "SELECT COUNT(*) FROM sessions WHERE app_id = $1 AND id >= $2 AND id <= $3 AND peak >= $4 AND peak <= $5
       AND CASE WHEN ended_at IS NULL THEN CAST($6 AS BOOLEAN) ELSE CAST($7 AS BOOLEAN) END",
);
static COUNT_BY_TIME: Statement = Statement::new(
    "sessions.list_count_by_time",
    "SELECT COUNT(*) FROM sessions WHERE app_id = $1 AND id >= $2 AND id <= $3",
);
/// Live sessions are few: they are found by their own index, then sorted. Without the subquery and
/// the bound on meetings, which excludes nothing, SQLite would scan all sessions.
static LIVE: Statement = Statement::new(
    "sessions.list_live",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id IN
           (SELECT id FROM sessions WHERE app_id = $1 AND ended_at IS NULL AND meeting_id >= $9)
           AND ended_at IS NULL AND started_at + 0 >= $3 AND started_at + 0 <= $4 AND peak >= $5 AND peak <= $6
         ORDER BY CASE WHEN CAST($7 AS BOOLEAN) THEN consumed_ms ELSE started_at END * CAST($8 AS BIGINT), id
         LIMIT $10 OFFSET $11",
        "CASE WHEN CAST($7 AS BOOLEAN) THEN s.consumed_ms ELSE s.started_at END * CAST($8 AS BIGINT), s.id"
    ),
);
static LIVE_COUNT: Statement = Statement::new(
    "sessions.list_live_count",
    "SELECT COUNT(*) FROM sessions WHERE app_id = $1 AND id IN
       (SELECT id FROM sessions WHERE app_id = $1 AND ended_at IS NULL AND meeting_id >= $6)
       AND ended_at IS NULL AND started_at + 0 >= $2 AND started_at + 0 <= $3 AND peak >= $4 AND peak <= $5",
);
static OF_MEETING: Statement = Statement::new(
    "sessions.list_of_meeting",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND id IN
           (SELECT id FROM sessions WHERE app_id = $1 AND meeting_id = $11) AND started_at + 0 >= $3 AND started_at + 0 <= $4 AND peak >= $5 AND peak <= $6
           AND CASE WHEN ended_at IS NULL THEN CAST($7 AS BOOLEAN) ELSE CAST($8 AS BOOLEAN) END
         ORDER BY CASE WHEN CAST($9 AS BOOLEAN) THEN consumed_ms ELSE started_at END * CAST($10 AS BIGINT), id
         LIMIT $12 OFFSET $13",
        "CASE WHEN CAST($9 AS BOOLEAN) THEN s.consumed_ms ELSE s.started_at END * CAST($10 AS BIGINT), s.id"
    ),
);
static OF_MEETING_COUNT: Statement = Statement::new(
    "sessions.list_of_meeting_count",
    "SELECT COUNT(*) FROM sessions WHERE app_id = $1 AND id IN
       (SELECT id FROM sessions WHERE app_id = $1 AND meeting_id = $8) AND started_at + 0 >= $2 AND started_at + 0 <= $3 AND peak >= $4 AND peak <= $5
       AND CASE WHEN ended_at IS NULL THEN CAST($6 AS BOOLEAN) ELSE CAST($7 AS BOOLEAN) END",
);
static SEARCH: Statement = Statement::new(
    "sessions.search",
    sessions_from!(
        "SELECT * FROM sessions WHERE app_id = $1 AND meeting_id IN
           (SELECT meeting_id FROM meeting_words WHERE app_id = $1 AND word >= $3 AND word < $4
            ORDER BY word, meeting_id LIMIT $5)
         ORDER BY started_at DESC, id DESC LIMIT $5",
        "s.id"
    ),
);

pub(super) static STATEMENTS: [&Statement; 15] = [
    &WHOLE_DESCENDING,
    &WHOLE_ASCENDING,
    &MEETING_DESCENDING,
    &MEETING_ASCENDING,
    &FILTERED_DESCENDING,
    &FILTERED_ASCENDING,
    &CONSUMED_DESCENDING,
    &CONSUMED_ASCENDING,
    &COUNT,
    &COUNT_BY_TIME,
    &LIVE,
    &LIVE_COUNT,
    &OF_MEETING,
    &OF_MEETING_COUNT,
    &SEARCH,
];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/sessions", "listSessions", handle).describe(
        "List sessions",
        "Returns the sessions of the app, live and ended, newest first. A search matches the start of any word in the \
         meeting's current title, or a complete session or meeting id, and considers at most the 1,000 newest matches. \
         When sorting by `minutesConsumed`, only the minutes of peers that have left count for a live session.",
    )
}

/// Sort key of sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "SessionSortBy")]
enum SessionSortBy {
    /// Start time of the session.
    #[default]
    #[serde(rename = "createdAt")]
    Created,
    /// Total connected time of all peers.
    #[serde(rename = "minutesConsumed")]
    Consumed,
}

/// An inclusive range of the maximum number of concurrent peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PeerCountRange {
    min: i64,
    max: i64,
}

impl PeerCountRange {
    const ANY: Self = Self {
        min: 0,
        max: i64::MAX,
    };
}

impl<'de> Deserialize<'de> for PeerCountRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || de::Error::invalid_value(de::Unexpected::Str(&text), &"a range such as \"1:10\"");
        let end = |text: &str| -> Result<Option<i64>, D::Error> {
            let digits = text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
            match text {
                "" => Ok(None),
                text if digits => text.parse().map(Some).map_err(|_| wrong()),
                _ => Err(wrong()),
            }
        };
        let (min, max) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            min: end(min)?.unwrap_or(Self::ANY.min),
            max: end(max)?.unwrap_or(Self::ANY.max),
        })
    }
}

/// Filters, order and paging of the list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    #[garde(dive)]
    #[serde(default)]
    page_no: PageNo,
    #[garde(dive)]
    #[serde(default)]
    per_page: PerPage,
    /// Sort key. Defaults to `createdAt`, the start time of the session.
    #[garde(skip)]
    #[serde(default)]
    sort_by: SessionSortBy,
    /// Sort direction. Defaults to `DESC`.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
    /// Returns only sessions that started at this time or later. RFC 3339.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    start_time: Option<Timestamp>,
    /// Returns only sessions that started at this time or earlier. RFC 3339.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    end_time: Option<Timestamp>,
    /// Returns only sessions whose maximum number of concurrent peers is in this inclusive range,
    /// such as `1:10`. Either bound may be omitted.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9]{0,9}:[0-9]{0,9}$"))]
    participants: Option<PeerCountRange>,
    /// Returns only sessions with this status.
    #[garde(skip)]
    #[serde(default)]
    status: Option<SessionStatus>,
    /// Returns only sessions with a word in the meeting's title that starts with this text, or with
    /// this session or meeting id.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// Returns only sessions of this meeting.
    #[garde(skip)]
    #[serde(default)]
    associated_id: Option<MeetingId>,
    /// Alias of `associated_id`, which takes precedence. RealtimeKit ignores this parameter.
    #[garde(skip)]
    #[serde(default)]
    meeting_id: Option<MeetingId>,
}

impl Filter {
    fn window(&self) -> Window {
        Window::new(self.page_no, self.per_page)
    }

    fn meeting(&self) -> Option<MeetingId> {
        self.associated_id.or(self.meeting_id)
    }

    /// Whether the list is filtered by anything other than the meeting and the status.
    fn is_filtered(&self) -> bool {
        self.start_time.is_some() || self.end_time.is_some() || self.participants.is_some()
    }

    /// The inclusive range of ids that corresponds to the time range.
    fn ids(&self) -> (Uuid, Uuid) {
        let start = self
            .start_time
            .map_or(Uuid::nil(), |time| first_id_at(time.as_millisecond()));
        let end = self.end_time.map_or(Uuid::max(), |time| {
            let after = first_id_at(time.as_millisecond() + 1);
            Uuid::from_u128(after.as_u128().saturating_sub(1))
        });
        (start, end)
    }

    /// Parameters: the ranges of ids and of peers.
    fn ranges(&self) -> Vec<Value> {
        let (low, high) = self.ids();
        let peers = self.participants.unwrap_or(PeerCountRange::ANY);
        values![low, high, peers.min, peers.max]
    }

    /// Parameters: the ranges of start times and of peers.
    fn start_ranges(&self) -> Vec<Value> {
        let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        let peers = self.participants.unwrap_or(PeerCountRange::ANY);
        values![
            ms(self.start_time).unwrap_or(i64::MIN),
            ms(self.end_time).unwrap_or(i64::MAX),
            peers.min,
            peers.max
        ]
    }

    /// Parameters: whether live and whether ended sessions are included.
    fn statuses(&self) -> Vec<Value> {
        values![
            self.status != Some(SessionStatus::Ended),
            self.status != Some(SessionStatus::Live)
        ]
    }

    /// Parameters: whether to sort by minutes, and the sign of the sort direction.
    fn order(&self) -> Vec<Value> {
        let sign = if self.sort_order == SortOrder::Ascending {
            1_i64
        } else {
            -1
        };
        values![self.sort_by == SessionSortBy::Consumed, sign]
    }

    /// Whether a search result passes the other filters.
    fn matches(&self, session: &StoredSession) -> bool {
        let (low, high) = self.ids();
        let peers = self.participants.unwrap_or(PeerCountRange::ANY);
        let is_live = session.ended_ms.is_none();
        (low..=high).contains(&session.id.uuid())
            && (peers.min..=peers.max).contains(&session.peak)
            && self
                .status
                .is_none_or(|status| (status == SessionStatus::Live) == is_live)
            && self
                .meeting()
                .is_none_or(|meeting| meeting == session.meeting)
    }
}

/// A page of sessions.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionList")]
struct SessionList {
    /// The sessions on this page.
    sessions: Vec<Session>,
    /// Paging information, the same as next to `data`.
    paging: Paging,
}

struct Count(i64);

impl FromRow for Count {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

async fn handle(call: Call<Empty, Filter>) -> Result<PagedEnvelope<SessionList>, ApiError> {
    let (app, filter) = (call.app, &call.query);
    let query = SessionQuery {
        state: &call.state,
        app,
        now_ms: call.now_ms,
        filter,
    };
    let page = match (&filter.search, filter.meeting(), filter.sort_by) {
        (Some(search), _, _) => query.searched(search).await?,
        (None, Some(meeting), SessionSortBy::Created)
            if !filter.is_filtered() && filter.status.is_none() =>
        {
            query.of_meeting(meeting).await?
        }
        (None, Some(meeting), _) => query.of_meeting_filtered(meeting).await?,
        (None, None, _) if filter.status == Some(SessionStatus::Live) => query.live().await?,
        (None, None, SessionSortBy::Created)
            if !filter.is_filtered() && filter.status.is_none() =>
        {
            query.whole(filter.window()).await?
        }
        (None, None, _) => query.filtered().await?,
    };
    let paging = page.paging;
    let sessions = page.items.into_iter().map(|session| session.public(app));
    let sessions = SessionList {
        sessions: sessions.collect(),
        paging,
    };
    Ok(PagedEnvelope::new(sessions, paging))
}

/// A list request. Each method implements one combination of filters.
struct SessionQuery<'c> {
    state: &'c ServerState,
    app: AppId,
    now_ms: i64,
    filter: &'c Filter,
}

impl SessionQuery<'_> {
    async fn whole(&self, window: Window) -> Result<Page<StoredSession>, Error> {
        let listing = Listing {
            app: self.app,
            scope: sessions_scope(self.app.uuid()),
            ascending: &WHOLE_ASCENDING,
            descending: &WHOLE_DESCENDING,
        };
        let key = values![self.app.uuid(), self.now_ms];
        let order = self.filter.sort_order;
        self.state
            .pager
            .page(listing, key, (window, order), StoredSession::key)
            .await
    }

    async fn of_meeting(&self, meeting: MeetingId) -> Result<Page<StoredSession>, Error> {
        let listing = Listing {
            app: self.app,
            scope: sessions_scope(meeting.uuid()),
            ascending: &MEETING_ASCENDING,
            descending: &MEETING_DESCENDING,
        };
        let key = values![self.app.uuid(), self.now_ms, meeting.uuid()];
        let range = (self.filter.window(), self.filter.sort_order);
        self.state
            .pager
            .page(listing, key, range, StoredSession::key)
            .await
    }

    async fn of_meeting_filtered(&self, meeting: MeetingId) -> Result<Page<StoredSession>, Error> {
        let filter = self.filter;
        let mut counted = values![self.app.uuid()];
        counted.extend(filter.start_ranges());
        counted.extend(filter.statuses());
        counted.push(meeting.uuid().into());
        let mut listed = values![self.app.uuid(), self.now_ms];
        listed.extend(filter.start_ranges());
        listed.extend(filter.statuses());
        listed.extend(filter.order());
        listed.push(meeting.uuid().into());
        let total = self.count(&OF_MEETING_COUNT, counted).await?;
        self.page(&OF_MEETING, listed, total).await
    }

    async fn live(&self) -> Result<Page<StoredSession>, Error> {
        let mut listed = values![self.app.uuid(), self.now_ms];
        listed.extend(self.filter.start_ranges());
        listed.extend(self.filter.order());
        listed.push(Uuid::nil().into());
        let total = self.count_live().await?;
        self.page(&LIVE, listed, total).await
    }

    async fn filtered(&self) -> Result<Page<StoredSession>, Error> {
        let filter = self.filter;
        let mut listed = values![self.app.uuid(), self.now_ms];
        listed.extend(match filter.sort_by {
            SessionSortBy::Created => filter.ranges(),
            SessionSortBy::Consumed => filter.start_ranges(),
        });
        listed.extend(filter.statuses());
        let ascending = filter.sort_order == SortOrder::Ascending;
        let statement = match (filter.sort_by, ascending) {
            (SessionSortBy::Created, true) => &FILTERED_ASCENDING,
            (SessionSortBy::Created, false) => &FILTERED_DESCENDING,
            (SessionSortBy::Consumed, true) => &CONSUMED_ASCENDING,
            (SessionSortBy::Consumed, false) => &CONSUMED_DESCENDING,
        };
        let total =
            if filter.participants.is_none() && filter.status.is_none() && filter.is_filtered() {
                let (low, high) = filter.ids();
                self.count(&COUNT_BY_TIME, values![self.app.uuid(), low, high])
                    .await?
            } else if filter.is_filtered() {
                let mut counted = values![self.app.uuid()];
                counted.extend(filter.ranges());
                counted.extend(filter.statuses());
                self.count(&COUNT, counted).await?
            } else {
                // Counting every row would take seconds where there are millions.
                let all = self.whole(Window::FIRST_ITEM).await?.paging.total_count;
                match filter.status {
                    None => all,
                    Some(_) => (all - self.count_live().await?).max(0),
                }
            };
        self.page(statement, listed, total).await
    }

    async fn searched(&self, search: &str) -> Result<Page<StoredSession>, Error> {
        let (db, app, now_ms) = (&self.state.db, self.app.uuid(), self.now_ms);
        let mut found = if let Ok(id) = search.trim().parse::<Uuid>() {
            let newest = values![app, now_ms, id, Uuid::max(), SEARCH_MAX, 0_i64];
            let mut found = db
                .scan::<StoredSession>(&MEETING_DESCENDING, newest)
                .await?;
            let session = SessionId::from_uuid(id);
            found.extend(
                db.scan::<StoredSession>(&BY_ID, values![app, now_ms, session.uuid()])
                    .await?,
            );
            found
        } else {
            let prefix = meetings::fold(search);
            let row = values![
                app,
                now_ms,
                prefix.as_str(),
                prefix_end(&prefix),
                SEARCH_MAX
            ];
            db.scan::<StoredSession>(&SEARCH, row).await?
        };
        found.retain(|session| self.filter.matches(session));
        let consumed = self.filter.sort_by == SessionSortBy::Consumed;
        found.sort_by_key(|session| (if consumed { session.consumed_ms } else { 0 }, session.id));
        Ok(self.filter.window().cut(found, self.filter.sort_order))
    }

    async fn count_live(&self) -> Result<i64, Error> {
        let mut counted = values![self.app.uuid()];
        counted.extend(self.filter.start_ranges());
        counted.push(Uuid::nil().into());
        self.count(&LIVE_COUNT, counted).await
    }

    async fn count(&self, statement: &'static Statement, key: Vec<Value>) -> Result<i64, Error> {
        let found = self.state.db.scan::<Count>(statement, key).await?.pop();
        Ok(found.map_or(0, |Count(count)| count))
    }

    async fn page(
        &self,
        statement: &'static Statement,
        mut key: Vec<Value>,
        total: i64,
    ) -> Result<Page<StoredSession>, Error> {
        let window = self.filter.window();
        key.extend(values![window.limit, window.offset]);
        let items = self.state.db.scan::<StoredSession>(statement, key).await?;
        let paging = window.paging(total, items.len());
        Ok(Page { items, paging })
    }
}
