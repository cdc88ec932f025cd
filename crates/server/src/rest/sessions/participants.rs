//! `GET …/sessions/{session_id}/participants`: lists the participants of a session.

use std::collections::HashMap;

use garde::Validate;
use http::Method;
use parlor_protocol::ids::{AppId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, Value, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::peer::{SessionParticipant, StoredPeer, participants_from, peers_from};
use super::{PagedEnvelope, SessionPath, find};
use crate::http::{ApiError, Call, Endpoint, Page, SEARCH_MAX};
use crate::paging::{PageNo, Paging, PerPage, SortOrder, Window};
use crate::state::ServerState;

/// Maximum number of items per page (docs/spec/rest.md 2.5).
const PER_PAGE_MAX: u32 = 200;
/// Number of rows that a search reads at a time.
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
static PARTICIPANTS: Statement = Statement::new(
    "session_peers.list_people",
    participants_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2",
        "ORDER BY CASE WHEN CAST($4 AS BOOLEAN) THEN p.used_ms ELSE p.joined_at END * CAST($5 AS BIGINT), p.peer_id
         LIMIT $6 OFFSET $7"
    ),
);
static COUNT: Statement = Statement::new(
    "session_peers.count",
    "SELECT COUNT(*) FROM session_peers WHERE app_id = $1 AND session_id = $2",
);
static COUNT_PARTICIPANTS: Statement = Statement::new(
    "session_peers.count_people",
    "SELECT COUNT(DISTINCT participant_id) FROM session_peers WHERE app_id = $1 AND session_id = $2",
);
/// The peers after a given one, for searches.
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
    &PARTICIPANTS,
    &COUNT,
    &COUNT_PARTICIPANTS,
    &PEERS_AFTER,
];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/{session_id}/participants",
        "listSessionParticipants",
        handle,
    )
    .describe(
        "List a session's participants",
        "Returns the participants of a session, the latest to join first. By default there is one entry per peer: a \
         participant who connected with several clients, or rejoined as a new peer, has several entries. With \
         `view=consolidated` there is one entry per participant, from the first join to the last leave, with the total \
         minutes of all peers. A search matches any part of names and custom ids, or a complete peer or participant id, \
         and returns at most the 1,000 earliest matches.",
    )
}

/// Sort key of a session's participants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "SessionParticipantSortBy")]
#[serde(rename_all = "camelCase")]
enum ParticipantSortBy {
    /// Time of the first join.
    #[default]
    JoinedAt,
    /// Connected time.
    Duration,
}

/// How a participant's peers are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "SessionParticipantView")]
#[serde(rename_all = "lowercase")]
enum ParticipantView {
    /// One entry per peer.
    #[default]
    Raw,
    /// One entry per participant.
    Consolidated,
}

/// Filters, order and paging of the list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    #[garde(dive)]
    #[serde(default)]
    page_no: PageNo,
    #[garde(dive)]
    #[serde(default)]
    per_page: PerPage<1, PER_PAGE_MAX>,
    /// Returns only participants whose name or custom id contains this text, ignoring case, or with
    /// this peer or participant id.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// Sort key. Defaults to `joinedAt`, the time of the first join.
    #[garde(skip)]
    #[serde(default)]
    sort_by: ParticipantSortBy,
    /// Sort direction. Defaults to `DESC`.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
    /// Also returns the events of each peer. Defaults to `false`.
    #[garde(skip)]
    #[serde(default)]
    include_peer_events: bool,
    /// Whether to list peers or participants. Defaults to `raw`, one entry per peer.
    #[garde(skip)]
    #[serde(default)]
    view: ParticipantView,
}

/// A page of a session's participants.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionParticipantList")]
struct SessionParticipantList {
    /// The participants on this page.
    participants: Vec<SessionParticipant>,
    /// Paging information, the same as next to `data`.
    paging: Paging,
}

struct Count(i64);

impl FromRow for Count {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        row.take(0).map(Self)
    }
}

async fn handle(
    call: Call<SessionPath, Filter>,
) -> Result<PagedEnvelope<SessionParticipantList>, ApiError> {
    let (state, filter, session) = (&call.state, &call.query, call.path.session_id);
    find(state, call.app, session, call.now_ms).await?;
    let page = match &filter.search {
        Some(search) => searched(state, (call.app, session), call.now_ms, search, filter).await?,
        None => listed(state, (call.app, session), call.now_ms, filter).await?,
    };
    let paging = page.paging;
    let public = |peer: StoredPeer| peer.public(session, filter.include_peer_events);
    let participants = SessionParticipantList {
        participants: page.items.into_iter().map(public).collect(),
        paging,
    };
    Ok(PagedEnvelope::new(participants, paging))
}

