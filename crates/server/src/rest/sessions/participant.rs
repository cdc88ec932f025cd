//! `GET …/sessions/{session_id}/participants/{participant_id}`: one of those who were in a session.

use garde::Validate;
use http::Method;
use parlor_protocol::ids::{PeerId, SessionId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::peer::{self, SessionParticipant};
use crate::http::{ApiError, Call, Data, Endpoint, FromPath, PathParams};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/sessions/{session_id}/participants/{participant_id}",
        "getSessionParticipant",
        answer,
    )
    .describe(
        "Get a session's participant",
        "One peer of the session by its id, or a person by the participant's id: then with all their clients together.",
    )
}

/// The path of somebody in a session.
#[derive(Debug, JsonSchema)]
struct OneSessionParticipant {
    /// The session's id.
    session_id: SessionId,
    /// The id of a peer or of a participant.
    participant_id: PeerId,
}

impl FromPath for OneSessionParticipant {
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            session_id: params.id("session_id")?,
            participant_id: params.id("participant_id")?,
        })
    }
}

/// What to add.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Wanted {
    /// Tell what happened to the peer.
    #[garde(skip)]
    #[serde(default)]
    include_peer_events: bool,
}

/// Somebody.
#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    /// Who it is.
    participant: SessionParticipant,
}

async fn answer(call: Call<OneSessionParticipant, Wanted>) -> Result<Data<Found>, ApiError> {
    let (parlor, app, path) = (&call.parlor, call.app, &call.path);
    super::find(parlor, app, path.session_id, call.now_ms).await?;
    let found = peer::find(
        parlor,
        app,
        path.session_id,
        path.participant_id.uuid(),
        call.now_ms,
    )
    .await?;
    let participant = found
        .ok_or_else(|| ApiError::missing("participant"))?
        .public(path.session_id, call.query.include_peer_events);
    Ok(Data(Found { participant }))
}
