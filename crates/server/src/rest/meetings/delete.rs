//! `DELETE …/meetings/{meeting_id}`: delete a meeting with its participants and breakout rooms. An
//! extension.

use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::MeetingId;
use parlor_store::{Error, Row, Statement, Unit, values};

use super::{Meeting, OneMeeting, StoredMeeting, Which, delete_rooms, find, missing, words};
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::purges::PURGE;
use crate::tallies::count_removed_where;

pub(super) static DELETE: Statement = Statement::new(
    "meetings.delete",
    "DELETE FROM meetings WHERE app_id = $1 AND id = $2",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/meetings/{meeting_id}", "deleteMeeting", answer).describe(
        "Delete a meeting",
        "Deletes the meeting with its participants, sessions and breakout rooms. Everybody in them is thrown out, and \
         every join token of them stops working at once. Answers with the deleted meeting. Not in RealtimeKit.",
    )
}

async fn answer(call: Call<OneMeeting>) -> Result<Data<Meeting>, ApiError> {
    let (app, id) = (call.app, call.path.meeting_id);
    let meeting = find(&call.parlor, app, id)
        .await
        .map(StoredMeeting::public)?;
    let ids = (app.uuid(), id.uuid());
    // Whoever makes a breakout room or moves somebody waits for this row, and finds it gone. Rooms that
    // were removed before are left to the sweeper: there may be many, and nobody is in them.
    let unit = Unit::default()
        .keyed(ids.1.as_u64_pair().1)
        .exactly_one(&DELETE, values![ids.0, ids.1]);
    let unit = delete_rooms(unit, ids, Which::Open, call.now_ms)
        .then(&PURGE, values![ids.0, ids.1, call.now_ms]);
    let unit = count_removed_where(unit, app, app.uuid(), |rows| {
        1 + i64::try_from(rooms_of(rows).len()).unwrap_or(i64::MAX)
    });
    match call.parlor.db.commit(words::remove(unit, app, id)).await {
        Ok(rows) => {
            call.parlor.live.tell(app, id, Command::Gone);
            for room in rooms_of(&rows).iter().filter_map(|room| room.get(0)) {
                let room = MeetingId::from_uuid(room);
                call.parlor.live.tell(app, room, Command::Gone);
            }
            Ok(Data(meeting))
        }
        Err(Error::WrongCount { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// The breakout rooms that were deleted: the rows of the step after the first.
fn rooms_of(rows: &[Vec<Row>]) -> &[Row] {
    rows.get(1).map_or(&[], Vec::as_slice)
}
