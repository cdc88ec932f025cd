//! `POST …/active-session/kick`: removes participants from the live session.

use http::Method;

use super::selection::{ParticipantActionResult, ParticipantSelection, action_result};
use super::{family, save_response};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rest::meetings::MeetingPath;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/kick",
        "kickParticipants",
        handle,
    )
    .describe(
        "Kick participants",
        "Disconnects all clients of the given participants from the meeting and its breakout rooms. Their join tokens \
         stay valid, so they can rejoin; delete the participant to prevent that. If one of the participants is not in \
         the session, the request fails with 404 and no one is kicked.",
    )
}

async fn handle(
    call: Call<MeetingPath, Empty, ParticipantSelection>,
) -> Result<Data<ParticipantActionResult>, ApiError> {
    let selected = call.body.participants()?;
    let kicked = family::kick(&call, selected).await?;
    let result = action_result(&call, "kick", kicked).await?;
    save_response(&call, Data(result)).await
}
