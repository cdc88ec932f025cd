//! Who was in a session: one peer for each client, or one for each person.

use aws_lc_rs::digest;
use parlor_protocol::ids::{AppId, ParticipantId, PeerId, SessionId};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::minutes;
use crate::clock::rfc3339;
use crate::state::Parlor;

/// Peers, from a query for `session_peers` and what follows it. Parameter 3 must be the time.
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

/// One for each person: what is of all their clients together, and for the rest their first client.
/// Parameter 3 must be the time.
macro_rules! people_from {
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
pub(super) use {peers_from, people_from};

static BY_ID: Statement = Statement::new(
    "session_peers.by_id",
    peers_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2 AND peer_id = $4",
        ""
    ),
);
static BY_PARTICIPANT: Statement = Statement::new(
    "session_peers.by_participant",
    people_from!(
        "SELECT * FROM session_peers WHERE app_id = $1 AND session_id = $2 AND participant_id = $4",
        ""
    ),
);

pub(super) static STATEMENTS: [&Statement; 2] = [&BY_ID, &BY_PARTICIPANT];

/// A peer, or a person, as it is stored.
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
    /// The time inside, up to now for those who are.
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

/// Somebody who was in a session.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SessionParticipant {
    /// The peer's id: a client's, which others of the same person do not share.
    id: PeerId,
    /// The participant's id.
    user_id: ParticipantId,
    /// The caller's own id of this person.
    custom_participant_id: String,
    /// The name that was shown; empty when there was none.
    display_name: String,
    /// The preset's name.
    preset_name: String,
    /// When the peer first joined. RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    joined_at: String,
    /// When it left; left out while it is inside. RFC 3339, UTC, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    left_at: Option<String>,
    /// Minutes inside, with fractions.
    #[schemars(range(min = 0))]
    duration: f64,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
    /// What happened to it, in order, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_events: Option<Vec<PeerEvent>>,
}

/// What may happen to a peer.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
enum PeerEventName {
    /// Its socket opened.
    #[serde(rename = "PEER_CREATED")]
    Created,
    /// It joined.
    #[serde(rename = "PEER_JOINING")]
    Joining,
    /// It left.
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

/// Something that happened to a peer.
#[derive(Debug, Serialize, JsonSchema)]
struct PeerEvent {
    /// Its id, the same whenever it is asked for.
    #[schemars(extend("format" = "uuid"))]
    id: String,
    /// The peer.
    peer_id: PeerId,
    /// The person.
    participant_id: Option<ParticipantId>,
    /// The session.
    session_id: Option<SessionId>,
    /// Always null: sockets have no ids of their own.
    socket_session_id: Option<SessionId>,
    /// What happened.
    event_name: PeerEventName,
    /// Minutes inside up to then, with fractions.
    #[schemars(range(min = 0))]
    minutes_consumed: f64,
    /// The kind of call that the peer saw.
    preset_view_type: Option<String>,
    /// When. RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// RFC 3339, UTC, milliseconds.
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

    /// Adds another client of the same person, that joined later.
    pub(super) fn add(&mut self, other: &Self) {
        self.left_ms = self
            .left_ms
            .zip(other.left_ms)
            .map(|(one, two)| one.max(two));
        self.updated_ms = self.updated_ms.max(other.updated_ms);
        self.used_ms += other.used_ms;
    }

    /// Whether a search finds it: a whole id, or a part of the name or the custom id.
    pub(super) fn matches(&self, search: &str) -> bool {
        let search = search.trim().to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&search);
        self.name.as_deref().is_some_and(has)
            || has(&self.custom_id)
            || self.peer.to_string() == search
            || self.participant.to_string() == search
    }
}

/// An id that an event of a peer always has (UUID version 8, RFC 9562, of a SHA-256).
fn event_id(session: SessionId, peer: PeerId, name: PeerEventName) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(session.uuid().as_bytes());
    context.update(peer.uuid().as_bytes());
    context.update(name.as_str().as_bytes());
    let digest = context.finish();
    let start = digest.as_ref()[..16]
        .try_into()
        .expect("SHA-256 has 32 bytes");
    uuid::Builder::from_custom_bytes(start).into_uuid()
}

/// A peer of a session by its id, or else a person by theirs.
pub(super) async fn find(
    parlor: &Parlor,
    app: AppId,
    session: SessionId,
    id: Uuid,
    now_ms: i64,
) -> Result<Option<StoredPeer>, Error> {
    let key = values![app.uuid(), session.uuid(), now_ms, id];
    let peer = parlor
        .db
        .read::<StoredPeer>(&BY_ID, key.clone())
        .await?
        .pop();
    if peer.is_some() {
        return Ok(peer);
    }
    let mut people = parlor.db.scan::<StoredPeer>(&BY_PARTICIPANT, key).await?;
    Ok(people.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_id_is_always_the_same_and_no_others() {
        let [session, other] = [1, 2].map(|id| SessionId::from_uuid(Uuid::from_u128(id)));
        let peer = PeerId::from_uuid(Uuid::from_u128(3));
        let id = event_id(session, peer, PeerEventName::Joining);
        assert_eq!(id, event_id(session, peer, PeerEventName::Joining));
        assert_eq!(id.get_version_num(), 8);
        assert_ne!(id, event_id(other, peer, PeerEventName::Joining));
        assert_ne!(id, event_id(session, peer, PeerEventName::Leaving));
    }
}
