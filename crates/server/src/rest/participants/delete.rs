//! `DELETE …/participants/{participant_id}`: deletes a participant, which revokes all its tokens.

use garde::Validate;
use http::Method;
use parlor_live::{Command, ParticipantRef};
use parlor_protocol::ids::{MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Participant, ParticipantPath};
use crate::http::{ApiError, Call, Data, Endpoint, retry_on_conflict};
use crate::rest::meetings;
use crate::tallies::{count_removed, count_removed_where};

static DELETE: Statement = Statement::new(
    "participants.delete",
    "DELETE FROM participants WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);
/// Deletes the participants with the same custom id in the meeting's breakout rooms.
static DELETE_IN_ROOMS: Statement = Statement::new(
    "participants.delete_in_rooms",
    "DELETE FROM participants WHERE app_id = $1 AND custom_participant_id = $3 AND meeting_id IN
     (SELECT c.meeting_id FROM connected_meetings c
      WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL)
     RETURNING meeting_id, id",
);

pub(super) static STATEMENTS: [&Statement; 2] = [&DELETE, &DELETE_IN_ROOMS];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/meetings/{meeting_id}/participants/{participant_id}", "deleteParticipant", handle)
        .describe(
            "Delete a participant",
            "Deletes a participant and revokes all of its join tokens immediately. A connected participant stays until they \
             leave or are kicked, unless `drop` is set, and cannot rejoin. The participant is also deleted from the \
             meeting's breakout rooms; deleting a participant of a breakout room does not affect the parent meeting.",
        )
}

/// Options of the deletion.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Options {
    /// Also disconnects the participant's clients. Defaults to `false`. Not available in
    /// RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    drop: bool,
}

/// A deleted participant.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeletedParticipant")]
struct DeletedParticipant {
    /// Unique identifier of the participant.
    id: ParticipantId,
    /// Your own identifier for the participant.
    custom_participant_id: String,
    /// Id of the participant's preset.
    preset_id: PresetId,
    /// When the participant was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the participant was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

async fn handle(
    call: Call<ParticipantPath, Options>,
) -> Result<Data<DeletedParticipant>, ApiError> {
    let participant = call.path.find(&call.state, call.app).await?;
    let (live, meeting, drop) = (&call.state.live, call.path.meeting_id, call.query.drop);
    let Some(in_rooms) = delete(&call, &participant).await? else {
        return Err(call.path.not_found_error(&call.state, call.app).await);
    };
    let removed = |participant| Command::ParticipantDeleted { participant, drop };
    live.send(call.app, meeting, removed(participant.id));
    for RoomParticipant { room, participant } in in_rooms.participants {
        live.send(call.app, room, removed(participant));
    }
    if drop {
        // The participant may be in a breakout room although its record there was deleted earlier.
        let person = ParticipantRef::CustomId(participant.custom_participant_id.clone());
        for room in in_rooms.rooms {
            live.send(call.app, room, Command::Kick(vec![person.clone()]));
        }
    }
    Ok(Data(DeletedParticipant {
        id: participant.id,
        custom_participant_id: participant.custom_participant_id,
        preset_id: participant.preset_id,
        created_at: participant.created_at,
        updated_at: participant.updated_at,
    }))
}

/// The breakout rooms of the meeting, and the participant's records that were deleted in them.
struct BreakoutRooms {
    rooms: Vec<MeetingId>,
    participants: Vec<RoomParticipant>,
}

/// A row of [`DELETE_IN_ROOMS`].
struct RoomParticipant {
    room: MeetingId,
    participant: ParticipantId,
}

impl FromRow for RoomParticipant {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            room: MeetingId::from_uuid(row.take(0)?),
            participant: ParticipantId::from_uuid(row.take(1)?),
        })
    }
}

/// Deletes a participant from a meeting and its breakout rooms in one unit that excludes concurrent
/// changes of the rooms and transfers. Returns `None` when the participant no longer exists.
async fn delete(
    call: &Call<ParticipantPath, Options>,
    participant: &Participant,
) -> Result<Option<BreakoutRooms>, ApiError> {
    let (state, app, meeting) = (&call.state, call.app, call.path.meeting_id);
    let custom_id = &*participant.custom_participant_id;
    let key = super::writer_key(meeting.uuid(), custom_id);
    let row = values![app.uuid(), meeting.uuid(), participant.id.uuid()];
    retry_on_conflict("the breakout rooms of a meeting", || async {
        let known = meetings::rooms(state, app, meeting).await?;
        let (unit, deletes) = if known.rooms.is_empty() {
            let unit = Unit::default().keyed(key).exactly_one(&DELETE, row.clone());
            (meetings::require_no_rooms(unit, app, meeting), 0)
        } else {
            let unit = meetings::lock_rooms(Unit::default(), app, meeting, &known);
            let same = values![app.uuid(), meeting.uuid(), custom_id];
            let unit = unit.exactly_one(&DELETE, row.clone());
            (unit.then(&DELETE_IN_ROOMS, same), 1)
        };
        let mut unit = count_removed(unit, app, meeting.uuid());
        for room in &known.rooms {
            let room = room.uuid();
            unit = count_removed_where(unit, app, room, move |rows| {
                let rows = rows.get(2).map_or(&[][..], Vec::as_slice);
                let in_room = rows.iter().filter(|row| row.get(0) == Some(room));
                i64::try_from(in_room.count()).unwrap_or(i64::MAX)
            });
        }
        match state.db.commit(unit).await {
            Ok(mut rows) => {
                let participants = if rows.len() > 2 {
                    rows.swap_remove(2)
                } else {
                    Vec::new()
                };
                let participants = participants.into_iter().map(RoomParticipant::from_row);
                Ok(Some(Some(BreakoutRooms {
                    rooms: known.rooms,
                    participants: participants.collect::<Result<_, _>>()?,
                })))
            }
            Err(Error::WrongCount { step }) if step == deletes => Ok(Some(None)),
            // A breakout room was created or removed concurrently.
            Err(Error::WrongCount { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
