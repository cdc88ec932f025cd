//! `GET …/participants/{participant_id}`: one participant, without a token.

use http::Method;

use super::{OneParticipant, Participant};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/meetings/{meeting_id}/participants/{participant_id}",
        "getParticipant",
        answer,
    )
    .describe(
        "Get a participant",
        "One participant, by id or as `custom:<custom_participant_id>`. No token.",
    )
}

async fn answer(call: Call<OneParticipant>) -> Result<Data<Participant>, ApiError> {
    call.path.find(&call.parlor, call.app).await.map(Data)
}
