//! `PUT …/meetings/{meeting_id}`: replaces a meeting.

use http::Method;

use super::{Meeting, MeetingPath, NewMeeting, rewrite};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rooms::records;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PUT, "/meetings/{meeting_id}", "replaceMeeting", handle).describe(
        "Replace a meeting",
        "Replaces all fields of a meeting. Absent fields are reset to their defaults. The id, the status and the \
         participants do not change.",
    )
}

async fn handle(call: Call<MeetingPath, Empty, NewMeeting>) -> Result<Data<Meeting>, ApiError> {
    let settings = call.body.settings()?;
    let change = |meeting: &mut Meeting| {
        (meeting.title, meeting.settings) = (call.body.title.clone(), settings.clone());
        Ok(())
    };
    let (state, app, id) = (&call.state, call.app, call.path.meeting_id);
    let meeting = rewrite(state, app, id, call.now_ms, change).await?;
    records::notify_changed(&state.live, app, id).await;
    Ok(Data(meeting))
}
