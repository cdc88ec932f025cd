//! `DELETE …/participants/{participant_id}`: remove a participant, which ends all its tokens.

use garde::Validate;
use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::{ParticipantId, PresetId};
use parlor_store::{Error, Statement, Unit, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OneParticipant;
use crate::api::paging::count_removed;
use crate::api::{ApiError, Call, Data, Endpoint};

pub(super) static DELETE: Statement = Statement::new(
    "participants.delete",
    "DELETE FROM participants WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/meetings/{meeting_id}/participants/{participant_id}", "deleteParticipant", answer)
        .describe(
            "Delete a participant",
            "Removes the participant; every token of it stops working at once. Somebody who is connected stays until \
             they leave or are kicked, unless `drop` says otherwise, and cannot come back.",
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
    let (app, meeting) = (call.app.uuid(), call.path.meeting_id.uuid());
    let unit = Unit::default()
        .keyed(super::writer_key(
            meeting,
            &participant.custom_participant_id,
        ))
        .exactly_one(&DELETE, values![app, meeting, participant.id.uuid()]);
    let unit = count_removed(unit, call.app, meeting);
    match call.parlor.db.commit(unit).await {
        Ok(_) => {
            let removed = Command::Removed {
                participant: participant.id,
                drop: call.query.drop,
            };
            let live = &call.parlor.live;
            live.tell(call.app, call.path.meeting_id, removed);
            Ok(Data(Deleted {
                id: participant.id,
                custom_participant_id: participant.custom_participant_id,
                preset_id: participant.preset_id,
                created_at: participant.created_at,
                updated_at: participant.updated_at,
            }))
        }
        Err(Error::WrongCount { .. }) => Err(call.path.why_missing(&call.parlor, call.app).await),
        Err(error) => Err(error.into()),
    }
}
