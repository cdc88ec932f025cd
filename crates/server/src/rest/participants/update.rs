//! `PATCH …/participants/{participant_id}`: updates a participant's name, picture or preset.

use garde::Validate;
use http::Method;
use parlor_protocol::urls::HTTP_URL;
use parlor_store::{Error, Statement, Unit, values};
use schemars::JsonSchema;
use serde::Deserialize;

use super::add::picture_url;
use super::{
    NAME_MAX, PICTURE_MAX, ParticipantPath, ParticipantWithToken, TokenIssuer, life_secs,
    preset_by_name, search_name, writer_key,
};
use crate::http::{ApiError, Call, Data, Empty, Endpoint, Patch};

pub(super) static WRITE: Statement = Statement::new(
    "participants.write",
    "UPDATE participants SET
       preset_id = CASE WHEN $11 THEN $4 ELSE preset_id END,
       name = CASE WHEN $5 THEN $6 ELSE name END,
       search_name = CASE WHEN $5 THEN $7 ELSE search_name END,
       picture = CASE WHEN $8 THEN $9 ELSE picture END,
       updated_at = $10
     WHERE app_id = $1 AND meeting_id = $2 AND id = $3",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PATCH, "/meetings/{meeting_id}/participants/{participant_id}", "updateParticipant", handle)
        .describe(
            "Update a participant",
            "Updates the fields that are sent and leaves all others unchanged. `null` removes the name or the picture. \
             Returns the participant with a new join token; older tokens stay valid.",
        )
}

/// The fields of a participant to update. Absent fields do not change.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "ParticipantPatch")]
pub(super) struct ParticipantPatch {
    /// Display name, shown to other participants. `null` removes it.
    #[garde(custom(Patch::at_most(NAME_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = NAME_MAX))]
    pub(super) name: Patch<String>,
    /// URL of the participant's profile picture: an absolute http or https URL. `null` removes it.
    #[garde(custom(Patch::at_most(PICTURE_MAX)), custom(picture_url))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = PICTURE_MAX), regex(pattern = HTTP_URL))]
    pub(super) picture: Patch<String>,
    /// Name of the participant's new preset. Case-sensitive.
    #[garde(length(chars, min = 1, max = crate::rest::presets::NAME_MAX))]
    #[serde(default)]
    pub(super) preset_name: Option<String>,
    /// Lifetime of the token, in seconds. Defaults to the server's setting. Not available in
    /// RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) expires_in: Option<u64>,
}

async fn handle(
    call: Call<ParticipantPath, Empty, ParticipantPatch>,
) -> Result<Data<ParticipantWithToken>, ApiError> {
    let patch = call.body.clone();
    write(&call, &patch).await.map(Data)
}

/// Writes a change and returns the participant with a new token.
pub(super) async fn write<Q, B>(
    call: &Call<ParticipantPath, Q, B>,
    patch: &ParticipantPatch,
) -> Result<ParticipantWithToken, ApiError> {
    let life_secs = life_secs(&call.state, patch.expires_in)?;
    let before = call.path.find(&call.state, call.app).await?;
    let preset = match &patch.preset_name {
        Some(name) => Some(preset_by_name(&call.state, call.app, name).await?),
        None => None,
    };
    let name = patch.name.value();
    let row = values![
        call.app.uuid(),
        call.path.meeting_id.uuid(),
        before.id.uuid(),
        preset.unwrap_or(before.preset_id).uuid(),
        patch.name.change().is_some(),
        name.cloned(),
        name.and_then(|name| search_name(name)),
        patch.picture.change().is_some(),
        patch.picture.value().cloned(),
        call.now_ms,
        preset.is_some()
    ];
    let key = writer_key(call.path.meeting_id.uuid(), &before.custom_participant_id);
    let unit = Unit::default().keyed(key).exactly_one(&WRITE, row);
    match call.state.db.commit(unit).await {
        Ok(_) => {}
        Err(Error::WrongCount { .. }) => {
            return Err(call.path.not_found_error(&call.state, call.app).await);
        }
        Err(error) => return Err(error.into()),
    }
    // Another request may have changed other fields concurrently, so return what is stored now.
    let after = call.path.find(&call.state, call.app).await?;
    let issuer = TokenIssuer::new(&call.state, call.app, call.path.meeting_id, call.now_ms);
    Ok(issuer.with_token(after, life_secs))
}
