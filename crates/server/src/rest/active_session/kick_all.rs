//! `POST …/active-session/kick-all`: throw everybody out, which ends the session.

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::{family, remembered};
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::rest::meetings::OneMeeting;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/kick-all",
        "kickAllParticipants",
        answer,
    )
    .describe(
        "Kick everybody",
        "Throws everybody out of the meeting and of its breakout rooms, those in the waiting room too, and ends the session. Their tokens keep working.",
    )
}

/// What was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct KickedAll {
    /// Always `kick-all`.
    action: &'static str,
    /// How many were thrown out.
    #[schemars(range(min = 0))]
    kicked_participants_count: usize,
}

async fn answer(call: Call<OneMeeting>) -> Result<Data<KickedAll>, ApiError> {
    let reply = KickedAll {
        action: "kick-all",
        kicked_participants_count: family::kick_all(&call).await?,
    };
    remembered(&call, Data(reply)).await
}
