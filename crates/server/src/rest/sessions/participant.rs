//! `GET …/sessions/{session_id}/participants/{participant_id}`: returns one participant of a
//! session.

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
        handle,
    )
    .describe(
        "Get a session's participant",
        "Retrieves a peer of the session by its peer id, or a participant by its participant id. A participant who \
         connected with several clients is returned as one entry that combines all of them.",
    )
}

/// The path parameters of a session's participant.
#[derive(Debug, JsonSchema)]
struct OneSessionParticipant {
    /// The session id.
    session_id: SessionId,
    /// A peer id or a participant id.
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

/// Options of the request.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Options {
    /// Also returns the events of the peer. Defaults to `false`.
    #[garde(skip)]
    #[serde(default)]
    include_peer_events: bool,
}

/// A participant of a session, nested the way clients expect it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionParticipantResult")]
struct SessionParticipantResult {
    /// The participant.
    participant: SessionParticipant,
}

async fn handle(
    call: Call<OneSessionParticipant, Options>,
) -> Result<Data<SessionParticipantResult>, ApiError> {
    let (state, app, path) = (&call.state, call.app, &call.path);
    super::find(state, app, path.session_id, call.now_ms).await?;
    let found = peer::find(
        state,
        app,
        path.session_id,
        path.participant_id.uuid(),
        call.now_ms,
    )
    .await?;
    let participant = found
        .ok_or_else(|| ApiError::missing("participant"))?
        .public(path.session_id, call.query.include_peer_events);
    Ok(Data(SessionParticipantResult { participant }))
}
