//! `POST …/active-session/kick-all`: removes all participants, which ends the session.

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::{family, save_response};
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::rest::meetings::MeetingPath;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/kick-all",
        "kickAllParticipants",
        handle,
    )
    .describe(
        "Kick all participants",
        "Disconnects all participants from the meeting and its breakout rooms, including those in the waiting room, and \
         ends the session. Their join tokens stay valid.",
    )
}

/// The result of kicking all participants.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "KickAllResult")]
struct KickAllResult {
    /// Always `kick-all`.
    action: &'static str,
    /// Number of participants that were kicked.
    #[schemars(range(min = 0))]
    kicked_participants_count: usize,
}

async fn handle(call: Call<MeetingPath>) -> Result<Data<KickAllResult>, ApiError> {
    let result = KickAllResult {
        action: "kick-all",
        kicked_participants_count: family::kick_all(&call).await?,
    };
    save_response(&call, Data(result)).await
}
