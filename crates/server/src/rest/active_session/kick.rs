//! `POST …/active-session/kick`: throw people out.

use http::Method;

use super::people::{Done, Named, done};
use super::{family, remembered};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rest::meetings::OneMeeting;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/kick",
        "kickParticipants",
        answer,
    )
    .describe(
        "Kick participants",
        "Throws these people out of the meeting and of its breakout rooms, with every client of theirs. Their tokens keep working, so they may come back; delete the participant to keep somebody out. 404 when one of them is not inside, and then nobody is thrown out.",
    )
}

async fn answer(call: Call<OneMeeting, Nothing, Named>) -> Result<Data<Done>, ApiError> {
    let people = call.body.people()?;
    let kicked = family::kick(&call, people).await?;
    let done = done(&call, "kick", kicked).await?;
    remembered(&call, Data(done)).await
}
