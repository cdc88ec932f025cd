//! `DELETE …/meetings/{meeting_id}`: deletes a meeting with its participants and breakout rooms. An
//! extension.

use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::MeetingId;
use parlor_store::{Error, Row, Statement, Unit, values};

use super::{
    Meeting, MeetingPath, RoomSelection, StoredMeeting, delete_rooms, find, missing, words,
};
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::purges::PURGE;
use crate::tallies::count_removed_where;

pub(super) static DELETE: Statement = Statement::new(
    "meetings.delete",
    "DELETE FROM meetings WHERE app_id = $1 AND id = $2",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/meetings/{meeting_id}", "deleteMeeting", handle).describe(
        "Delete a meeting",
        "Permanently deletes the meeting with its participants, sessions and breakout rooms. All clients are \
         disconnected, and all join tokens stop working immediately. Returns the deleted meeting. Not available in \
         RealtimeKit.",
    )
}

async fn handle(call: Call<MeetingPath>) -> Result<Data<Meeting>, ApiError> {
    let (app, id) = (call.app, call.path.meeting_id);
    let meeting = find(&call.state, app, id)
        .await
        .map(StoredMeeting::public)?;
    let ids = (app.uuid(), id.uuid());
    // Concurrent creations of breakout rooms and transfers wait for this row and then fail. Rooms
    // that were removed earlier are left to the sweeper: there may be many, and they are empty.
    let unit = Unit::default()
        .keyed(ids.1.as_u64_pair().1)
        .exactly_one(&DELETE, values![ids.0, ids.1]);
    let unit = delete_rooms(unit, ids, RoomSelection::Open, call.now_ms)
        .then(&PURGE, values![ids.0, ids.1, call.now_ms]);
    let unit = count_removed_where(unit, app, app.uuid(), |rows| {
        1 + i64::try_from(rooms_of(rows).len()).unwrap_or(i64::MAX)
    });
    match call.state.db.commit(words::remove(unit, app, id)).await {
        Ok(rows) => {
            call.state.live.send(app, id, Command::MeetingDeleted);
            for room in rooms_of(&rows).iter().filter_map(|room| room.get(0)) {
                let room = MeetingId::from_uuid(room);
                call.state.live.send(app, room, Command::MeetingDeleted);
            }
            Ok(Data(meeting))
        }
        Err(Error::WrongCount { .. }) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// The deleted breakout rooms: the rows of the second step.
fn rooms_of(rows: &[Vec<Row>]) -> &[Row] {
    rows.get(1).map_or(&[], Vec::as_slice)
}
