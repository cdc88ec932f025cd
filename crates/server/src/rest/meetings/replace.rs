//! `PUT …/meetings/{meeting_id}`: set a meeting anew.

use http::Method;

use super::{Meeting, NewMeeting, OneMeeting, rewrite};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rooms::records;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PUT, "/meetings/{meeting_id}", "replaceMeeting", answer).describe(
        "Replace a meeting",
        "Sets every field: what is sent as sent, the rest to its default. The id, the status and the participants stay.",
    )
}

async fn answer(call: Call<OneMeeting, Nothing, NewMeeting>) -> Result<Data<Meeting>, ApiError> {
    let settings = call.body.settings()?;
    let change = |meeting: &mut Meeting| {
        (meeting.title, meeting.settings) = (call.body.title.clone(), settings.clone());
        Ok(())
    };
    let (parlor, app, id) = (&call.parlor, call.app, call.path.meeting_id);
    let meeting = rewrite(parlor, app, id, call.now_ms, change).await?;
    records::tell_changed(&parlor.live, app, id).await;
    Ok(Data(meeting))
}
