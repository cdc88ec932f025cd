//! `GET …/presets/{preset_id}`: one preset, whole.

use http::Method;

use super::{OnePreset, Preset, find};
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/presets/{preset_id}", "getPreset", answer)
        .describe("Get a preset", "One preset with everything in it.")
}

async fn answer(call: Call<OnePreset>) -> Result<Data<Preset>, ApiError> {
    find(&call.parlor, call.app, call.path.preset_id)
        .await
        .map(Data)
}
