//! `GET …/sessions`: the app's sessions.

use garde::Validate;
use http::Method;
use jiff::Timestamp;
use parlor_protocol::ids::{AppId, MeetingId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, Value, values};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use super::{BY_ID, Session, SessionStatus, StoredSession, TwicePaged, sessions_from};
use crate::clock::first_id_at;
use crate::http::{ApiError, Call, Endpoint, Nothing, Page, SEARCH_MAX, prefix_end};
use crate::paging::{Listing, PAGE_NO_MAX, PER_PAGE_MAX, Paging, SortOrder, Window};
use crate::rest::meetings;
use crate::rooms::records::sessions_scope;
use crate::state::Parlor;

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
// From here on `+ 0` keeps the engines from walking the app's sessions by their starts where
// another index fits better.
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
/// Live sessions are few and found by an index of their own, then put in order. Without the inner
/// query and the bound on meetings, which lets everything through, SQLite would walk all sessions.
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
    Endpoint::new(Method::GET, "/sessions", "listSessions", answer).describe(
        "List sessions",
        "The app's sessions, newest first, live ones among them. A search looks at the start of every word of the \
         meeting's title as it is now and at whole ids of sessions and meetings, and considers the newest 1,000 \
         sessions it finds. In the order of minutes, a live session stands where those who have left put it.",
    )
}

/// What sessions are put in order by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
enum SortBy {
    /// The start.
    #[default]
    #[serde(rename = "createdAt")]
    Created,
    /// The minutes of all peers.
    #[serde(rename = "minutesConsumed")]
    Consumed,
}

/// The fewest and the most peers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crowd {
    least: i64,
    most: i64,
}

impl Crowd {
    const ANY: Self = Self {
        least: 0,
        most: i64::MAX,
    };
}

impl<'de> Deserialize<'de> for Crowd {
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
        let (least, most) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            least: end(least)?.unwrap_or(Self::ANY.least),
            most: end(most)?.unwrap_or(Self::ANY.most),
        })
    }
}

/// Which sessions to list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    /// The page; 0 and 1 are the first.
    #[garde(range(max = PAGE_NO_MAX))]
    #[serde(default)]
    page_no: Option<u32>,
    /// Items on a page; 20 when absent.
    #[garde(range(max = PER_PAGE_MAX))]
    #[serde(default)]
    per_page: Option<u32>,
    /// What to sort by; the start when absent.
    #[garde(skip)]
    #[serde(default)]
    sort_by: SortBy,
    /// Greatest first when absent.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
    /// Started at this time or later. RFC 3339.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    start_time: Option<Timestamp>,
    /// Started at this time or earlier. RFC 3339.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    end_time: Option<Timestamp>,
    /// The fewest and the most peers that were inside at once, as in `1:10`; either may be left out.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9]{0,9}:[0-9]{0,9}$"))]
    participants: Option<Crowd>,
    /// Only sessions of this status.
    #[garde(skip)]
    #[serde(default)]
    status: Option<SessionStatus>,
    /// The start of a word of the meeting's title, or the id of a session or a meeting.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// Only sessions of this meeting.
    #[garde(skip)]
    #[serde(default)]
    associated_id: Option<MeetingId>,
    /// The same as `associated_id`, which wins. RealtimeKit ignores it.
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

    /// Whether anything but the meeting and the status narrows the list.
    fn is_narrow(&self) -> bool {
        self.start_time.is_some() || self.end_time.is_some() || self.participants.is_some()
    }

    /// The ids that the wanted times allow, both ends included.
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

    /// The ranges of ids and of peers, as parameters.
    fn ranges(&self) -> Vec<Value> {
        let (low, high) = self.ids();
        let crowd = self.participants.unwrap_or(Crowd::ANY);
        values![low, high, crowd.least, crowd.most]
    }

    /// The ranges of starts and of peers, as parameters.
    fn start_ranges(&self) -> Vec<Value> {
        let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        let crowd = self.participants.unwrap_or(Crowd::ANY);
        values![
            ms(self.start_time).unwrap_or(i64::MIN),
            ms(self.end_time).unwrap_or(i64::MAX),
            crowd.least,
            crowd.most
        ]
    }

    /// Whether live and ended sessions are wanted, as parameters.
    fn statuses(&self) -> Vec<Value> {
        values![
            self.status != Some(SessionStatus::Ended),
            self.status != Some(SessionStatus::Live)
        ]
    }

    /// Whether minutes are what is sorted by, and a factor that turns the order, as parameters.
    fn order(&self) -> Vec<Value> {
        let sign = if self.sort_order == SortOrder::Ascending {
            1_i64
        } else {
            -1
        };
        values![self.sort_by == SortBy::Consumed, sign]
    }

    /// The filters other than the search, for a session that was searched for.
    fn admits(&self, session: &StoredSession) -> bool {
        let (low, high) = self.ids();
        let crowd = self.participants.unwrap_or(Crowd::ANY);
        let is_live = session.ended_ms.is_none();
        (low..=high).contains(&session.id.uuid())
            && (crowd.least..=crowd.most).contains(&session.peak)
            && self
                .status
                .is_none_or(|status| (status == SessionStatus::Live) == is_live)
            && self
                .meeting()
                .is_none_or(|meeting| meeting == session.meeting)
    }
}

