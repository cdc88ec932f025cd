//! `PUT …/participants/{participant_id}`: replaces a participant.

use garde::Validate;
use http::Method;
use parlor_protocol::urls::HTTP_URL;
use schemars::JsonSchema;
use serde::Deserialize;

use super::add::picture_url;
use super::update::{ParticipantPatch, write};
use super::{CUSTOM_ID_MAX, NAME_MAX, PICTURE_MAX, ParticipantPath, ParticipantWithToken};
use crate::http::{ApiError, Call, Data, Empty, Endpoint, Patch, Problem};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PUT, "/meetings/{meeting_id}/participants/{participant_id}", "replaceParticipant", handle)
        .only_on_a()
        .describe(
            "Replace a participant",
            "Replaces a participant's name, picture and preset. An absent `name` or `picture` is removed. The id and the \
             custom id do not change. Returns the participant with a new join token; older tokens stay valid.",
        )
}

/// The new fields of the participant.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "ParticipantReplacement")]
struct ParticipantReplacement {
    /// Name of the participant's preset. Case-sensitive.
    #[garde(length(chars, min = 1, max = crate::rest::presets::NAME_MAX))]
    preset_name: String,
    /// The participant's `custom_participant_id`. It cannot be changed: any other value is
    /// rejected.
    #[garde(length(chars, min = 1, max = CUSTOM_ID_MAX))]
    #[serde(default)]
    custom_participant_id: Option<String>,
    /// Display name, shown to other participants.
    #[garde(custom(Patch::at_most(NAME_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = NAME_MAX))]
    name: Patch<String>,
    /// URL of the participant's profile picture: an absolute http or https URL.
    #[garde(custom(Patch::at_most(PICTURE_MAX)), custom(picture_url))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = PICTURE_MAX), regex(pattern = HTTP_URL))]
    picture: Patch<String>,
    /// Lifetime of the token, in seconds. Defaults to the server's setting. Not available in
    /// RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    expires_in: Option<u64>,
}

async fn handle(
    call: Call<ParticipantPath, Empty, ParticipantReplacement>,
) -> Result<Data<ParticipantWithToken>, ApiError> {
    if let Some(custom_id) = &call.body.custom_participant_id {
        let participant = call.path.find(&call.state, call.app).await?;
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
