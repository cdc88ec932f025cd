//! `DELETE …/presets/{preset_id}`: retire a preset.

use http::Method;
use parlor_store::{Statement, Unit, values};

use super::{OnePreset, Preset, find};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) static RETIRE: Statement = Statement::new(
    "presets.retire",
    "UPDATE presets SET retired_at = $3 WHERE app_id = $1 AND id = $2 AND retired_at IS NULL",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/presets/{preset_id}", "deletePreset", answer).describe(
        "Delete a preset",
        "Nobody can be added with the preset any more and its name is free. Participants who were added with it \
         keep its permissions. Answers with the deleted preset.",
    )
}

async fn answer(call: Call<OnePreset>) -> Result<Data<Preset>, ApiError> {
    let preset = find(&call.parlor, call.app, call.path.preset_id).await?;
    let row = values![call.app.uuid(), call.path.preset_id.uuid(), call.now_ms];
    match call
        .parlor
        .db
        .commit(Unit::default().exactly_one(&RETIRE, row))
        .await
    {
        Ok(_) => Ok(Data(preset)),
        Err(parlor_store::Error::WrongCount { .. }) => Err(ApiError::missing("preset")),
        Err(error) => Err(error.into()),
    }
}
