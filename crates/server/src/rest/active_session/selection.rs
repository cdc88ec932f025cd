//! The participants that a request selects, and the participants that a response lists.

use std::collections::HashSet;

use garde::Validate;
use parlor_live::ParticipantRef;
use parlor_protocol::ids::ParticipantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::family::MeetingParticipant;
use super::unknown_participant;
use crate::clock::{id_ms, rfc3339};
use crate::http::{ApiError, Call, Problem};
use crate::rest::meetings::MeetingPath;
use crate::rest::participants::{self, CUSTOM_ID_MAX};

/// Maximum number of participants in each list of a request.
const SELECTION_MAX: usize = 1000;

/// The participants to act on. At least one of the two lists must contain an id; both may be given.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "ParticipantSelection", extend("anyOf" = [
    {"required": ["participant_ids"], "properties": {"participant_ids": {"type": "array", "minItems": 1}}},
    {"required": ["custom_participant_ids"], "properties": {"custom_participant_ids": {"type": "array", "minItems": 1}}},
]))]
pub(super) struct ParticipantSelection {
    /// Participant ids.
    #[garde(inner(length(max = SELECTION_MAX), inner(length(chars, min = 1, max = CUSTOM_ID_MAX))))]
    #[serde(default)]
    #[schemars(extend("maxItems" = SELECTION_MAX, "items" = {"type": "string", "minLength": 1, "maxLength": CUSTOM_ID_MAX}))]
    participant_ids: Option<Vec<String>>,
    /// Your own participant ids, as given in `custom_participant_id`.
    #[garde(inner(length(max = SELECTION_MAX), inner(length(chars, min = 1, max = CUSTOM_ID_MAX))))]
    #[serde(default)]
    #[schemars(extend("maxItems" = SELECTION_MAX, "items" = {"type": "string", "minLength": 1, "maxLength": CUSTOM_ID_MAX}))]
    custom_participant_ids: Option<Vec<String>>,
}

impl ParticipantSelection {
    /// The selected participants, without duplicates.
    ///
    /// # Errors
    /// 400 when the selection is empty; 404 for a malformed id.
    pub(super) fn participants(&self) -> Result<Vec<ParticipantRef>, ApiError> {
        let by_id = |id: &String| {
            id.parse()
                .map(ParticipantRef::Id)
                .map_err(|_| unknown_participant(id))
        };
        let ids = self.participant_ids.iter().flatten().map(by_id);
        let custom = self.custom_participant_ids.iter().flatten();
        let custom = custom.map(|id| Ok(ParticipantRef::CustomId(id.clone())));
        let mut selected = ids.chain(custom).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        selected.retain(|participant| seen.insert(participant.clone()));
        if selected.is_empty() {
            let message = "BAD_REQUEST: \"participant_ids\" or \"custom_participant_ids\" must contain at least one id";
            return Err(ApiError::invalid(vec![Problem::at("", message)]));
        }
        Ok(selected)
    }
}

/// The result of an action on participants.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ParticipantActionResult")]
pub(super) struct ParticipantActionResult {
    /// The action: `kick` or `mute`.
    action: &'static str,
    /// The participants that the action affected.
    participants: Vec<AffectedParticipant>,
}

/// A participant affected by an action.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "AffectedParticipant")]
struct AffectedParticipant {
    /// Unique identifier of the participant.
    id: ParticipantId,
    /// Your own identifier for the participant. Absent if the participant has been deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_participant_id: Option<String>,
    /// Display name, shown to other participants.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// URL of the participant's profile picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<String>,
    /// When the participant was created. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the participant was last updated. RFC 3339 in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

/// Builds the result of an action from the records of the affected participants.
pub(super) async fn action_result<Q, B>(
    call: &Call<MeetingPath, Q, B>,
    action: &'static str,
    participants: Vec<MeetingParticipant>,
) -> Result<ParticipantActionResult, ApiError> {
    let mut affected = Vec::with_capacity(participants.len());
    for (meeting, id) in participants {
        let found = participants::by_id(&call.state, call.app, meeting, id).await?;
        affected.push(match found {
            Some(participant) => AffectedParticipant {
                id,
                custom_participant_id: Some(participant.custom_participant_id),
                name: participant.name,
                picture: participant.picture,
                created_at: participant.created_at,
                updated_at: participant.updated_at,
            },
            // Deleted while in the session. The id still contains the creation time.
            None => AffectedParticipant {
                id,
                custom_participant_id: None,
                name: None,
                picture: None,
                created_at: rfc3339(id_ms(id.uuid())),
                updated_at: rfc3339(id_ms(id.uuid())),
            },
        });
    }
    Ok(ParticipantActionResult {
        action,
        participants: affected,
    })
}
