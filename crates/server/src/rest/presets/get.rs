//! `GET …/presets/{preset_id}`: returns one preset.

use http::Method;

use super::{Preset, PresetPath, find};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/presets/{preset_id}", "getPreset", handle)
        .describe("Get a preset", "Retrieves a preset with all its contents.")
}

async fn handle(call: Call<PresetPath>) -> Result<Data<Preset>, ApiError> {
    find(&call.state, call.app, call.path.preset_id)
        .await
        .map(Data)
}
