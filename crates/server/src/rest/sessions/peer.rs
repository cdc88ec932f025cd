//! The participants of a session: one entry per peer, or one per participant.

use aws_lc_rs::digest;
use parlor_protocol::ids::{AppId, ParticipantId, PeerId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::minutes;
use crate::clock::rfc3339;
use crate::state::ServerState;

/// Builds a query for peers from a subquery on `session_peers` and the clauses after it.
/// Parameter 3 must be the current time.
macro_rules! peers_from {
    ($query:literal, $rest:literal) => {
        concat!(
            "SELECT p.peer_id, p.participant_id, p.custom_participant_id, p.name, p.preset_name, p.view_type, p.created_at,
               p.joined_at, p.left_at, p.updated_at,
               p.consumed_ms + CASE WHEN p.left_at IS NULL AND p.entered_at < CAST($3 AS BIGINT) THEN CAST($3 AS BIGINT) - p.entered_at ELSE 0 END
             FROM (",
            $query,
            ") p ",
            $rest
        )
    };
}

/// Builds a query with one row per participant, which combines the times of all its peers and takes
/// the other columns from the first peer. Parameter 3 must be the current time.
macro_rules! participants_from {
    ($query:literal, $rest:literal) => {
        concat!(
            "SELECT p.peer_id, p.participant_id, p.custom_participant_id, p.name, p.preset_name, p.view_type, p.created_at,
               p.joined_at, p.left_at, p.updated_at, p.used_ms
             FROM (SELECT q.peer_id, q.participant_id, q.custom_participant_id, q.name, q.preset_name, q.view_type,
                     q.created_at, q.joined_at,
                     CASE WHEN COUNT(q.left_at) OVER person < COUNT(*) OVER person THEN NULL
                          ELSE MAX(q.left_at) OVER person END AS left_at,
                     MAX(q.updated_at) OVER person AS updated_at,
                     CAST(SUM(q.consumed_ms + CASE WHEN q.left_at IS NULL AND q.entered_at < CAST($3 AS BIGINT) THEN CAST($3 AS BIGINT) - q.entered_at ELSE 0 END)
                       OVER person AS BIGINT) AS used_ms,
                     ROW_NUMBER() OVER (PARTITION BY q.participant_id ORDER BY q.joined_at, q.peer_id) AS nth
                   FROM (",
            $query,
            ") q WINDOW person AS (PARTITION BY q.participant_id)) p WHERE p.nth = 1 ",
            $rest
        )
    };
}
pub(super) use {participants_from, peers_from};

static BY_ID: Statement = Statement::new(
    "session_peers.by_id",
    peers_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2 AND peer_id = $4",
        ""
    ),
);
static BY_PARTICIPANT: Statement = Statement::new(
    "session_peers.by_participant",
    participants_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2 AND participant_id = $4",
        ""
    ),
);

pub(super) static STATEMENTS: [&Statement; 2] = [&BY_ID, &BY_PARTICIPANT];

/// A peer as stored, or a participant with its peers combined.
#[derive(Debug, Clone)]
pub(super) struct StoredPeer {
    pub(super) peer: PeerId,
    pub(super) participant: ParticipantId,
    custom_id: String,
    name: Option<String>,
    preset_name: String,
    view: String,
    created_ms: i64,
    pub(super) joined_ms: i64,
    left_ms: Option<i64>,
    updated_ms: i64,
    /// Connected time in milliseconds, up to now if the peer is connected.
    pub(super) used_ms: i64,
}

impl FromRow for StoredPeer {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            peer: PeerId::from_uuid(row.take(0)?),
            participant: ParticipantId::from_uuid(row.take(1)?),
            custom_id: row.take(2)?,
            name: row.take(3)?,
            preset_name: row.take(4)?,
            view: row.take(5)?,
            created_ms: row.take(6)?,
            joined_ms: row.take(7)?,
            left_ms: row.take(8)?,
            updated_ms: row.take(9)?,
            used_ms: row.take(10)?,
        })
    }
}

/// A participant of a session.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionParticipant")]
pub(super) struct SessionParticipant {
    /// Id of the peer. Each client of a participant is a separate peer.
    id: PeerId,
    /// Id of the participant.
    user_id: ParticipantId,
    /// Your own identifier for the participant.
    custom_participant_id: String,
    /// Display name during the session. Empty if the participant had none.
    display_name: String,
    /// Name of the participant's preset.
    preset_name: String,
    /// When the peer first joined. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    joined_at: String,
    /// When the peer left. Absent while it is connected. RFC 3339 in UTC, with milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    left_at: Option<String>,
    /// Connected time in minutes, including fractions.
    #[schemars(range(min = 0))]
    duration: f64,
    /// When the participant was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the participant was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
    /// The events of the peer, in order. Present if `include_peer_events` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_events: Option<Vec<PeerEvent>>,
}

/// The kind of a peer event.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "PeerEventName")]
enum PeerEventName {
    /// The peer's socket was opened.
    #[serde(rename = "PEER_CREATED")]
    Created,
    /// The peer joined the session.
    #[serde(rename = "PEER_JOINING")]
    Joining,
    /// The peer left the session.
    #[serde(rename = "PEER_LEAVING")]
    Leaving,
}

