//! `DELETE …/participants/{participant_id}`: remove a participant, which ends all its tokens.

use garde::Validate;
use http::Method;
use parlor_live::{Command, Person};
use parlor_protocol::ids::{MeetingId, ParticipantId, PresetId};
use parlor_store::{Error, FromRow, Row, Statement, Unit, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneParticipant, Participant};
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::rest::meetings;
use crate::state::WRITE_TRIES;
use crate::tallies::{count_removed, count_removed_where};

static DELETE: Statement = Statement::new(
    "participants.delete",
    "DELETE FROM participants WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);
/// The same person in the breakout rooms of the meeting.
static DELETE_IN_ROOMS: Statement = Statement::new(
    "participants.delete_in_rooms",
    "DELETE FROM participants WHERE app_id = $1 AND custom_participant_id = $3 AND meeting_id IN
     (SELECT c.meeting_id FROM connected_meetings c
      WHERE c.app_id = $1 AND c.parent_id = $2 AND c.removed_at IS NULL)
     RETURNING meeting_id, id",
);

pub(super) static STATEMENTS: [&Statement; 2] = [&DELETE, &DELETE_IN_ROOMS];

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/meetings/{meeting_id}/participants/{participant_id}", "deleteParticipant", answer)
        .describe(
            "Delete a participant",
            "Removes the participant; every token of it stops working at once. Somebody who is connected stays until \
             they leave or are kicked, unless `drop` says otherwise, and cannot come back. The same person is removed from \
             the meeting's breakout rooms as well; a participant of a breakout room only from there.",
        )
}

/// How.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Manner {
    /// Throw them out of the meeting as well. Not in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    drop: bool,
}

/// What the participant was.
#[derive(Debug, Serialize, JsonSchema)]
struct Deleted {
    /// Its id.
    id: ParticipantId,
    /// The caller's own id of this person.
    custom_participant_id: String,
    /// The preset's id.
    preset_id: PresetId,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

async fn answer(call: Call<OneParticipant, Manner>) -> Result<Data<Deleted>, ApiError> {
    let participant = call.path.find(&call.parlor, call.app).await?;
    let (live, meeting, drop) = (&call.parlor.live, call.path.meeting_id, call.query.drop);
    let Some(elsewhere) = delete(&call, &participant).await? else {
        return Err(call.path.why_missing(&call.parlor, call.app).await);
    };
    let removed = |participant| Command::Removed { participant, drop };
    live.tell(call.app, meeting, removed(participant.id));
    for InRoom { room, participant } in elsewhere.participants {
        live.tell(call.app, room, removed(participant));
    }
    if drop {
        // Somebody may be in a room whose record there was deleted before.
        let person = Person::CustomId(participant.custom_participant_id.clone());
        for room in elsewhere.rooms {
            live.tell(call.app, room, Command::Kick(vec![person.clone()]));
        }
    }
    Ok(Data(Deleted {
        id: participant.id,
        custom_participant_id: participant.custom_participant_id,
        preset_id: participant.preset_id,
        created_at: participant.created_at,
        updated_at: participant.updated_at,
    }))
}

/// The breakout rooms of the meeting, and who somebody was in them.
struct Elsewhere {
    rooms: Vec<MeetingId>,
    participants: Vec<InRoom>,
}

/// A row of [`DELETE_IN_ROOMS`].
struct InRoom {
    room: MeetingId,
    participant: ParticipantId,
}

impl FromRow for InRoom {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            room: MeetingId::from_uuid(row.take(0)?),
            participant: ParticipantId::from_uuid(row.take(1)?),
        })
    }
}

/// Deletes somebody from a meeting and its breakout rooms, all in one unit, in which no room is made or
/// removed and nobody is moved. `None` when they are not there any more.
async fn delete(
    call: &Call<OneParticipant, Manner>,
    participant: &Participant,
) -> Result<Option<Elsewhere>, ApiError> {
    let (parlor, app, meeting) = (&call.parlor, call.app, call.path.meeting_id);
    let custom_id = &*participant.custom_participant_id;
    let key = super::writer_key(meeting.uuid(), custom_id);
    let row = values![app.uuid(), meeting.uuid(), participant.id.uuid()];
    for _ in 0..WRITE_TRIES {
        let known = meetings::rooms(parlor, app, meeting).await?;
        let (unit, deletes) = if known.rooms.is_empty() {
            let unit = Unit::default().keyed(key).exactly_one(&DELETE, row.clone());
            (meetings::has_no_rooms(unit, app, meeting), 0)
        } else {
            let unit = meetings::hold_rooms(Unit::default(), app, meeting, &known);
            let same = values![app.uuid(), meeting.uuid(), custom_id];
            let unit = unit.exactly_one(&DELETE, row.clone());
            (unit.then(&DELETE_IN_ROOMS, same), 1)
        };
        let mut unit = count_removed(unit, app, meeting.uuid());
        for room in &known.rooms {
            let room = room.uuid();
            unit = count_removed_where(unit, app, room, move |rows| {
                let rows = rows.get(2).map_or(&[][..], Vec::as_slice);
                let here = rows.iter().filter(|row| row.get(0) == Some(room));
                i64::try_from(here.count()).unwrap_or(i64::MAX)
            });
        }
        match parlor.db.commit(unit).await {
            Ok(mut rows) => {
                let participants = if rows.len() > 2 {
                    rows.swap_remove(2)
                } else {
                    Vec::new()
                };
                let participants = participants.into_iter().map(InRoom::from_row);
                return Ok(Some(Elsewhere {
                    rooms: known.rooms,
                    participants: participants.collect::<Result<_, _>>()?,
                }));
            }
            Err(Error::WrongCount { step }) if step == deletes => return Ok(None),
            // A breakout room was made or removed meanwhile.
            Err(Error::WrongCount { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable(
        "the breakout rooms of the meeting were changed at the same time",
    ))
}
