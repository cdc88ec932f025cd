//! `DELETE …/meetings/{meeting_id}`: delete a meeting and its participants. An extension.

use http::Method;
use parlor_live::Command;
use parlor_store::{Error, Statement, Unit, values};

use super::{Meeting, OneMeeting, StoredMeeting, find, missing, words};
use crate::api::paging::count_removed;
use crate::api::{ApiError, Call, Data, Endpoint};
use crate::sweeper;

pub(super) static DELETE: Statement = Statement::new(
    "meetings.delete",
    "DELETE FROM meetings WHERE app_id = $1 AND id = $2",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/meetings/{meeting_id}", "deleteMeeting", answer).describe(
        "Delete a meeting",
        "Deletes the meeting with its participants and sessions. Everybody in it is thrown out, and every join token of \
         it stops working at once. Answers with the deleted meeting. Not in RealtimeKit.",
    )
}

async fn answer(call: Call<OneMeeting>) -> Result<Data<Meeting>, ApiError> {
    let (app, id) = (call.app, call.path.meeting_id);
    let meeting = find(&call.parlor, app, id)
        .await
        .map(StoredMeeting::public)?;
    let unit = Unit::default()
        .exactly_one(&DELETE, values![app.uuid(), id.uuid()])
        .then(&sweeper::PURGE, values![app.uuid(), id.uuid(), call.now_ms]);
    let unit = count_removed(unit, app, app.uuid());
    match call.parlor.db.commit(words::remove(unit, app, id)).await {
        Ok(_) => {
            call.parlor.live.tell(app, id, Command::Gone);
            Ok(Data(meeting))
        }
        Err(Error::WrongCount { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}
