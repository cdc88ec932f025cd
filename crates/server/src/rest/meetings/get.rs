//! `GET …/meetings/{meeting_id}`: one meeting.

use http::Method;

use super::{Meeting, OneMeeting, StoredMeeting, find};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/meetings/{meeting_id}", "getMeeting", answer)
        .describe("Get a meeting", "One meeting of the app.")
}

async fn answer(call: Call<OneMeeting>) -> Result<Data<Meeting>, ApiError> {
    find(&call.parlor, call.app, call.path.meeting_id)
        .await
        .map(StoredMeeting::public)
        .map(Data)
}
