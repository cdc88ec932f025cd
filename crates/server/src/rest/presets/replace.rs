//! `PUT …/presets/{preset_id}`: put a new preset in the place of another.

use http::Method;

use super::{NewPreset, OnePreset, Preset, rewrite};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PUT, "/presets/{preset_id}", "replacePreset", answer)
        .only_on_a()
        .may_conflict()
        .describe(
            "Replace a preset",
            "Sets the whole preset; absent parts go back to their defaults. The id stays.",
        )
}

async fn answer(call: Call<OnePreset, Nothing, NewPreset>) -> Result<Data<Preset>, ApiError> {
    let change = |_: &Preset| Ok(call.body.clone().split());
    rewrite(
        &call.parlor,
        call.app,
        call.path.preset_id,
        call.now_ms,
        change,
    )
    .await
    .map(Data)
}
