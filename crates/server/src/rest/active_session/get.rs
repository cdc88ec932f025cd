//! `GET …/active-session`: the session that a meeting has now.

use http::Method;

use super::no_session;
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::rest::meetings::OneMeeting;
use crate::rest::sessions::{self, Session};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/meetings/{meeting_id}/active-session",
        "getActiveSession",
        answer,
    )
    .describe(
        "Get the active session",
        "The session that the meeting has now. 404 when nobody is in it and none is kept open.",
    )
}

async fn answer(call: Call<OneMeeting>) -> Result<Data<Session>, ApiError> {
    let meeting = call.path.meeting_id;
    sessions::live(&call.parlor, call.app, meeting, call.now_ms)
        .await?
        .map(Data)
        .ok_or_else(|| no_session(meeting))
}
