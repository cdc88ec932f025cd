//! `POST …/presets`: creates a preset.

use http::Method;
use parlor_store::Unit;

use super::{NewPreset, Preset, insert, name_taken, summary, to_stored_json};
use crate::http::{ApiError, Call, CommitError, Data, Empty, Endpoint};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/presets", "createPreset", handle).may_conflict().describe(
        "Create a preset",
        "Creates a preset. Absent fields of `config`, `permissions` and `ui` get their defaults; the response contains all \
         fields.",
    )
}

async fn handle(call: Call<Empty, Empty, NewPreset>) -> Result<Data<Preset>, ApiError> {
    let (name, body) = call.body.clone().split();
    let summary = summary(&call.state.clock, name.clone(), call.now_ms);
    let unit = insert(
        Unit::default(),
        call.app,
        &summary,
        to_stored_json(&body)?,
        call.now_ms,
    );
    let preset = Preset {
        summary,
        body,
        version: 1,
    };
    match call.commit(unit, move |_| Ok(Data(preset.clone()))).await {
        Err(CommitError::WrongCount(0)) => Err(ApiError::missing("app")),
        Err(CommitError::Conflict) => Err(name_taken(&name)),
        other => Ok(other?),
    }
}
