//! `GET …/participants/{participant_id}`: returns one participant, without a token.

use http::Method;

use super::{Participant, ParticipantPath};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/meetings/{meeting_id}/participants/{participant_id}",
        "getParticipant",
        handle,
    )
    .describe(
        "Get a participant",
        "Retrieves a participant by its id or as `custom:<custom_participant_id>`. The response does not contain a token.",
    )
}

async fn handle(call: Call<ParticipantPath>) -> Result<Data<Participant>, ApiError> {
    call.path.find(&call.state, call.app).await.map(Data)
}
