//! `POST …/active-session/mute`: take the microphone from people.

use http::Method;
use parlor_live::{Answer, Command};

use super::people::{Done, Named, done};
use super::{ask, remembered, unexpected};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rest::meetings::OneMeeting;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/mute",
        "muteParticipants",
        answer,
    )
    .describe(
        "Mute participants",
        "Takes the microphone from these people. They may turn it on again. 404 when one of them is not inside, and then nobody is muted.",
    )
}

async fn answer(call: Call<OneMeeting, Nothing, Named>) -> Result<Data<Done>, ApiError> {
    let people = call.body.people()?;
    let Answer::People(muted) = ask(&call, Command::Mute(people)).await? else {
        return Err(unexpected());
    };
    let meeting = call.path.meeting_id;
    let muted = muted.into_iter().map(|id| (meeting, id)).collect();
    let done = done(&call, "mute", muted).await?;
    remembered(&call, Data(done)).await
}
