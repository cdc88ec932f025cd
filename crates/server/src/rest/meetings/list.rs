//! `GET …/meetings`: lists the app's meetings.

use garde::Validate;
use http::Method;
use jiff::Timestamp;
use parlor_protocol::MeetingStatus;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_store::{Error, FromRow, Row, Statement, Value, values};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::{GET, Meeting, StoredMeeting, words};
use crate::clock::first_id_at;
use crate::http::{ApiError, Call, Empty, Endpoint, Page, SEARCH_MAX, prefix_end};
use crate::paging::{Listing, PageNo, PerPage, SortOrder, Window};
use crate::state::ServerState;

static WHOLE_DESCENDING: Statement = Statement::new(
    "meetings.list_whole_descending",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND id <= $2 ORDER BY id DESC LIMIT $3 OFFSET $4",
);
static WHOLE_ASCENDING: Statement = Statement::new(
    "meetings.list_whole_ascending",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND id >= $2 ORDER BY id LIMIT $3 OFFSET $4",
);
static DESCENDING: Statement = Statement::new(
    "meetings.list_descending",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND id >= $2 AND id <= $3 ORDER BY id DESC LIMIT $4 OFFSET $5",
);
static ASCENDING: Statement = Statement::new(
    "meetings.list_ascending",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND id >= $2 AND id <= $3 ORDER BY id LIMIT $4 OFFSET $5",
);
static COUNT: Statement = Statement::new(
    "meetings.list_count",
    "SELECT COUNT(*) FROM meetings WHERE app_id = $1 AND id >= $2 AND id <= $3",
);
static STATUS_DESCENDING: Statement = Statement::new(
    "meetings.list_status_descending",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND status = $6 AND id >= $2 AND id <= $3 ORDER BY id DESC LIMIT $4 OFFSET $5",
);
static STATUS_ASCENDING: Statement = Statement::new(
    "meetings.list_status_ascending",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND status = $6 AND id >= $2 AND id <= $3 ORDER BY id LIMIT $4 OFFSET $5",
);
static STATUS_COUNT: Statement = Statement::new(
    "meetings.list_status_count",
    "SELECT COUNT(*) FROM meetings WHERE app_id = $1 AND status = $4 AND id >= $2 AND id <= $3",
);
static SEARCH: Statement = Statement::new(
    "meetings.search",
    "SELECT id, title, status, version, created_at, updated_at, settings FROM meetings
     WHERE app_id = $1 AND id IN
       (SELECT meeting_id FROM meeting_words WHERE app_id = $1 AND word >= $2 AND word < $3
        ORDER BY word, meeting_id LIMIT $4)
     ORDER BY id",
);

pub(super) static STATEMENTS: [&Statement; 9] = [
    &WHOLE_DESCENDING,
    &WHOLE_ASCENDING,
    &DESCENDING,
    &ASCENDING,
    &COUNT,
    &STATUS_DESCENDING,
    &STATUS_ASCENDING,
    &STATUS_COUNT,
    &SEARCH,
];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/meetings", "listMeetings", handle).describe(
        "List meetings",
        "Returns the meetings of the app, newest first. A search matches the start of any word in the title, or a \
         complete meeting id, and considers at most 1,000 matches.",
    )
}

/// Filters and paging of the list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    #[garde(dive)]
    #[serde(default)]
    page_no: PageNo,
    #[garde(dive)]
    #[serde(default)]
    per_page: PerPage,
    /// Returns only meetings created at this time or later. RFC 3339.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    start_time: Option<Timestamp>,
    /// Returns only meetings created at this time or earlier. RFC 3339.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    end_time: Option<Timestamp>,
    /// Returns only meetings with a word in the title that starts with this text, or with this id.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// Returns only meetings with this status.
    #[garde(skip)]
    #[serde(default)]
    status: Option<MeetingStatus>,
    /// Sort direction by creation time. Defaults to `DESC`, newest first.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
}

impl Filter {
    fn window(&self) -> Window {
        Window::new(self.page_no, self.per_page)
    }

    /// The inclusive range of ids that corresponds to the time range.
    fn ids(&self) -> (Uuid, Uuid) {
        let start = self
            .start_time
            .map_or(Uuid::nil(), |time| first_id_at(time.as_millisecond()));
        let end = self.end_time.map_or(Uuid::max(), |time| {
            Uuid::from_u128(
                first_id_at(time.as_millisecond() + 1)
                    .as_u128()
                    .saturating_sub(1),
            )
        });
        (start, end)
    }
}

struct Count(i64);

impl FromRow for Count {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

async fn handle(call: Call<Empty, Filter>) -> Result<Page<Meeting>, ApiError> {
    let (state, filter) = (&call.state, &call.query);
    let page = if let Some(search) = &filter.search {
        searched(state, call.app, search, filter).await?
    } else if filter.status.is_some() || filter.start_time.is_some() || filter.end_time.is_some() {
        filtered(state, call.app, filter).await?
    } else {
        whole(state, call.app, filter).await?
    };
    let items = page.items.into_iter().map(StoredMeeting::public).collect();
    Ok(Page {
        items,
        paging: page.paging,
    })
}

async fn whole(
    state: &ServerState,
    app: AppId,
    filter: &Filter,
) -> Result<Page<StoredMeeting>, Error> {
    let scope = app.uuid();
    let listing = Listing {
        app,
        scope,
        ascending: &WHOLE_ASCENDING,
        descending: &WHOLE_DESCENDING,
    };
    let id = |stored: &StoredMeeting| stored.meeting.id.uuid();
    state
        .pager
        .page(
            listing,
            values![scope],
            (filter.window(), filter.sort_order),
            id,
        )
        .await
}

async fn filtered(
    state: &ServerState,
    app: AppId,
    filter: &Filter,
) -> Result<Page<StoredMeeting>, ApiError> {
    let (low, high) = filter.ids();
    let window = filter.window();
    let mut counted = values![app.uuid(), low, high];
    let mut listed = values![app.uuid(), low, high, window.limit, window.offset];
    let ascending = filter.sort_order == SortOrder::Ascending;
    let (list, count) = if let Some(status) = filter.status {
        counted.push(Value::from(status.as_str()));
        listed.push(Value::from(status.as_str()));
        (
            if ascending {
                &STATUS_ASCENDING
            } else {
                &STATUS_DESCENDING
            },
            &STATUS_COUNT,
        )
    } else {
        (if ascending { &ASCENDING } else { &DESCENDING }, &COUNT)
    };
    let total = state
        .db
        .scan::<Count>(count, counted)
        .await?
        .pop()
        .map_or(0, |count| count.0);
    let items = state.db.scan::<StoredMeeting>(list, listed).await?;
    let paging = window.paging(total, items.len());
    Ok(Page { items, paging })
}

async fn searched(
    state: &ServerState,
    app: AppId,
    search: &str,
    filter: &Filter,
) -> Result<Page<StoredMeeting>, ApiError> {
    let mut found: Vec<StoredMeeting> = if let Ok(id) = search.trim().parse::<MeetingId>() {
        state.db.read(&GET, values![app.uuid(), id.uuid()]).await?
    } else {
        let prefix = words::fold(search);
        let row = values![app.uuid(), prefix.as_str(), prefix_end(&prefix), SEARCH_MAX];
        state.db.scan(&SEARCH, row).await?
    };
    let (low, high) = filter.ids();
    found.retain(|stored| {
        let id = stored.meeting.id.uuid();
        (low..=high).contains(&id)
            && filter
                .status
                .is_none_or(|status| status == stored.meeting.status)
    });
    Ok(filter.window().cut(found, filter.sort_order))
}
