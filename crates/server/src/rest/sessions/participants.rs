//! `GET …/sessions/{session_id}/participants`: who was in a session.

use std::collections::HashMap;

use garde::Validate;
use http::Method;
use parlor_protocol::ids::{AppId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, Value, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::peer::{SessionParticipant, StoredPeer, peers_from, people_from};
use super::{OneSession, TwicePaged, find};
use crate::http::{ApiError, Call, Endpoint, Page, SEARCH_MAX};
use crate::paging::{PAGE_NO_MAX, Paging, SortOrder, Window};
use crate::state::Parlor;

/// The largest page (docs/spec/rest.md 2.5).
const PER_PAGE_MAX: u32 = 200;
/// Rows that a search reads at once.
const CHUNK: i64 = 1000;

static DESCENDING: Statement = Statement::new(
    "session_peers.list_descending",
    peers_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2
         ORDER BY joined_at DESC, peer_id DESC LIMIT $4 OFFSET $5",
        "ORDER BY p.joined_at DESC, p.peer_id DESC"
    ),
);
static ASCENDING: Statement = Statement::new(
    "session_peers.list_ascending",
    peers_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2 ORDER BY joined_at, peer_id LIMIT $4 OFFSET $5",
        "ORDER BY p.joined_at, p.peer_id"
    ),
);
static BY_DURATION: Statement = Statement::new(
    "session_peers.list_by_duration",
    peers_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2
         ORDER BY (consumed_ms + CASE WHEN left_at IS NULL AND entered_at < CAST($3 AS BIGINT) THEN CAST($3 AS BIGINT) - entered_at ELSE 0 END)
           * CAST($4 AS BIGINT), peer_id LIMIT $5 OFFSET $6",
        "ORDER BY (p.consumed_ms + CASE WHEN p.left_at IS NULL AND p.entered_at < CAST($3 AS BIGINT) THEN CAST($3 AS BIGINT) - p.entered_at ELSE 0 END)
           * CAST($4 AS BIGINT), p.peer_id"
    ),
);
static PEOPLE: Statement = Statement::new(
    "session_peers.list_people",
    people_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2",
        "ORDER BY CASE WHEN CAST($4 AS BOOLEAN) THEN p.used_ms ELSE p.joined_at END * CAST($5 AS BIGINT), p.peer_id
         LIMIT $6 OFFSET $7"
    ),
);
static COUNT: Statement = Statement::new(
    "session_peers.count",
    "SELECT COUNT(*) FROM session_peers WHERE app_id = $1 AND session_id = $2",
);
static COUNT_PEOPLE: Statement = Statement::new(
    "session_peers.count_people",
    "SELECT COUNT(DISTINCT participant_id) FROM session_peers WHERE app_id = $1 AND session_id = $2",
);
/// The peers that come after one, to search through.
static PEERS_AFTER: Statement = Statement::new(
    "session_peers.after",
    peers_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2 AND (joined_at, peer_id) > ($4, $5)
         ORDER BY joined_at, peer_id LIMIT $6",
        "ORDER BY p.joined_at, p.peer_id"
    ),
);
pub(super) static STATEMENTS: [&Statement; 7] = [
    &DESCENDING,
    &ASCENDING,
    &BY_DURATION,
    &PEOPLE,
    &COUNT,
    &COUNT_PEOPLE,
    &PEERS_AFTER,
];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/{session_id}/participants",
        "listSessionParticipants",
        answer,
    )
    .describe(
        "List a session's participants",
        "Everybody who was in the session, those who came last first. A person who was there with several clients, or \
         came back as another, is listed once for each of them, or once in all with `view=consolidated`: from the first \
         join to the last leave, with the minutes of all. A search looks at parts of names and custom ids and at whole \
         ids, and finds the 1,000 who came first.",
    )
}

/// What participants are put in order by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum SortBy {
    /// The first join.
    #[default]
    JoinedAt,
    /// The time inside.
    Duration,
}

/// What is one line of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum View {
    /// A client.
    #[default]
    Raw,
    /// A person.
    Consolidated,
}

/// Which participants to list, and how.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    /// The page; 0 and 1 are the first.
    #[garde(range(max = PAGE_NO_MAX))]
    #[serde(default)]
    page_no: Option<u32>,
    /// Items on a page; 20 when absent.
    #[garde(range(min = 1, max = PER_PAGE_MAX))]
    #[serde(default)]
    per_page: Option<u32>,
    /// A part of a name or of a custom id, or an id of a peer or a participant.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// What to sort by; the first join when absent.
    #[garde(skip)]
    #[serde(default)]
    sort_by: SortBy,
    /// Greatest first when absent.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
    /// Tell what happened to each peer.
    #[garde(skip)]
    #[serde(default)]
    include_peer_events: bool,
    /// What is one line of the list; a client when absent.
    #[garde(skip)]
    #[serde(default)]
    view: View,
}

