//! `GET …/participants`: lists a meeting's participants.

use garde::Validate;
use http::Method;
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId};
use parlor_store::{Error, Statement, values};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::{CUSTOM_ID_MAX, Participant, ParticipantKey, find, search_name};
use crate::http::{ApiError, Call, Endpoint, Page, SEARCH_MAX, prefix_end};
use crate::paging::{Listing, PageNo, PerPage, SortOrder, Window};
use crate::rest::meetings::{self, MeetingPath};
use crate::state::ServerState;

static DESCENDING: Statement = Statement::new(
    "participants.list_descending",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at
     FROM (SELECT * FROM participants WHERE app_id = $1 AND meeting_id = $2 AND id <= $3
           ORDER BY id DESC LIMIT $4 OFFSET $5) p
     JOIN presets r ON r.app_id = $1 AND r.id = p.preset_id ORDER BY p.id DESC",
);
static ASCENDING: Statement = Statement::new(
    "participants.list_ascending",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at
     FROM (SELECT * FROM participants WHERE app_id = $1 AND meeting_id = $2 AND id >= $3
           ORDER BY id LIMIT $4 OFFSET $5) p
     JOIN presets r ON r.app_id = $1 AND r.id = p.preset_id ORDER BY p.id",
);
static BY_NAME: Statement = Statement::new(
    "participants.search_name",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at
     FROM (SELECT * FROM participants
           WHERE app_id = $1 AND meeting_id = $2 AND search_name IS NOT NULL AND search_name >= $3 AND search_name < $4
           ORDER BY search_name, id LIMIT $5) p
     JOIN presets r ON r.app_id = $1 AND r.id = p.preset_id",
);
static BY_CUSTOM_ID: Statement = Statement::new(
    "participants.search_custom_id",
    "SELECT p.id, p.custom_participant_id, p.preset_id, r.name, p.name, p.picture, p.created_at, p.updated_at
     FROM (SELECT * FROM participants
           WHERE app_id = $1 AND meeting_id = $2 AND custom_participant_id >= $3 AND custom_participant_id < $4
           ORDER BY custom_participant_id LIMIT $5) p
     JOIN presets r ON r.app_id = $1 AND r.id = p.preset_id",
);

pub(super) static STATEMENTS: [&Statement; 4] = [&DESCENDING, &ASCENDING, &BY_NAME, &BY_CUSTOM_ID];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/meetings/{meeting_id}/participants", "listParticipants", handle).describe(
        "List participants",
        "Returns the participants of a meeting, newest first, without tokens. A search matches the start of names and \
         custom ids, or a complete participant id, and considers at most 1,000 matches of each kind.",
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
    /// Returns only the participant with this custom id. Not available in RealtimeKit.
    #[garde(length(chars, min = 1, max = CUSTOM_ID_MAX))]
    #[serde(default)]
    custom_participant_id: Option<String>,
    /// Returns only participants whose name or custom id starts with this text, or with this id.
    /// Not available in RealtimeKit.
    #[garde(length(chars, max = CUSTOM_ID_MAX))]
    #[serde(default)]
    search: Option<String>,
    /// Sort direction by creation time. Defaults to `DESC`, newest first.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
}

async fn handle(call: Call<MeetingPath, Filter>) -> Result<Page<Participant>, ApiError> {
    let (state, filter, meeting) = (&call.state, &call.query, call.path.meeting_id);
    meetings::must_exist(state, call.app, meeting).await?;
    let window = Window::new(filter.page_no, filter.per_page);
    let mut found = match (&filter.custom_participant_id, &filter.search) {
        (None, None) => {
            let listing = Listing {
                app: call.app,
                scope: meeting.uuid(),
                ascending: &ASCENDING,
                descending: &DESCENDING,
            };
            let id = |participant: &Participant| participant.id.uuid();
            let key = values![call.app.uuid(), meeting.uuid()];
            let range = (window, filter.sort_order);
            let page = call.state.pager.page(listing, key, range, id).await?;
            return Ok(page);
        }
        (Some(custom_id), search) => {
            let key = ParticipantKey::CustomId(custom_id.clone());
            let mut found: Vec<Participant> = find(state, call.app, meeting, &key)
                .await?
                .into_iter()
                .collect();
            if let Some(search) = search {
                found.retain(|participant| participant.matches(search));
            }
            found
        }
        (None, Some(search)) => searched(state, call.app, meeting, search).await?,
    };
    found.sort_by_key(|participant| participant.id);
    Ok(window.cut(found, filter.sort_order))
}

impl Participant {
    /// Whether a search matches the participant.
    fn matches(&self, search: &str) -> bool {
        let name = self.name.as_deref().and_then(search_name);
        let by_name = search_name(search)
            .is_some_and(|search| name.is_some_and(|name| name.starts_with(&search)));
        by_name
            || self.custom_participant_id.starts_with(search)
            || self.id.to_string() == search.to_lowercase()
    }
}

async fn searched(
    state: &ServerState,
    app: AppId,
    meeting: MeetingId,
    search: &str,
) -> Result<Vec<Participant>, Error> {
    let range = |prefix: &str| -> Vec<parlor_store::Value> {
        values![
            app.uuid(),
            meeting.uuid(),
            prefix,
            prefix_end(prefix),
            SEARCH_MAX
        ]
    };
    let mut found: Vec<Participant> = state.db.scan(&BY_CUSTOM_ID, range(search)).await?;
    if let Some(name) = search_name(search) {
        found.extend(state.db.scan::<Participant>(&BY_NAME, range(&name)).await?);
    }
    if let Ok(id) = search.parse::<ParticipantId>() {
        found.extend(find(state, app, meeting, &ParticipantKey::Id(id)).await?);
    }
    let mut seen = std::collections::HashSet::<Uuid>::new();
    found.retain(|participant| seen.insert(participant.id.uuid()));
    Ok(found)
}
