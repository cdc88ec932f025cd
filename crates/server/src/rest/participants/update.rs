//! `PATCH …/participants/{participant_id}`: change a participant's name, picture or preset.

use garde::Validate;
use http::Method;
use parlor_protocol::address::HTTP_URL;
use parlor_store::{Error, Statement, Unit, values};
use schemars::JsonSchema;
use serde::Deserialize;

use super::add::picture_url;
use super::{
    Added, Minter, NAME_MAX, OneParticipant, PICTURE_MAX, life_secs, preset_named, search_name,
    writer_key,
};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing, Patch};

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
    Endpoint::new(Method::PATCH, "/meetings/{meeting_id}/participants/{participant_id}", "updateParticipant", answer)
        .describe(
            "Change a participant",
            "Changes what is sent; null takes a name or picture away. Answers with a fresh token; older ones keep \
             working.",
        )
}

/// What to change.
#[derive(Debug, Clone, Deserialize, Validate, JsonSchema)]
pub(super) struct ParticipantPatch {
    /// Shown to the other participants.
    #[garde(custom(Patch::at_most(NAME_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = NAME_MAX))]
    pub(super) name: Patch<String>,
    /// Absolute http or https URL of a picture.
    #[garde(custom(Patch::at_most(PICTURE_MAX)), custom(picture_url))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = PICTURE_MAX), regex(pattern = HTTP_URL))]
    pub(super) picture: Patch<String>,
    /// The name of another preset.
    #[garde(length(chars, min = 1, max = crate::rest::presets::NAME_MAX))]
    #[serde(default)]
    pub(super) preset_name: Option<String>,
    /// Seconds until the token expires; the server's default when absent. Not in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) expires_in: Option<u64>,
}

async fn answer(
    call: Call<OneParticipant, Nothing, ParticipantPatch>,
) -> Result<Data<Added>, ApiError> {
    let patch = call.body.clone();
    write(&call, &patch).await.map(Data)
}

/// Writes a change and answers with the participant and a fresh token.
pub(super) async fn write<Q, B>(
    call: &Call<OneParticipant, Q, B>,
    patch: &ParticipantPatch,
) -> Result<Added, ApiError> {
    let life_secs = life_secs(&call.parlor, patch.expires_in)?;
    let before = call.path.find(&call.parlor, call.app).await?;
    let preset = match &patch.preset_name {
        Some(name) => Some(preset_named(&call.parlor, call.app, name).await?),
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
    match call.parlor.db.commit(unit).await {
        Ok(_) => {}
        Err(Error::WrongCount { .. }) => {
            return Err(call.path.why_missing(&call.parlor, call.app).await);
        }
        Err(error) => return Err(error.into()),
    }
    // Somebody else may have changed the rest meanwhile: the answer is what is stored now.
    let after = call.path.find(&call.parlor, call.app).await?;
    let minter = Minter::new(&call.parlor, call.app, call.path.meeting_id, call.now_ms);
    Ok(minter.add(after, life_secs))
}
