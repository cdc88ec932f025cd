//! The people whom a request names, and the people whom a reply lists.

use std::collections::HashSet;

use garde::Validate;
use parlor_live::Person;
use parlor_protocol::ids::ParticipantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::family::MeetingParticipant;
use super::nobody;
use crate::clock::{id_ms, rfc3339};
use crate::http::{ApiError, Call, Problem};
use crate::rest::meetings::OneMeeting;
use crate::rest::participants::{self, CUSTOM_ID_MAX};

/// People that one request may name in each of its lists.
const PEOPLE_MAX: usize = 1000;

/// Whom it is about: at least one of the lists must name somebody.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(extend("anyOf" = [
    {"required": ["participant_ids"], "properties": {"participant_ids": {"type": "array", "minItems": 1}}},
    {"required": ["custom_participant_ids"], "properties": {"custom_participant_ids": {"type": "array", "minItems": 1}}},
]))]
pub(super) struct Named {
    /// Participants' ids.
    #[garde(inner(length(max = PEOPLE_MAX), inner(length(chars, min = 1, max = CUSTOM_ID_MAX))))]
    #[serde(default)]
    #[schemars(extend("maxItems" = PEOPLE_MAX, "items" = {"type": "string", "minLength": 1, "maxLength": CUSTOM_ID_MAX}))]
    participant_ids: Option<Vec<String>>,
    /// The caller's own ids of participants.
    #[garde(inner(length(max = PEOPLE_MAX), inner(length(chars, min = 1, max = CUSTOM_ID_MAX))))]
    #[serde(default)]
    #[schemars(extend("maxItems" = PEOPLE_MAX, "items" = {"type": "string", "minLength": 1, "maxLength": CUSTOM_ID_MAX}))]
    custom_participant_ids: Option<Vec<String>>,
}

impl Named {
    /// Everybody who is named.
    ///
    /// # Errors
    /// 400 when that is nobody; 404 for what cannot be an id.
    pub(super) fn people(&self) -> Result<Vec<Person>, ApiError> {
        let by_id = |id: &String| id.parse().map(Person::Id).map_err(|_| nobody(id));
        let ids = self.participant_ids.iter().flatten().map(by_id);
        let custom = self.custom_participant_ids.iter().flatten();
        let custom = custom.map(|id| Ok(Person::CustomId(id.clone())));
        let mut people = ids.chain(custom).collect::<Result<Vec<_>, _>>()?;
        // What is named twice is asked for once.
        let mut seen = HashSet::new();
        people.retain(|person| seen.insert(person.clone()));
        if people.is_empty() {
            let message =
                "BAD_REQUEST: \"participant_ids\" or \"custom_participant_ids\" must name somebody";
            return Err(ApiError::invalid(vec![Problem::at("", message)]));
        }
        Ok(people)
    }
}

/// What was done, and to whom.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Done {
    /// What was done: `kick` or `mute`.
    action: &'static str,
    /// To whom.
    participants: Vec<Affected>,
}

/// Somebody to whom something was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Affected {
    /// The participant's id.
    id: ParticipantId,
    /// The caller's own id of this person; left out when the participant was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_participant_id: Option<String>,
    /// Shown to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// URL of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<String>,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// RFC 3339, UTC, milliseconds.
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

/// The reply to what a room did to people, with what the records hold of them.
pub(super) async fn done<Q, B>(
    call: &Call<OneMeeting, Q, B>,
    action: &'static str,
    people: Vec<MeetingParticipant>,
) -> Result<Done, ApiError> {
    let mut affected = Vec::with_capacity(people.len());
    for (meeting, id) in people {
        let found = participants::by_id(&call.parlor, call.app, meeting, id).await?;
        affected.push(match found {
            Some(participant) => Affected {
                id,
                custom_participant_id: Some(participant.custom_participant_id),
                name: participant.name,
                picture: participant.picture,
                created_at: participant.created_at,
                updated_at: participant.updated_at,
            },
            // Deleted while inside. The id still tells when it was made.
            None => Affected {
                id,
                custom_participant_id: None,
                name: None,
                picture: None,
                created_at: rfc3339(id_ms(id.uuid())),
                updated_at: rfc3339(id_ms(id.uuid())),
            },
        });
    }
    Ok(Done {
        action,
        participants: affected,
    })
}