/// Those who were in a session.
#[derive(Debug, Serialize, JsonSchema)]
struct Participants {
    /// The page's participants.
    participants: Vec<SessionParticipant>,
    /// The same as beside `data`.
    paging: Paging,
}

struct Count(i64);

impl FromRow for Count {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

async fn answer(call: Call<OneSession, Filter>) -> Result<TwicePaged<Participants>, ApiError> {
    let (parlor, filter, session) = (&call.parlor, &call.query, call.path.session_id);
    find(parlor, call.app, session, call.now_ms).await?;
    let page = match &filter.search {
        Some(search) => searched(parlor, (call.app, session), call.now_ms, search, filter).await?,
        None => listed(parlor, (call.app, session), call.now_ms, filter).await?,
    };
    let paging = page.paging;
    let public = |peer: StoredPeer| peer.public(session, filter.include_peer_events);
    let participants = Participants {
        participants: page.items.into_iter().map(public).collect(),
        paging,
    };
    Ok(TwicePaged::new(participants, paging))
}

async fn listed(
    parlor: &Parlor,
    (app, session): (AppId, SessionId),
    now_ms: i64,
    filter: &Filter,
) -> Result<Page<StoredPeer>, Error> {
    let is_ascending = filter.sort_order == SortOrder::Ascending;
    let sign: Value = if is_ascending { 1 } else { -1_i64 }.into();
    let by_duration = filter.sort_by == SortBy::Duration;
    let mut key = values![app.uuid(), session.uuid(), now_ms];
    let statement = match (filter.view, by_duration, is_ascending) {
        (View::Consolidated, ..) => {
            key.extend([by_duration.into(), sign]);
            &PEOPLE
        }
        (View::Raw, true, _) => {
            key.push(sign);
            &BY_DURATION
        }
        (View::Raw, false, true) => &ASCENDING,
        (View::Raw, false, false) => &DESCENDING,
    };
    let count = match filter.view {
        View::Raw => &COUNT,
        View::Consolidated => &COUNT_PEOPLE,
    };
    let window = Window::new(filter.page_no, filter.per_page);
    key.extend(values![window.limit, window.offset]);
    let total = parlor
        .db
        .scan::<Count>(count, values![app.uuid(), session.uuid()])
        .await?
        .pop()
        .map_or(0, |Count(count)| count);
    let items = parlor.db.scan::<StoredPeer>(statement, key).await?;
    let paging = window.paging(total, items.len());
    Ok(Page { items, paging })
}

/// Reads the session's peers some at a time and keeps those that the search finds: parts of names
/// have no index, and a session is not that large.
async fn searched(
    parlor: &Parlor,
    place: (AppId, SessionId),
    now_ms: i64,
    search: &str,
    filter: &Filter,
) -> Result<Page<StoredPeer>, Error> {
    let found_max = usize::try_from(SEARCH_MAX).expect("it is a small number");
    let mut found: Vec<StoredPeer> = Vec::new();
    let mut people = HashMap::new();
    let is_raw = filter.view == View::Raw;
    walk(parlor, place, now_ms, |peer| {
        if peer.matches(search) && (is_raw || !people.contains_key(&peer.participant)) {
            people.insert(peer.participant, found.len());
            found.push(peer);
        }
        found.len() < found_max
    })
    .await?;
    if !is_raw {
        // All clients of those who were found, whatever these were called.
        let mut whole: Vec<Option<StoredPeer>> = vec![None; found.len()];
        walk(parlor, place, now_ms, |peer| {
            if let Some(person) = people.get(&peer.participant) {
                match &mut whole[*person] {
                    Some(whole) => whole.add(&peer),
                    first => *first = Some(peer),
                }
            }
            true
        })
        .await?;
        found = whole.into_iter().flatten().collect();
        found.sort_by_key(|person| (person.joined_ms, person.peer));
    }
    if filter.sort_by == SortBy::Duration {
        found.sort_by_key(|peer| (peer.used_ms, peer.peer));
    }
    Ok(Window::new(filter.page_no, filter.per_page).cut(found, filter.sort_order))
}

/// Shows every peer of a session, in the order in which they joined, until `see` has seen enough.
async fn walk(
    parlor: &Parlor,
    (app, session): (AppId, SessionId),
    now_ms: i64,
    mut see: impl FnMut(StoredPeer) -> bool,
) -> Result<(), Error> {
    let mut after = (i64::MIN, Uuid::nil());
    loop {
        let key = values![app.uuid(), session.uuid(), now_ms, after.0, after.1, CHUNK];
        let read = parlor.db.scan::<StoredPeer>(&PEERS_AFTER, key).await?;
        let Some(last) = read.last() else {
            return Ok(());
        };
        after = (last.joined_ms, last.peer.uuid());
        if !read.into_iter().all(&mut see) {
            return Ok(());
        }
    }
}
