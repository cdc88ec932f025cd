//! `DELETE …/presets/{preset_id}`: retires a preset.

use http::Method;
use parlor_store::{Statement, Unit, values};

use super::{Preset, PresetPath, find};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) static RETIRE: Statement = Statement::new(
    "presets.retire",
    "UPDATE presets SET retired_at = $3 WHERE app_id = $1 AND id = $2 AND retired_at IS NULL",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/presets/{preset_id}", "deletePreset", handle).describe(
        "Delete a preset",
        "Deletes a preset. No participant can be added with it any more, and its name can be reused. Participants who \
         were added with it keep its permissions. Returns the deleted preset.",
    )
}

async fn handle(call: Call<PresetPath>) -> Result<Data<Preset>, ApiError> {
    let preset = find(&call.state, call.app, call.path.preset_id).await?;
    let row = values![call.app.uuid(), call.path.preset_id.uuid(), call.now_ms];
    match call
        .state
        .db
        .commit(Unit::default().exactly_one(&RETIRE, row))
        .await
    {
        Ok(_) => Ok(Data(preset)),
        Err(parlor_store::Error::WrongCount { .. }) => Err(ApiError::missing("preset")),
        Err(error) => Err(error.into()),
    }
}
