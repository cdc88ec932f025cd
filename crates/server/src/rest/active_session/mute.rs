//! `POST …/active-session/mute`: mutes participants.

use http::Method;
use parlor_live::{Answer, Command};

use super::selection::{ParticipantActionResult, ParticipantSelection, action_result};
use super::{save_response, send_command, unexpected_answer};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rest::meetings::MeetingPath;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/mute",
        "muteParticipants",
        handle,
    )
    .describe(
        "Mute participants",
        "Turns off the microphones of the given participants. They can turn them on again. If one of the participants is \
         not in the session, the request fails with 404 and no one is muted.",
    )
}

async fn handle(
    call: Call<MeetingPath, Empty, ParticipantSelection>,
) -> Result<Data<ParticipantActionResult>, ApiError> {
    let selected = call.body.participants()?;
    let Answer::Participants(muted) = send_command(&call, Command::Mute(selected)).await? else {
        return Err(unexpected_answer());
    };
    let meeting = call.path.meeting_id;
    let muted = muted.into_iter().map(|id| (meeting, id)).collect();
    let result = action_result(&call, "mute", muted).await?;
    save_response(&call, Data(result)).await
}