/// Sessions.
#[derive(Debug, Serialize, JsonSchema)]
struct Sessions {
    /// The page's sessions.
    sessions: Vec<Session>,
    /// The same as beside `data`.
    paging: Paging,
}

struct Count(i64);

impl FromRow for Count {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

async fn answer(call: Call<Nothing, Filter>) -> Result<TwicePaged<Sessions>, ApiError> {
    let (app, filter) = (call.app, &call.query);
    let list = List {
        parlor: &call.parlor,
        app,
        now_ms: call.now_ms,
        filter,
    };
    let page = match (&filter.search, filter.meeting(), filter.sort_by) {
        (Some(search), _, _) => list.searched(search).await?,
        (None, Some(meeting), SortBy::Created)
            if !filter.is_narrow() && filter.status.is_none() =>
        {
            list.of_meeting(meeting).await?
        }
        (None, Some(meeting), _) => list.of_meeting_filtered(meeting).await?,
        (None, None, _) if filter.status == Some(SessionStatus::Live) => list.live().await?,
        (None, None, SortBy::Created) if !filter.is_narrow() && filter.status.is_none() => {
            list.whole(filter.window()).await?
        }
        (None, None, _) => list.filtered().await?,
    };
    let paging = page.paging;
    let sessions = page.items.into_iter().map(|session| session.public(app));
    let sessions = Sessions {
        sessions: sessions.collect(),
        paging,
    };
    Ok(TwicePaged::new(sessions, paging))
}

/// One way for each kind of filter to its page.
struct List<'c> {
    parlor: &'c Parlor,
    app: AppId,
    now_ms: i64,
    filter: &'c Filter,
}

impl List<'_> {
    async fn whole(&self, window: Window) -> Result<Page<StoredSession>, Error> {
        let listing = Listing {
            app: self.app,
            scope: sessions_scope(self.app.uuid()),
            ascending: &WHOLE_ASCENDING,
            descending: &WHOLE_DESCENDING,
        };
        let key = values![self.app.uuid(), self.now_ms];
        let order = self.filter.sort_order;
        self.parlor
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
        let shown = (self.filter.window(), self.filter.sort_order);
        self.parlor
            .pager
            .page(listing, key, shown, StoredSession::key)
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
            SortBy::Created => filter.ranges(),
            SortBy::Consumed => filter.start_ranges(),
        });
        listed.extend(filter.statuses());
        let ascending = filter.sort_order == SortOrder::Ascending;
        let statement = match (filter.sort_by, ascending) {
            (SortBy::Created, true) => &FILTERED_ASCENDING,
            (SortBy::Created, false) => &FILTERED_DESCENDING,
            (SortBy::Consumed, true) => &CONSUMED_ASCENDING,
            (SortBy::Consumed, false) => &CONSUMED_DESCENDING,
        };
        let total =
            if filter.participants.is_none() && filter.status.is_none() && filter.is_narrow() {
                let (low, high) = filter.ids();
                self.count(&COUNT_BY_TIME, values![self.app.uuid(), low, high])
                    .await?
            } else if filter.is_narrow() {
                let mut counted = values![self.app.uuid()];
                counted.extend(filter.ranges());
                counted.extend(filter.statuses());
                self.count(&COUNT, counted).await?
            } else {
                // Counting every row would take seconds where there are millions.
                let first = Window::new(Some(1), Some(1));
                let all = self.whole(first).await?.paging.total_count;
                match filter.status {
                    None => all,
                    Some(_) => (all - self.count_live().await?).max(0),
                }
            };
        self.page(statement, listed, total).await
    }

    async fn searched(&self, search: &str) -> Result<Page<StoredSession>, Error> {
        let (db, app, now_ms) = (&self.parlor.db, self.app.uuid(), self.now_ms);
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
        found.retain(|session| self.filter.admits(session));
        let consumed = self.filter.sort_by == SortBy::Consumed;
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
        let found = self.parlor.db.scan::<Count>(statement, key).await?.pop();
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
        let items = self.parlor.db.scan::<StoredSession>(statement, key).await?;
        let paging = window.paging(total, items.len());
        Ok(Page { items, paging })
    }
}
