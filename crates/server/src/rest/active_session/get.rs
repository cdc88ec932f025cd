//! `GET …/active-session`: returns the live session of a meeting.

use http::Method;

use super::no_session;
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::rest::meetings::MeetingPath;
use crate::rest::sessions::{self, Session};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/meetings/{meeting_id}/active-session",
        "getActiveSession",
        handle,
    )
    .describe(
        "Get the active session",
        "Retrieves the live session of a meeting. Returns 404 when the meeting has no live session: no one is in it, and \
         it is not being kept alive.",
    )
}

async fn handle(call: Call<MeetingPath>) -> Result<Data<Session>, ApiError> {
    let meeting = call.path.meeting_id;
    sessions::live(&call.state, call.app, meeting, call.now_ms)
        .await?
        .map(Data)
        .ok_or_else(|| no_session(meeting))
}
