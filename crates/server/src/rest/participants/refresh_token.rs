//! `POST …/participants/{participant_id}/token`: issues a new token for a participant.

use garde::Validate;
use http::Method;
use parlor_store::Unit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ParticipantPath, TokenIssuer, life_secs};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    let path = "/meetings/{meeting_id}/participants/{participant_id}/token";
    Endpoint::new(Method::POST, path, "refreshParticipantToken", handle).describe(
        "Refresh a participant's token",
        "Issues a new join token for a participant. Older tokens stay valid until they expire.",
    )
}

/// Options of the new token. The body may be omitted.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "TokenParams")]
struct TokenParams {
    /// Lifetime of the token, in seconds. Defaults to the server's setting. Not available in
    /// RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    expires_in: Option<u64>,
}

/// A join token of a participant.
#[derive(Clone, Serialize, JsonSchema)]
#[schemars(rename = "ParticipantToken")]
struct ParticipantToken {
    /// The join token, with which the participant's client joins the meeting. Keep it secret.
    token: String,
    /// When the token expires. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    expires_at: String,
}

async fn handle(
    call: Call<ParticipantPath, Empty, TokenParams>,
) -> Result<Data<ParticipantToken>, ApiError> {
    let life_secs = life_secs(&call.state, call.body.expires_in)?;
    let participant = call.path.find(&call.state, call.app).await?;
    let issuer = TokenIssuer::new(&call.state, call.app, call.path.meeting_id, call.now_ms);
    let (token, expires_at) = issuer.issue(participant.id, participant.preset_id, life_secs);
    let fresh = ParticipantToken { token, expires_at };
    // Issuing a token writes nothing, so without an Idempotency-Key there is nothing to commit.
    if !call.is_idempotent() {
        return Ok(Data(fresh));
    }
    Ok(call
        .commit(Unit::default(), move |_| Ok(Data(fresh.clone())))
        .await?)
}