impl PeerEventName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "PEER_CREATED",
            Self::Joining => "PEER_JOINING",
            Self::Leaving => "PEER_LEAVING",
        }
    }
}

/// An event of a peer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PeerEvent")]
struct PeerEvent {
    /// Unique identifier of the event. It is the same in every response.
    #[schemars(extend("format" = "uuid"))]
    id: String,
    /// Id of the peer.
    peer_id: PeerId,
    /// Id of the participant.
    participant_id: Option<ParticipantId>,
    /// Id of the session.
    session_id: Option<SessionId>,
    /// Always `null`: sockets have no ids in Parlor.
    socket_session_id: Option<SessionId>,
    /// The kind of event.
    event_name: PeerEventName,
    /// The peer's connected time up to the event, in minutes, including fractions.
    #[schemars(range(min = 0))]
    minutes_consumed: f64,
    /// View type of the peer's preset.
    preset_view_type: Option<String>,
    /// When the event happened. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the event was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

impl StoredPeer {
    pub(super) fn public(self, session: SessionId, with_events: bool) -> SessionParticipant {
        SessionParticipant {
            peer_events: with_events.then(|| self.events(session)),
            id: self.peer,
            user_id: self.participant,
            custom_participant_id: self.custom_id,
            display_name: self.name.unwrap_or_default(),
            preset_name: self.preset_name,
            joined_at: rfc3339(self.joined_ms),
            left_at: self.left_ms.map(rfc3339),
            duration: minutes(self.used_ms),
            created_at: rfc3339(self.created_ms),
            updated_at: rfc3339(self.updated_ms),
        }
    }

    fn events(&self, session: SessionId) -> Vec<PeerEvent> {
        let happened = [
            (PeerEventName::Created, Some(self.created_ms), 0),
            (PeerEventName::Joining, Some(self.joined_ms), 0),
            (PeerEventName::Leaving, self.left_ms, self.used_ms),
        ];
        let event = |(name, at_ms, used_ms): (PeerEventName, Option<i64>, i64)| {
            let at = rfc3339(at_ms?);
            Some(PeerEvent {
                id: event_id(session, self.peer, name).to_string(),
                peer_id: self.peer,
                participant_id: Some(self.participant),
                session_id: Some(session),
                socket_session_id: None,
                event_name: name,
                minutes_consumed: minutes(used_ms),
                preset_view_type: Some(self.view.clone()),
                created_at: at.clone(),
                updated_at: at,
            })
        };
        happened.into_iter().filter_map(event).collect()
    }

    /// Merges a peer of the same participant that joined later.
    pub(super) fn merge(&mut self, other: &Self) {
        self.left_ms = self
            .left_ms
            .zip(other.left_ms)
            .map(|(one, two)| one.max(two));
        self.updated_ms = self.updated_ms.max(other.updated_ms);
        self.used_ms += other.used_ms;
    }

    /// Whether this peer matches a search for a complete id, or for a part of the name or custom
    /// id.
    pub(super) fn matches(&self, search: &str) -> bool {
        let search = search.trim().to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&search);
        self.name.as_deref().is_some_and(has)
            || has(&self.custom_id)
            || self.peer.to_string() == search
            || self.participant.to_string() == search
    }
}

/// Returns the stable id of an event: a UUID version 8 (RFC 9562) derived from a SHA-256 digest.
fn event_id(session: SessionId, peer: PeerId, name: PeerEventName) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(session.uuid().as_bytes());
    context.update(peer.uuid().as_bytes());
    context.update(name.as_str().as_bytes());
    let digest = context.finish();
    let start = digest.as_ref()[..16]
        .try_into()
        .expect("a SHA-256 digest has 32 bytes");
    uuid::Builder::from_custom_bytes(start).into_uuid()
}

/// Reads a peer of a session by its id, or else a participant by its id.
pub(super) async fn find(
    state: &ServerState,
    app: AppId,
    session: SessionId,
    id: Uuid,
    now_ms: i64,
) -> Result<Option<StoredPeer>, Error> {
    let key = values![app.uuid(), session.uuid(), now_ms, id];
    let peer = state
        .db
        .read::<StoredPeer>(&BY_ID, key.clone())
        .await?
        .pop();
    if peer.is_some() {
        return Ok(peer);
    }
    let mut found = state.db.scan::<StoredPeer>(&BY_PARTICIPANT, key).await?;
    Ok(found.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_stable_and_unique() {
        let [session, other] = [1, 2].map(|id| SessionId::from_uuid(Uuid::from_u128(id)));
        let peer = PeerId::from_uuid(Uuid::from_u128(3));
        let id = event_id(session, peer, PeerEventName::Joining);
        assert_eq!(id, event_id(session, peer, PeerEventName::Joining));
        assert_eq!(id.get_version_num(), 8);
        assert_ne!(id, event_id(other, peer, PeerEventName::Joining));
        assert_ne!(id, event_id(session, peer, PeerEventName::Leaving));
    }
}
