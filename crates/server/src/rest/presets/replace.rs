//! `PUT …/presets/{preset_id}`: replaces a preset.

use http::Method;

use super::{NewPreset, Preset, PresetPath, rewrite};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PUT, "/presets/{preset_id}", "replacePreset", handle)
        .only_on_a()
        .may_conflict()
        .describe(
            "Replace a preset",
            "Replaces all fields of a preset. Absent fields are reset to their defaults. The id does not change.",
        )
}

async fn handle(call: Call<PresetPath, Empty, NewPreset>) -> Result<Data<Preset>, ApiError> {
    let change = |_: &Preset| Ok(call.body.clone().split());
    rewrite(
        &call.state,
        call.app,
        call.path.preset_id,
        call.now_ms,
        change,
    )
    .await
    .map(Data)
}