async fn listed(
    state: &ServerState,
    (app, session): (AppId, SessionId),
    now_ms: i64,
    filter: &Filter,
) -> Result<Page<StoredPeer>, Error> {
    let is_ascending = filter.sort_order == SortOrder::Ascending;
    let sign: Value = if is_ascending { 1 } else { -1_i64 }.into();
    let by_duration = filter.sort_by == ParticipantSortBy::Duration;
    let mut key = values![app.uuid(), session.uuid(), now_ms];
    let statement = match (filter.view, by_duration, is_ascending) {
        (ParticipantView::Consolidated, ..) => {
            key.extend([by_duration.into(), sign]);
            &PARTICIPANTS
        }
        (ParticipantView::Raw, true, _) => {
            key.push(sign);
            &BY_DURATION
        }
        (ParticipantView::Raw, false, true) => &ASCENDING,
        (ParticipantView::Raw, false, false) => &DESCENDING,
    };
    let count = match filter.view {
        ParticipantView::Raw => &COUNT,
        ParticipantView::Consolidated => &COUNT_PARTICIPANTS,
    };
    let window = Window::new(filter.page_no, filter.per_page);
    key.extend(values![window.limit, window.offset]);
    let total = state
        .db
        .scan::<Count>(count, values![app.uuid(), session.uuid()])
        .await?
        .pop()
        .map_or(0, |Count(count)| count);
    let items = state.db.scan::<StoredPeer>(statement, key).await?;
    let paging = window.paging(total, items.len());
    Ok(Page { items, paging })
}

/// Scans the session's peers in chunks and keeps those that match the search: there is no index for
/// parts of names, and a session is small enough to scan.
async fn searched(
    state: &ServerState,
    scope: (AppId, SessionId),
    now_ms: i64,
    search: &str,
    filter: &Filter,
) -> Result<Page<StoredPeer>, Error> {
    let found_max = usize::try_from(SEARCH_MAX).expect("a small constant");
    let mut found: Vec<StoredPeer> = Vec::new();
    let mut indexes = HashMap::new();
    let is_raw = filter.view == ParticipantView::Raw;
    visit_peers(state, scope, now_ms, |peer| {
        if peer.matches(search) && (is_raw || !indexes.contains_key(&peer.participant)) {
            indexes.insert(peer.participant, found.len());
            found.push(peer);
        }
        found.len() < found_max
    })
    .await?;
    if !is_raw {
        // Combine all peers of the matching participants, whether or not each peer matches.
        let mut combined: Vec<Option<StoredPeer>> = vec![None; found.len()];
        visit_peers(state, scope, now_ms, |peer| {
            if let Some(index) = indexes.get(&peer.participant) {
                match &mut combined[*index] {
                    Some(combined) => combined.merge(&peer),
                    first => *first = Some(peer),
                }
            }
            true
        })
        .await?;
        found = combined.into_iter().flatten().collect();
        found.sort_by_key(|peer| (peer.joined_ms, peer.peer));
    }
    if filter.sort_by == ParticipantSortBy::Duration {
        found.sort_by_key(|peer| (peer.used_ms, peer.peer));
    }
    Ok(Window::new(filter.page_no, filter.per_page).cut(found, filter.sort_order))
}

/// Visits the peers of a session in the order in which they joined, until `visit` returns false.
async fn visit_peers(
    state: &ServerState,
    (app, session): (AppId, SessionId),
    now_ms: i64,
    mut visit: impl FnMut(StoredPeer) -> bool,
) -> Result<(), Error> {
    let mut after = (i64::MIN, Uuid::nil());
    loop {
        let key = values![app.uuid(), session.uuid(), now_ms, after.0, after.1, CHUNK];
        let read = state.db.scan::<StoredPeer>(&PEERS_AFTER, key).await?;
        let Some(last) = read.last() else {
            return Ok(());
        };
        after = (last.joined_ms, last.peer.uuid());
        if !read.into_iter().all(&mut visit) {
            return Ok(());
        }
    }
}
