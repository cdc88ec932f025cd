//! `GET …/meetings/{meeting_id}`: returns one meeting.

use http::Method;

use super::{Meeting, MeetingPath, StoredMeeting, find};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/meetings/{meeting_id}", "getMeeting", handle)
        .describe("Get a meeting", "Retrieves a meeting of the app.")
}

async fn handle(call: Call<MeetingPath>) -> Result<Data<Meeting>, ApiError> {
    find(&call.state, call.app, call.path.meeting_id)
        .await
        .map(StoredMeeting::public)
        .map(Data)
}
