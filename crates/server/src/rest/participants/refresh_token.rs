//! `POST …/participants/{participant_id}/token`: another token for a participant.

use garde::Validate;
use http::Method;
use parlor_store::Unit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Minter, OneParticipant, life_secs};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};

pub(super) fn endpoint() -> Endpoint {
    let path = "/meetings/{meeting_id}/participants/{participant_id}/token";
    Endpoint::new(Method::POST, path, "refreshParticipantToken", answer).describe(
        "Refresh a participant's token",
        "Issues another token. The older ones work until they expire.",
    )
}

/// What the token is to be. The body may be left out.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct NewToken {
    /// Seconds until the token expires; the server's default when absent. Not in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    expires_in: Option<u64>,
}

/// A fresh token.
#[derive(Clone, Serialize, JsonSchema)]
struct FreshToken {
    /// What the participant joins with. A secret.
    token: String,
    /// When the token stops working. RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    expires_at: String,
}

async fn answer(
    call: Call<OneParticipant, Nothing, NewToken>,
) -> Result<Data<FreshToken>, ApiError> {
    let life_secs = life_secs(&call.parlor, call.body.expires_in)?;
    let participant = call.path.find(&call.parlor, call.app).await?;
    let minter = Minter::new(&call.parlor, call.app, call.path.meeting_id, call.now_ms);
    let (token, expires_at) = minter.mint(participant.id, participant.preset_id, life_secs);
    let fresh = FreshToken { token, expires_at };
    // Nothing is written for a token, so without an Idempotency-Key there is nothing to commit.
    if !call.is_idempotent() {
        return Ok(Data(fresh));
    }
    Ok(call
        .commit(Unit::default(), move |_| Ok(Data(fresh.clone())))
        .await?)
}
