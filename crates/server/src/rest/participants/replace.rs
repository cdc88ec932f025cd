//! `PUT …/participants/{participant_id}`: set a participant anew.

use garde::Validate;
use http::Method;
use parlor_protocol::address::HTTP_URL;
use schemars::JsonSchema;
use serde::Deserialize;

use super::add::picture_url;
use super::update::{ParticipantPatch, write};
use super::{Added, CUSTOM_ID_MAX, NAME_MAX, OneParticipant, PICTURE_MAX};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing, Patch, Problem};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PUT, "/meetings/{meeting_id}/participants/{participant_id}", "replaceParticipant", answer)
        .only_on_a()
        .describe(
            "Replace a participant",
            "Sets name, picture and preset; what is absent of the first two is taken away. The id and the custom id \
             stay. Answers with a fresh token.",
        )
}

/// What the participant is to be.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Replacement {
    /// The name of the preset.
    #[garde(length(chars, min = 1, max = crate::rest::presets::NAME_MAX))]
    preset_name: String,
    /// The participant's own custom id. It cannot be changed, so anything else is refused.
    #[garde(length(chars, min = 1, max = CUSTOM_ID_MAX))]
    #[serde(default)]
    custom_participant_id: Option<String>,
    /// Shown to the other participants.
    #[garde(custom(Patch::at_most(NAME_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = NAME_MAX))]
    name: Patch<String>,
    /// Absolute http or https URL of a picture.
    #[garde(custom(Patch::at_most(PICTURE_MAX)), custom(picture_url))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = PICTURE_MAX), regex(pattern = HTTP_URL))]
    picture: Patch<String>,
    /// Seconds until the token expires; the server's default when absent. Not in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    expires_in: Option<u64>,
}

async fn answer(call: Call<OneParticipant, Nothing, Replacement>) -> Result<Data<Added>, ApiError> {
    if let Some(custom_id) = &call.body.custom_participant_id {
        let participant = call.path.find(&call.parlor, call.app).await?;
        if *custom_id != participant.custom_participant_id {
            let message = "BAD_REQUEST: \"custom_participant_id\" cannot be changed";
            return Err(ApiError::invalid(vec![Problem::at(
                "/custom_participant_id",
                message,
            )]));
        }
    }
    let body = &call.body;
    let patch = ParticipantPatch {
        name: body.name.clone().or_null(),
        picture: body.picture.clone().or_null(),
        preset_name: Some(body.preset_name.clone()),
        expires_in: body.expires_in,
    };
    write(&call, &patch).await.map(Data)
}
