//! `POST …/presets`: make a preset.

use http::Method;
use parlor_store::Unit;

use super::{NewPreset, Preset, insert, name_taken, stored, summary};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing, Uncommitted};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/presets", "createPreset", answer).may_conflict().describe(
        "Create a preset",
        "Makes a preset. Absent parts of `config`, `permissions` and `ui` get their defaults; the answer has everything.",
    )
}

async fn answer(call: Call<Nothing, Nothing, NewPreset>) -> Result<Data<Preset>, ApiError> {
    let (name, body) = call.body.clone().split();
    let summary = summary(&call.parlor.clock, name.clone(), call.now_ms);
    let unit = insert(
        Unit::default(),
        call.app,
        &summary,
        stored(&body)?,
        call.now_ms,
    );
    let preset = Preset {
        summary,
        body,
        version: 1,
    };
    match call.commit(unit, move |_| Ok(Data(preset.clone()))).await {
        Err(Uncommitted::WrongCount(0)) => Err(ApiError::missing("app")),
        Err(Uncommitted::Conflict) => Err(name_taken(&name)),
        other => Ok(other?),
    }
}
